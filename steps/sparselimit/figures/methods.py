"""What pruning methods reach, how often, and what can still carry a signal in what they leave."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, product
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sparselimit.figures.layout import (
    NO_METHODS,
    accuracy_axis,
    bar_width,
    count_range,
    legend_handles,
    panel_grid,
    place_title,
    placeholder,
    plot_with_band,
    weights_axis,
)
from sparselimit.figures.studies import (
    control,
    network_labels,
    of_widths,
    places,
    pruned,
    variant,
)
from sparselimit.figures.style import (
    GREY,
    LIGHT,
    SEARCH,
    SKY,
    VERMILLION,
    Series,
    graded,
    series,
    styled,
)

# Accuracies whose success rates are shown: one that small studies reach, and the benchmark's.
_SUCCESS = (0.8, 0.95)
_MOST_TARGETS = 6  # of the figure by width
_KEYS = ["study", "method", "network", "target"]
_ACCURACY = ("accuracy_median", "accuracy_p10", "accuracy_p90")
_ROLES = ("method", "counting effective weights", "random, with its layerwise counts")
_NEURONS = {
    "active": Patch(color=LIGHT, label="on a path"),
    "constant": Patch(color=SKY, label="constant"),
    "dead": Patch(color=VERMILLION, label="dead"),
}


@styled
def widths(*, methods: pd.DataFrame) -> Figure:
    """Accuracy against target, a panel per method, a line per width: median, and 10 to 90 %."""
    rows = of_widths(pruned(methods))
    if rows.empty:
        return placeholder(NO_METHODS)
    figure, panels = panel_per_method(rows, ["accuracy (%):\nmedian, 10–90 %"])
    shown = 100 * rows[[*_ACCURACY]].to_numpy()
    for (axes,), of_method in panels:
        for style, line in _by_network(of_method, rows):
            plot_with_band(axes, style, line.target, *(100 * line[part] for part in _ACCURACY))
        accuracy_axis(axes, shown, room=9)
    _legend_of_networks(figure, rows)
    return figure


@styled
def overparameterisation(*, methods: pd.DataFrame) -> Figure:
    """Accuracy (median) against the width that a method starts from, a panel for each target."""
    rows = of_widths(pruned(methods))
    if rows.empty:
        return placeholder(NO_METHODS)
    targets = np.unique(rows.target)
    targets = targets[
        np.linspace(0, len(targets) - 1, min(len(targets), _MOST_TARGETS)).astype(int)
    ]
    labels = network_labels(rows.network)
    place = {network: i for i, network in enumerate(labels)}
    styles = series(rows.method)
    figure, panels = panel_grid(len(targets), abreast=3, height=5)
    for panel, target in zip(panels, targets, strict=True):
        corner = figure.axes[0] if figure.axes else None
        axes = figure.add_subplot(panel.parts[0], sharex=corner, sharey=corner)
        of_target = rows[rows.target == target]
        for name, style in styles.items():
            line = of_target[of_target.method == name]
            line = line.assign(place=line.network.map(place)).sort_values("place")
            axes.plot(line.place, 100 * line.accuracy_median, **style.line)
        accuracy_axis(axes, 100 * rows.accuracy_median.to_numpy(), room=9)
        axes.set_title(f"{target} weights kept")
        axes.set_xticks(range(len(labels)), list(labels.values()))
        axes.tick_params(labelleft=panel.leftmost, labelbottom=panel.lowest)
        axes.set_ylabel("accuracy (%), median" if panel.leftmost else "")
    figure.axes[0].set_xlim(-0.5, len(labels) - 0.5)
    figure.supxlabel("width of the network that is pruned")
    title = f"{count_range(rows.runs)} runs"
    handles = legend_handles(styles.values())
    figure.legend(handles=handles, title=title, loc="outside upper center", ncols=5)
    return figure


@styled
def success(*, success: pd.DataFrame) -> Figure:
    """Share of runs that reach an accuracy, with its 95 % interval, a panel per method.

    Above: an easier accuracy, below: a harder one; a line per width.
    """
    rows = of_widths(pruned(success))
    if rows.empty:
        return placeholder(NO_METHODS)
    labels = [f"reach {100 * accuracy:g} %\n(% of runs)" for accuracy in _SUCCESS]
    figure, panels = panel_per_method(rows, labels)
    for parts, of_method in panels:
        for axes, accuracy in zip(parts, _SUCCESS, strict=True):
            for style, line in _by_network(of_method[of_method.accuracy == accuracy], rows):
                rates = (100 * line[part] for part in ("rate", "rate_low", "rate_high"))
                plot_with_band(axes, style, line.target, *rates)
            share_axis(axes)
    _legend_of_networks(figure, rows)
    return figure


@styled
def connectivity(*, connectivity: pd.DataFrame, methods: pd.DataFrame) -> Figure:
    """How much of what a method keeps can carry a signal, against target, a panel per method.

    From above: kept weights on a path from an input to an output, before and after training; runs
    with any such path after it; what became of the hidden neurons that the widest network keeps.
    """
    rows = of_widths(pruned(methods)).merge(_shares(connectivity), on=_KEYS)
    if rows.empty:
        return placeholder(NO_METHODS)
    figure, panels = panel_per_method(rows, ["weights", "runs", "neurons"])
    figure.supylabel("share on a path (%)")
    (*_, widest), (*_, label) = zip(*network_labels(rows.network).items(), strict=True)
    width = bar_width(rows.target)
    for (weights, runs, neurons), of_method in panels:
        for style, line in _by_network(of_method, rows):
            weights.plot(line.target, 100 * line.start, color=style.color, linestyle="--")
            weights.plot(line.target, 100 * line.end, **style.line)
            runs.plot(line.target, 100 * line.connected, **style.line)
        of_widest = of_method[of_method.network == widest]
        below = pd.Series(0.0, of_widest.index)
        for kind, patch in _NEURONS.items():
            share = 100 * of_widest[kind]
            neurons.bar(of_widest.target, share, width, below, color=patch.get_facecolor())
            below += share
        for axes in (weights, runs, neurons):
            share_axis(axes)
    start = Line2D([], [], color=GREY, linestyle="--", label="before training")
    _legend_of_networks(figure, rows, others=[start], loc="outside upper left")
    figure.legend(
        handles=[*_NEURONS.values()],
        title=f"neurons at width {label}",
        loc="outside upper right",
        ncols=len(_NEURONS),
    )
    return figure


@styled
def repair(*, frontier: pd.DataFrame, methods: pd.DataFrame) -> Figure:
    """Methods beside themselves counting effective weights, and beside random masks.

    A row per method of which there is such a variant, a panel per study, on its widest network;
    median and 10 to 90 %, and the search.
    """
    named = set(methods.method)
    repaired = [name for name in series(pruned(methods).method) if variant(name) in named]
    families = [[name, variant(name), control(name)] for name in repaired]
    shown = methods[methods.method.isin(list(chain(*families)))]
    if shown.empty:
        return placeholder("no method counts effective weights in this study")
    widest = {study: (network, rows) for (study, network), rows in places(shown).items()}
    figure, panels = panel_grid(len(families) * len(widest), abreast=len(widest), height=5.5)
    cells = product(families, widest.items())
    styles = series(shown.method)
    for panel, (family, (study, (network, rows))) in zip(panels, cells, strict=True):
        axes = figure.add_subplot(panel.parts[0], sharey=figure.axes[0] if figure.axes else None)
        axes.plot(frontier.weights, 100 * frontier.accuracy, **SEARCH.line)
        for name in family:
            line = rows[rows.method == name].sort_values(["weights", "target"])
            parts = (100 * line[part] for part in _ACCURACY)
            plot_with_band(axes, styles[name], line.weights, *parts)
        weights_axis(axes, rows.weights)
        accuracy_axis(axes, 100 * shown[[*_ACCURACY]].to_numpy(), room=9)
        axes.set_title(f"{place_title(study, network)}, {count_range(rows.runs)}")
        axes.tick_params(labelleft=panel.leftmost)
        axes.set_ylabel(f"{styles[family[0]].label}: accuracy (%)" if panel.leftmost else "")
    figure.supxlabel("weights kept (median)")
    roles = [
        replace(styles[name], color=GREY, label=role)
        for name, role in zip(families[0], _ROLES, strict=True)
        if name in styles
    ]
    handles = legend_handles([*roles, SEARCH])
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def panel_per_method(
    rows: pd.DataFrame, labels: Sequence[str]
) -> tuple[Figure, list[tuple[list[Axes], pd.DataFrame]]]:
    """A figure, and for each method its axes below each other and its rows.

    The axes are as many as `labels` of their vertical axes; they share their scales across panels.
    """
    styles = series(rows.method)
    figure, panels = panel_grid(
        len(styles),
        abreast=5 if len(styles) <= 10 else 6,
        height=3.5 + 0.8 * len(labels),
        parts=[1] * len(labels),
    )
    placed: list[tuple[list[Axes], pd.DataFrame]] = []
    for panel, (name, style) in zip(panels, styles.items(), strict=True):
        stack = []
        for i, (part, label) in enumerate(zip(panel.parts, labels, strict=True)):
            corner = figure.axes[0] if figure.axes else None
            axes = figure.add_subplot(
                part, sharex=corner, sharey=placed[0][0][i] if placed else None
            )
            lowest = panel.lowest and part is panel.parts[-1]
            axes.tick_params(labelleft=panel.leftmost, labelbottom=lowest)
            axes.set_ylabel(label if panel.leftmost else "")
            stack.append(axes)
        stack[0].set_title(style.label)
        placed.append((stack, rows[rows.method == name]))
    weights_axis(figure.axes[0], rows.target)
    figure.supxlabel("target (weights to keep)")
    figure.align_ylabels()
    return figure, placed


def _by_network(rows: pd.DataFrame, shown: pd.DataFrame) -> Iterator[tuple[Series, pd.DataFrame]]:
    """Style and rows of each network, styles being those of all that are shown."""
    rows = rows.sort_values("target")
    for network, style in graded(network_labels(shown.network)).items():
        yield style, rows[rows.network == network]


def _legend_of_networks(
    figure: Figure,
    shown: pd.DataFrame,
    others: Sequence[Line2D] = (),
    loc: Literal["outside upper center", "outside upper left"] = "outside upper center",
) -> None:
    handles = [*legend_handles(graded(network_labels(shown.network)).values()), *others]
    title = f"width of the network, {count_range(shown.runs)} runs"
    figure.legend(handles=handles, title=title, loc=loc, ncols=min(len(handles), 5))


def share_axis(axes: Axes) -> None:
    """Shares in per cent."""
    axes.set(ylim=(-6, 106), yticks=(0, 50, 100))
    axes.grid(axis="y")


def _shares(connectivity: pd.DataFrame) -> pd.DataFrame:
    """By study, method, network and target: shares of what is kept.

    `start` and `end`: of the weights, on a path before and after training; of the hidden neurons
    with kept weights after it, those of each class.
    """
    totals = connectivity.groupby([*_KEYS, "when"])[["effective_weights", "weights"]].sum()
    on_path = (totals.effective_weights / totals.weights).unstack("when")
    hidden = connectivity[connectivity.layer < connectivity.layer.max()]
    neurons = hidden[hidden.when == "end"].groupby(_KEYS)[list(_NEURONS)].sum()
    return on_path.join(neurons.div(neurons.sum(axis=1), axis=0)).reset_index()
