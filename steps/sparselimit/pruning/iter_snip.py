"""Iter-SNIP: SNIP in rounds, each on the weights that are left (de Jorge et al. 2021).

The saliency of a weight is |w dL/dw| on a new batch each round; what is pruned stays pruned.
"""

from torch import Tensor

from sparselimit.pruning.problem import Problem, require_positive
from sparselimit.pruning.published import decayed_count, keep_above


def start_mask(problem: Problem, *, rounds: int = 10) -> Tensor:
    """The mask before training, bool [E, n_weights].

    rounds: prunings, each by a constant factor
    """
    require_positive("iter_snip", rounds=rounds)
    mask = problem.dense
    for done in range(rounds):
        left = problem.masked(mask)
        scores = (left.weights * left.slopes(done)).abs()
        k = decayed_count(problem, done + 1, rounds)
        mask = problem.keep(scores, k, published=keep_above, within=mask)
    return mask
