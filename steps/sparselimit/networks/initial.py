"""Where the initial values of networks come from: drawn by seed, or given."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, initial_parameters, positions
from sparselimit.seeds import generator


class Initial(Protocol):
    """A source of initial values."""

    def __call__(self, network: MLP, seeds: Sequence[int]) -> Tensor:
        """Initial values of one network of the shape for each seed, float32 [E, n_parameters]."""


def drawn(network: MLP, seeds: Sequence[int]) -> Tensor:
    """Torch's default initialisation; it depends on shape and seed alone.

    All methods, targets and learning rates of one seed start alike.
    """
    by_seed = {
        seed: initial_parameters(network, generator("init", network.sizes, int(seed)))
        for seed in set(seeds)
    }
    return torch.tensor(np.stack([by_seed[seed] for seed in seeds]), dtype=torch.float32)


@dataclass(frozen=True)
class Fixed:
    """One given network from which all seeds start; only their batches differ.

    A narrower network takes the values of the first neurons of each layer (the crop of Zhang &
    Papyan 2024), with a warning: what is known of the whole says little of its crop. In a wider one
    the values stand at the first neurons, and what surrounds them is drawn at the wider network's
    own scale.
    """

    whole: MLP
    parameters: np.ndarray

    def __call__(self, network: MLP, seeds: Sequence[int]) -> Tensor:
        """See `Initial`. Raises InputError when the number of layers differs."""
        if network.n_layers != self.whole.n_layers:
            raise InputError(
                f"initial network {self.whole.sizes}: it has another number of layers than "
                f"{network.sizes}"
            )
        common = MLP(tuple(map(min, self.whole.sizes, network.sizes)))
        if common != self.whole:
            _warn_of_crop(self.whole, network)
        values = initial_parameters(network, generator("around", network.sizes))
        values[positions(common, network)] = self.parameters[positions(common, self.whole)]
        return torch.tensor(values, dtype=torch.float32).repeat(len(seeds), 1)


@cache  # once for each shape
def _warn_of_crop(whole: MLP, network: MLP) -> None:
    sizes = ("-".join(map(str, shape.sizes)) for shape in (whole, network))
    logging.warning("the initial network %s is cropped to the first neurons of %s", *sizes)


def read(path: Path) -> Fixed:
    """A network saved by torch: a state dict of linear layers in order, weights then bias.

    Raises InputError, naming the file, when it is not there or holds something else.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file (give a state dict saved by torch, or random)")
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        if any(value.is_complex() for value in saved.values()):
            raise TypeError("complex numbers")
        tensors = [value.double() for value in saved.values()]
        weights, biases = tensors[::2], tensors[1::2]
        network = MLP((weights[0].shape[1], *(len(bias) for bias in biases)))
        shapes = [tuple(weight.shape) for weight in weights]
        parameters = torch.cat([tensor.flatten() for tensor in [*weights, *biases]]).numpy()
    except Exception as error:  # torch raises many types for files that are not its own
        raise InputError(
            f"{path}: not a state dict of linear layers ({type(error).__name__}); save it by "
            "torch.save(model.state_dict(), ...)"
        ) from error
    if shapes != list(network.weight_shapes):
        raise InputError(f"{path}: layers of shapes {shapes} do not follow one another")
    if not (np.abs(parameters) <= np.finfo(np.float32).max).all():
        raise InputError(f"{path}: contains NaN, infinity or numbers beyond single precision")
    return Fixed(network, parameters)
