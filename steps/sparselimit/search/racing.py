"""Racing: many starts of each network set out, and only the best are trained to the end.

A start that falls behind would seldom have won. Which do is decided by the loss at *rungs*, epochs
of the full training: what is left of the race is trained as long, at the same rates and with its
momentum carried on. Only the order of batches is not that of a training without rungs, for each leg
from rung to rung begins one of its own. (Successive halving, K. Jamieson and A. Talwalkar, AISTATS
2016. Of starts ranked by the loss of a shorter training with a schedule of its own, more winners
are lost at equal cost, and what the shorter training cost is lost too.) How many winners the race
loses is measured as it runs: every so many starts, one is trained to the end whatever its rank.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.state import Event, State
from sparselimit.ensemble.train import Engine, Trained, train
from sparselimit.networks.mlp import MLP
from sparselimit.search.dead import least_factor, provably_dead
from sparselimit.search.exhaustive import Networks, initial_values
from sparselimit.search.outcomes import complete, given_up
from sparselimit.search.rungs import check_rungs
from sparselimit.sparsity.masks import with_biases


@dataclass(frozen=True)
class Race:
    """The training of every network's starts, and which of them are seen to the end.

    After `rungs[i]` epochs, the share `keep[i]` of all starts of a network goes on: those of least
    loss. Rungs not before the end play no part. Of `calibrate` starts, one is trained to the end
    whatever its loss. By protocol `published` every start is, even those that are provably dead.

    Raises InputError when the rungs do not ascend, or the shares to keep do not descend.
    """

    starts: range
    learning_rate: float = 0.05
    schedule: str = "cosine"
    epochs: int = 50
    batch_size: int = 128
    protocol: str = "exact"
    rungs: Sequence[int] = (4, 16)
    keep: Sequence[float] = (0.35, 0.1)
    calibrate: int = 20

    def __post_init__(self) -> None:
        check_rungs(self.rungs, self.keep)

    def legs(self) -> Iterator[tuple[int, int, float]]:
        """First epoch, end and share that then goes on, of each part of the race."""
        rungs = [] if self.protocol == "published" else zip(self.rungs, self.keep, strict=True)
        first = 0
        for end, share in [*(leg for leg in rungs if leg[0] < self.epochs), (self.epochs, 1.0)]:
            yield first, end, share
            first = end

    def plan(self, first: int, end: int) -> Plan:
        """The full training's epochs from `first` to `end`, with their learning rates."""
        whole = Plan.of([self.schedule], self.epochs, self.batch_size)
        return replace(whole, factors=whole.factors[:, first:end])

    def steps(self, epochs: int, points: Points) -> int:
        """Steps in the first so many epochs."""
        return epochs * self.plan(0, self.epochs).steps_per_epoch(len(points.x))


RUN_COLUMNS = ("steps", "dropped", "calibration", "accuracy", "loss", "diverged_at")


@dataclass(frozen=True)
class Outcome:
    """What became of the starts of n networks: arrays over runs, which go network by network.

    steps        int64, steps of training
    dropped      int64, -1: ran to the end; 0: provably dead; i: fell behind at the i-th rung
    calibration  bool, to be trained to the end whatever its loss
    accuracy     float64, at last; of a start that is provably dead, what a constant scores at best
    loss         float64, at last; NaN for what diverged or was not trained
    diverged_at  int64, as in `Trained`
    best         int64 [n], run of each network that is most accurate and, of equals, of least loss;
                 one that diverged only where all did, and one that was given up at a rung only
                 where all that ended diverged: then it is as it was when it was given up, and
                 training it to its end comes to something else
    parameters   float32 [n, n_parameters], what that run came to
    """

    steps: Tensor
    dropped: Tensor
    calibration: Tensor
    accuracy: Tensor
    loss: Tensor
    diverged_at: Tensor
    best: Tensor
    parameters: Tensor

    @classmethod
    def empty(cls, n: int, starts: int, n_parameters: int) -> "Outcome":
        whole = torch.zeros(n * starts, dtype=torch.int64)
        real = torch.full((n * starts,), torch.nan, dtype=torch.float64)
        return cls(
            steps=whole.clone(),
            dropped=whole - 1,
            calibration=whole.bool(),
            accuracy=real.clone(),
            loss=real.clone(),
            diverged_at=whole - 1,
            best=torch.zeros(n, dtype=torch.int64),
            parameters=torch.zeros(n, n_parameters),
        )

    def put(self, networks: Tensor, where: Tensor, part: "Outcome") -> None:
        """Enter the outcome of some networks, whose parameters lie at `where` in this frame."""
        starts = len(self.steps) // len(self.best)
        runs = (networks[:, None] * starts + torch.arange(starts)).flatten()
        for name in RUN_COLUMNS:
            getattr(self, name)[runs] = getattr(part, name)
        self.best[networks] = runs[part.best]
        self.parameters[networks[:, None], where] = part.parameters


