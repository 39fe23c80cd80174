"""Trained networks: their weights, how the loss feels them, how alike two runs are."""

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sparselimit.figures.layout import legend_handles, panel_grid, placeholder, plot_with_band
from sparselimit.figures.limits import NO_NETWORKS, OPERATORS
from sparselimit.figures.style import BLUE, DOUBLE, GREEN, GREY, PURPLE, new_figure, styled

_OF = {
    "weights": ("weights", BLUE, "o"),
    "hessian": ("eigenvalues of the Hessian", PURPLE, "s"),
    "ggn": ("eigenvalues of the Gauss–Newton matrix", GREEN, "^"),
}
_FAINTEST = 1e-6  # of the strongest row; what is below stands on the axis
_DIFFER = {"probe": "other probe", "seed": "other seed", "recipe": "other recipe"}


@styled
def weights(*, rows: pd.DataFrame) -> Figure:
    """Distribution of the magnitudes of weights, and below, how strongly the loss feels them.

    A panel per network. Below stands the norm of a weight's row of either matrix: the median over
    the weights of a bin, and a band over the middle 80 % of them. What is faint stands on the axis.
    """
    if rows.empty:
        return placeholder(NO_NETWORKS)
    names = rows.network.unique()
    figure, panels = panel_grid(len(names), abreast=3, height=7, parts=(1, 1))
    lowest, highest = rows.magnitude_low.min(), rows.magnitude_high.max()
    top = 1.1 * rows.share.max()
    strongest = rows.row_norm_p90.max()
    for panel, name in zip(panels, names, strict=True):
        histogram = figure.add_subplot(panel.parts[0])
        norms = figure.add_subplot(panel.parts[1], sharex=histogram)
        of_network = rows[rows.network == name].sort_values("magnitude_low")
        first = of_network[of_network.operator == of_network.operator.iloc[0]]
        width = first.magnitude_high - first.magnitude_low
        histogram.bar(first.magnitude_low, first.share, width, align="edge", color=GREY, lw=0)
        for operator, style in OPERATORS.items():
            felt = of_network[of_network.operator == operator]
            middle = np.sqrt(felt.magnitude_low * felt.magnitude_high)
            quantiles = (
                felt[f"row_norm_{column}"].clip(lower=_FAINTEST * strongest)
                for column in ("median", "p10", "p90")
            )
            plot_with_band(norms, style, middle, *quantiles)
        histogram.set(xscale="log", xlim=(lowest, highest), ylim=(0, top))
        histogram.set_title(f"network: {name}\n{first.weights.sum():,} prunable weights")
        histogram.tick_params(labelbottom=False, labelleft=panel.leftmost)
        norms.set(yscale="log", ylim=(_FAINTEST * strongest, 2 * strongest))
        norms.tick_params(labelleft=panel.leftmost)
        for axes in (histogram, norms):
            axes.minorticks_off()
        if panel.leftmost:
            histogram.set_ylabel("share of weights")
            norms.set_ylabel("norm of the row")
    figure.supxlabel("magnitude of the weight")
    figure.align_ylabels()
    shown = [style for name, style in OPERATORS.items() if name in set(rows.operator)]
    figure.legend(handles=legend_handles(shown), loc="outside upper center", ncols=2)
    return figure


@styled
def variation(*, variation: pd.DataFrame) -> Figure:
    """Total-variation distances between runs, by what is distributed and what sets them apart.

    Upright marks: what chance would make of two samples of one distribution.
    """
    if variation.empty:
        return placeholder("there are no two runs to compare")
    present = dict(iter(variation.groupby(["of", "differ"])))
    groups = {key: present[key] for key in product(_OF, _DIFFER) if key in present}
    figure = new_figure(DOUBLE, 2.6 + 0.8 * len(groups))
    axes = figure.subplots()
    for height, ((of, _), rows) in enumerate(groups.items()):
        _, color, marker = _OF[of]
        shift = 0.5 * ((np.arange(len(rows)) + 0.5) / len(rows) - 0.5)
        axes.plot(rows.distance, height + shift, marker, color=color, mfc="none")
        axes.plot(rows.chance, height + shift, "|", color=GREY)
    labels = [f"{_OF[of][0]}, {_DIFFER[differ]}" for of, differ in groups]
    axes.set_yticks(range(len(groups)), labels)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="y")
    axes.set_xlabel("total-variation distance")
    axes.set_ylabel("two runs")
    by_chance = Line2D([], [], color=GREY, marker="|", ls="", label="by chance")
    figure.legend(handles=[by_chance], loc="outside upper right")
    return figure
