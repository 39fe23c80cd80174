"""The geometry of the limits: the cone of a sublevel set, and whether formulas describe it."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Polygon

from sparselimit.curvature.quadrature import Floats
from sparselimit.figures.layout import placeholder
from sparselimit.figures.style import (
    BLACK,
    CORRECTED,
    DARK,
    DOUBLE,
    GREEN,
    GREY,
    ORANGE,
    PUBLISHED,
    SKY,
    distinct,
    new_figure,
    styled,
)
from sparselimit.limits.cone import Cone
from sparselimit.limits.subspace import nested_residuals

_UNCHECKED = "the formulas were not checked"
_MODELS = {"A": "A: through the pruned point", "B": "B: orthogonal to the offset"}
# What the first two panels of `cone` show: eigenvalues, trained weights, tolerance.
_PLANE = np.array([1.0, 0.16]), np.array([1.7, 2.0]), 0.5
_SPACE = np.array([1.0, 0.5, 0.1]), np.array([0.9, 1.8, 2.4]), 0.5
_DRAWS = 2000  # random subspaces of each dimension
_SEED = 3


@styled
def cone(*, cone: pd.DataFrame, met: np.ndarray) -> Figure:
    """A sublevel set seen from the pruned point: in the plane, on the sphere, in many dimensions.

    All of it is computed: the cone from its quadratic form, hits of random lines and planes by
    drawing them, and in many dimensions the share of random subspaces that meet the set (shades)
    beside the statistical dimension of its cone by projection (dots) and by both formulas (lines).
    """
    if cone.empty:
        return placeholder(_UNCHECKED)
    figure = new_figure(DOUBLE, 9)
    plane, sphere, many = figure.subplots(1, 3)
    for axes in (plane, sphere, many):
        axes.set_box_aspect(1)
    _draw_plane(plane)
    _draw_sphere(sphere)
    _draw_transition(many, cone, met)
    handles = [
        Line2D([], [], color=BLACK, marker="o", ls="", label="pruned weights"),
        Line2D([], [], color=BLACK, marker="*", ls="", label="trained weights"),
        Line2D([], [], color=SKY, lw=5, label="loss within ε"),
        Line2D([], [], color=ORANGE, lw=5, alpha=0.4, label="its cone"),
        Line2D([], [], color=GREEN, label="subspace that meets it"),
        Line2D([], [], color=GREY, ls=":", label="subspace that misses it"),
        Line2D([], [], color=BLACK, marker="o", mfc="white", ls="", label="1 − δ/D, by projection"),
        Line2D([], [], color=CORRECTED, label="1 − δ/D, corrected formula"),
        Line2D([], [], color=PUBLISHED, ls="--", label="1 − δ/D, published formula"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _draw_plane(axes: Axes) -> None:
    """Ellipse, cone and lines, which meet it or not."""
    eigenvalues, center, epsilon = _PLANE
    seen = Cone.of(eigenvalues, center, epsilon)
    width, height = 2 * np.sqrt(2 * epsilon / eigenvalues)
    # Edges of the cone, where its quadratic form vanishes.
    steep = np.sqrt(-seen.curvatures[0] / seen.curvatures[1])
    edges = 9 * (seen.vectors[:, 0] + np.outer([steep, -steep], seen.vectors[:, 1]))
    axes.add_patch(Polygon([[0, 0], *edges], closed=True, color=ORANGE, alpha=0.25, lw=0))
    axes.add_patch(Ellipse(tuple(center), width, height, facecolor=SKY, edgecolor=DARK, lw=0.6))
    angles = np.random.default_rng(_SEED).uniform(0, np.pi, 9)
    for line in np.stack([np.cos(angles), np.sin(angles)], axis=1):
        meets = bool(seen.contains(np.array([line, -line])).any())
        axes.plot(*np.outer(line, [-9, 9]), **_subspace(meets))
    axes.plot(*np.stack([[0, 0], center]).T, color=BLACK, lw=0.8)
    axes.plot(0, 0, "o", color=BLACK)
    axes.plot(*center, "*", color=BLACK)
    share = 2 * np.arctan(steep) / np.pi
    axes.set(xlim=(-1.6, 4.8), ylim=(-1.4, 5.0), xlabel="first weight", ylabel="second weight")
    axes.set_title(f"two weights: {share:.0%} of\nall lines meet the set")
    axes.set_xticks([0])
    axes.set_yticks([0])


def _draw_sphere(axes: Axes) -> None:
    """Directions in space, those of the cone shaded; great circles are planes."""
    seen, center = Cone.of(*_SPACE), _SPACE[1]
    ahead = center / np.linalg.norm(center)
    right = np.cross([0, 0, 1], ahead)
    right /= np.linalg.norm(right)
    view = np.stack([right, np.cross(ahead, right), ahead])  # rows: right, up, towards the reader
    grid = np.linspace(-1, 1, 241)
    x, y = np.meshgrid(grid, grid)
    height = np.sqrt(np.maximum(1 - x**2 - y**2, 0))
    directions = np.stack([x, y, height], axis=-1).reshape(-1, 3) @ view
    parts = (directions @ seen.vectors) ** 2 @ seen.curvatures
    parts = np.where(directions @ seen.vectors[:, 0] > 0, parts, np.abs(parts))
    form = np.ma.masked_array(parts.reshape(x.shape), x**2 + y**2 > 1)
    axes.add_patch(Ellipse((0, 0), 2, 2, facecolor="white", edgecolor=DARK, lw=0.6))
    axes.contourf(x, y, form, [form.min(), 0], colors=[ORANGE], alpha=0.4)
    rng = np.random.default_rng(_SEED)
    for _ in range(7):
        basis = np.linalg.qr(rng.standard_normal((3, 2)))[0]
        circle = view @ basis @ np.stack([np.cos(t := np.linspace(0, 2 * np.pi, 201)), np.sin(t)])
        front = np.where(circle[2] >= 0, circle[:2], np.nan)
        axes.plot(*front, **_subspace(_meets(basis, *_SPACE)))
    shares = [
        np.mean([_meets(rng.standard_normal((3, k)), *_SPACE) for _ in range(_DRAWS)])
        for k in (1, 2)
    ]
    axes.plot(0, 0, "*", color=BLACK)
    axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xlabel="directions of three weights")
    axes.set_title(f"three: {shares[0]:.0%} of lines and\n{shares[1]:.0%} of planes meet it")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _subspace(meets: bool) -> dict[str, Any]:
    """How a subspace is drawn that meets the sublevel set, or misses it."""
    return {"color": GREEN, "lw": 0.8} if meets else {"color": GREY, "lw": 0.8, "ls": ":"}


def _meets(basis: Floats, eigenvalues: Floats, center: Floats, epsilon: float) -> bool:
    """Whether the span of the columns of a basis meets the sublevel set."""
    root = np.sqrt(eigenvalues)
    return bool(nested_residuals(root[:, None] * basis, root * center)[-1] <= 2 * epsilon)


def _draw_transition(axes: Axes, cone: pd.DataFrame, met: np.ndarray) -> None:
    """Share of subspaces that meet the set, by distance and dimension, and where it should turn."""
    dimension = met.shape[1] - 1
    steps = np.log(cone.distance.to_numpy())
    middle = (steps[1:] + steps[:-1]) / 2
    edges = np.exp([2 * steps[0] - middle[0], *middle, 2 * steps[-1] - middle[-1]])
    kept = (np.arange(dimension + 2) - 0.5) / dimension
    axes.pcolormesh(edges, kept, met.T, cmap="Blues", vmin=0, vmax=1.6, rasterized=True)
    axes.errorbar(
        cone.distance,
        1 - cone.measured,
        2 * cone.measured_error,
        color=BLACK,
        marker="o",
        mfc="white",
        ls="",
        elinewidth=0.8,
        markersize=3,
    )
    axes.plot(cone.distance, 1 - cone.corrected, color=CORRECTED)
    axes.plot(cone.distance, 1 - cone.published, color=PUBLISHED, ls="--")
    axes.set(xscale="log", xlim=(edges[0], edges[-1]), ylim=(0, 1))
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100) if edges[0] <= t <= edges[-1]]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("distance R to the trained weights\n(shortest semi-axis = 1)")
    axes.set_ylabel("dimension of subspace, share of D")
    axes.set_title(f"D = {dimension}: darker where more\nrandom subspaces meet it")


@styled
def geometry(*, geometry: pd.DataFrame, verdict: pd.DataFrame) -> Figure:
    """Shares removed by formula against Monte Carlo, for random subspaces of both models.

    A: through the pruned point; B: orthogonal to the offset from the trained to the pruned point.
    Bars reach over the middle 80 % of the trials. Above, how far each formula is off.
    """
    if geometry.empty:
        return placeholder(_UNCHECKED)
    figure = new_figure(DOUBLE, 9.4, equal_aspect=True)
    markers = distinct(geometry.spectrum.unique())
    formulas = {"published": (PUBLISHED, "none"), "corrected": (CORRECTED, CORRECTED)}
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, (model, title) in zip(panels, _MODELS.items(), strict=True):
        axes.axline((0, 0), slope=1, color=GREY, linewidth=0.6)
        for name, marker in markers.items():
            rows = geometry[(geometry.model == model) & (geometry.spectrum == name)]
            bars = rows.measured - rows.measured_low, rows.measured_high - rows.measured
            for formula, (color, fill) in formulas.items():
                axes.errorbar(
                    rows[formula],
                    rows.measured,
                    np.maximum(bars, 0),
                    color=color,
                    mfc=fill,
                    marker=marker.marker,
                    linestyle="",
                    elinewidth=0.8,
                )
        judged = verdict[verdict.model == model]
        found = [
            f"{row.formula} off by {row.largest_error:.3f}, rms {row.rms_error:.3f}"
            for row in judged.itertuples()
        ]
        found += [f"(allowed: {allowed:.3f})" for allowed in judged.allowed[:1]]
        axes.set(aspect="equal", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set_title("\n".join([title, *found]))
        axes.set_xlabel("share removed, by formula")
    panels[0].set_ylabel("share removed, Monte Carlo\n(median, 10–90 % of trials)")
    handles = [
        Line2D([], [], color=color, mfc=fill, marker="o", linestyle="", label=formula)
        for formula, (color, fill) in formulas.items()
    ]
    handles += [
        Line2D([], [], color=GREY, marker=marker.marker, linestyle="", label=f"spectrum {name}")
        for name, marker in markers.items()
    ]
    figure.legend(handles=handles, loc="outside right upper")
    return figure
