"""Masks over the weights of a network: which are kept, and which biases are kept with them."""

import torch
from torch import Tensor

from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP
from sparselimit.sparsity.connectivity import effective_mask


def keep_order(scores: Tensor) -> Tensor:
    """Indices of each member's weights from the largest score to the smallest, int64 [E, N].

    Ties go by index. Raises InputError for a NaN, which has no rank.
    """
    if torch.isnan(scores).any():
        member = int(torch.isnan(scores).any(dim=1).nonzero()[0])
        raise InputError(f"scores of member {member} contain NaN: they cannot be ranked")
    return torch.argsort(scores, dim=1, descending=True, stable=True)


def keep_largest(scores: Tensor, k: Tensor) -> Tensor:
    """Keep exactly `k[e]` weights of each member, those with the largest scores, ties by index.

    `scores` [E, N], `k` int [E]; returns a mask bool [E, N]. A NaN has no rank and is refused.
    """
    keep = torch.arange(scores.shape[1], device=scores.device) < k.to(scores.device)[:, None]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, keep_order(scores), keep)


def keep_effective(network: MLP, scores: Tensor, k: Tensor, within: Tensor) -> Tensor:
    """Keep as many of the largest scores as give at most `k[e]` effective weights, and only those.

    Weights are taken in the order of their scores (ties by index) for as long as no more than k of
    those taken lie on a path from an input to an output; what lies on none is dropped. The count
    can stay below k: one more weight may complete many paths at once. `scores` [E, N], `k` int [E],
    `within` bool [E, N] says which weights may be kept; returns a mask bool [E, N].
    """
    scores = torch.where(within, scores, -torch.inf)
    rank = keep_order(scores).argsort(dim=1)
    # Effective weights only grow with the number taken, so that number is found by bisection.
    enough = torch.zeros_like(k)
    too_many = within.sum(dim=1) + 1
    while ((too_many - enough) > 1).any():
        middle = (enough + too_many) // 2
        fits = effective_mask(network, rank < middle[:, None]).sum(dim=1) <= k
        enough, too_many = torch.where(fits, middle, enough), torch.where(fits, too_many, middle)
    return effective_mask(network, rank < enough[:, None])


def with_biases(network: MLP, weight_mask: Tensor) -> Tensor:
    """Extend a mask over weights [E, n_weights] by the bias rule to [E, n_parameters].

    The bias of a hidden neuron is kept iff one of its outgoing weights is; output biases always
    (the rule of Zhang & Papyan 2024 for all their methods).
    """
    layers = network.weights(weight_mask)
    hidden = [layer.any(dim=-2) for layer in layers[1:]]
    output = torch.ones_like(layers[-1][..., 0])
    return torch.cat([weight_mask, *hidden, output], dim=-1)
