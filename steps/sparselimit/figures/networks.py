"""The task, and the sparsest networks that solve it."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sparselimit.ensemble.batched import activations
from sparselimit.errors import InputError
from sparselimit.figures.layout import placeholder
from sparselimit.figures.style import BLACK, CLASSES, DOUBLE, GREEN, PURPLE, new_figure, styled
from sparselimit.networks.mlp import MLP

_MOST = 5  # networks drawn
_PIXELS = 256  # of a decision region, each way
# Colour and dashes of a weight.
_SIGNS: dict[str, tuple[str, tuple[float, tuple[float, ...]]]] = {
    "positive": (GREEN, (0, ())),
    "negative": (PURPLE, (0, (2, 0.8))),
}


@styled
def spiral(*, x: np.ndarray, y: np.ndarray) -> Figure:
    """The data: points x [n, 2] with labels y [n] in {0, 1}."""
    figure = new_figure(12, 8)
    axes = figure.add_subplot()
    _scatter(axes, x, y, size=1.0)
    axes.set(xlabel="$x_1$ (normalised)", ylabel="$x_2$ (normalised)")
    axes.set_aspect("equal", adjustable="datalim")
    handles = [
        Line2D([], [], color=color, marker="o", linestyle="", label=f"class {label}, n = {n:,}")
        for label, (color, n) in enumerate(zip(CLASSES, np.bincount(y, minlength=2), strict=True))
    ]
    figure.legend(handles=handles, loc="outside right upper")
    return figure


@styled
def sparsest(
    *,
    frontier: pd.DataFrame,
    sizes: Sequence[int],
    mask: np.ndarray,
    parameters: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> Figure:
    """The best networks of some numbers of weights as graphs, above what they make of the plane.

    The rows of `mask` [n, n_weights] and `parameters` [n, n_parameters] are those of the table
    `frontier`: flat vectors of `MLP(sizes)`, whose first neurons are the network's own. Points x
    [points, 2] with labels y [points].
    """
    if not len(frontier) == len(mask) == len(parameters):
        raise InputError(
            f"figure sparsest: {len(frontier)} rows in frontier, {len(mask)} masks and "
            f"{len(parameters)} networks; take all from the same file"
        )
    if frontier.empty:
        return placeholder("no network was searched")
    network = MLP(tuple(int(size) for size in sizes))
    chosen = _spread(len(frontier))
    figure = new_figure(DOUBLE, 9, equal_aspect=True)
    graphs, planes = figure.subplots(2, len(chosen), squeeze=False)
    masked = parameters.copy()
    masked[:, : network.n_weights][~mask] = 0
    regions = _classes_on_grid(network, masked[chosen], x)
    for i, graph, plane, region in zip(chosen, graphs, planes, regions, strict=True):
        row = frontier.iloc[i]
        graph.set_title(f"{row.weights:,.0f} weights: {100 * row.accuracy:.2f} %")
        inner = (int(row[d]) for d in ("d1", "d2", "d3"))
        _draw_graph(graph, _crop(network.weights(masked[i]), (2, *inner, 1)))
        _draw_region(plane, region, x, y)
        plane.set_xlabel("$x_1$")
        plane.tick_params(labelleft=i == 0)
    planes[0].set_ylabel("$x_2$")
    handles = [
        Line2D([], [], color=color, linestyle=line, label=f"{sign} weight")
        for sign, (color, line) in _SIGNS.items()
    ]
    handles += [
        Line2D([], [], color=color, marker="s", linestyle="", label=f"class {label}")
        for label, color in enumerate(CLASSES)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _spread(n: int) -> np.ndarray:
    """Up to `_MOST` of n rows, the first and the last among them."""
    return np.linspace(0, n - 1, min(n, _MOST)).round().astype(int)


def _crop(weights: Sequence[np.ndarray], sizes: Sequence[int]) -> list[np.ndarray]:
    """The weights [out, in] of each layer between its first neurons, `sizes` of them."""
    return [w[:n_out, :n_in] for w, (n_in, n_out) in zip(weights, pairwise(sizes), strict=True)]


def _draw_graph(axes: Axes, weights: Sequence[np.ndarray]) -> None:
    """Neurons as dots, layer by layer; weights as lines, thick where they are large."""
    heights = neuron_heights(weights)
    largest = max(abs(layer).max() for layer in weights)
    for number, layer in enumerate(weights):
        for to, source in np.argwhere(layer):
            weight = layer[to, source]
            color, line = _SIGNS["positive" if weight > 0 else "negative"]
            axes.plot(
                (number, number + 1),
                (heights[number][source], heights[number + 1][to]),
                color=color,
                linestyle=line,
                linewidth=0.6 + 2 * abs(weight) / largest,
            )
    for number, layer_heights in enumerate(heights):
        place = np.full(len(layer_heights), number)
        axes.plot(place, layer_heights, "o", color=BLACK, markersize=4)
    output, extent = len(weights), max(map(len, heights)) / 2
    for i, height in enumerate(heights[0], start=1):
        axes.text(-0.3, height, f"$x_{i}$", ha="right", va="center")
    axes.text(output + 0.3, heights[-1][0], "$y$", ha="left", va="center")
    axes.set(xlim=(-1, output + 1), ylim=(-extent, extent))
    axes.set_axis_off()


def neuron_heights(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Where to draw the neurons of each layer: one apart, centred, with few crossings.

    `weights` [out, in] per layer. Each layer is ordered by the mean height of the neurons that feed
    it (the barycentre rule).
    """
    heights = [_evenly(np.arange(weights[0].shape[1]))]
    for layer in weights:
        connected = layer != 0
        mean = connected @ heights[-1] / np.maximum(connected.sum(axis=1), 1)
        from_top = np.argsort(np.argsort(-mean, kind="stable"))
        heights.append(_evenly(from_top))
    return heights


def _evenly(rank: np.ndarray) -> np.ndarray:
    """Heights of neurons by rank from the top."""
    return (len(rank) - 1) / 2 - rank


def _draw_region(axes: Axes, region: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """The classes [rows, columns] over the plane as tints, and the points on top."""
    tints = np.array([0.7 + 0.3 * np.array(to_rgb(color)) for color in CLASSES])
    extent = _extent(x)
    axes.imshow(tints[region], extent=extent, origin="lower", interpolation="nearest")
    _scatter(axes, x, y, size=0.3)
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=(-1, 0, 1), yticks=(-2, -1, 0, 1))


def _classes_on_grid(network: MLP, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The class that each network gives each pixel of the plane, int64 [n, rows, columns]."""
    left, right, lower, upper = _extent(x)
    columns, rows = np.linspace(left, right, _PIXELS), np.linspace(lower, upper, _PIXELS)
    plane = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    flat = torch.tensor(parameters, dtype=torch.float32)
    logits = activations(network, flat, torch.tensor(plane, dtype=torch.float32))[-1][:, 0]
    return (logits > 0).long().view(-1, _PIXELS, _PIXELS).numpy()


def _extent(x: np.ndarray) -> tuple[float, float, float, float]:
    """Left, right, lower and upper end of the plane around points [n, 2]."""
    low, high = x.min(axis=0), x.max(axis=0)
    margin = 0.08 * (high - low)
    (left, lower), (right, upper) = low - margin, high + margin
    return float(left), float(right), float(lower), float(upper)


def _scatter(axes: Axes, x: np.ndarray, y: np.ndarray, size: float) -> None:
    """Points [n, 2] in the colour of their class, as pixels: there are many."""
    for label, color in enumerate(CLASSES):
        points = x[y == label]
        axes.plot(*points.T, "o", color=color, markersize=size, mew=0, rasterized=True)
