"""Magnitude at initialisation: the control that knows nothing of data or network.

The saliency of a weight is |w|, before training.
"""

from torch import Tensor

from sparselimit.pruning.problem import Problem


def saliency(problem: Problem) -> Tensor:
    """|w|, float [E, n_weights]."""
    return problem.weights.abs()
