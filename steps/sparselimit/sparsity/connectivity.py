"""Paths through a mask: which weights can carry a signal from an input to an output."""

import torch
from torch import Tensor

from sparselimit.networks.mlp import MLP


def effective_mask(network: MLP, weight_mask: Tensor) -> Tensor:
    """The weights that lie on some path from an input to an output.

    `weight_mask` bool [E, n_weights]; returns bool of the same shape. Its row sums are the
    effective weights of Vysogorets & Kempe (2023).
    """
    layers = network.weights(weight_mask)
    forward = [torch.ones_like(layers[0][:, 0, :])]
    for layer in layers[:-1]:
        forward.append((layer & forward[-1][:, None, :]).any(dim=2))
    backward = [torch.ones_like(layers[-1][:, :, 0])]
    for layer in reversed(layers[1:]):
        backward.append((layer & backward[-1][:, :, None]).any(dim=1))
    on_path = [
        (layer & source[:, None, :] & sink[:, :, None]).flatten(1)
        for layer, source, sink in zip(layers, forward, reversed(backward), strict=True)
    ]
    return torch.cat(on_path, dim=1)


def path_count(network: MLP, weight_mask: Tensor) -> Tensor:
    """Number of input-to-output paths of each member, float64 [E] (exact up to 2**53)."""
    layers = network.weights(weight_mask.double())
    paths = torch.ones_like(layers[0][:, 0, :])
    for layer in layers:
        paths = torch.einsum("eoi,ei->eo", layer, paths)
    return paths.sum(dim=1)
