"""A sparse network without all that does nothing in it: fewer weights and neurons, same outputs."""

from itertools import pairwise

import numpy as np
import torch

from sparselimit.networks.mlp import MLP
from sparselimit.sparsity.connectivity import effective_mask


def reduced(
    network: MLP, mask: np.ndarray, parameters: np.ndarray
) -> tuple[MLP, np.ndarray, np.ndarray] | None:
    """The effective weights of a network alone, in a shape of their own: (shape, mask, parameters).

    `mask` bool [n_weights] says which weights are kept; `parameters` [n_parameters] are their
    values and those of the biases. Hidden neurons on no path from an input to an output go, the
    others keep their order. The outputs are the same up to rounding: what a neuron without a path
    from an input emits is the same for every point and goes into the biases that it leads to.

    None if no path is left, so that the outputs are constant.
    """
    effective = effective_mask(network, torch.tensor(mask)[None])[0].numpy()
    if not effective.any():
        return None
    weights = network.weights(np.where(mask, parameters[: network.n_weights], 0))
    on_path = network.weights(effective)
    biases = []
    constant = np.zeros_like(parameters, shape=network.sizes[0])
    for weight, connected, bias in zip(weights, on_path, network.biases(parameters), strict=True):
        biases.append(bias + weight @ constant)
        # What neurons that lead to no output emit may be wrong here: it reaches none that stays.
        constant = np.where(connected.any(axis=1), 0, biases[-1].clip(min=0))
    inputs, *_, outputs = (np.ones(size, dtype=bool) for size in network.sizes)
    stays = [inputs, *(layer.any(axis=1) for layer in on_path[:-1]), outputs]
    blocks = [np.ix_(rows, columns) for columns, rows in pairwise(stays)]
    values = [layer[block].ravel() for layer, block in zip(weights, blocks, strict=True)]
    values += [bias[neurons] for bias, neurons in zip(biases, stays[1:], strict=True)]
    kept = [layer[block].ravel() for layer, block in zip(on_path, blocks, strict=True)]
    shape = MLP(tuple(int(neurons.sum()) for neurons in stays))
    return shape, np.concatenate(kept), np.concatenate(values)
