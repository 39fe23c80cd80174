"""Train an ensemble: the one function behind which the backends stand."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from sparselimit.console import Progress, progress_bar
from sparselimit.ensemble import backends, batched
from sparselimit.ensemble.backends import Backend
from sparselimit.ensemble.checkpoint import CHECKPOINT_SECONDS, Checkpoint
from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.state import Event, State
from sparselimit.errors import InputError, in_one_line
from sparselimit.seeds import generator

# Working set of a chunk on a CPU, in bytes. Batched torch reads its activations back from memory,
# so a chunk should stay in cache (measured flat from 8 to 64 MB); a fused kernel keeps them in
# registers, and a chunk is only as small as frequent checkpoints ask.
CHUNK_BYTES = {"batched": 24 << 20, "fused": 256 << 20}
# What a checkpoint holds of a chunk's state; the rest follows from the members.
_SAVED = ("parameters", "velocity", "mask")


class Engine(TypedDict, total=False):
    """How `train` does its work, apart from what it trains."""

    device: str
    backend: str
    checkpoint: Path | None
    identity: str


@dataclass(frozen=True)
class Trained:
    """The members after training, in the order they were given.

    parameters   float [E, n_parameters], zero where masked
    mask         bool  [E, n_parameters]
    accuracy     float64 [E], on all points, after the last step
    loss         float64 [E], mean loss on all points, after the last step (NaN if diverged)
    diverged_at  int64 [E], number of steps after which a parameter was found not to be finite
                 (looked for at the end of each epoch), -1 if that never happened
    """

    parameters: Tensor
    mask: Tensor
    accuracy: Tensor
    loss: Tensor
    diverged_at: Tensor

    @classmethod
    def empty(cls, members: Members) -> "Trained":
        n = len(members)
        return cls(
            torch.empty_like(members.parameters),
            torch.empty_like(members.mask),
            torch.empty(n, dtype=torch.float64),
            torch.empty(n, dtype=torch.float64),
            torch.full((n,), -1),
        )

    def columns(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def batch_order(n_points: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The batches of one epoch, int64 [steps, batch]: a permutation without its incomplete end."""
    steps = n_points // batch_size
    permutation = generator("order", n_points, seed, epoch).permutation(n_points)
    return permutation[: steps * batch_size].reshape(steps, batch_size)


def train(
    members: Members,
    points: Points,
    plan: Plan,
    events: Sequence[Event] = (),
    *,
    device: str = "cpu",
    backend: str = "auto",
    checkpoint: Path | None = None,
    identity: str = "",
    label: str = "train",
) -> Trained:
    """Train all members on the points and evaluate them on the same points.

    Every member is trained as if alone: its result depends on itself, on the plan and on the batch
    order of its order seed. Events act on all members of a chunk at once; `State.index` tells them
    which those are.

    With a `checkpoint` path the run saves its state there now and then, on a signal (which ends it
    by `Stopped`) and at the end; the same call goes on from it to the same numbers. To remove it
    is for the caller, once the results are where they cannot be lost. Of the events a checkpoint
    knows only the steps: `identity` has to tell runs apart that differ in what their events do, for
    example in their pruning targets.

    As many members are trained at once as memory is thought to hold, and fewer where a GPU turns
    out to have less.

    Raises InputError when plan and data do not fit, the backend cannot be had, the checkpoint is
    damaged or of another run, or not even one member fits in the GPU's memory.
    """
    steps = plan.steps_per_epoch(len(points.x))
    for schedule in members.schedule.unique().tolist():
        if not 0 <= schedule < len(plan.factors):
            raise InputError(f"schedule {schedule}: the plan has 0 to {len(plan.factors) - 1}")
    if points.x.shape[1] != members.network.sizes[0]:
        raise InputError(
            f"data of {points.x.shape[1]} features: network {members.network.sizes} takes "
            f"{members.network.sizes[0]}"
        )
    dtype = members.parameters.dtype
    engine = backends.choose(backend, members.network, dtype, torch.device(device))
    run = _Run(
        members,
        Points(points.x.to(device, dtype), points.y.to(device, dtype)),
        plan,
        events,
        engine,
        Trained.empty(members),
    )
    with progress_bar(label, len(members) * plan.epochs * steps, "step") as progress:
        if checkpoint is None:
            run.all_chunks(device, progress, None)
        else:
            keeper = Checkpoint(checkpoint, [identity, *run.identity()], CHECKPOINT_SECONDS)
            with keeper.listening():
                run.all_chunks(device, progress, keeper)
    return run.trained


