"""Readers of the reference vectors."""

import h5py
import numpy as np
import torch
from torch import Tensor

from sparselimit.networks.mlp import MLP

LAYERS = ("first_layer", "second_layer", "third_layer", "clf")


def parameters(group: h5py.Group, dtype: torch.dtype = torch.float32) -> Tensor:
    """A network of the reference file as one member, [1, n_parameters]."""
    parts = [group[f"{layer}.{part}"][()] for part in ("weight", "bias") for layer in LAYERS]
    return torch.tensor(np.concatenate([part.ravel() for part in parts]), dtype=dtype)[None]


def mask(group: h5py.Group) -> Tensor:
    """A mask over weights and biases of the reference file, bool [1, n_parameters]."""
    parts = [group[f"{part}{layer}"][()] for part in "WB" for layer in range(4)]
    return torch.tensor(np.concatenate([part.ravel() for part in parts]).astype(bool))[None]


def network(group: h5py.Group) -> MLP:
    """The shape of a network of the reference file."""
    hidden = [group[f"{layer}.bias"].shape[0] for layer in LAYERS]
    return MLP((2, *hidden))
