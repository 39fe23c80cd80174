"""What figures share in their axes: scales, and grids of panels."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)
from numpy.typing import ArrayLike

from sparselimit.figures.studies import network_labels
from sparselimit.figures.style import BAND, DOUBLE, GREY, LIGHT, TALLEST, Series, new_figure
from sparselimit.statistics import ACCURACIES, CHANCE

NO_METHODS = "no pruning method is part of this study"

_CHANCE = 100 * CHANCE  # in per cent, as all here
_TICKS = (100, _CHANCE, 90, 80, 95, 99, 70, 60, 99.5)  # the more important first
_BEYOND = 100.5  # where the stretched axis would reach infinity


def _stretch(accuracy: ArrayLike) -> np.ndarray:
    return -np.log10(np.maximum(_BEYOND - np.asarray(accuracy), 1e-6))


def _unstretch(place: ArrayLike) -> np.ndarray:
    return _BEYOND - 10 ** -np.asarray(place, dtype=float)


def accuracy_axis(axes: Axes, shown: np.ndarray, room: int) -> None:
    """Accuracies in per cent, stretched towards 100, where networks differ by tenths.

    The axis reaches from chance, or below, over the accuracies `shown` to the next tick; it has
    `room` for that many labels. Lines mark the levels that a network is asked to reach.
    """
    shown = shown[np.isfinite(shown)]
    lowest = shown.min(initial=_CHANCE)
    top = min(tick for tick in _TICKS if tick >= shown.max(initial=_CHANCE + 1))
    ends = _stretch([lowest, top])
    margin = 0.02 * np.ptp(ends) * np.array([-1, 1])  # for half a marker
    axes.set_yscale("function", functions=(_stretch, _unstretch))
    axes.set_ylim(*_unstretch(ends + margin))
    axes.set_yticks(_ticks(lowest, top, room))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    for level in ACCURACIES:
        axes.axhline(100 * level, color=LIGHT, linewidth=0.5, zorder=0)


def _ticks(lowest: float, top: float, room: int) -> list[float]:
    """The top, and of the other ticks the most important that keep their distance."""
    gap = np.ptp(_stretch([lowest, top])) / room
    ticks = [top]
    for tick in _TICKS:
        if tick < top and np.abs(_stretch(ticks) - _stretch(tick)).min() >= gap:
            ticks.append(tick)
    return ticks


def log_weights_axis(axes: Axes, shown: np.ndarray) -> None:
    """Numbers of weights on a logarithmic scale, written out; it reaches over those `shown`."""
    low, high = shown.min() / 1.15, shown.max() * 1.15
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    _label_log(axes.xaxis, low, high)


def log_share_axis(axes: Axes, shown: np.ndarray) -> None:
    """Shares in per cent on a logarithmic scale, written out; it reaches over those `shown`."""
    shown = shown[np.isfinite(shown) & (shown > 0)]
    low, high = shown.min(initial=100) / 1.3, shown.max(initial=1e-9) * 1.3
    axes.set_yscale("log")
    axes.set_ylim(min(low, high), max(low, high))
    _label_log(axes.yaxis, *axes.get_ylim())


def _label_log(axis: Axis, low: float, high: float) -> None:
    decades = math.log10(high / low)
    labelled = range(1, 10) if decades < 1 else (1, 2, 4, 6) if decades < 3 else (1, 3)
    axis.set_major_locator(LogLocator(subs=labelled))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_locator(LogLocator(subs=range(1, 10)))
    axis.set_minor_formatter(NullFormatter())


def weights_axis(axes: Axes, shown: pd.Series) -> None:
    """Numbers of weights on a linear scale; it reaches over those `shown`."""
    margin = max(0.04 * (shown.max() - shown.min()), 0.5)
    axes.set_xlim(shown.min() - margin, shown.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def bar_width(places: pd.Series) -> float:
    """Of bars at these places on an axis of weights: apart from each other, and within the axis."""
    gap = min(np.diff(np.unique(places)), default=1)
    return float(min(0.8 * gap, max(0.08 * np.ptp(places), 0.8)))


@dataclass(frozen=True)
class Panel:
    """A place in a grid of panels: one or more axes below each other."""

    parts: list[SubplotSpec]
    leftmost: bool
    lowest: bool  # nothing below it


def panel_grid(
    n: int, *, abreast: int = 4, height: float = 4.2, parts: Sequence[float] = (1,)
) -> tuple[Figure, list[Panel]]:
    """A figure with n panels, each of axes whose heights are to each other as `parts`.

    At most `abreast` panels stand side by side; one is about `height` cm high where there are
    several rows of them.
    """
    rows = math.ceil(n / abreast)
    columns = math.ceil(n / rows)
    figure = new_figure(DOUBLE, min(rows * height + 3.5, TALLEST))
    grid = figure.add_gridspec(rows * len(parts), columns, height_ratios=[*parts] * rows)
    panels = []
    for i in range(n):
        row, column = divmod(i, columns)
        places = [grid[row * len(parts) + part, column] for part in range(len(parts))]
        panels.append(Panel(places, column == 0, i + columns >= n))
    return figure, panels


def placeholder(reason: str) -> Figure:
    """A figure that says why there is nothing to see."""
    figure = new_figure(DOUBLE, 3)
    figure.text(0.5, 0.5, f"Nothing to draw: {reason}", ha="center", va="center", color=GREY)
    return figure


def plot_with_band(
    axes: Axes, style: Series, x: pd.Series, middle: pd.Series, low: pd.Series, high: pd.Series
) -> None:
    """A line and the band around it, whose edges are drawn as the line is."""
    axes.plot(x, middle, **style.line)
    face, edge = to_rgba(style.color, BAND), to_rgba(style.color, 2 * BAND)
    axes.fill_between(
        x, low, high, facecolor=face, edgecolor=edge, linewidth=0.5, linestyle=style.linestyle
    )


def place_title(study: str, network: str) -> str:
    """What a panel of one study and network is called, in two lines."""
    label = network_labels([network])[network]
    shape = f"width {label}" if label.isdecimal() else f"{label} network"
    return f"{study.replace('_', ' ')}\n{shape}"


def legend_handles(styles: Iterable[Series]) -> list[Line2D]:
    """What a legend shows of series that stand in several axes."""
    return [Line2D([], [], label=style.label, **style.line) for style in styles]


def count_range(counts: pd.Series) -> str:
    """`n = 4`, or `n = 4–20` where counts differ."""
    low, high = int(counts.min()), int(counts.max())
    return f"n = {low:,}" if low == high else f"n = {low:,}–{high:,}"
