"""What each pruning method reaches at each width and target."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sparselimit.figures.layout import (
    accuracy_axis,
    count_range,
    panel_grid,
    placeholder,
    weights_axis,
)
from sparselimit.figures.style import BAND, Series, graded, series, styled

_NO_METHODS = "no pruning method is part of this study"


@styled
def widths(*, methods: pd.DataFrame) -> Figure:
    """Accuracy against target, a panel per method, a line per width: median, and all runs."""
    pruned = methods[methods.method != "dense"]
    if pruned.empty:
        return placeholder(_NO_METHODS)
    figure, panels = panel_grid(pruned.method.nunique())
    shown = 100 * pruned[["accuracy_low", "accuracy_high"]].to_numpy()
    first: Axes | None = None
    for panel, (title, rows) in zip(panels, _by_method(pruned), strict=True):
        axes = figure.add_subplot(panel.parts[0], sharex=first, sharey=first)
        first = first or axes
        for style, line in _by_width(rows, pruned):
            low, median, high = (100 * line[f"accuracy_{x}"] for x in ("low", "median", "high"))
            axes.plot(line.target, median, **style.line)
            axes.fill_between(line.target, low, high, color=style.color, alpha=BAND, linewidth=0)
        axes.set_title(title)
        accuracy_axis(axes, shown, room=9)
        weights_axis(axes, pruned.target)
        axes.tick_params(labelleft=panel.leftmost, labelbottom=panel.lowest)
    figure.supxlabel("target (weights to keep)")
    figure.supylabel("accuracy (%): median, min–max")
    _legend_of_widths(figure, pruned)
    return figure


@styled
def connectivity(*, methods: pd.DataFrame) -> Figure:
    """How much of what a method keeps can carry a signal, against target, a line per width.

    Above: kept weights on some path from input to output; below: runs with any such path.
    """
    pruned = methods[methods.method != "dense"]
    if pruned.empty:
        return placeholder(_NO_METHODS)
    figure, panels = panel_grid(pruned.method.nunique(), parts=(3, 2))
    first: Axes | None = None
    for panel, (title, rows) in zip(panels, _by_method(pruned), strict=True):
        effective = figure.add_subplot(panel.parts[0], sharex=first)
        connected = figure.add_subplot(panel.parts[1], sharex=effective)
        first = first or effective
        for style, line in _by_width(rows, pruned):
            effective.plot(line.target, 100 * line.effective_weights / line.weights, **style.line)
            connected.plot(line.target, 100 * line.connected, **style.line)
        effective.set_title(title)
        for axes in (effective, connected):
            axes.set(ylim=(-6, 106), yticks=(0, 50, 100))
            axes.grid(axis="y")
            axes.tick_params(labelleft=panel.leftmost, labelbottom=False)
        weights_axis(connected, pruned.target)
        connected.tick_params(labelbottom=panel.lowest)
        if panel.leftmost:
            effective.set_ylabel("weights on\na path (%)")
            connected.set_ylabel("connected\nruns (%)")
    figure.supxlabel("target (weights to keep)")
    figure.align_ylabels()
    _legend_of_widths(figure, pruned)
    return figure


def _by_method(pruned: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Title and rows of each method, in the order of the styles."""
    for name, style in series(pruned.method).items():
        rows = pruned[pruned.method == name]
        if not rows.empty:
            yield f"{style.label}, {count_range(rows.runs)}", rows


def _by_width(rows: pd.DataFrame, pruned: pd.DataFrame) -> Iterator[tuple[Series, pd.DataFrame]]:
    """Style and rows of each width, styles being those of all methods' widths."""
    for width, style in graded(pruned.width).items():
        yield style, rows[rows.width == width].sort_values("target")


def _legend_of_widths(figure: Figure, pruned: pd.DataFrame) -> None:
    styles = graded(pruned.width).values()
    handles = [Line2D([], [], label=style.label, **style.line) for style in styles]
    figure.legend(handles=handles, loc="outside right upper", title="width")
