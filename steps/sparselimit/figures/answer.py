"""The figure of the first page: truth, algorithms and theory on one axis."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

from sparselimit.figures.layout import placeholder
from sparselimit.figures.style import (
    BLACK,
    BLUE,
    DOUBLE,
    LIGHT,
    VERMILLION,
    Series,
    new_figure,
    styled,
)
from sparselimit.search.counting import LEAST_WEIGHTS

_WHO = {
    "known": Series("truth: sparsest network known", BLACK, "o", ""),
    "method": Series("algorithms: best pruning method", VERMILLION, "X", ""),
    "predicted": Series("theory: must stay, median and range", BLUE, "D", ""),
}
_EXCLUDED = "truth: all networks tried in vain"
_LINEAR = 10  # up to so many weights the axis is linear, and logarithmic from there
_TICKS = (0, 5, *(number * 10**power for power in range(1, 6) for number in (1, 2, 5)))


@styled
def answer(*, answers: pd.DataFrame) -> Figure:
    """How many weights each accuracy takes: what is known, what pruning needs, what theory says.

    A row for each accuracy. Grey: numbers of weights of which all networks were searched and none
    reached it, down to 0 if the search begins with the fewest that a network takes. Predictions are
    of several dense networks: their median, and a bar from least to greatest.
    """
    counts = ["searched_below", "predicted_high", *(f"{who}_weights" for who in _WHO)]
    shown = answers[counts].to_numpy(float)
    if not np.isfinite(shown).any():
        return placeholder("no accuracy was reached, and none searched for")
    rows = answers.sort_values("accuracy", ignore_index=True)
    figure = new_figure(DOUBLE, 2.4 + 1.1 * len(rows))
    axes = figure.add_subplot()
    first = rows.searched_from.where(rows.searched_from > LEAST_WEIGHTS, 0)
    searched = rows.searched_below - first
    axes.barh(rows.index, searched, 0.9, left=first, color=LIGHT, label=_EXCLUDED)
    for (who, style), shift in zip(_WHO.items(), (0.25, 0, -0.25), strict=True):
        weights, bars = rows[f"{who}_weights"], None
        if who == "predicted":
            bars = [weights - rows.predicted_low, rows.predicted_high - weights]
        line = style.line | {"label": style.label}
        axes.errorbar(weights, rows.index + shift, xerr=bars, elinewidth=0.8, capsize=2, **line)
    highest = 1.3 * np.nanmax(shown)
    axes.set_xscale("symlog", linthresh=_LINEAR, linscale=1)
    axes.set_xticks([tick for tick in _TICKS if tick <= highest])
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="weights (biases not counted)", xlim=(0, highest))
    axes.set(ylabel="accuracy (%)", ylim=(-0.5, len(rows) - 0.5))
    axes.set_yticks(rows.index, [f"{100 * accuracy:g}" for accuracy in rows.accuracy])
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=2)
    return figure
