"""One-shot magnitude pruning with the best that a quadratic model can make of it.

The smallest weights go at once; all other parameters move to where the Gauss-Newton model of the
loss, around the trained network, is least without them. Nothing is trained: what the model cannot
see is not mended. The matrix of all D parameters is built, D^2 numbers, so networks are small.
"""

import logging
from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import torch
from torch.nn.utils import vector_to_parameters

from sparselimit.errors import InputError
from sparselimit.limits.sweep import reoptimised_sweep
from sparselimit.pruning.classifiers.problem import Problem, Pruned


def rounds(
    problem: Problem, *, damping: float = 0.001, most_parameters: int = 5000, refine: int = 3
) -> Iterator[Pruned]:
    """The networks of the given densities, and of some between; none where there are too many.

    damping: added to all curvatures, so that kept parameters stay near where it is flat
    most_parameters: of a network that this is done for
    refine: densities tried between the last that is good enough and the first that is not
    """
    if damping < 0 or refine < 0:
        raise InputError(f"reoptimised: damping {damping} and refine {refine} must not be negative")
    parameters = sum(p.numel() for p in problem.trained.parameters())
    if parameters > most_parameters:
        logging.info("reoptimised: %d parameters, more than %d", parameters, most_parameters)
        return
    model = reoptimised_sweep(problem.trained, problem.samples["fit"], damping)

    def make(density: float) -> Pruned:
        network = deepcopy(problem.trained)
        removed = len(problem.weights) - problem.count(density)
        values = torch.tensor(model.parameters(removed))
        vector_to_parameters(values.to(problem.values(network)), network.parameters())
        mask = torch.ones(len(problem.weights), dtype=torch.bool)
        mask[np.searchsorted(problem.weights.numpy(), model.order[:removed])] = False
        return Pruned(network.to(problem.samples["fit"][1].device), mask, 0.0, density)

    yield from problem.refined(make, refine)


def trainings(densities: list[float], steps: int) -> tuple[int, int]:
    """None at all."""
    return 0, 0
