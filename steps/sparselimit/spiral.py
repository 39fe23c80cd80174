"""Runs on the Cubist Spiral: a grid of them as one ensemble, and the file that holds them."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sparselimit import cli, store
from sparselimit.datasets import cubist_spiral
from sparselimit.ensemble import backends
from sparselimit.ensemble.members import SCHEDULES, Members, Plan, Points
from sparselimit.ensemble.state import Event
from sparselimit.ensemble.train import Engine, train
from sparselimit.networks.mlp import MLP
from sparselimit.sparsity.connectivity import connectivity, path_count
from sparselimit.sparsity.masks import with_biases


@dataclass(frozen=True)
class Grid:
    """Runs of one network: targets x learning rates x schedules x seeds, nested so."""

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

    def runs(self, network: str) -> pd.DataFrame:
        """One row per run of the named network: target, learning_rate, schedule, seed."""
        rows = product(
            [network], self.targets, self.learning_rates, self.schedules, range(self.seeds)
        )
        columns = ["network", "target", "learning_rate", "schedule", "seed"]
        return pd.DataFrame(rows, columns=columns)


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments that describe the data and the grid, but for networks and targets."""
    parser.add_argument(
        "--data", type=Path, help="the spiral's points (HDF5); made anew if not given"
    )
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
    return {
        "device": arguments.device,
        "backend": arguments.backend,
        "checkpoint": cli.checkpoint(arguments) if arguments.output else None,
        "identity": repr(sorted(cli.settings(arguments).items())),
    }


def part(engine: Engine, name: str) -> Engine:
    """The same engine for one of several ensembles of a step, with a checkpoint of its own."""
    whole = engine.get("checkpoint")
    if whole is None:
        return engine
    return engine | {"checkpoint": whole.with_name(f"{whole.name}-{name}")}


def read_points(path: Path | None) -> Points:
    """The spiral from its file, or without one from its formula."""
    if path is None:
        made = cubist_spiral()
        x, y = made.x, made.y
    else:
        data = store.read(path, "points")
        x, y = data.array("x"), data.array("y")
    return Points(torch.tensor(x), torch.tensor(y, dtype=torch.float32))


@dataclass(frozen=True)
class Runs:
    """Trained networks of one shape: the table of runs, and what each started and ended with.

    table       one row per run
    start_mask  bool [runs, n_weights], before the first step
    mask        bool [runs, n_weights], after the last
    parameters  float32 [runs, n_parameters], after the last
    """

    network: MLP
    table: pd.DataFrame
    start_mask: Tensor
    mask: Tensor
    parameters: Tensor


def train_runs(
    network: MLP,
    grid: Grid,
    runs: pd.DataFrame,
    points: Points,
    parameters: Tensor,
    weight_mask: Tensor,
    events: Sequence[Event] = (),
    *,
    trainings: int = 1,
    **engine: Unpack[Engine],
) -> Runs:
    """Train all runs of a grid, `trainings` times over.

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
    plan = grid.plan.repeated(trainings)
    trained = train(members, points, plan, events, label=runs.method.iloc[0], **engine)
    mask = trained.mask[:, : network.n_weights]
    effective = connectivity(network, mask)["effective_weights"].sum(dim=1)
    table = runs.assign(
        **{f"d{i}": size for i, size in enumerate(network.sizes[1:-1], start=1)},
        steps=plan.epochs * plan.steps_per_epoch(len(points.x)),
        weights=mask.sum(dim=1).numpy(),
        effective_weights=effective.numpy(),
        paths=path_count(network, mask).numpy(),
        accuracy=trained.accuracy.numpy(),
        loss=trained.loss.numpy(),
        diverged_at=trained.diverged_at.numpy(),
    )
    return Runs(network, table, weight_mask, mask, trained.parameters)


def content(parts: Sequence[Runs]) -> dict[str, np.ndarray | pd.DataFrame]:
    """The content of a `spiral-runs` file: networks of any shapes, one after another."""
    layers, first = [], 0
    for part in parts:
        for when, mask in (("start", part.start_mask), ("end", part.mask)):
            layers.append(_layer_table(part.network, mask, first).assign(when=when))
        first += len(part.table)
    return {
        "runs": pd.concat([part.table for part in parts], ignore_index=True),
        "layers": pd.concat(layers, ignore_index=True),
        "mask": np.concatenate([part.mask.numpy().ravel() for part in parts]),
        "parameters": np.concatenate([part.parameters.numpy().ravel() for part in parts]),
    }


def _layer_table(network: MLP, mask: Tensor, first: int) -> pd.DataFrame:
    """Connectivity by run and layer; runs counted from `first`, layers of weights from 1."""
    found = connectivity(network, mask)
    runs, layers = len(mask), network.n_layers
    columns = {name: values.numpy().ravel() for name, values in found.items()}
    return pd.DataFrame(
        {
            "run": np.repeat(np.arange(first, first + runs), layers),
            "layer": np.tile(np.arange(1, layers + 1), runs),
            **columns,
        }
    )


def stored_networks(file: store.Stored) -> Iterator[tuple[MLP, np.ndarray, np.ndarray]]:
    """Shape, mask bool [n_weights] and parameters [n_parameters] of each run of a file, in turn."""
    mask, parameters = file.array("mask"), file.array("parameters")
    for hidden in file.table("runs")[["d1", "d2", "d3"]].to_numpy().tolist():
        network = MLP((2, *hidden, 1))
        yield network, mask[: network.n_weights], parameters[: network.n_parameters]
        mask, parameters = mask[network.n_weights :], parameters[network.n_parameters :]
