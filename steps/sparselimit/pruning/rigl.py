"""RigL: sparse training with moving weights (Evci, Gale, Menick, Castro & Elsen 2020).

Training starts at a random mask whose layers have their Erdos-Renyi densities. Now and then, in
place of a step, each layer drops its smallest weights and grows as many where the gradient of this
step's batch is largest. What was dropped just before may be grown again, and then keeps its value;
new weights start at zero. The numbers of weights never change.
"""

import numpy as np
import torch
from torch import Tensor

from sparselimit.ensemble.batched import gradients
from sparselimit.ensemble.state import Event, State
from sparselimit.networks.mlp import MLP
from sparselimit.pruning.problem import Problem, magnitudes, require
from sparselimit.sparsity.layerwise import (
    erdos_renyi_counts,
    erdos_renyi_densities,
    random_mask,
)
from sparselimit.sparsity.masks import with_biases

# Members whose gradients are taken together: their activations stay in cache, and an ensemble that
# the fused kernels hold at once does not need memory for all of them.
_MEMBERS = 64


def objection(*, count: str, interval: int, end: float, drop: float) -> str | None:
    """To options that it cannot work with."""
    if count != "weights":
        return f"count {count}: it moves weights and keeps their number; use weights"
    if interval < 2 or not 0 < end <= 1 or not 0 <= drop <= 1:
        return (
            f"interval {interval}, end {end}, drop {drop} (use an interval of at least 2 steps, an "
            "end in (0, 1] and a drop in [0, 1])"
        )
    return None


def start_mask(
    problem: Problem, *, interval: int = 100, end: float = 0.75, drop: float = 0.3
) -> Tensor:
    """Random masks before training, bool [E, n_weights]; the options act during training."""
    require("rigl", objection(count=problem.count, interval=interval, end=end, drop=drop))
    share_out = _published_counts if problem.protocol == "published" else erdos_renyi_counts
    by_target = {
        target: share_out(problem.network, target) for target in problem.target.unique().tolist()
    }
    counts = torch.tensor([by_target[target] for target in problem.target.tolist()])
    return random_mask(problem.network, counts, problem.seed.tolist(), "rigl")


def events(
    problem: Problem, *, interval: int = 100, end: float = 0.75, drop: float = 0.3
) -> list[Event]:
    """The updates of the mask, each in place of a step.

    interval: steps from one update to the next
    end: fraction of training after which the mask stays as it is
    drop: fraction of the weights that the first updates drop; it falls to zero as a cosine
    """
    require("rigl", objection(count=problem.count, interval=interval, end=end, drop=drop))
    last = int(end * problem.steps)

    def update(state: State, step: int) -> None:
        network, n = state.network, state.network.n_weights
        fraction = drop_fraction(step + 1, last, drop)
        magnitude = magnitudes(state.parameters[:, :n])
        slope = magnitudes(_weight_gradients(state))
        layers = [
            _move(problem, state.mask[:, layer], magnitude[:, layer], slope[:, layer], fraction)
            for layer in network.weight_slices
        ]
        state.set_mask(with_biases(network, torch.cat(layers, dim=1)))

    # The schedule counts steps from 1.
    return [Event(range(interval - 1, last - 1, interval), update, replaces_step=True)]


def drop_fraction(step: int, last: int, drop: float) -> float:
    """Fraction of a layer's weights that the update at `step` (counted from 1) drops."""
    return float(drop / 2 * (1 + np.cos(step * np.pi / last)))


def _move(
    problem: Problem, mask: Tensor, magnitude: Tensor, slope: Tensor, fraction: float
) -> Tensor:
    """The mask of one layer after an update; all tensors are [E, weights of the layer]."""
    weights = mask.sum(dim=1)
    moved = (weights.double() * fraction).long()
    kept = problem.keep(magnitude, weights - moved, published=_keep_top, within=mask)
    grown = problem.keep(slope.masked_fill(kept, -torch.inf), moved, published=_keep_top)
    return kept | grown


def _weight_gradients(state: State) -> Tensor:
    """The dense gradient on the batch of the coming step, float [E, n_weights]."""
    assert state.batch is not None, "updates come before the last step"
    parts = [
        gradients(state.network, parameters, *state.batch)[:, : state.network.n_weights]
        for parameters in state.parameters.split(_MEMBERS)
    ]
    return torch.cat(parts)


def _keep_top(scores: Tensor, k: Tensor) -> Tensor:
    """Keep k scores of each member, ties as torch's topk happens to order them."""
    order = scores.topk(scores.shape[1], dim=1).indices
    keep = torch.arange(scores.shape[1], device=scores.device) < k[:, None]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, keep)


def _published_counts(network: MLP, target: int) -> list[int]:
    """Weights of each layer when the zeros, not the weights, are rounded down."""
    densities = erdos_renyi_densities(network, target)
    return [
        n_out * n_in - int((1 - density) * (n_out * n_in))
        for density, (n_out, n_in) in zip(densities, network.weight_shapes, strict=True)
    ]
