"""Run a pruning method over a grid: targets x learning rates x schedules x seeds, as one ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch

from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.train import Trained, train
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, initial_parameters
from sparselimit.pruning.problem import Problem
from sparselimit.pruning.registry import Value, apply
from sparselimit.seeds import generator
from sparselimit.sparsity.connectivity import effective_mask, path_count
from sparselimit.sparsity.masks import with_biases


@dataclass(frozen=True)
class Grid:
    """The runs of one network shape: every combination, in this order of nesting."""

    targets: Sequence[int]
    learning_rates: Sequence[float]
    schedules: Sequence[str]
    seeds: Sequence[int]

    def runs(self) -> pd.DataFrame:
        rows = product(self.targets, self.learning_rates, self.schedules, self.seeds)
        return pd.DataFrame(rows, columns=["target", "learning_rate", "schedule", "seed"])


def prune_and_train(
    method: str,
    options: dict[str, Value],
    network: MLP,
    grid: Grid,
    points: Points,
    *,
    epochs: int,
    batch_size: int = 128,
    protocol: str = "exact",
    device: str = "cpu",
) -> dict[str, np.ndarray | pd.DataFrame]:
    """All runs of one method at one shape; the content of a `spiral-runs` file.

    The initial values depend on shape and seed alone, so that all methods start from the same
    networks. The method "dense" prunes nothing.

    Raises InputError for a target that the network cannot be pruned to.
    """
    runs = grid.runs()
    too_large = runs.target[(runs.target > network.n_weights) | (runs.target < 1)]
    if len(too_large):
        raise InputError(
            f"target {too_large.iloc[0]}: network {network.sizes} has {network.n_weights} weights "
            "to be pruned to between 1 and that many"
        )
    plan = Plan.of(grid.schedules, epochs, batch_size)
    initial = {
        seed: initial_parameters(network, generator("init", network.sizes, seed))
        for seed in grid.seeds
    }
    problem = Problem(
        network,
        torch.tensor(np.stack([initial[seed] for seed in runs.seed]), dtype=torch.float32),
        torch.tensor(runs.target.to_numpy()),
        torch.tensor(runs.seed.to_numpy()),
        points,
        batch_size,
        epochs * plan.steps_per_epoch(len(points.x)),
        protocol,
    )
    if method == "dense":
        parameters, weight_mask, events = problem.parameters, problem.dense, []
    else:
        parameters, weight_mask, events = apply(method, problem, options)
    members = Members.of(
        network,
        parameters,
        with_biases(network, weight_mask),
        learning_rate=torch.tensor(runs.learning_rate.to_numpy()),
        schedule=torch.tensor([grid.schedules.index(name) for name in runs.schedule]),
        order_seed=problem.seed,
    )
    trained = train(members, points, plan, events, device=device, label=method)
    return as_content(network, runs.assign(method=method, epochs=epochs), trained)


def as_content(
    network: MLP, runs: pd.DataFrame, trained: Trained
) -> dict[str, np.ndarray | pd.DataFrame]:
    """Trained members and the table that identifies them, as the content of a `spiral-runs` file."""
    mask = trained.mask[:, : network.n_weights]
    effective = effective_mask(network, mask)
    table = runs.assign(
        weights=mask.sum(dim=1).numpy(),
        effective_weights=effective.sum(dim=1).numpy(),
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
