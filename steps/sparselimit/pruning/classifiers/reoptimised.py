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
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sparselimit.curvature.products import Objective
from sparselimit.errors import InputError
from sparselimit.limits.bounds import smallest_first
from sparselimit.limits.subspace import Reoptimised, reoptimised
from sparselimit.networks.network import prunable
from sparselimit.pruning.classifiers.problem import Problem, Pruned

_BATCH = 256  # whose Jacobians are held at a time


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
    model = _model(problem, damping)

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


def _model(problem: Problem, damping: float) -> Reoptimised:
    """The Gauss-Newton model on the fitted data, weights going in order of magnitude."""
    network = deepcopy(problem.trained).double()
    objective = Objective(network, cross_entropy, *problem.samples["fit"], batch_size=_BATCH)
    flat = parameters_to_vector(problem.trained.parameters()).detach().cpu().numpy()
    order = smallest_first(flat, prunable(problem.trained))
    ggn = objective.exact_ggn().cpu().numpy()
    return reoptimised(ggn, flat.astype(np.float64), order, damping)