@dataclass
class _Run:
    """One call of `train`: what it trains, and the results so far."""

    members: Members
    points: Points
    plan: Plan
    events: Sequence[Event]
    engine: Backend
    trained: Trained

    def identity(self) -> list[object]:
        """All that decides the result, but for what the events do."""
        members = [value for value in vars(self.members).values() if isinstance(value, Tensor)]
        times = [list(event.steps) for event in self.events]
        plan = [torch.as_tensor(self.plan.factors), self.plan.batch_size]
        data = [self.points.x, self.points.y]
        return [self.members.network.sizes, self.engine.__name__, *members, *plan, *data, times]

    def all_chunks(self, device: str, progress: Progress, keeper: Checkpoint | None) -> None:
        saved = keeper.load() if keeper else None
        if saved:
            waiting = self._restore(saved)
        else:
            waiting = list(_chunks(self.members, self.plan.batch_size, device, self.engine))
        finished = len(self.members) - sum(map(len, waiting))
        progress.update(finished * self.plan.epochs * self.plan.steps_per_epoch(len(self.points.x)))
        while waiting:
            before = self._memory()
            try:
                self._chunk(waiting, device, progress, keeper, saved)
            except torch.OutOfMemoryError as error:
                waiting = self._smaller(waiting, bool(saved), error)
                self._remember(before)
                self.trained.diverged_at[waiting[0]] = -1
            else:
                waiting, saved = waiting[1:], None
                if keeper and not waiting:
                    keeper.save(self._snapshot([], 0, None))
            # What torch still holds is of a shape that will not come again.
            torch.cuda.empty_cache()

    def _chunk(
        self,
        waiting: list[Tensor],
        device: str,
        progress: Progress,
        keeper: Checkpoint | None,
        saved: dict[str, Any] | None,
    ) -> None:
        """Train the first of the chunks that wait, from where it was saved if it was."""
        chunk = waiting[0]
        part = self.members.take(chunk)
        state = _initial_state(part, chunk, device)
        steps = len(chunk) * self.plan.steps_per_epoch(len(self.points.x))
        epoch = _restore_state(saved, state) if saved else 0
        progress.update(epoch * steps)
        while epoch < self.plan.epochs:
            self._epoch(part, state, epoch)
            epoch += 1
            progress.update(steps)
            if keeper and keeper.due():
                keeper.save(self._snapshot(waiting, epoch, state))
        self._finish(part, state)

    def _smaller(self, waiting: list[Tensor], resumed: bool, error: Exception) -> list[Tensor]:
        """Halves of the chunks that wait, of which the first did not fit in the GPU's memory."""
        most = len(waiting[0])
        if most == 1 or resumed:
            what = "what the checkpoint holds" if resumed else "a single one"
            raise InputError(
                f"networks {self.members.network.sizes}: {what} does not fit in the GPU's memory "
                f"({in_one_line(error)}); see that no other process uses it, or use --device cpu"
            ) from error
        half = -(-most // 2)
        logging.warning("%d networks at once do not fit in the GPU's memory, now %d", most, half)
        return [part for chunk in waiting for part in chunk.split(half)]

    def _epoch(self, part: Members, state: State, epoch: int) -> None:
        """One epoch, cut into segments at the steps where events act."""
        factor = torch.as_tensor(self.plan.factors[:, epoch])[part.schedule]
        state.rate = (part.learning_rate * factor).to(state.parameters.device)
        order = batch_order(
            len(self.points.x), self.plan.batch_size, int(part.order_seed[0]), epoch
        )
        batches = torch.as_tensor(order, device=state.parameters.device)
        first = epoch * len(batches)
        due = {step for event in self.events for step in event.steps}
        inner = {step - first for step in due if first < step < first + len(batches)}
        for start, end in pairwise(sorted({0, *inner, len(batches)})):
            state.batch = self.points.x[batches[start]], self.points.y[batches[start]]
            replaced = self._act(state, first + start)
            if start + replaced < end:
                self.engine.advance(state, self.points, batches[start + replaced : end])
        lost = ~state.parameters.isfinite().all(dim=1).cpu()
        diverged_at = self.trained.diverged_at
        newly = state.index[lost & (diverged_at[state.index] < 0)]
        diverged_at[newly] = first + len(batches)

    def _act(self, state: State, step: int) -> bool:
        """Let the events of a step act; says whether one of them takes its place."""
        due = [event for event in self.events if step in event.steps]
        for event in due:
            event.act(state, step)
        return any(event.replaces_step for event in due)

    def _finish(self, part: Members, state: State) -> None:
        state.batch = None
        self._act(state, self.plan.epochs * self.plan.steps_per_epoch(len(self.points.x)))
        accuracy, loss = self.engine.evaluate(part.network, state.parameters, self.points)
        self.trained.parameters[state.index] = state.parameters.cpu()
        self.trained.mask[state.index] = state.mask.cpu()
        self.trained.accuracy[state.index] = accuracy.cpu()
        self.trained.loss[state.index] = loss.cpu()

    def _snapshot(self, waiting: list[Tensor], epoch: int, state: State | None) -> dict[str, Any]:
        """All that is known before an epoch of the first chunk that waits; or at the end."""
        return {
            "waiting": waiting,
            "epoch": epoch,
            "trained": self.trained.columns(),
            "state": {name: getattr(state, name) for name in _SAVED} if state else {},
            "memory": [list(event.memory) for event in self.events],
        }

    def _restore(self, saved: dict[str, Any]) -> list[Tensor]:
        """Take up the results so far; returns the chunks that wait."""
        for name, column in self.trained.columns().items():
            column.copy_(saved["trained"][name])
        self._remember(saved["memory"])
        return list(saved["waiting"])

    def _memory(self) -> list[list[Tensor]]:
        """Copies of what the events have written."""
        return [[tensor.clone() for tensor in event.memory] for event in self.events]

    def _remember(self, memory: list[list[Tensor]]) -> None:
        for event, values in zip(self.events, memory, strict=True):
            for tensor, value in zip(event.memory, values, strict=True):
                tensor.copy_(value)


def _restore_state(saved: dict[str, Any], state: State) -> int:
    """Take up the state of a chunk; returns the epoch that comes next."""
    for name, value in saved["state"].items():
        setattr(state, name, value.to(state.parameters.device))
    return int(saved["epoch"])


def _initial_state(part: Members, index: Tensor, device: str) -> State:
    parameters = torch.where(part.mask, part.parameters, 0.0).to(device)
    return State(
        part.network,
        index,
        parameters,
        torch.zeros_like(parameters),
        part.mask.to(device),
        part.learning_rate.to(device),
        part.momentum.to(device),
        part.weight_decay.to(device),
    )


def _chunks(members: Members, batch_size: int, device: str, engine: Backend) -> Iterator[Tensor]:
    """Indices of the members trained together: of one order seed, and no more than fit."""
    per_member = members.parameters.element_size() * 6 * members.network.n_parameters
    if engine is batched:
        activations = 3 * batch_size * sum(members.network.sizes)
        per_member += members.parameters.element_size() * activations
    budget = CHUNK_BYTES["batched" if engine is batched else "fused"]
    if torch.device(device).type == "cuda":
        budget = torch.cuda.get_device_properties(device).total_memory // 2
    for seed in members.order_seed.unique():
        group = (members.order_seed == seed).nonzero()[:, 0]
        yield from group.split(max(1, budget // per_member))
