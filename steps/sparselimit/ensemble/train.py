"""Train an ensemble: the one function behind which the backends stand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparselimit.console import progress_bar
from sparselimit.ensemble import batched
from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.state import Event, State
from sparselimit.errors import InputError
from sparselimit.seeds import generator

# Working set of a chunk on a CPU, in bytes: activations that stay in the second-level cache are
# worth more than fewer calls (measured flat from 8 to 64 MB).
CHUNK_BYTES = 16 << 20


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
    label: str = "train",
) -> Trained:
    """Train all members on the points and evaluate them on the same points.

    Every member is trained as if alone: its result depends on itself, on the plan and on the batch
    order of its order seed. Events act on all members of a chunk at once; `State.index` tells them
    which those are.

    Raises InputError when the plan and the data do not fit.
    """
    steps = plan.steps_per_epoch(len(points.x))
    if int(members.schedule.max()) >= len(plan.factors):
        raise InputError(
            f"schedule {int(members.schedule.max())}: the plan has only {len(plan.factors)}"
        )
    points = Points(points.x.to(device), points.y.to(device, points.x.dtype))
    chunks = list(_chunks(members, plan.batch_size, torch.device(device).type))
    result: list[tuple[Tensor, ...]] = []
    with progress_bar(label, total=len(members) * plan.epochs * steps, unit="step") as progress:
        for chunk in chunks:
            part = members.take(chunk)
            state = _initial_state(part, chunk, device)
            diverged_at = torch.full((len(chunk),), -1, device=device)
            for epoch in range(plan.epochs):
                factor = torch.as_tensor(plan.factors[:, epoch])[part.schedule]
                state.rate = (part.learning_rate * factor).to(device)
                order = batch_order(
                    len(points.x), plan.batch_size, int(part.order_seed[0]), epoch
                )
                _run_epoch(state, points, torch.as_tensor(order, device=device), epoch, events)
                lost = ~state.parameters.isfinite().all(dim=1) & (diverged_at < 0)
                diverged_at[lost] = (epoch + 1) * steps
                progress.update(len(chunk) * steps)
            accuracy, loss = batched.evaluate(part.network, state.parameters, points)
            fields = (state.parameters, state.mask, accuracy, loss, diverged_at)
            result.append(tuple(field.cpu() for field in fields))
    back = torch.argsort(torch.cat(chunks))
    return Trained(*(torch.cat(field)[back] for field in zip(*result, strict=True)))


def _run_epoch(
    state: State, points: Points, batches: Tensor, epoch: int, events: Sequence[Event]
) -> None:
    """One epoch, cut into segments at the steps where events act."""
    n = len(batches)
    due = [
        (step - epoch * n, event)
        for event in events
        for step in event.steps
        if epoch * n <= step < (epoch + 1) * n
    ]
    cuts = sorted({0, n, *(offset for offset, _ in due)})
    for start, end in zip(cuts, cuts[1:], strict=False):
        for offset, event in due:
            if offset == start:
                event.act(state, epoch * n + start)
        batched.advance(state, points, batches[start:end])


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


def _chunks(members: Members, batch_size: int, device_type: str) -> Iterator[Tensor]:
    """Indices of the members trained together: of one order seed, and no more than fit."""
    sizes = members.network.sizes
    per_member = members.parameters.element_size() * (
        3 * batch_size * sum(sizes) + 6 * members.network.n_parameters
    )
    budget = CHUNK_BYTES
    if device_type == "cuda":
        budget = torch.cuda.mem_get_info()[0] // 2
    for seed in members.order_seed.unique():
        group = (members.order_seed == seed).nonzero()[:, 0]
        yield from group.split(max(1, budget // per_member))
