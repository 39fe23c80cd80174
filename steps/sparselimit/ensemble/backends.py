"""The backends of the engine, and which of them trains a given shape on a given device.

A backend is a module with `advance(state, points, batches)` and `evaluate(network, parameters,
points)`. The choice depends on device, shape and precision alone, never on the number of members:
a run alone and the same run in an ensemble are computed by the same code.
"""

import logging
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from sparselimit.ensemble import batched, fused_cpu
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import State
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP

NAMES = ("auto", "batched", "fused")

# Above this many weights (between widths 64 and 128), matrix products of a whole batch beat one
# network per SIMD lane.
MOST_FUSED_WEIGHTS = 10_000


class Backend(Protocol):
    """What every backend can do."""

    __name__: str

    def advance(self, state: State, points: Points, batches: Tensor) -> None:
        """Take one SGD step per row of `batches`, int64 [steps, batch]."""

    def evaluate(self, network: MLP, parameters: Tensor, points: Points) -> tuple[Tensor, Tensor]:
        """Accuracy and mean loss of each member on all points, float64 [E] each."""


def choose(name: str, network: MLP, dtype: torch.dtype, device: torch.device) -> Backend:
    """The backend of the given name, or by `auto` the fastest that serves.

    Raises InputError for an unknown name, or for `fused` where that cannot be had.
    """
    if name not in NAMES:
        raise InputError(f"backend '{name}' is unknown: use one of {', '.join(NAMES)}")
    if name == "batched":
        return batched
    obstacle = _obstacle_to_fused(network, dtype, device.type)
    if obstacle is None and (name == "fused" or network.n_weights <= MOST_FUSED_WEIGHTS):
        return fused_cpu
    if name == "fused":
        raise InputError(f"backend 'fused': {obstacle}; use auto or batched")
    return batched


def evaluate(network: MLP, parameters: Tensor, points: Points) -> tuple[Tensor, Tensor]:
    """Accuracy and mean loss on any points, by the backend that `auto` chooses."""
    backend = choose("auto", network, parameters.dtype, parameters.device)
    where = Points(points.x.to(parameters), points.y.to(parameters))
    return backend.evaluate(network, parameters, where)


def _obstacle_to_fused(network: MLP, dtype: torch.dtype, device_type: str) -> str | None:
    if device_type != "cpu":
        return f"there is none for {device_type}"
    if not fused_cpu.supports(network, dtype):
        return f"it does not train networks {network.sizes} in {dtype}"
    return _missing_compiler()


@cache
def _missing_compiler() -> str | None:
    obstacle = fused_cpu.available()
    if obstacle is not None:
        logging.info("training by batched torch, several times slower: %s", obstacle)
    return obstacle
