"""Beam search from above: networks that exist, where there are too many to try them all.

Weights are taken away from trained networks one at a time. Of all networks that a removal leads to,
each is trained from the weights it inherits and from fresh initial values, and the best few are
what the next removals start from. That bounds the fewest weights for an accuracy from above, as the
exhaustive search, which tries every network of few weights, does from below.

Inside a given initial network the same is done with masks: a network is trained from the given
values of its weights each time, and networks that differ by a permutation of neurons are different.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sparselimit import spiral
from sparselimit.ensemble import backends
from sparselimit.ensemble.checkpoint import in_turn
from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.train import Engine, train
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, positions
from sparselimit.search.enumeration import canonical_form
from sparselimit.search.exhaustive import COMPILATION, Networks, initial_values
from sparselimit.search.polish import polished, quality
from sparselimit.sparsity.masks import with_biases
from sparselimit.sparsity.reduction import effective_part, folded

INHERITED = -1

# A network up to permutation of its hidden neurons: its widths and the bytes of its mask.
Form = tuple[tuple[int, ...], bytes]


@dataclass(frozen=True)
class Beam:
    """How the search goes down, to networks of `least_weights`.

    width   networks of each number of weights that removals go on from
    starts  fresh initial values of each network, beside the inherited ones
    The rest is how each run is trained.

    The defaults were chosen on the spiral, going from 40 to 12 weights: learning rates of 0.05 and
    0.2, a constant one and more epochs end at less accurate networks, and with four fresh starts
    each the results are the same. A wider beam finds sparser networks, in proportion more slowly:
    all points with 23 weights at 40, with 17 at 320 (tests/benchmarks/above.yaml).
    """

    least_weights: int = 12
    width: int = 16
    starts: int = 0
    learning_rate: float = 0.1
    schedule: str = "cosine"
    epochs: int = 10
    batch_size: int = 128
    protocol: str = "exact"

    def __post_init__(self) -> None:
        if self.least_weights < 1 or self.width < 1 or self.starts < 0:
            raise InputError(
                f"least_weights={self.least_weights}, width={self.width}, starts={self.starts}: "
                "give at least 1, 1 and 0"
            )

    @property
    def plan(self) -> Plan:
        return Plan.of([self.schedule], self.epochs, self.batch_size)

    def steps(self, points: Points) -> int:
        """Steps of each run."""
        return self.epochs * self.plan.steps_per_epoch(len(points.x))


@dataclass(frozen=True)
class Network:
    """A network 2 - d1 - d2 - d3 - 1, all of its weights effective, and values of its parameters.

    mask        bool [n_weights]
    parameters  float32 [n_parameters]
    ancestor    number of the given network that it was cut from
    start       where its values come from: INHERITED, or the number of the fresh start
    origin      float32 [n_parameters], its part of a given initial network, if it is a mask of one
    """

    shape: MLP
    mask: np.ndarray
    parameters: np.ndarray
    ancestor: int
    start: int = INHERITED
    origin: np.ndarray | None = None

    @property
    def weights(self) -> int:
        return int(self.mask.sum())

    @property
    def form(self) -> Form:
        if self.origin is not None:  # which neurons these are shows in their initial values
            return self.shape.sizes[1:-1], self.mask.tobytes() + self.origin.tobytes()
        widths, mask = canonical_form(self.mask, self.shape.sizes[1:-1])
        return widths, mask.tobytes()

    def cut_to(self, mask: np.ndarray) -> "Network | None":
        """What is left of it with these weights alone; None if there is no path."""
        part = effective_part(self.shape, mask)
        if part is None:
            return None
        shape, kept, places = part
        values = folded(self.shape, mask, self.parameters, places)
        origin = None if self.origin is None else self.origin[places]
        return Network(shape, kept, values, self.ancestor, origin=origin)

    def rewound(self) -> "Network":
        """Itself at its origin, if it has one."""
        return self if self.origin is None else replace(self, parameters=self.origin)

    def children(self) -> Iterator["Network"]:
        """What the removal of each weight leaves, without the weights that are then on no path."""
        for weight in np.flatnonzero(self.mask):
            mask = self.mask.copy()
            mask[weight] = False
            if child := self.cut_to(mask):
                yield child


@dataclass(frozen=True)
class Level:
    """What was done at one number of weights, and what came of it.

    networks, runs  how many there were
    best            the best network, trained
    initial         the same before training
    """

    networks: int
    runs: int
    best: Network
    initial: Network


# --- The search ----------------------------------------------------------------------------------


def search_down(
    given: Sequence[Network], how: Beam, points: Points, **engine: Unpack[Engine]
) -> list[Level]:
    """Go down from the given networks, each of which joins at its own number of weights.

    Returns the levels by increasing number of weights; there is none where no removal led to.
    Networks are told apart up to permutation of hidden neurons, masks of a given initial network as
    they are. Of equal ones the first counts: a
    given one, else a child of the better parent. With a checkpoint path in `engine`, the training
    of every level is saved beside it, and the same call goes on from there.
    """
    waiting: dict[int, dict[Form, Network]] = {}

    def enter(network: Network) -> None:
        waiting.setdefault(network.weights, {}).setdefault(network.form, network)

    for network in given:
        enter(network)
    levels = []
    for weights in range(max(waiting, default=0), how.least_weights - 1, -1):
        if weights in waiting:
            level, beam = _train_level(waiting.pop(weights), how, points, engine)
            levels.append(level)
            for parent in beam:
                for child in parent.children():
                    enter(child)
    return levels[::-1]


def _train_level(
    networks: Mapping[Form, Network], how: Beam, points: Points, engine: Engine
) -> tuple[Level, list[Network]]:
    """Train all networks of one number of weights; returns the beam as well, best first."""
    runs: list[Network] = []
    number: list[int] = []
    for i, (form, network) in enumerate(networks.items()):
        runs += [network.rewound(), *_fresh(form, network.ancestor, how)]
        number += [i] * (len(runs) - len(number))
    held, initial = _held(runs, number)
    parameters, accuracy, loss = _train_runs(held, initial, how, points, engine)
    ranked = np.lexsort((loss, -accuracy))
    _, best_run = np.unique(held.number[ranked], return_index=True)
    beam = ranked[np.sort(best_run)[: how.width]].tolist()
    trained = [
        replace(runs[i], parameters=parameters[i, positions(runs[i].shape, held.frame)])
        for i in beam
    ]
    return Level(len(networks), len(runs), trained[0], runs[beam[0]]), trained


def _fresh(form: Form, ancestor: int, how: Beam) -> Iterator[Network]:
    """The network with fresh initial values; those of start s are the exhaustive search's."""
    if how.starts:
        shape, mask = MLP((2, *form[0], 1)), np.frombuffer(form[1], dtype=bool)
        drawn = initial_values(shape, mask, range(how.starts), how.protocol)
        for start, values in enumerate(drawn.astype(np.float32)):
            yield Network(shape, mask, values, ancestor, start)


