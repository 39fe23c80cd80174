"""What figures share in their axes: scales, and grids of panels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from sparselimit.figures.style import DOUBLE, GREY, LIGHT, TALLEST, new_figure

LEVELS = (80, 90, 95, 99, 99.5)  # accuracies, in per cent, that a network is asked to reach
CHANCE = 50

_TICKS = (100, CHANCE, 90, 80, 95, 99, 70, 60, 99.5)  # the more important first
_BEYOND = 100.5  # where the stretched axis would reach infinity


def _stretch(accuracy: np.ndarray) -> np.ndarray:
    return -np.log10(np.maximum(_BEYOND - accuracy, 1e-6))


def _unstretch(place: np.ndarray) -> np.ndarray:
    return _BEYOND - 10.0**-place


def accuracy_axis(axes: Axes, shown: np.ndarray, room: int) -> None:
    """Accuracies in per cent, stretched towards 100, where networks differ by tenths.

    The axis reaches from chance, or below, over the accuracies `shown` to the next tick; it has
    `room` for that many labels. Lines mark the levels that a network is asked to reach.
    """
    shown = shown[np.isfinite(shown)]
    top = min((tick for tick in _TICKS if tick >= shown.max(initial=CHANCE + 1)), default=100)
    bottom = shown.min(initial=CHANCE) - 0.01 * (top - CHANCE)
    axes.set_yscale("function", functions=(_stretch, _unstretch))
    axes.set_ylim(bottom, top + 0.02 * (_BEYOND - top) + 0.05)
    ticks: list[float] = []
    gap = (_stretch(np.array(top)) - _stretch(np.array(bottom))) / room
    for tick in (top, *(tick for tick in _TICKS if tick < top)):
        if all(abs(_stretch(np.array(tick)) - _stretch(np.array(t))) >= gap for t in ticks):
            ticks.append(tick)
    axes.set_yticks(ticks)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    for level in LEVELS:
        axes.axhline(level, color=LIGHT, linewidth=0.5, zorder=0)


def log_weights_axis(axes: Axes, shown: np.ndarray) -> None:
    """Numbers of weights on a logarithmic scale, written out; it reaches over those `shown`."""
    low, high = shown.min() / 1.15, shown.max() * 1.15
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    labelled = range(1, 10) if high < 10 * low else (1, 2, 4, 6) if high < 1000 * low else (1, 3)
    axes.xaxis.set_major_locator(LogLocator(subs=labelled))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def weights_axis(axes: Axes, shown: pd.Series) -> None:
    """Numbers of weights on a linear scale; it reaches over those `shown`."""
    margin = max(0.04 * (shown.max() - shown.min()), 0.5)
    axes.set_xlim(shown.min() - margin, shown.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


@dataclass(frozen=True)
class Panel:
    """A place in a grid of panels: one or more axes below each other."""

    parts: list[SubplotSpec]
    leftmost: bool
    lowest: bool  # nothing below it


def panel_grid(
    n: int, height: float = 4.2, parts: Sequence[float] = (1,)
) -> tuple[Figure, list[Panel]]:
    """A figure with n panels, each of axes whose heights are to each other as `parts`.

    A panel is about `height` cm high where there are several rows of them.
    """
    rows = math.ceil(n / 4)
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


def count_range(counts: pd.Series) -> str:
    """`n = 4`, or `n = 4–20` where counts differ."""
    low, high = int(counts.min()), int(counts.max())
    return f"n = {low:,}" if low == high else f"n = {low:,}–{high:,}"
