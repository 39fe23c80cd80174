"""SNIP: single-shot pruning by connection sensitivity (Lee, Ajanthan & Torr 2019).

The saliency of a weight is |w dL/dw| on one batch, before training.
"""

from torch import Tensor

from sparselimit.pruning.problem import Problem, require_positive
from sparselimit.pruning.published import keep_at_least, rounded_count, xavier_start

start_parameters = xavier_start


def saliency(problem: Problem, *, batches: int = 1) -> Tensor:
    """|w g| with g the gradient on the batches taken together, float [E, n_weights].

    batches: number of batches that the gradient is averaged over
    """
    require_positive("snip", batches=batches)
    return (problem.weights * problem.slopes(0, batches)).abs()


def start_mask(problem: Problem, *, batches: int = 1) -> Tensor:
    """The mask before training, bool [E, n_weights].

    batches: number of batches that the saliency is measured on
    """
    scores, target = saliency(problem, batches=batches), problem.target
    if problem.protocol == "published":
        scores = scores / scores.sum(dim=1, keepdim=True)
        target = rounded_count(problem.network.n_weights, target)
    return problem.keep(scores, target, published=keep_at_least)
