"""Weights shared out among layers: Erdos-Renyi densities, their counts, and random masks."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparselimit.networks.mlp import MLP
from sparselimit.seeds import generator
from sparselimit.sparsity.masks import keep_largest


def erdos_renyi_densities(network: MLP, target: int) -> list[float]:
    """The density of each layer when `target` weights are shared out by the number of neurons.

    A layer's density is proportional to (n_in + n_out) / (n_in n_out) (Mocanu et al. 2018); layers
    in which it would exceed one are dense, and the others share what is left (Evci et al. 2020).
    The sums are taken in the order of the published code of RigL, so that counts derived from them
    are rounded as there.
    """
    density = target / network.n_weights
    sizes = [n_out * n_in for n_out, n_in in network.weight_shapes]
    raw = [(n_out + n_in) / (n_out * n_in) for n_out, n_in in network.weight_shapes]
    densities = [1.0] * network.n_layers
    sparse = list(range(network.n_layers))
    while sparse:
        share = 0.0
        for layer, n in enumerate(sizes):
            share += n * density if layer in sparse else -n * (1 - density)
        scale = share / sum(raw[layer] * sizes[layer] for layer in sparse)
        largest = max(raw[layer] for layer in sparse)
        if largest * scale <= 1:
            for layer in sparse:
                densities[layer] = scale * raw[layer]
            break
        sparse = [layer for layer in sparse if raw[layer] < largest]
    return densities


def erdos_renyi_counts(network: MLP, target: int) -> list[int]:
    """Weights of each layer at its Erdos-Renyi density, rounded so that they sum to `target`.

    By largest remainder: densities are rounded down to whole weights, and those still missing go to
    the layers that lost most (of equals, the first).
    """
    shapes = network.weight_shapes
    quotas = [
        density * n_out * n_in
        for density, (n_out, n_in) in zip(
            erdos_renyi_densities(network, target), shapes, strict=True
        )
    ]
    counts = [int(quota) for quota in quotas]
    by_loss = sorted(range(network.n_layers), key=lambda layer: counts[layer] - quotas[layer])
    for layer in by_loss[: target - sum(counts)]:
        counts[layer] += 1
    return counts


def random_mask(network: MLP, counts: Tensor, seeds: Sequence[int], purpose: str) -> Tensor:
    """Masks with given numbers of weights in each layer, at random positions; bool [E, n_weights].

    counts   int64 [E, n_layers]
    seeds    of each member; positions depend on purpose, shape and seed alone, and of two members
             of one seed the one with more weights in a layer has those of the other there
    purpose  tells apart what is drawn for different ends
    """
    drawn = {
        seed: generator(purpose, network.sizes, int(seed)).random(network.n_weights)
        for seed in set(seeds)
    }
    order = torch.tensor(np.stack([drawn[seed] for seed in seeds]))
    kept = [
        keep_largest(order[:, where], k)
        for where, k in zip(network.weight_slices, counts.T, strict=True)
    ]
    return torch.cat(kept, dim=1)
