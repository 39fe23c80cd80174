"""The backends of the engine, and which of them trains a given shape on a given device.

A backend is a module with `advance(state, points, batches)` and `evaluate(network, parameters,
points)`. The choice depends on device, shape and precision alone, never on the number of members:
a run alone and the same run in an ensemble are computed by the same code.
"""

import logging
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sparselimit.ensemble import batched, fused_cpu, fused_cuda
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import State
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, MOST_FUSED_WEIGHTS, initial_parameters
from sparselimit.seeds import generator

NAMES = ("auto", "batched", "fused")


class Backend(Protocol):
    """What every backend can do."""

    __name__: str

    def advance(self, state: State, points: Points, batches: Tensor) -> None:
        """Take one SGD step per row of `batches`, int64 [steps, batch]."""

    def evaluate(self, network: MLP, parameters: Tensor, points: Points) -> tuple[Tensor, Tensor]:
        """Accuracy and mean loss of each member on all points, float64 [E] each."""


class FusedBackend(Backend, Protocol):
    """A compiled kernel, which not every machine can have and not every shape fits."""

    def available(self) -> str | None:
        """Why this machine cannot use the backend, in one line; None if it can."""

    def supports(self, network: MLP, dtype: torch.dtype) -> bool:
        """Whether the backend trains this shape and precision."""


FUSED: dict[str, FusedBackend] = {"cpu": fused_cpu, "cuda": fused_cuda}


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
        return FUSED[device.type]
    if name == "fused":
        raise InputError(f"backend 'fused': {obstacle}; use auto or batched")
    return batched


@cache
def _obstacle_to_fused(network: MLP, dtype: torch.dtype, device_type: str) -> str | None:
    if device_type not in FUSED:
        return f"there is none for {device_type}"
    obstacle = _obstacle_here(device_type)
    if obstacle is None and not FUSED[device_type].supports(network, dtype):
        return f"it does not train networks {network.sizes} in {dtype} on this {device_type}"
    return obstacle or _disagreement(network, dtype, device_type)


def _disagreement(network: MLP, dtype: torch.dtype, device_type: str) -> str | None:
    """Code compiled on the user's machine is trusted once it agrees with torch on a few steps."""
    try:
        ours, torchs = (
            _few_steps(backend, network, dtype, device_type)
            for backend in (FUSED[device_type], batched)
        )
    except RuntimeError as error:
        obstacle = f"its kernel for networks {network.sizes} fails ({str(error).splitlines()[0]})"
    else:
        tolerance = 1e-4 if dtype == torch.float32 else 1e-10
        if torch.allclose(ours, torchs, rtol=tolerance, atol=tolerance):
            return None
        obstacle = f"its kernel for networks {network.sizes} disagrees with torch here"
    logging.warning("training by batched torch, several times slower: %s", obstacle)
    return obstacle


def _few_steps(backend: Backend, network: MLP, dtype: torch.dtype, device: str) -> Tensor:
    """Parameters of three members after two steps, [3, n_parameters]."""
    rng = generator("backend check", network.sizes)
    drawn = np.stack([initial_parameters(network, rng) for _ in range(3)])
    parameters = torch.tensor(drawn, dtype=dtype, device=device)
    x = torch.tensor(rng.standard_normal((20, network.sizes[0])), dtype=dtype, device=device)
    state = State(
        network,
        torch.arange(3),
        parameters,
        torch.zeros_like(parameters),
        torch.ones_like(parameters, dtype=torch.bool),
        *parameters.new_tensor([[0.1] * 3, [0.9] * 3, [1e-3] * 3]),
    )
    batches = torch.arange(20, device=device).reshape(2, 10)
    backend.advance(state, Points(x, (x[:, 0] > 0).to(dtype)), batches)
    return state.parameters


@cache
def _obstacle_here(device_type: str) -> str | None:
    obstacle = FUSED[device_type].available()
    if obstacle is not None:
        logging.info("training by batched torch, several times slower: %s", obstacle)
    return obstacle
