"""Prune by one method over a grid of targets and training settings."""

import logging
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from sparselimit import spiral
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.train import Engine
from sparselimit.errors import InputError
from sparselimit.networks.initial import Fixed, Initial
from sparselimit.networks.mlp import MLP
from sparselimit.pruning.problem import Problem
from sparselimit.pruning.registry import Choice, apply
from sparselimit.sparsity.layerwise import random_mask
from sparselimit.spiral import Grid, Runs


def possible_targets(
    targets: Sequence[int], network: MLP, *, leave_out: bool = False
) -> Sequence[int]:
    """The targets, if the network can be pruned to them.

    Raises InputError for one that it cannot; or, to `leave_out` those with too many weights, only
    when none is left.
    """
    n = network.n_weights
    kept = [target for target in targets if 1 <= target <= n]
    impossible = sorted(set(targets) - set(kept))
    if impossible and not (leave_out and kept and impossible[0] > n):
        raise InputError(
            f"target {impossible[0]}: network {network.sizes} has {n} weights "
            f"(give targets from 1 to {n})"
        )
    if impossible:
        logging.info("network %s: leaving out the targets %s", network.sizes, impossible)
    return kept


def prune_and_train(
    choice: Choice,
    name: str,
    network: MLP,
    initial: Initial,
    grid: Grid,
    points: Points,
    *,
    protocol: str = "exact",
    control: bool = False,
    **engine: Unpack[Engine],
) -> list[Runs]:
    """All runs of one method on one network, called `name`.

    With `control`, random masks with as many weights in every layer are trained as well, from the
    initial values that the method prunes; their method is called `random_` and the method's name.

    Raises InputError for a target that the network cannot be pruned to.
    """
    possible_targets(grid.targets, network)
    runs = grid.runs(name).assign(method=choice.name)
    problem = Problem(
        network,
        initial(network, runs.seed.tolist()),
        torch.tensor(runs.target.to_numpy()),
        torch.tensor(runs.seed.to_numpy()),
        torch.tensor(runs.learning_rate.to_numpy()),
        points,
        grid.batch_size,
        grid.epochs * grid.plan.steps_per_epoch(len(points.x)),
        protocol,
        choice.count,
        given=isinstance(initial, Fixed),
    )
    parameters, mask, events = apply(choice.method, problem, choice.options)
    pruned = spiral.train_runs(
        network,
        grid,
        runs,
        points,
        parameters,
        mask,
        events,
        trainings=int(choice.options.get("trainings", 1)),
        **spiral.part(engine, name),
    )
    if not control:
        return [pruned]
    alike = spiral.train_runs(
        network,
        grid,
        runs.assign(method=f"random_{choice.name}"),
        points,
        parameters,
        random_like(network, pruned.mask, runs.seed.tolist()),
        **spiral.part(engine, f"{name}-random"),
    )
    return [pruned, alike]


def random_like(network: MLP, mask: Tensor, seeds: Sequence[int]) -> Tensor:
    """Random masks with as many weights in every layer as the given ones, bool [E, n_weights].

    What is left of a method's success in them is owed to its layerwise counts (the control of Su et
    al. 2020 and Frankle et al. 2021). Positions depend on shape and seed alone.
    """
    counts = [mask[:, layer].sum(dim=1) for layer in network.weight_slices]
    return random_mask(network, torch.stack(counts, dim=1), seeds, "random control")
