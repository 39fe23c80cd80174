"""What became of the runs of a study, and where methods get stuck."""

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sparselimit.accounts import OUTCOMES
from sparselimit.figures.layout import NO_METHODS, bar_width, count_range, placeholder
from sparselimit.figures.methods import panel_per_method, share_axis
from sparselimit.figures.studies import network_labels, of_widths, pruned
from sparselimit.figures.style import (
    BLACK,
    DOUBLE,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    SKY,
    TALLEST,
    VERMILLION,
    graded,
    new_figure,
    series,
    styled,
)

_COLORS = dict(zip(OUTCOMES, (BLACK, VERMILLION, ORANGE, SKY, GREY, LIGHT, GREEN), strict=True))
_BLOCKS = "blocks, as published"


@styled
def outcomes(*, outcomes: pd.DataFrame) -> Figure:
    """What became of all runs on the spiral: a bar for each method, the searches, dense networks.

    Shares of all runs of a source, over studies, networks and targets.
    """
    known = outcomes[outcomes.stage.isin(["train", "prune", "search"])]
    runs = known.groupby(["source", "outcome"]).runs.sum().unstack(fill_value=0)
    if runs.empty:
        return placeholder("no network was trained on the spiral")
    labels = {name: style.label for name, style in series(set(runs.index) - {"blocks"}).items()}
    labels |= {"blocks": _BLOCKS} if "blocks" in runs.index else {}
    runs = runs.reindex(index=list(labels), columns=OUTCOMES, fill_value=0)
    totals = runs.sum(axis=1)

    figure = new_figure(DOUBLE, min(2.2 + 0.5 * len(labels), TALLEST))
    axes = figure.add_subplot()
    place = np.arange(len(labels))
    _stack(axes, place, 100 * runs.div(totals, axis=0).to_numpy(), _COLORS, across=True)
    axes.set_yticks(place, [f"{labels[str(name)]}, n = {n:,}" for name, n in totals.items()])
    axes.set(xlabel="share of runs (%)", xlim=(0, 100), ylim=(len(labels) - 0.4, -0.6))
    axes.set_ylabel("method, n runs")
    _legend(figure, [name for name in OUTCOMES if runs[name].any()])
    return figure


@styled
def stuck(*, outcomes: pd.DataFrame, connectivity: pd.DataFrame) -> Figure:
    """Where methods get stuck on the widest network, against target, a panel per method.

    Above: what became of the runs. Below: which share of the kept weights lies on no path from an
    input to an output after training, by the layer that they lie in.
    """
    of_pruning = outcomes[outcomes.stage == "prune"].rename(columns={"source": "method"})
    rows = of_widths(pruned(of_pruning))
    if rows.empty:
        return placeholder(NO_METHODS)
    (*_, (widest, label)) = network_labels(rows.network).items()
    rows = rows[rows.network == widest]
    wasted = _wasted(connectivity, rows)
    figure, panels = panel_per_method(rows, ["runs (%)", "weights on no\npath (%)"])
    width = bar_width(rows.target)
    layers = {
        layer: style.color
        for layer, style in graded({n: f"layer {n}" for n in wasted.columns}).items()
    }
    for (became, where), of_method in panels:
        shares = of_method.pivot_table("share", "target", "outcome", aggfunc="sum", fill_value=0)
        shares = 100 * shares.reindex(columns=OUTCOMES, fill_value=0)
        _stack(became, shares.index.to_numpy(), shares.to_numpy(), _COLORS, width=width)
        lost = wasted.loc[of_method.method.iloc[0]]
        _stack(where, lost.index.to_numpy(), 100 * lost.to_numpy(), layers, width=width)
        for axes in (became, where):
            share_axis(axes)
    n = rows.groupby(["method", "target"]).runs.sum()
    found = [name for name in OUTCOMES if name in set(rows.outcome)]
    _legend(figure, found, f"{count_range(n)} runs at width {label}", "outside upper left", 4)
    figure.legend(
        handles=[Patch(color=color, label=f"layer {layer}") for layer, color in layers.items()],
        title="weights on no path, of",
        loc="outside upper right",
        ncols=2,
    )
    return figure


def _wasted(connectivity: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Shares of kept weights that lie on no path: by method and target (rows), layer (columns).

    Of the study and the network that `rows` are of.
    """
    here = connectivity[
        (connectivity.study == rows.study.iloc[0])
        & (connectivity.network == rows.network.iloc[0])
        & (connectivity.when == "end")
    ]
    keys = ["method", "target"]
    kept = here.groupby(keys).weights.sum()
    lost = (here.weights - here.effective_weights).groupby([here[k] for k in (*keys, "layer")])
    return lost.sum().unstack("layer").div(kept.where(kept > 0, 1), axis=0)


def _stack(
    axes: Axes,
    place: np.ndarray,
    shares: np.ndarray,
    colors: dict,
    *,
    width: float = 0.8,
    across: bool = False,
) -> None:
    """Bars of shares [places, parts], one part on the other."""
    ends = np.cumsum(shares, axis=1)
    draw = axes.barh if across else axes.bar
    for part, color in enumerate(colors.values()):
        draw(place, shares[:, part], width, ends[:, part] - shares[:, part], color=color)


def _legend(
    figure: Figure,
    names: list[str],
    title: str = "",
    loc: Literal["outside upper center", "outside upper left"] = "outside upper center",
    ncols: int = 7,
) -> None:
    handles = [Patch(color=_COLORS[name], label=name) for name in names]
    figure.legend(handles=handles, title=title, loc=loc, ncols=min(len(handles), ncols))
