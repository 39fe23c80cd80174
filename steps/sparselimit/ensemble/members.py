"""What is trained: the members of an ensemble, the data they share and the plan they follow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP

SCHEDULES = ("cosine", "step", "constant")


def rate_factors(schedule: str, epochs: int) -> np.ndarray:
    """Learning rate of each epoch as a fraction of the initial one, float64 [epochs].

    `cosine` falls to (almost) zero over the run; `step` divides by ten after 30% and again after
    60% of the epochs (15 and 30 of 50, as in Zhang & Papyan 2024); `constant` stays at one.
    """
    epoch = np.arange(epochs)
    if schedule == "cosine":
        return (1.0 + np.cos(np.pi * epoch / epochs)) / 2.0
    if schedule == "step":
        milestones = np.array([round(0.3 * epochs), round(0.6 * epochs)])
        return 0.1 ** (epoch[:, None] >= milestones).sum(axis=1)
    if schedule == "constant":
        return np.ones(epochs)
    raise InputError(f"schedule '{schedule}' is unknown: use one of {', '.join(SCHEDULES)}")


@dataclass(frozen=True)
class Points:
    """A binary classification data set, shared by all members: x [N, n_in], y [N] in {0, 1}."""

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or self.y.shape != self.x.shape[:1] or len(self.x) == 0:
            raise InputError(
                f"data of shapes x {tuple(self.x.shape)} and y {tuple(self.y.shape)}: "
                "x must be [N, inputs] and y [N] with at least one point"
            )
        if not torch.isfinite(self.x).all():
            raise InputError("data contain NaN or infinity: clean them before training")
        if not torch.isin(self.y, torch.tensor([0, 1], dtype=self.y.dtype)).all():
            raise InputError("labels must be 0 or 1")


@dataclass(frozen=True)
class Plan:
    """What all members share in time: epochs, batch size and the learning-rate schedules.

    `factors` [S, epochs] holds the learning rate of each epoch as a fraction of the member's own,
    one row per schedule. Batches are drawn without replacement, anew each epoch; the points that do
    not fill a last batch are left out of that epoch.
    """

    factors: np.ndarray
    batch_size: int = 128

    @classmethod
    def of(cls, schedules: Sequence[str], epochs: int, batch_size: int = 128) -> "Plan":
        """The plan in which schedule i of a member is the i-th of the names given."""
        for name, value in (("epochs", epochs), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(f"{name}: {value} (use at least 1)")
        return cls(np.stack([rate_factors(name, epochs) for name in schedules]), batch_size)

    def repeated(self, times: int) -> "Plan":
        """The plan that goes through this one several times over."""
        return replace(self, factors=np.tile(self.factors, (1, times)))

    @property
    def epochs(self) -> int:
        return self.factors.shape[1]

    def steps_per_epoch(self, n_points: int) -> int:
        steps = n_points // self.batch_size
        if steps == 0:
            raise InputError(
                f"batch size {self.batch_size} is larger than the data set ({n_points} points)"
            )
        return steps


@dataclass(frozen=True)
class Members:
    """E independent networks of one shape and what each does by itself.

    parameters     float [E, n_parameters], the initial values
    mask           bool  [E, n_parameters], False where an entry is held at zero
    learning_rate  float64 [E]
    schedule       int64 [E], a row of the plan's `factors`
    order_seed     int64 [E]; members of one order seed see the same batches
    momentum, weight_decay  float64 [E]
    """

    network: MLP
    parameters: Tensor
    mask: Tensor
    learning_rate: Tensor
    schedule: Tensor
    order_seed: Tensor
    momentum: Tensor
    weight_decay: Tensor

    @classmethod
    def of(
        cls,
        network: MLP,
        parameters: Tensor,
        mask: Tensor | None = None,
        *,
        learning_rate: float | Sequence[float] | Tensor,
        schedule: int | Sequence[int] | Tensor = 0,
        order_seed: int | Sequence[int] | Tensor = 0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
    ) -> "Members":
        """Members from per-member or common settings; the defaults are the spiral study's."""
        n = len(parameters)

        def column(name: str, value: object, dtype: torch.dtype) -> Tensor:
            column = torch.as_tensor(value, dtype=dtype)
            if column.ndim == 0:
                return column.repeat(n)
            if column.shape != (n,):
                raise InputError(f"{name}: {len(column)} values for {n} members")
            return column

        return cls(
            network,
            parameters,
            torch.ones(parameters.shape, dtype=torch.bool) if mask is None else mask,
            column("learning_rate", learning_rate, torch.float64),
            column("schedule", schedule, torch.int64),
            column("order_seed", order_seed, torch.int64),
            column("momentum", momentum, torch.float64),
            column("weight_decay", weight_decay, torch.float64),
        )

    def __post_init__(self) -> None:
        n, expected = len(self.parameters), self.network.n_parameters
        if n == 0:
            raise InputError("no members: there is nothing to train")
        if self.network.sizes[-1] != 1:
            raise InputError(f"network {self.network.sizes}: the engine trains one-logit networks")
        for name in ("parameters", "mask"):
            shape = tuple(getattr(self, name).shape)
            if shape != (n, expected):
                raise InputError(
                    f"{name} of shape {shape}: network {self.network.sizes} needs ({n}, {expected})"
                )
        if self.mask.dtype != torch.bool:
            raise InputError(f"mask of type {self.mask.dtype}: use booleans")
        for name in ("learning_rate", "momentum", "weight_decay"):
            values = getattr(self, name)
            if values.shape != (n,) or not torch.isfinite(values).all() or (values < 0).any():
                raise InputError(f"{name}: give one finite, non-negative value per member ({n})")
        for name in ("schedule", "order_seed"):
            if getattr(self, name).shape != (n,):
                raise InputError(f"{name}: give one value per member ({n})")

    def __len__(self) -> int:
        return len(self.parameters)

    def take(self, index: Tensor) -> "Members":
        """The members of the given indices, in their order."""
        columns = {
            name: getattr(self, name)[index]
            for name in self.__dataclass_fields__
            if name != "network"
        }
        return replace(self, **columns)
