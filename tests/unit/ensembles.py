"""Small ensembles for tests of the backends, and what they are trained on."""

from typing import Any

import torch
from torch import Tensor

from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import State
from sparselimit.networks.mlp import MLP
from sparselimit.seeds import generator


def points(n: int, n_inputs: int, dtype: torch.dtype = torch.float64) -> Points:
    rng = generator("points", n, n_inputs)
    x = torch.tensor(rng.standard_normal((n, n_inputs)), dtype=dtype)
    return Points(x, (x.prod(dim=1) > 0).to(dtype))


def state(
    sizes: tuple[int, ...], n_members: int, dtype: torch.dtype = torch.float64, density: float = 0.8
) -> State:
    """Members that differ in everything that may differ."""
    network = MLP(sizes)
    rng = generator("state", sizes, n_members)
    shape = (n_members, network.n_parameters)
    mask = torch.tensor(rng.random(shape) < density)
    parameters = torch.where(mask, torch.tensor(rng.uniform(-0.8, 0.8, shape)), 0.0)
    # Columns of a table, so that they are not contiguous.
    columns = torch.tensor(rng.random((n_members, 3)) * [0.2, 0.95, 0.01]).T
    return State(
        network,
        torch.arange(n_members),
        parameters.to(dtype),
        torch.zeros(shape, dtype=dtype),
        mask,
        *columns,
    )


def take(state: State, index: list[int]) -> State:
    """A copy of some members."""
    columns: dict[str, Any] = {
        name: value[index] for name, value in vars(state).items() if isinstance(value, Tensor)
    }
    return State(state.network, **columns)


def batches(n_points: int, steps: int, size: int) -> Tensor:
    return torch.tensor(generator("batches", steps, size).integers(n_points, size=(steps, size)))
