"""The state of an ensemble between two steps, and the events that may read or change it there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparselimit.networks.mlp import MLP


@dataclass
class State:
    """What training changes, for the members that are trained together.

    index       int64 [E], the members' places in the whole ensemble
    parameters  float [E, n_parameters]
    velocity    float [E, n_parameters], the momentum buffers of SGD
    mask        bool  [E, n_parameters]
    rate, momentum, weight_decay  float64 [E], as they stand for the coming steps
    batch       x [batch, inputs] and y [batch] of the coming step; none after the last
    """

    network: MLP
    index: Tensor
    parameters: Tensor
    velocity: Tensor
    mask: Tensor
    rate: Tensor
    momentum: Tensor
    weight_decay: Tensor
    batch: tuple[Tensor, Tensor] | None = field(default=None, kw_only=True)

    def set_mask(self, mask: Tensor) -> None:
        """Replace the mask; entries that it drops become zero, with their momentum."""
        self.mask = mask
        self.parameters = torch.where(mask, self.parameters, 0.0)
        self.velocity = torch.where(mask, self.velocity, 0.0)


@dataclass(frozen=True)
class Event:
    """Something done to the ensemble before the given steps, counted from 0.

    The number of all steps may be among them: then it is done after the last. `memory` names the
    tensors that `act` writes besides the state, so that a checkpoint can hold them. An event that
    `replaces_step` uses up the batch of its step: no gradient step is taken on it.
    """

    steps: Sequence[int]
    act: Callable[[State, int], None]
    memory: tuple[Tensor, ...] = ()
    replaces_step: bool = False