def race(
    networks: Networks, how: Race, points: Points, *, label: str = "race", **engine: Unpack[Engine]
) -> Outcome:
    """Race the starts of some networks, all of them held in the networks' frame.

    What becomes of a start depends on its network, its number and the other starts of the network
    that race; not on the frame, nor on other networks. All see the batches in the same order, one
    for each leg.

    A checkpoint path in `engine` is where the names of several begin, one for each leg.
    """
    n, starts, frame = len(networks), len(how.starts), networks.frame
    runs = Outcome.empty(n, starts, frame.n_parameters)
    runs.calibration[:] = (torch.tensor(how.starts) % how.calibrate == 0).repeat(n)
    mask = with_biases(frame, torch.tensor(networks.mask)).repeat_interleave(starts, dim=0)
    parameters = _initial_parameters(networks, how)
    velocity = torch.zeros_like(parameters)
    if how.protocol != "published":
        dead = _provably_dead(networks.frame, parameters, mask, how, points)
        ones = points.y.double().mean()
        runs.dropped[dead] = 0
        runs.accuracy[dead] = torch.maximum(ones, 1 - ones)
    path = engine.get("checkpoint")
    for leg, (first, end, share) in enumerate(how.legs(), start=1):
        wanted = complete(runs.dropped, runs.calibration)
        going = (wanted & (runs.diverged_at < 0)).nonzero()[:, 0]
        if len(going) == 0:
            break
        members = Members.of(
            frame,
            parameters[going],
            mask[going],
            learning_rate=how.learning_rate,
            order_seed=first,
        )
        if path:
            engine["checkpoint"] = path.with_name(f"{path.name}-leg-{leg}")
        name = f"{label}, epochs {first} to {end}"
        trained, velocity[going] = _go_on(
            members, velocity[going], points, how.plan(first, end), label=name, **engine
        )
        parameters[going] = trained.parameters
        runs.steps[going] = how.steps(end, points)
        runs.accuracy[going], runs.loss[going] = trained.accuracy, trained.loss
        lost = trained.diverged_at >= 0
        runs.diverged_at[going[lost]] = trained.diverged_at[lost] + how.steps(first, points)
        runs.dropped[_behind(runs, starts, share)] = leg
    runs.best[:] = _best(runs, n)
    runs.parameters[:] = torch.where(mask, parameters, 0.0)[runs.best]
    return runs


def _initial_parameters(networks: Networks, how: Race) -> Tensor:
    """Where every run starts, float32 [n * starts, n_parameters], before masking."""
    drawn = partial(initial_values, starts=how.starts, protocol=how.protocol)
    return torch.tensor(networks.initial(len(how.starts), drawn))


def _provably_dead(
    frame: MLP, parameters: Tensor, mask: Tensor, how: Race, points: Points
) -> Tensor:
    rates = how.learning_rate * how.plan(0, how.epochs).factors[0]
    least = least_factor(rates, how.steps(1, points))
    columns = parameters.numpy(), mask.numpy(), points.x.to(parameters).numpy()
    return torch.tensor(provably_dead(frame, *columns, least, how.steps(how.epochs, points)))


def _go_on(
    members: Members,
    velocity: Tensor,
    points: Points,
    plan: Plan,
    *,
    label: str,
    **engine: Unpack[Engine],
) -> tuple[Trained, Tensor]:
    """Train on from parameters and momentum; returns the momentum at the end beside the rest."""
    at_the_end = torch.empty_like(velocity)

    def take_up(state: State, _: int) -> None:
        state.velocity = velocity[state.index].to(state.velocity)

    def hand_on(state: State, _: int) -> None:
        at_the_end[state.index] = state.velocity.cpu()

    last = plan.epochs * plan.steps_per_epoch(len(points.x))
    events = Event([0], take_up), Event([last], hand_on, memory=(at_the_end,))
    return train(members, points, plan, events, label=label, **engine), at_the_end


def _behind(runs: Outcome, starts: int, share: float) -> Tensor:
    """Which runs that race are not among this share of their network's starts, those of least loss.

    Of equals the first.
    """
    racing = (runs.dropped < 0).view(-1, starts)
    loss = torch.where(racing, runs.loss.view(-1, starts).nan_to_num(torch.inf), torch.inf)
    place = loss.argsort(dim=1, stable=True).argsort(dim=1)
    return (racing & (place >= math.ceil(share * starts))).flatten()


def _best(runs: Outcome, n: int) -> Tensor:
    """The best run of each of the n networks, int64 [n]."""
    network = np.arange(n).repeat(len(runs.steps) // n)
    diverged = (runs.diverged_at >= 0).numpy()
    unfinished = given_up(runs.dropped, runs.calibration).numpy()
    order = np.lexsort((runs.loss.numpy(), -runs.accuracy.numpy(), unfinished, diverged, network))
    return torch.tensor(order.reshape(n, -1)[:, 0])
