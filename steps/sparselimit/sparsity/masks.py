"""Masks over the weights of a network: which are kept, and which biases are kept with them."""

import torch
from torch import Tensor

from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP


def keep_largest(scores: Tensor, k: Tensor) -> Tensor:
    """Keep exactly `k[e]` weights of each member, those with the largest scores, ties by index.

    `scores` [E, N], `k` int [E]; returns a mask bool [E, N]. A NaN has no rank and is refused.
    """
    if torch.isnan(scores).any():
        member = int(torch.isnan(scores).any(dim=1).nonzero()[0])
        raise InputError(f"scores of member {member} contain NaN: they cannot be ranked")
    ranking = torch.argsort(scores, dim=1, descending=True, stable=True)
    keep = torch.arange(scores.shape[1], device=scores.device) < k.to(scores.device)[:, None]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, ranking, keep)


def with_biases(network: MLP, weight_mask: Tensor) -> Tensor:
    """Extend a mask over weights [E, n_weights] by the bias rule to [E, n_parameters].

    The bias of a hidden neuron is kept iff one of its outgoing weights is; output biases always
    (the rule of Zhang & Papyan 2024 for all their methods).
    """
    layers = network.weights(weight_mask)
    hidden = [layer.any(dim=-2) for layer in layers[1:]]
    output = torch.ones_like(layers[-1][..., 0])
    return torch.cat([weight_mask, *hidden, output], dim=-1)
