"""Train blocks of the published search: every network at all settings, and the best of each."""

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sparselimit import spiral
from sparselimit.ensemble.members import Members, Points
from sparselimit.ensemble.train import Engine, train
from sparselimit.networks.initial import Initial
from sparselimit.networks.mlp import MLP, positions
from sparselimit.search.exhaustive import COMPILATION, WHOLE, Networks, draws
from sparselimit.seeds import generator
from sparselimit.sparsity.masks import with_biases

Setting = tuple[float, str, int]  # learning rate, schedule, seed


def train_blocks(
    networks: Networks,
    grid: spiral.Grid,
    points: Points,
    initial: Initial | None = None,
    *,
    protocol: str = "exact",
    **engine: Unpack[Engine],
) -> tuple[pd.DataFrame, Tensor]:
    """Train every network at all learning rates, schedules and seeds of a grid.

    `initial` gives the 16-wide network that the blocks are cut from; without it, each run draws
    initial values of its own (see `initial_values`). Networks are trained in few common shapes,
    each with a checkpoint of its own.

    Returns the table of runs (network, as counted within `networks`; learning_rate, schedule, seed,
    steps, accuracy, loss, diverged_at) and the parameters of each network's best run, float32
    [n, frame.n_parameters]: the most accurate, of equals the one of least loss; one that diverged
    only where all did.
    """
    settings = list(product(grid.learning_rates, grid.schedules, range(grid.seeds)))
    steps = grid.plan.epochs * grid.plan.steps_per_epoch(len(points.x))
    groups = networks.in_few_frames(COMPILATION / (steps * len(settings)))
    tables = []
    best = torch.zeros(len(networks), networks.frame.n_parameters)
    for place, group in enumerate(groups, start=1):
        part = networks.take(group)
        members = _members(part, settings, grid, _start(part, settings, initial, protocol))
        label = f"blocks, shape {place} of {len(groups)}"
        own_engine = spiral.part(engine, "-".join(map(str, part.frame.sizes[1:-1])))
        trained = train(members, points, grid.plan, label=label, **own_engine)
        runs = pd.DataFrame(
            settings * len(part), columns=["learning_rate", "schedule", "seed"]
        ).assign(
            network=group.repeat(len(settings)),
            steps=steps,
            accuracy=trained.accuracy.numpy(),
            loss=trained.loss.numpy(),
            diverged_at=trained.diverged_at.numpy(),
        )
        where = positions(part.frame, networks.frame)
        best[np.ix_(group, where)] = trained.parameters[_best(runs)]
        tables.append(runs)
    table = pd.concat(tables, ignore_index=True)
    return table.sort_values("network", kind="stable", ignore_index=True), best


def _members(
    networks: Networks, settings: Sequence[Setting], grid: spiral.Grid, parameters: Tensor
) -> Members:
    """One member for each network and setting, nested so."""
    n = len(networks)
    mask = with_biases(networks.frame, torch.tensor(networks.mask))
    return Members.of(
        networks.frame,
        parameters,
        mask.repeat_interleave(len(settings), dim=0),
        learning_rate=[rate for rate, _, _ in settings] * n,
        schedule=[grid.schedules.index(schedule) for _, schedule, _ in settings] * n,
        order_seed=[seed for _, _, seed in settings] * n,
    )


def initial_values(
    block: MLP, mask: np.ndarray, settings: Sequence[Setting], protocol: str
) -> np.ndarray:
    """Initial values of one block at each of the settings, before masking; float64.

    Drawn at the block's own widths; by protocol `published`, as a crop of a 16-wide network, whose
    values are smaller. Every run has its own draw, which depends on block, mask, learning rate,
    schedule and seed.
    """
    identity = mask.astype(bool).tobytes().hex()
    streams = (
        generator("block", block.sizes, identity, repr(rate), schedule, seed)
        for rate, schedule, seed in settings
    )
    return draws(block, streams, protocol)


def _start(
    networks: Networks, settings: Sequence[Setting], initial: Initial | None, protocol: str
) -> Tensor:
    """Where the runs start, float32 [n * settings, n_parameters], in the networks' own frame."""
    if initial is not None:
        where = positions(networks.frame, WHOLE)
        given = initial(WHOLE, [seed for _, _, seed in settings])[:, where]
        return given.repeat(len(networks), 1)
    drawn = partial(initial_values, settings=settings, protocol=protocol)
    return torch.tensor(networks.initial(len(settings), drawn))


def _best(runs: pd.DataFrame) -> Tensor:
    """Row of the best run of each network, int64, in the order of the networks."""
    ranked = runs.assign(diverged=runs.diverged_at >= 0).sort_values(
        ["network", "diverged", "accuracy", "loss"], ascending=[True, True, False, True]
    )
    return torch.tensor(ranked.drop_duplicates("network").index)
