"""How sparse can a network be: the exhaustive search beside pruning methods and dense networks."""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from sparselimit.figures.layout import (
    NO_METHODS,
    accuracy_axis,
    count_range,
    legend_handles,
    log_share_axis,
    log_weights_axis,
    panel_grid,
    place_title,
    placeholder,
    plot_with_band,
    weights_axis,
)
from sparselimit.figures.studies import MAGNITUDE, beside_widths, places, pruned
from sparselimit.figures.style import (
    BEAM,
    BLACK,
    DOUBLE,
    GREY,
    SEARCH,
    Series,
    graded,
    new_figure,
    series,
    styled,
)

_QUANTILES = {
    "best": ("best run", "o", "-"),
    "q99": ("99th percentile", "^", "-"),
    "q90": ("90th percentile", "v", "--"),
    "q50": ("median run", "D", ":"),
}


@styled
def frontier(*, frontier: pd.DataFrame, from_above: pd.DataFrame, methods: pd.DataFrame) -> Figure:
    """Best accuracy against the number of weights: searches, pruning methods, dense networks.

    A method's line is its best run at each target, over all studies and networks.
    """
    named = methods[methods.method.isin({"dense", *pruned(methods).method} - {MAGNITUDE})]
    curves = {str(name): best_of_all(rows) for name, rows in named.groupby("method")}
    curves["search"] = frontier.rename(columns={"accuracy": "best"})
    free = from_above[~from_above.given_start]
    curves["beam"] = free.rename(columns={"accuracy": "best"})
    curves = {name: points for name, points in curves.items() if not points.empty}
    if not curves:
        return placeholder("no network was searched, pruned or trained on the spiral")
    figure = new_figure(DOUBLE, 9.5)
    axes = figure.add_subplot()
    for name, style in series(curves).items():
        points = curves[name]
        label = f"{style.label}, {count_range(points.runs)}"
        above = 3 if name in ("search", "beam") else 2
        axes.plot(points.weights, 100 * points.best, label=label, zorder=above, **style.line)
    shown = pd.concat(curves)
    log_weights_axis(axes, shown.weights.to_numpy())
    accuracy_axis(axes, np.array([100 * shown.best.min(), 100]), room=22)
    axes.set(xlabel="weights (biases not counted)", ylabel="accuracy (%)")
    title = "best of n runs at each point"
    figure.legend(loc="outside right upper", title=title, alignment="left")
    return figure


def best_of_all(method: pd.DataFrame) -> pd.DataFrame:
    """One method's rows of `methods`, reduced over studies and networks: one row per target.

    Columns: weights (of the network of the best run), runs, and best accuracy; by increasing number
    of weights.
    """
    rows = [
        {
            "weights": of_target.sort_values("accuracy_high").weights.iloc[-1],
            "runs": of_target.runs.sum(),
            "best": of_target.accuracy_high.max(),
        }
        for _, of_target in method.dropna(subset=["accuracy_high"]).groupby("target")
    ]
    return pd.DataFrame(rows, columns=["weights", "runs", "best"]).sort_values("weights")


@styled
def gap(*, equal_budget: pd.DataFrame, frontier: pd.DataFrame, from_above: pd.DataFrame) -> Figure:
    """Methods on the networks that studies give them, beside the search: all, and at equal cost.

    Where a study gives the initial values too, the search from above among their masks is shown.

    A panel per study and network. Above: the best of a method's runs at each target, and the
    expected best of a search of as many SGD steps with its 90 % band; below: the median run.
    """
    compared = beside_widths(pruned(equal_budget))
    compared = compared[compared.method != MAGNITUDE]
    if compared.empty:
        return placeholder(NO_METHODS)
    compared = compared.assign(cost=_relative_cost(compared))
    of_methods, of_search = series(compared.method), _searches(compared)
    above = replace(BEAM, label="from above, from the given start")
    given_a_start = from_above.study.isin(compared.study)
    shown = 100 * compared[["method_best", "method_median", "search_full"]].to_numpy()
    given = places(compared)
    figure, panels = panel_grid(len(given), abreast=3, height=9, parts=(1, 1))
    for panel, (place, rows) in zip(panels, given.items(), strict=True):
        first = figure.axes[0] if figure.axes else None
        masks = from_above[from_above.study == place[0]]
        best = figure.add_subplot(panel.parts[0], sharex=first, sharey=first)
        median = figure.add_subplot(panel.parts[1], sharex=best, sharey=best)
        for axes, column in ((best, "method_best"), (median, "method_median")):
            axes.plot(frontier.weights, 100 * frontier.accuracy, **SEARCH.line)
            if len(masks):
                axes.plot(masks.weights, 100 * masks.accuracy, **above.line)
            for name, style in of_methods.items():
                line = rows[rows.method == name].sort_values("target")
                axes.plot(line.target, 100 * line[column], **style.line)
            accuracy_axis(axes, shown, room=9)
            axes.tick_params(labelleft=panel.leftmost, labelbottom=panel.lowest and axes is median)
        for cost, style in of_search.items():
            line = rows[rows.cost == cost].drop_duplicates("target").sort_values("target")
            parts = (100 * line[f"search_{part}"] for part in ("expected", "low", "high"))
            plot_with_band(best, style, line.target, *parts)
        steps = int((rows.steps / rows.runs).min())
        best.set_title(f"{place_title(*place)}\n{count_range(rows.runs)} runs of {steps:,} steps")
        if panel.leftmost:
            best.set_ylabel("accuracy (%),\nbest run")
            median.set_ylabel("accuracy (%),\nmedian run")
    weights_axis(figure.axes[0], pd.concat([compared.target, frontier.weights]))
    figure.supxlabel("weights (of methods: target)")
    figure.align_ylabels()
    styles = [
        SEARCH,
        *([above] if given_a_start.any() else []),
        *of_search.values(),
        *of_methods.values(),
    ]
    figure.legend(handles=legend_handles(styles), loc="outside upper center", ncols=4)
    return figure


