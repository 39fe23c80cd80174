"""A sparse network without all that does nothing in it: fewer weights and neurons, same outputs."""

import numpy as np
import torch

from sparselimit.networks.mlp import MLP, cropped
from sparselimit.sparsity.connectivity import effective_mask


def effective_part(network: MLP, mask: np.ndarray) -> tuple[MLP, np.ndarray, np.ndarray] | None:
    """What of a network lies on a path from an input to an output: (shape, mask, places).

    `mask` bool [n_weights] says which weights are kept. Hidden neurons on no path go, the others
    keep their order. `places` int64 [shape.n_parameters] says where the parameters of the part are
    among the network's. None if no path is left, so that the outputs are constant.
    """
    effective = effective_mask(network, torch.tensor(mask)[None])[0].numpy()
    if not effective.any():
        return None
    on_path = [layer.any(axis=1) for layer in network.weights(effective)[:-1]]
    inputs, *_, outputs = (np.arange(size) for size in network.sizes)
    shape, places = cropped(network, [inputs, *map(np.flatnonzero, on_path), outputs])
    return shape, effective[places[: shape.n_weights]], places


def folded(
    network: MLP, mask: np.ndarray, parameters: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Parameters of a network's effective part with which its outputs are the network's.

    `parameters` [n_parameters] are the values of the network's weights and biases, `places` says
    which of them belong to the part (see `effective_part`). Equal up to rounding: what a neuron
    without a path from an input emits is the same for every point and goes into the biases that it
    leads to.
    """
    masked = np.where(mask, parameters[: network.n_weights], 0)
    stays = np.zeros(network.n_parameters, dtype=bool)
    stays[places] = True
    biases = []
    constant = np.zeros_like(parameters, shape=network.sizes[0])
    layers = network.weights(masked), network.biases(parameters), network.biases(stays)
    for weight, bias, of_part in zip(*layers, strict=True):
        biases.append(bias + weight @ constant)
        # What neurons that lead to no output emit may be wrong here: it reaches none that stays.
        constant = np.where(of_part, 0, biases[-1].clip(min=0))
    return np.concatenate([masked, *biases])[places]
