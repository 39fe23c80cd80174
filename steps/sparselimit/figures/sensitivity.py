"""What predicted limits rest on, and how far they are from what is measured."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sparselimit.figures.layout import count_range, legend_handles, panel_grid, placeholder
from sparselimit.figures.limits import MEASURED, NO_NETWORKS, REMOVED, variants
from sparselimit.figures.style import (
    CORRECTED,
    DOUBLE,
    GREY,
    PUBLISHED,
    TALLEST,
    Series,
    distinct,
    new_figure,
    styled,
)

_GAPS = {
    "above_reoptimised": "re-optimised in\nthe quadratic model",
    "above_one_shot": "one-shot,\nby loss",
    "above_one_shot_by_accuracy": "one-shot,\nby validation accuracy",
}
_RATIOS = {
    "published": Series("published, Gauss–Newton", PUBLISHED, "s", ":"),
    "corrected": Series("corrected B, Gauss–Newton", CORRECTED, "o"),
    "reoptimised": MEASURED["reoptimised_ratio"],
    "one_shot": MEASURED["one_shot_ratio"],
}
_PENALTIES = {"l1": "L1 penalty", "weight_decay": "weight decay"}


@styled
def sensitivity(*, sensitivity: pd.DataFrame) -> Figure:
    """Limits against the tolerance, and against the scale of the weights at the same curvature.

    A panel per network; below, the tolerance is the spread of the loss between batches, which a
    line marks above. Gaps are where the quadrature is too coarse.
    """
    if sensitivity.empty:
        return placeholder(NO_NETWORKS)
    names = sensitivity.network.unique()
    figure, panels = panel_grid(len(names), abreast=3, height=8, parts=(1, 1))
    styles: dict[str, Series] = {}
    for panel, name in zip(panels, names, strict=True):
        curves, scales = (figure.add_subplot(part) for part in panel.parts)
        rows = sensitivity[sensitivity.network == name]
        of_epsilon = rows[rows.varied == "epsilon"]
        of_scale = rows[(rows.varied == "scale") & (rows.rule == "batch_std")]
        for axes, part, column in ((curves, of_epsilon, "epsilon"), (scales, of_scale, "scale")):
            for style, line in variants(part.sort_values(column)):
                axes.plot(line[column], line.pruning_ratio, **style.line)
                styles[style.label] = style
            axes.set_ylim(-0.03, 1.03)
            axes.tick_params(labelleft=panel.leftmost)
        measured = of_epsilon.drop_duplicates("epsilon").sort_values("epsilon")
        for column, style in MEASURED.items():
            curves.plot(measured.epsilon, measured[column], **style.line)
        for epsilon in of_scale.epsilon[:1]:
            curves.axvline(epsilon, color=GREY, lw=0.8, ls=(0, (6, 3)))
        curves.set(xscale="log", title=f"network: {name}", xlabel="tolerance ε (nats)")
        scales.set_xlabel("scale of the weights")
        scales.set_xticks(sorted(of_scale.scale.unique()))
        scales.xaxis.set_major_formatter("×{x:g}")
    figure.supylabel(REMOVED)
    handles = legend_handles([*MEASURED.values(), *styles.values()])
    handles.append(Line2D([], [], color=GREY, lw=0.8, ls=(0, (6, 3)), label="batch spread"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


@styled
def gaps(*, gaps: pd.DataFrame) -> Figure:
    """Predicted minus measured pruning ratios, of all networks and tolerances, by formula."""
    if gaps.empty:
        return placeholder(NO_NETWORKS)
    shown = list(variants(gaps))
    figure = new_figure(DOUBLE, min(3.5 + 0.9 * len(shown), TALLEST))
    panels = figure.subplots(1, len(_GAPS), sharey=True)
    markers = distinct(gaps.network.unique())
    for axes, (column, title) in zip(panels, _GAPS.items(), strict=True):
        axes.axvline(0, color=GREY, lw=0.6, zorder=0)
        for height, (style, rows) in enumerate(shown):
            for i, (name, of_network) in enumerate(rows.groupby("network", sort=False)):
                shift = 0.6 * ((i + 0.5) / rows.network.nunique() - 0.5)
                axes.errorbar(
                    of_network[column],
                    [height + shift] * len(of_network),
                    xerr=of_network.bracket / 2,
                    color=style.color,
                    marker=markers[str(name)].marker,
                    linestyle="",
                    elinewidth=0.8,
                )
        axes.set_title(f"minus {title}")
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
    labels = [f"{style.label}{_unresolved(rows)}" for style, rows in shown]
    panels[0].set_yticks(range(len(shown)), labels)
    panels[0].set_ylim(len(shown) - 0.5, -0.5)
    figure.supxlabel("predicted minus measured pruning ratio")
    figure.supylabel("prediction")
    figure.legend(
        handles=[
            Line2D([], [], color=GREY, marker=marker.marker, ls="", label=f"network {name}")
            for name, marker in markers.items()
        ],
        loc="outside upper center",
        ncols=4,
    )
    return figure


def _unresolved(rows: pd.DataFrame) -> str:
    missing = int(rows.bracket.isna().sum())
    return f"\n({missing} of {len(rows)} unresolved)" if missing else ""


@styled
def penalties(*, penalties: pd.DataFrame) -> Figure:
    """Limits and thresholds against a penalty of the training, the other penalty being absent.

    Lines go through the means of networks trained alike. The tolerance is the spread of the loss
    between batches. Below, the accuracy that the penalty leaves.
    """
    families = list(_families(penalties)) if len(penalties) else []
    if not families:
        return placeholder("no two networks differ in a penalty")
    figure, panels = panel_grid(len(families), abreast=3, height=8, parts=(3, 1))
    for panel, (architecture, penalty, rows) in zip(panels, families, strict=True):
        above, below = (figure.add_subplot(part) for part in panel.parts)
        values = sorted(rows[penalty].unique())
        place = rows[penalty].map(values.index)
        for column, style in _RATIOS.items():
            _draw_means(above, style, place, rows[column])
        accuracy = Series("", GREY, "o")
        _draw_means(below, accuracy, place, 100 * rows.validation_accuracy)
        above.set_title(f"{architecture}, {count_range(rows.groupby(penalty).size())}")
        above.set_xticks(range(len(values)), [])
        below.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        below.tick_params(axis="x", rotation=45 if len(values) > 4 else 0)
        below.set_xlabel(_PENALTIES[penalty])
        for axes in (above, below):
            axes.set_xlim(-0.5, len(values) - 0.5)
        if panel.leftmost:
            above.set_ylabel("pruning ratio")
            below.set_ylabel("validation\naccuracy (%)")
    figure.align_ylabels()
    figure.legend(handles=legend_handles(_RATIOS.values()), loc="outside upper center", ncols=2)
    return figure


def _families(penalties: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Architecture, penalty, and networks that differ in that penalty and have not the other."""
    rows = penalties[penalties.rule == "batch_std"]
    for architecture, alike in rows.groupby("architecture", sort=False):
        for penalty, other in (("l1", "weight_decay"), ("weight_decay", "l1")):
            family = alike[alike[other] == 0]
            if family[penalty].nunique() > 1:
                yield str(architecture), penalty, family


def _draw_means(axes: Axes, style: Series, place: pd.Series, values: pd.Series) -> None:
    means = values.groupby(place).mean()
    axes.plot(means.index, means, color=style.color, ls=style.linestyle)
    axes.plot(place, values, style.marker, color=style.color, mfc=style.color)
