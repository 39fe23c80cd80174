"""Prune by one method over a grid of targets and training settings."""

from typing import Unpack

import numpy as np
import pandas as pd
import torch

from sparselimit.ensemble.members import Points
from sparselimit.ensemble.train import Engine
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP
from sparselimit.pruning.problem import Problem
from sparselimit.pruning.registry import Value, apply
from sparselimit.spiral import Grid, initial_networks, train_runs


def prune_and_train(
    method: str,
    options: dict[str, Value],
    network: MLP,
    grid: Grid,
    points: Points,
    *,
    protocol: str = "exact",
    **engine: Unpack[Engine],
) -> dict[str, np.ndarray | pd.DataFrame]:
    """All runs of one method at one shape; the content of a `spiral-runs` file.

    Raises InputError for a target that the network cannot be pruned to.
    """
    for target in grid.targets:
        if not 1 <= target <= network.n_weights:
            raise InputError(
                f"target {target}: network {network.sizes} has {network.n_weights} weights "
                f"(give targets from 1 to {network.n_weights})"
            )
    runs = grid.runs().assign(method=method)
    problem = Problem(
        network,
        initial_networks(network, runs.seed.tolist()),
        torch.tensor(runs.target.to_numpy()),
        torch.tensor(runs.seed.to_numpy()),
        points,
        grid.batch_size,
        grid.epochs * grid.plan.steps_per_epoch(len(points.x)),
        protocol,
    )
    parameters, weight_mask, events = apply(method, problem, options)
    return train_runs(network, grid, runs, points, parameters, weight_mask, events, **engine)
