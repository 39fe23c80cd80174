"""Events that look on: traces of loss and accuracy, the best accuracy, snapshots of parameters.

Each is made for a whole ensemble of E members, handed to `train` as an event, and read afterwards.
They cost an evaluation, or a copy, at each of their steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparselimit.ensemble import backends
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import Event, State


@dataclass(frozen=True)
class Trace:
    """Accuracy and loss of every member on some points before each of `steps`; float64 [E, n]."""

    steps: Sequence[int]
    accuracy: Tensor
    loss: Tensor
    event: Event

    @classmethod
    def of(cls, n_members: int, points: Points, steps: Sequence[int]) -> "Trace":
        accuracy, loss = torch.full((2, n_members, len(steps)), torch.nan, dtype=torch.float64)
        column = {step: i for i, step in enumerate(steps)}

        def act(state: State, step: int) -> None:
            found = backends.evaluate(state.network, state.parameters, points)
            for record, values in zip((accuracy, loss), found, strict=True):
                record[state.index, column[step]] = values.cpu()

        return cls(steps, accuracy, loss, Event(steps, act, (accuracy, loss)))


@dataclass(frozen=True)
class Best:
    """The best accuracy of every member on some points, float64 [E], and the step before it, [E].

    Looked for before each of the steps given; of equals, the first. -1 where there was none.
    """

    accuracy: Tensor
    step: Tensor
    event: Event

    @classmethod
    def of(cls, n_members: int, points: Points, steps: Sequence[int]) -> "Best":
        best = torch.full((n_members,), -torch.inf, dtype=torch.float64)
        when = torch.full((n_members,), -1)

        def act(state: State, step: int) -> None:
            accuracy = backends.evaluate(state.network, state.parameters, points)[0].cpu()
            better = accuracy > best[state.index]
            best[state.index[better]] = accuracy[better]
            when[state.index[better]] = step

        return cls(best, when, Event(steps, act, (best, when)))


@dataclass(frozen=True)
class Snapshots:
    """Parameters of every member before each of `steps`, float [E, n, n_parameters]."""

    steps: Sequence[int]
    parameters: Tensor
    event: Event

    @classmethod
    def of(cls, like: Tensor, steps: Sequence[int]) -> "Snapshots":
        """`like` [E, n_parameters] gives sizes and precision."""
        taken = like.new_zeros(len(like), len(steps), like.shape[1])
        column = {step: i for i, step in enumerate(steps)}

        def act(state: State, step: int) -> None:
            taken[state.index, column[step]] = state.parameters.cpu()

        return cls(steps, taken, Event(steps, act, (taken,)))
