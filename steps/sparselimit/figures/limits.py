"""What the geometry of the loss predicts, and what pruning measures."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from sparselimit.figures.layout import legend_handles, panel_grid, placeholder
from sparselimit.figures.style import (
    BLACK,
    CORRECTED,
    DOUBLE,
    GREEN,
    GREY,
    INDIGO,
    LIGHT,
    ORANGE,
    PUBLISHED,
    PURPLE,
    SKY,
    TALLEST,
    Series,
    graded,
    new_figure,
    styled,
)
from sparselimit.search.counting import LEAST_WEIGHTS

NO_NETWORKS = "no trained network is part of this study"
REMOVED = "pruning ratio (fraction of prunable weights removed)"
OPERATORS = {
    "hessian": Series("Hessian", PURPLE, "", "-"),
    "ggn": Series("Gauss–Newton", GREEN, "", "--"),
}
# By formula, direction, operator and rule for its negative eigenvalues.
_VARIANTS = {
    ("published", "none", "hessian", "abs"): Series("published, Hessian, |λ|", PUBLISHED, "o", "-"),
    ("published", "none", "hessian", "clip"): Series(
        "published, Hessian, max(λ, 0)", PUBLISHED, "^", "--"
    ),
    ("published", "none", "ggn", "psd"): Series("published, Gauss–Newton", PUBLISHED, "s", ":"),
    ("trace", "none", "ggn", "psd"): Series("trace bound, Gauss–Newton", ORANGE, "v", "-."),
    ("A", "offset", "ggn", "psd"): Series("corrected A, Gauss–Newton", SKY, "P", "--"),
    ("A", "isotropic", "ggn", "psd"): Series("corrected A, isotropic", SKY, "p", ":"),
    ("B", "offset", "ggn", "psd"): Series("corrected B, Gauss–Newton", CORRECTED, "s", "-"),
    ("B", "isotropic", "ggn", "psd"): Series("corrected B, isotropic", INDIGO, "X", "-."),
}
MEASURED = {
    "one_shot_ratio": Series("measured, one-shot", BLACK, "D"),
    "reoptimised_ratio": Series("measured, kept weights re-optimised", BLACK, "*", "--"),
}
_ONE_SHOT = MEASURED["one_shot_ratio"]
_MEETING = {
    ("hessian", "abs", "published"): "published, Hessian |λ|",
    ("ggn", "psd", "published"): "published, Gauss–Newton",
    ("ggn", "psd", "A"): "corrected A, Gauss–Newton",
    ("ggn", "psd", "B"): "corrected B, Gauss–Newton",
    ("hessian", "psd", "B"): "corrected B, Hessian",
    ("ggn", "psd", "reoptimised"): "exact quadratic, Gauss–Newton",
}
_KNOWN = Series("known to suffice (search)", BLACK, "o")
_PRUNED = Series("best pruning method", PUBLISHED, "X", "--")
_NONE = 0.4  # where 0 stands on a logarithmic axis
_UNRESOLVED = 1.1  # where such predictions are drawn
_LOWEST_DENSITY = 1e-7  # of the highest; what is below is the smoothing alone


@styled
def spectra(*, spectra: pd.DataFrame) -> Figure:
    """Eigenvalue density of the Hessian and the Gauss-Newton matrix, a panel per network."""
    if spectra.empty:
        return placeholder(NO_NETWORKS)
    names = spectra.network.unique()
    figure, panels = panel_grid(len(names))
    top = spectra.density.max()
    first: Axes | None = None
    for panel, name in zip(panels, names, strict=True):
        axes = figure.add_subplot(panel.parts[0], sharey=first)
        first = first or axes
        for operator, style in OPERATORS.items():
            rows = spectra[(spectra.network == name) & (spectra.operator == operator)]
            axes.plot(rows.eigenvalue, rows.density, label=style.label, **style.line)
        axes.axvline(0, color=LIGHT, linewidth=0.5, zorder=0)
        axes.set(yscale="log", ylim=(_LOWEST_DENSITY * top, 3 * top), title=f"network: {name}")
        axes.minorticks_off()
        axes.tick_params(labelleft=panel.leftmost)
    figure.supxlabel("eigenvalue")
    figure.supylabel("density (smoothed)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


@styled
def limits(*, sweeps: pd.DataFrame, bounds: pd.DataFrame) -> Figure:
    """One-shot magnitude pruning of each network, with the limits predicted for it.

    Above: rise of the loss on the data it was fitted to; below: validation accuracy. The tolerance
    is the spread of the loss between batches. Vertical lines: the predicted limits, and the largest
    ratio up to which the loss stays within the tolerance.
    """
    if sweeps.empty:
        return placeholder(NO_NETWORKS)
    names = sweeps.network.unique()
    figure, panels = panel_grid(len(names), abreast=3, height=6, parts=(3, 2))
    marks: dict[str, Line2D] = {}
    for panel, name in zip(panels, names, strict=True):
        rise = figure.add_subplot(panel.parts[0])
        accuracy = figure.add_subplot(panel.parts[1], sharex=rise)
        sweep = sweeps[sweeps.network == name].sort_values("pruning_ratio")
        limit = bounds[(bounds.network == name) & (bounds.rule == "batch_std")]
        marks |= _draw_rise(rise, sweep, limit)
        accuracy.plot(sweep.pruning_ratio, 100 * sweep.validation_accuracy, color=GREY)
        for axes in (rise, accuracy):
            marks |= _mark_limits(axes, limit)
        accuracy.set(xlim=(0, 1), ylim=(-3, 103))
        rise.tick_params(labelbottom=False)
        shown = principal(limit)
        unresolved = int(shown.pruning_ratio.isna().sum())
        note = f"\n{unresolved} of {len(shown)} predictions unresolved" if unresolved else ""
        rise.set_title(f"network: {name}{note}")
        density = rise.secondary_xaxis("top", functions=(_complement, _complement))
        density.set_xlabel("density (fraction kept)")
        if panel.leftmost:
            rise.set_ylabel("rise of fit\nloss (nats)")
            accuracy.set_ylabel("validation\naccuracy (%)")
    figure.supxlabel(REMOVED)
    figure.align_ylabels()
    figure.legend(handles=list(marks.values()), loc="outside upper center", ncols=3)
    return figure


def _complement(share: ArrayLike) -> ArrayLike:
    return 1 - np.asarray(share)


def _draw_rise(axes: Axes, sweep: pd.DataFrame, limit: pd.DataFrame) -> dict[str, Line2D]:
    """The rise of the loss on a logarithmic scale, and the tolerance; returns the latter's line."""
    rise = sweep.fit_loss - sweep.fit_loss.iloc[0]
    axes.plot(sweep.pruning_ratio, rise.where(rise > 0), color=GREY)
    lowest, marks = 1e-4, {}
    for tolerance in limit.epsilon[:1]:
        label, lowest = "tolerance: spread of batch losses", tolerance / 30
        marks[label] = axes.axhline(tolerance, color=GREY, lw=0.8, ls=(0, (6, 3)), label=label)
    axes.set(yscale="log", ylim=(lowest, 2 * max(rise.max(), lowest)))
    axes.minorticks_off()
    return marks


def _mark_limits(axes: Axes, limit: pd.DataFrame) -> dict[str, Line2D]:
    """Vertical lines at the measured and the predicted ratios; returns one by each label."""
    marks = {}
    for ratio in limit.one_shot_ratio[:1]:
        marks[_ONE_SHOT.label] = axes.axvline(ratio, color=BLACK, lw=1.8, label=_ONE_SHOT.label)
    for style, rows in variants(principal(limit)):
        for ratio in rows.pruning_ratio:
            marks[style.label] = axes.axvline(
                ratio, color=style.color, linestyle=style.linestyle, label=style.label
            )
    return marks


def variants(bounds: pd.DataFrame) -> Iterator[tuple[Series, pd.DataFrame]]:
    """Style and rows of each formula as it is applied to a spectrum, in a fixed order."""
    columns = ["formula", "direction", "operator", "negative"]
    rows = dict(iter(bounds.groupby(columns, sort=False)))
    return ((style, rows[variant]) for variant, style in _VARIANTS.items() if variant in rows)


def principal(bounds: pd.DataFrame) -> pd.DataFrame:
    """Without the variants that are there to be compared with others: A, and what B and the trace
    say of less knowledge. Where no direction was measured, the isotropic B stands for B."""
    isotropic = bounds[(bounds.formula == "B") & (bounds.direction == "isotropic")]
    if (bounds.direction == "offset").any():
        bounds = bounds.drop(isotropic.index)
    return bounds[~bounds.formula.isin(["A", "trace"])]