def _relative_cost(compared: pd.DataFrame) -> pd.Series:
    """SGD steps of a method at a target, in those of the cheapest method there."""
    least = compared.groupby(["study", "network", "target"]).steps.transform("min")
    return (compared.steps / least).round().astype(int)


def _searches(compared: pd.DataFrame) -> dict[int, Series]:
    """Styles of the search at the cost of the methods, by relative cost."""
    styles = {}
    costs = sorted(compared.cost.unique())
    for cost, linestyle in zip(costs, cycle(("--", ":", "-.")), strict=False):
        methods = series(compared.method[compared.cost == cost]).values()
        whose = "equal cost" if cost == 1 else f"cost of {', '.join(s.label for s in methods)}"
        styles[cost] = Series(f"search, {whose}", GREY, "", linestyle)
    return styles


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
    tried.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    tried.tick_params(labelbottom=False)
    dead.plot(frontier.weights, 100 * frontier.dead, color=BLACK, marker="o")
    dead.set(xlabel="weights", ylabel="runs that died (%)", ylim=(-3, 103))
    for axes in (accuracies, tried):
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


@styled
def search_success(*, search_success: pd.DataFrame) -> Figure:
    """How often training succeeds, against the number of weights, at each accuracy reached.

    Left: share of all starts, with its 95% interval. Right: share of networks with at least one.
    """
    reached = search_success[search_success.successes > 0]
    if reached.empty:
        return placeholder("no start of the search reached any of the accuracies")
    figure = new_figure(DOUBLE, 7)
    starts, networks = figure.subplots(1, 2)
    levels = {accuracy: f"{100 * accuracy:g}%" for accuracy in sorted(set(reached.accuracy))}
    for accuracy, style in graded(levels).items():
        rows = reached[reached.accuracy == accuracy].sort_values("weights")
        parts = (100 * rows[part] for part in ("rate", "rate_low", "rate_high"))
        plot_with_band(starts, style, rows.weights, *parts)
        networks.plot(rows.weights, 100 * rows.networks_succeeded / rows.networks, **style.line)
    for axes in (starts, networks):
        weights_axis(axes, reached.weights)
        axes.set(xlabel="weights", yscale="log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.margins(y=0.1)
    starts.set_ylabel("starts that succeed (%)")
    networks.set_ylabel("networks with a success (%)")
    styles = [graded(levels)[accuracy] for accuracy in levels]
    figure.legend(handles=legend_handles(styles), loc="outside right upper", title="accuracy")
    return figure


@styled
def certificate(*, exclusion: pd.DataFrame, power: pd.DataFrame) -> Figure:
    """What failures say: success rates excluded at each number of weights, and the power there.

    Left: the rate above which a network without a success is excluded at 95%. Right: at the
    largest number of weights, the probability that a network of some success rate is found.
    """
    if exclusion.empty:
        return placeholder("no network was searched")
    figure = new_figure(DOUBLE, 7)
    excluded, found = figure.subplots(1, 2)
    largest = power[power.weights == power.weights.max()]
    levels = {accuracy: f"{100 * accuracy:g}%" for accuracy in sorted(set(exclusion.accuracy))}
    for accuracy, style in graded(levels).items():
        rows = exclusion[exclusion.accuracy == accuracy].sort_values("weights")
        excluded.plot(rows.weights, 100 * rows.excluded_rate, label=style.label, **style.line)
        curve = largest[largest.accuracy == accuracy].sort_values("rate")
        found.plot(
            100 * curve.rate,
            100 * curve.probability,
            color=style.color,
            marker=style.marker,
            markevery=5,
        )
    weights_axis(excluded, exclusion.weights)
    excluded.set(xlabel="weights", ylabel="excluded success rate (%)")
    log_share_axis(excluded, 100 * exclusion.excluded_rate.to_numpy())
    found.set(xlabel="success rate of a network (%)", xscale="log", ylim=(-3, 103))
    found.set_ylabel(f"found by the search (%), {largest.weights.max()} weights")
    found.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    figure.legend(loc="outside right upper", title="accuracy")
    return figure
