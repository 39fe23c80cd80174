"""Iterative magnitude pruning with rewinding: lottery tickets (Frankle et al. 2020).

The network is trained to its end; of the weights that are left a share is removed, the smallest
across all layers; the others go back to the values they had at an early step, and training goes on
from there. One network of each round, the dense one first, down to the least density.

By `published` (the code of open_lth, and of Rare Gems after it): the smallest weight that is to be
kept goes too, for it is the threshold that others must exceed; and, as in the latter, only prunable
weights are rewound, and each round has the whole schedule from its start.
"""

import copy
from collections.abc import Iterator
from math import ceil, log

import torch
from torch import Tensor

from sparselimit.errors import InputError
from sparselimit.networks.network import Network
from sparselimit.pruning.classifiers.masks import largest
from sparselimit.pruning.classifiers.problem import Problem, Pruned


def rounds(
    problem: Problem, *, fraction: float = 0.2, rewind: int = 0, output: bool = True
) -> Iterator[Pruned]:
    """The networks at the end of each training.

    fraction: share of the weights that are left which a round removes
    rewind: step whose values weights go back to; 0 for the initial ones
    output: prune the last layer as well
    """
    if not 0 < fraction < 1:
        raise InputError(f"imp: fraction {fraction} must lie between 0 and 1")
    if not 0 <= rewind < problem.steps():
        raise InputError(f"imp: rewind to step {rewind} of {problem.steps()} (0 is the start)")
    may_go = torch.ones(len(problem.weights), dtype=torch.bool)
    if not output:
        may_go[-problem.sizes[-1] :] = False
    mask = torch.ones_like(may_go)
    least = max(problem.count(min(problem.densities)), int((~may_go).sum()) + 1)
    early, network = _early(problem, rewind), problem.start()
    epochs = problem.train(network, mask, "round-0")
    yield Pruned(copy.deepcopy(network), mask, epochs)
    number = 0
    while int(mask.sum()) > least:
        number += 1
        mask = _without_smallest(problem, problem.values(network), mask, may_go, fraction)
        if not mask.any():
            return
        if problem.protocol == "published":
            problem.set_values(network, problem.values(early))
            steps = None
        else:
            network = copy.deepcopy(early)
            steps = range(rewind, problem.steps())
        epochs = problem.train(network, mask, f"round-{number}", steps=steps)
        yield Pruned(copy.deepcopy(network), mask, epochs)


def trainings(densities: list[float], steps: int, *, fraction: float) -> tuple[int, int]:
    """Of the dense network, and one after each round down to the least density."""
    return 1 + ceil(log(min(densities)) / log(1 - fraction)), steps


def _early(problem: Problem, rewind: int) -> Network:
    """The network at the step that weights are rewound to."""
    network = problem.start()
    if rewind:
        everything = torch.ones(len(problem.weights), dtype=torch.bool)
        problem.train(network, everything, "rewind", steps=range(rewind))
    return network


def _without_smallest(
    problem: Problem, values: Tensor, mask: Tensor, may_go: Tensor, fraction: float
) -> Tensor:
    """The mask of the next round."""
    candidates = mask & may_go
    left = int(candidates.sum())
    removed = ceil(fraction * left)
    if problem.protocol == "published":
        ascending = values[candidates].abs().sort().values
        threshold = ascending[min(removed, left - 1)]
        return mask & ~(candidates & (values.abs() <= threshold))
    kept = largest(torch.where(candidates, values.abs(), -1.0), left - removed)
    return kept | (mask & ~may_go)
