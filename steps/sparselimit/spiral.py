"""Runs on the Cubist Spiral: a grid of them as one ensemble, and the file that holds them."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sparselimit import cli, store
from sparselimit.ensemble import backends
from sparselimit.ensemble.members import SCHEDULES, Members, Plan, Points
from sparselimit.ensemble.state import Event
from sparselimit.ensemble.train import Engine, train
from sparselimit.networks.mlp import MLP, initial_parameters
from sparselimit.seeds import generator
from sparselimit.sparsity.connectivity import effective_mask, path_count
from sparselimit.sparsity.masks import with_biases


@dataclass(frozen=True)
class Grid:
    """Runs of one network shape: targets x learning rates x schedules x seeds, nested so."""

    targets: Sequence[int]
    learning_rates: Sequence[float]
    schedules: Sequence[str]
    seeds: int
    epochs: int
    batch_size: int

    @classmethod
    def of(cls, arguments: Namespace, targets: Sequence[int]) -> "Grid":
        """The grid that the arguments of `add_arguments` describe."""
        return cls(
            targets,
            arguments.learning_rates,
            arguments.schedules,
            arguments.seeds,
            arguments.epochs,
            arguments.batch_size,
        )

    @property
    def plan(self) -> Plan:
        return Plan.of(self.schedules, self.epochs, self.batch_size)

    def runs(self) -> pd.DataFrame:
        """One row per run: target, learning_rate, schedule, seed."""
        rows = product(self.targets, self.learning_rates, self.schedules, range(self.seeds))
        columns = ["target", "learning_rate", "schedule", "seed"]
        return pd.DataFrame(rows, columns=columns)


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments that describe the data and the grid, but for the targets."""
    parser.add_argument("--data", type=Path, required=True, help="the spiral's points (HDF5)")
    parser.add_argument("--width", type=cli.positive, required=True, help="w of 2-w-w-w-1")
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[0.05])
    parser.add_argument("--schedules", choices=SCHEDULES, nargs="+", default=["cosine"])
    parser.add_argument("--seeds", type=cli.positive, default=1, help="initial networks")
    parser.add_argument("--epochs", type=cli.positive, default=50)
    parser.add_argument("--batch-size", type=cli.positive, default=128)
    add_engine_arguments(parser)


def add_engine_arguments(parser: ArgumentParser) -> None:
    """The argument that chooses how ensembles are trained."""
    parser.add_argument(
        "--backend", choices=backends.NAMES, default="auto", help="what trains the ensemble"
    )


def engine(arguments: Namespace) -> Engine:
    """How an ensemble is trained: where, by what, and with a checkpoint beside the output."""
    output: Path = arguments.output
    return {
        "device": arguments.device,
        "backend": arguments.backend,
        "checkpoint": output.with_name(output.name + ".checkpoint"),
        "identity": repr(sorted(cli.settings(arguments).items())),
    }


def read_points(path: Path) -> Points:
    """The spiral from its file."""
    data = store.read(path, "points")
    return Points(torch.tensor(data.array("x")), torch.tensor(data.array("y"), dtype=torch.float32))


def initial_networks(network: MLP, seeds: Sequence[int]) -> Tensor:
    """Initial values of each run, float32 [runs, n_parameters].

    They depend on shape and seed alone: all methods, targets and learning rates start alike.
    """
    drawn = {
        seed: initial_parameters(network, generator("init", network.sizes, int(seed)))
        for seed in set(seeds)
    }
    return torch.tensor(np.stack([drawn[seed] for seed in seeds]), dtype=torch.float32)


def train_runs(
    network: MLP,
    grid: Grid,
    runs: pd.DataFrame,
    points: Points,
    parameters: Tensor,
    weight_mask: Tensor,
    events: Sequence[Event] = (),
    **engine: Unpack[Engine],
) -> dict[str, np.ndarray | pd.DataFrame]:
    """Train all runs of a grid; returns the content of a `spiral-runs` file.

    `runs` is the grid's table with a column `method`; `parameters` [runs, n_parameters] and
    `weight_mask` bool [runs, n_weights] are what each starts from.
    """
    members = Members.of(
        network,
        parameters,
        with_biases(network, weight_mask),
        learning_rate=torch.tensor(runs.learning_rate.to_numpy()),
        schedule=torch.tensor([grid.schedules.index(name) for name in runs.schedule]),
        order_seed=torch.tensor(runs.seed.to_numpy()),
    )
    trained = train(members, points, grid.plan, events, **engine)
    mask = trained.mask[:, : network.n_weights]
    table = runs.assign(
        steps=grid.epochs * grid.plan.steps_per_epoch(len(points.x)),
        weights=mask.sum(dim=1).numpy(),
        effective_weights=effective_mask(network, mask).sum(dim=1).numpy(),
        paths=path_count(network, mask).numpy(),
        accuracy=trained.accuracy.numpy(),
        loss=trained.loss.numpy(),
        diverged_at=trained.diverged_at.numpy(),
    )
    return {
        "sizes": np.array(network.sizes),
        "runs": table,
        "mask": mask.numpy(),
        "parameters": trained.parameters.numpy(),
    }
