"""How sparse can a network be: the exhaustive search beside pruning methods and dense networks."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from sparselimit.figures.layout import (
    accuracy_axis,
    count_range,
    log_weights_axis,
    placeholder,
    weights_axis,
)
from sparselimit.figures.style import BAND, BLACK, DOUBLE, GREY, new_figure, series, styled

_QUANTILES = {
    "best": ("best run", "o", "-"),
    "q99": ("99th percentile", "^", "-"),
    "q90": ("90th percentile", "v", "--"),
    "q50": ("median run", "D", ":"),
}


@styled
def frontier(*, frontier: pd.DataFrame, methods: pd.DataFrame) -> Figure:
    """Best accuracy against the number of weights: search, pruning methods, dense networks.

    A method's line is its best run at each target, over widths and all runs; its band reaches down
    to the median run at the width where that is highest. The search has no band.
    """
    searched = frontier.rename(columns={"accuracy": "best"}).assign(typical=frontier.accuracy)
    curves = {"search": searched} | {
        str(name): best_over_widths(rows) for name, rows in methods.groupby("method")
    }
    curves = {name: points for name, points in curves.items() if not points.empty}
    if not curves:
        return placeholder("no network was searched, pruned or trained on the spiral")
    figure = new_figure(DOUBLE, 9.5)
    axes = figure.add_subplot()
    for name, style in series(curves).items():
        if name not in curves:
            continue
        points = curves[name]
        best, typical = 100 * points.best, 100 * points.typical
        label = f"{style.label}, {count_range(points.runs)}"
        above = 3 if name == "search" else 2
        axes.plot(points.weights, best, label=label, zorder=above, **style.line)
        if name != "search":
            axes.fill_between(
                points.weights, typical, best, color=style.color, alpha=BAND, linewidth=0
            )
    shown = pd.concat(curves)
    log_weights_axis(axes, shown.weights.to_numpy())
    accuracy_axis(axes, np.array([100 * shown.typical.min(), 100]), room=22)
    axes.set(xlabel="weights (biases not counted)", ylabel="accuracy (%)")
    title = "best of n runs at each point\n(band: down to the median)"
    figure.legend(loc="outside right upper", title=title, alignment="left")
    return figure


def best_over_widths(method: pd.DataFrame) -> pd.DataFrame:
    """One method's rows of `methods`, reduced over widths: one row per target.

    Columns: weights (of the best run's network), runs, best and typical (the highest median of any
    width) accuracy; by increasing number of weights.
    """
    rows = [
        {
            "weights": of_target.sort_values("accuracy_high").weights.iloc[-1],
            "runs": of_target.runs.sum(),
            "best": of_target.accuracy_high.max(),
            "typical": of_target.accuracy_median.max(),
        }
        for _, of_target in method.dropna(subset=["accuracy_high"]).groupby("target")
    ]
    return pd.DataFrame(rows, columns=["weights", "runs", "best", "typical"]).sort_values("weights")


@styled
def search(*, frontier: pd.DataFrame, search_runs: pd.DataFrame) -> Figure:
    """What the search did at each number of weights: accuracies of all runs, and how many."""
    if search_runs.empty:
        return placeholder("no network was searched")
    figure = new_figure(DOUBLE, 8.5)
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2))
    accuracies = figure.add_subplot(grid[:, 0])
    tried = figure.add_subplot(grid[0, 1], sharex=accuracies)
    dead = figure.add_subplot(grid[1, 1], sharex=accuracies)

    for column, (label, marker, line) in _QUANTILES.items():
        accuracies.plot(
            search_runs.weights,
            100 * search_runs[column],
            color=BLACK if column == "best" else GREY,
            marker=marker,
            linestyle=line,
            label=label,
        )
    accuracy_axis(accuracies, 100 * search_runs[list(_QUANTILES)].to_numpy(), room=16)
    weights_axis(accuracies, search_runs.weights)
    accuracies.set(xlabel="weights", ylabel="accuracy (%)")

    for name, color, marker in (("runs", GREY, "s"), ("networks", BLACK, "o")):
        tried.plot(frontier.weights, frontier[name], color=color, marker=marker, label=name)
    fewest, most = frontier.networks.min(), frontier.runs.max()
    decades = 10 ** (np.floor(np.log10([fewest, most])) + np.array([-0.2, 1]))
    tried.set(yscale="log", ylabel="number tried", ylim=decades)
    tried.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    tried.tick_params(labelbottom=False)
    dead.plot(frontier.weights, 100 * frontier.dead, color=BLACK, marker="o")
    dead.set(xlabel="weights", ylabel="runs that died (%)", ylim=(-3, 103))
    for axes in (accuracies, tried):
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure
