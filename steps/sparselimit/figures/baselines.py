"""Pruning methods on trained classifiers, beside what is predicted for these."""

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from sparselimit.figures.layout import legend_handles, panel_grid, placeholder
from sparselimit.figures.limits import principal, variants
from sparselimit.figures.style import BLACK, GREY, Series, series, styled

_LABELS = {
    "imp": "IMP, with rewinding",
    "rare_gems": "Rare Gems",
    "rare_gems_l2": "Rare Gems, L2",
    "smart_ratio": "Smart-Ratio",
    "fine_tuned": "one-shot, fine-tuned",
    "reoptimised": "one-shot, re-optimised",
}
_ONE_SHOT = Series("one-shot", GREY, "")
_DENSE = Series("dense network", BLACK, "", ":")
_NO_BASELINES = "no pruning method was run on a trained network"


def styles_of(names: set[str]) -> dict[str, Series]:
    """Styles of pruning methods of classifiers, by name; another one is called as in the study."""
    return {
        name: replace(style, label=_LABELS.get(name, style.label))
        for name, style in series(names - {"dense", "one_shot"}).items()
    }


@styled
def baselines(*, baselines: pd.DataFrame, sweeps: pd.DataFrame, bounds: pd.DataFrame) -> Figure:
    """Test accuracy against density, a panel per network, a line per method.

    Vertical lines: the limits predicted with the spread of the loss between batches as tolerance.
    """
    if baselines.empty:
        return placeholder(_NO_BASELINES)
    styles = styles_of(set(baselines.method))
    names = baselines.network.unique()
    figure, panels = panel_grid(len(names), abreast=3, height=7)
    marks: dict[str, Line2D] = {}
    for panel, name in zip(panels, names, strict=True):
        axes = figure.add_subplot(panel.parts[0])
        made = baselines[baselines.network == name]
        sweep = sweeps[sweeps.network == name].sort_values("pruning_ratio")
        limit = principal(bounds[(bounds.network == name) & (bounds.rule == "batch_std")])
        predicted = 1 - limit.pruning_ratio[limit.pruning_ratio < 1]
        _density_axis(axes, min([made.density.min(), *predicted]))
        axes.plot(1 - sweep.pruning_ratio, 100 * sweep.test_accuracy, **_ONE_SHOT.line)
        for accuracy in made.test_accuracy[made.method == "dense"]:
            axes.axhline(100 * accuracy, color=_DENSE.color, linestyle=_DENSE.linestyle, lw=0.8)
        for style, rows in variants(limit):
            for ratio in rows.pruning_ratio.dropna():
                line = axes.axvline(1 - ratio, color=style.color, linestyle=style.linestyle, lw=0.9)
                marks[style.label] = line
                line.set_label(f"predicted: {style.label}")
        for method, style in styles.items():
            rows = made[made.method == method].sort_values("density")
            axes.plot(rows.density, 100 * rows.test_accuracy, **style.line)
        axes.set(ylim=(-3, 103), title=f"network: {name}")
        axes.tick_params(labelleft=panel.leftmost)
    figure.supxlabel("density (fraction of prunable weights kept)")
    figure.supylabel("test accuracy (%)")
    handles = [*legend_handles([*styles.values(), _ONE_SHOT, _DENSE]), *marks.values()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


@styled
def rounds(*, rounds: pd.DataFrame) -> Figure:
    """Density of each round, and how far its network could go at once; a panel per network.

    Measured (black), and predicted with the spread of the loss between batches as tolerance. A
    method keeps its marker, filled where weights are trained, and a formula its colour.
    """
    if rounds.empty:
        return placeholder("no method that prunes in rounds was run")
    methods = styles_of(set(rounds.method))
    styles = {name: replace(style, color=BLACK) for name, style in methods.items()}
    names = rounds.network.unique()
    figure, panels = panel_grid(len(names), abreast=3, height=7)
    formulas: dict[str, Series] = {}
    for panel, name in zip(panels, names, strict=True):
        axes = figure.add_subplot(panel.parts[0])
        for method, style in styles.items():
            rows = rounds[(rounds.network == name) & (rounds.method == method)]
            trained = rows.drop_duplicates("round").sort_values("round")
            axes.plot(trained["round"], trained.density, **style.line)
            axes.plot(trained["round"], trained.one_shot_density, **_threshold(style).line)
            for formula, predicted in variants(rows.sort_values("round")):
                formulas[formula.label] = formula
                drawn = replace(formula, marker=style.marker, filled=False)
                axes.plot(predicted["round"], predicted.predicted_density, **drawn.line)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.set_title(f"network: {name}")
    figure.supxlabel("round (0: the dense network)")
    figure.supylabel("density (fraction of prunable weights)")
    shown = [part for style in styles.values() for part in (style, _threshold(style))]
    shown += [
        replace(style, label=f"predicted: {style.label}", marker="") for style in formulas.values()
    ]
    figure.legend(handles=legend_handles(shown), loc="outside upper center", ncols=2)
    return figure


def _threshold(style: Series) -> Series:
    """How the one-shot thresholds of a method's rounds are drawn."""
    label = f"{style.label}: measured one-shot threshold"
    return replace(style, label=label, linestyle="--", filled=False)


def _density_axis(axes: Axes, least: float) -> None:
    """Densities on a logarithmic scale, the dense network at the left as pruning begins there."""
    axes.set_xscale("log")
    axes.set_xlim(1.1, least / 1.2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