@styled
def predictions(*, bounds: pd.DataFrame) -> Figure:
    """All predicted limits beside the measured ones, a panel per network, a row per tolerance.

    Predictions that could not be resolved are hollow, in a column of their own at the right.
    """
    if bounds.empty:
        return placeholder(NO_NETWORKS)
    names = bounds.network.unique()
    bounds = bounds.sort_values("epsilon")
    settings = [
        bounds[bounds.network == name].drop_duplicates(["rule", "epsilon"]) for name in names
    ]
    n_rows = [len(rows) for rows in settings]
    figure = new_figure(DOUBLE, min(3 + 0.8 * len(names) + 0.8 * sum(n_rows), TALLEST))
    panels = figure.subplots(len(names), sharex=True, height_ratios=n_rows, squeeze=False)[:, 0]
    styles = [*MEASURED.values(), *(style for style, _ in variants(bounds))]
    for axes, name, rows in zip(panels, names, settings, strict=True):
        place = {key: i for i, key in enumerate(zip(rows.rule, rows.epsilon, strict=True))}
        _draw_dots(axes, styles, bounds[bounds.network == name], place)
        axes.set_title(f"network: {name}, {rows.prunable.iloc[0]:,} prunable weights", loc="left")
    axes.set_xlabel(REMOVED)
    figure.supylabel("tolerance ε (nats)")
    ratios = bounds[["pruning_ratio", *MEASURED]]
    ticks = np.arange(np.floor(10 * ratios.min().min()), 11) / 10
    axes.set_xlim(ticks[0] - 0.02, 1.02)
    axes.set_xticks(ticks)
    if bounds.pruning_ratio.isna().any():
        axes.set_xlim(ticks[0] - 0.02, _UNRESOLVED + 0.05)
        axes.set_xticks([*ticks, _UNRESOLVED], [*(f"{tick:.1f}" for tick in ticks), "unresolved"])
    handles = [
        Line2D([], [], color=s.color, marker=s.marker, linestyle="", label=s.label) for s in styles
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _draw_dots(
    axes: Axes, styles: list[Series], bounds: pd.DataFrame, place: dict[tuple[str, float], int]
) -> None:
    """One network's dots; `place` says in which row a rule and tolerance stand."""
    measured = bounds.drop_duplicates(["rule", "epsilon"])
    drawn = [(s, measured, measured[column]) for column, s in MEASURED.items()]
    drawn += [(style, rows, rows.pruning_ratio) for style, rows in variants(bounds)]
    for style, rows, ratio in drawn:
        shift = 0.6 * (styles.index(style) / (len(styles) - 1) - 0.5)
        height = np.array([place[key] for key in zip(rows.rule, rows.epsilon, strict=True)]) + shift
        found = ratio.notna().to_numpy()
        axes.plot(ratio[found], height[found], style.marker, color=style.color)
        if style in MEASURED.values():
            continue
        aside = np.full(sum(~found), _UNRESOLVED)
        axes.plot(aside, height[~found], style.marker, color=style.color, mfc="none")
    labels = [
        f"{epsilon:.2g}" + (" (batch spread)" if rule == "batch_std" else "")
        for rule, epsilon in place
    ]
    axes.set_yticks(list(place.values()), labels)
    axes.set_ylim(len(place) - 0.5, -0.5)
    axes.grid(axis="y")


@styled
def meeting(*, meeting: pd.DataFrame) -> Figure:
    """Weights that must stay by theory, suffice by search, and were needed by pruning.

    A panel per formula, a line per width of the dense networks: the median prediction with its
    range over networks. Under each accuracy, for how many of all networks there is a prediction.
    """
    if meeting.empty:
        return placeholder("no dense network on the spiral was looked at")
    if not meeting.predicted.any():
        return placeholder("there is no prediction for these networks; the table counts why")
    figure, panels = panel_grid(len(_MEETING), abreast=3, height=6.2)
    widths = sorted(set(meeting.width))
    styles = graded({width: f"predicted, width {width}" for width in widths})
    levels = sorted(set(meeting.accuracy))
    counts = ["known_weights", "searched_below", "best_method_weights", "predicted_high"]
    highest = np.nanmax(meeting[counts].to_numpy(float))
    first: Axes | None = None
    for panel, ((operator, negative, formula), title) in zip(panels, _MEETING.items(), strict=True):
        axes = figure.add_subplot(panel.parts[0], sharey=first)  # numbers under x are its own
        first = first or axes
        same = (meeting.operator == operator) & (meeting.negative == negative)
        rows = meeting[same & (meeting.formula == formula)].sort_values("accuracy")
        place = {level: i for i, level in enumerate(levels)}
        _draw_truth(axes, rows.drop_duplicates("accuracy"), place)
        for width, style in styles.items():
            shift = 0.5 * ((widths.index(width) + 0.5) / len(widths) - 0.5)
            _draw_predictions(axes, style, rows[rows.width == width], place, shift)
        made = rows.groupby("accuracy")[["predicted", "networks"]].sum()
        labels = [
            f"{100 * level:g}\n{made.predicted[level]}/{made.networks[level]}" for level in levels
        ]
        if not made.predicted.any():
            axes.text(0.5, 0.1, "no prediction", ha="center", color=GREY, transform=axes.transAxes)
        axes.set_xticks(range(len(levels)), labels)
        axes.tick_params(labelleft=panel.leftmost)
        axes.set(title=title, yscale="log", xlim=(-0.5, len(levels) - 0.5))
        axes.set_ylim(_NONE / 1.3, 1.5 * highest)
        decades = 10 ** np.arange(np.ceil(np.log10(highest)))
        axes.set_yticks([_NONE, *decades], ["0", *(f"{tick:,.0f}" for tick in decades)])
        axes.minorticks_off()
        axes.grid(axis="y")
    figure.supxlabel("accuracy (%), networks with a prediction / all")
    figure.supylabel("weights (biases not counted)")
    handles = legend_handles([_KNOWN, _PRUNED, *styles.values()])
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def _draw_truth(axes: Axes, rows: pd.DataFrame, place: dict[float, int]) -> None:
    """What is known of each accuracy: enough weights, down to those that were searched in vain."""
    at = rows.accuracy.map(place)
    open_from = rows.searched_below.where(rows.searched_below > rows.searched_from, LEAST_WEIGHTS)
    bars = (rows.known_weights - open_from).clip(lower=0)
    below = np.stack([bars, np.zeros(len(bars))])
    axes.errorbar(at, rows.known_weights, below, capsize=2, elinewidth=0.8, **_KNOWN.line)
    axes.plot(at, rows.best_method_weights, **_PRUNED.line)


def _draw_predictions(
    axes: Axes, style: Series, rows: pd.DataFrame, place: dict[float, int], shift: float
) -> None:
    """One width's predictions; that nothing need stay is drawn at `_NONE`."""
    low, middle, high = (
        rows[f"predicted_{part}"].clip(lower=_NONE) for part in ("low", "weights", "high")
    )
    at, bars = rows.accuracy.map(place) + shift, np.stack([middle - low, high - middle])
    axes.errorbar(at, middle, bars, elinewidth=0.8, **style.line)