def _held(runs: Sequence[Network], number: Sequence[int]) -> tuple[Networks, np.ndarray]:
    """Networks in one shape that holds them all, and their values [n, frame.n_parameters]."""
    own = ((run.shape.sizes[1:-1], run.mask[None]) for run in runs)
    held = Networks.of(own, np.array(number))
    values = np.zeros((len(runs), held.frame.n_parameters), dtype=np.float32)
    for i, run in enumerate(runs):
        values[i, positions(run.shape, held.frame)] = run.parameters
    return held, values


def _train_runs(
    networks: Networks, initial: np.ndarray, how: Beam, points: Points, engine: Engine
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameters [n, frame.n_parameters], accuracy and loss [n] that each run comes to.

    A run that training makes worse stays where it was. Networks of one number of weights see the
    same batches.
    """
    weights = int(networks.mask[0].sum())
    parameters, accuracy, loss = np.zeros_like(initial), *np.zeros((2, len(networks)))
    groups = networks.in_few_frames(COMPILATION / how.steps(points))
    for place, group in enumerate(groups, start=1):
        part = networks.take(group)
        where = positions(part.frame, networks.frame)
        mask = with_biases(part.frame, torch.tensor(part.mask))
        start = torch.where(mask, torch.tensor(initial[np.ix_(group, where)]), 0.0)
        members = Members.of(
            part.frame, start, mask, learning_rate=how.learning_rate, order_seed=weights
        )
        label = f"{weights} weights, shape {place} of {len(groups)}"
        own = spiral.part(engine, "-".join(map(str, (weights, *part.frame.sizes[1:-1]))))
        after = train(members, points, how.plan, label=label, **own)
        accuracy_before, loss_before = _evaluate(part.frame, start, points, engine)
        better = (after.accuracy > accuracy_before) | (
            (after.accuracy == accuracy_before) & (after.loss < loss_before)
        )
        parameters[np.ix_(group, where)] = torch.where(better[:, None], after.parameters, start)
        accuracy[group] = torch.where(better, after.accuracy, accuracy_before)
        loss[group] = torch.where(better, after.loss, loss_before)
    return parameters, accuracy, loss


def _evaluate(
    network: MLP, parameters: Tensor, points: Points, engine: Engine
) -> tuple[Tensor, Tensor]:
    """Accuracy and loss by the backend that trains."""
    device = torch.device(engine.get("device", "cpu"))
    backend = backends.choose(engine.get("backend", "auto"), network, parameters.dtype, device)
    parameters = parameters.to(device)
    there = Points(points.x.to(parameters), points.y.to(parameters))
    accuracy, loss = backend.evaluate(network, parameters, there)
    return accuracy.cpu(), loss.cpu()


# --- What is kept of it --------------------------------------------------------------------------


def polish(levels: Sequence[Level], points: Points, **engine: Unpack[Engine]) -> list[Network]:
    """The best network of each level after L-BFGS, where that helps.

    It takes some seconds each. With a checkpoint path in `engine`, those that are done are saved
    beside it.
    """
    found = [torch.tensor(level.best.parameters) for level in levels]

    def better(i: int) -> Tensor:
        best = levels[i].best
        mask = with_biases(best.shape, torch.tensor(best.mask)[None])[0]
        return polished(best.shape, found[i], mask, points)

    path = spiral.part(engine, "polish").get("checkpoint")
    after = in_turn(better, len(levels), path, [*found, points.x, points.y])
    return [
        replace(level.best, parameters=parameters.numpy())
        for level, parameters in zip(levels, after, strict=True)
    ]


def content(
    levels: Sequence[Level],
    final: Sequence[Network],
    how: Beam,
    points: Points,
    ancestors: pd.DataFrame,
) -> dict[str, np.ndarray | pd.DataFrame]:
    """The content of a `beam` file: the best network of each number of weights, ascending.

    `final` are the best networks as they came out of `polish`, or as they are in the levels.
    """
    rows = []
    for level, network in zip(levels, final, strict=True):
        best = level.best
        values = np.stack([best.parameters, network.parameters])
        accuracy, loss = quality(best.shape, torch.tensor(values), points)
        rows.append(
            {
                "weights": best.weights,
                "networks": level.networks,
                "runs": level.runs,
                "steps": float(level.runs * how.steps(points)),
                **dict(zip(("d1", "d2", "d3"), best.shape.sizes[1:-1], strict=True)),
                "ancestor": best.ancestor,
                "start": best.start,
                "accuracy": accuracy[1].item(),
                "loss": loss[1].item(),
                "polished": not np.array_equal(*values),
                "sgd_accuracy": accuracy[0].item(),
            }
        )
    held, parameters = _held(final, range(len(final)))
    _, initial = _held([level.initial for level in levels], range(len(levels)))
    return {
        "sizes": np.array(held.frame.sizes),
        "by_weights": pd.DataFrame(rows),
        "mask": held.mask,
        "parameters": parameters,
        "initial": initial,
        "ancestors": ancestors,
    }
