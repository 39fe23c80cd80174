"""FORCE: foresight connection sensitivity (de Jorge et al. 2021).

The saliency of a weight is |w dL/dw| with its initial value w and the gradient of the network as it
is pruned so far, on a new batch each round. Pruned weights have a gradient and may return.
"""

from torch import Tensor

from sparselimit.pruning.problem import Problem, require_positive
from sparselimit.pruning.published import decayed_count, keep_above


def start_mask(problem: Problem, *, rounds: int = 10) -> Tensor:
    """The mask before training, bool [E, n_weights].

    rounds: prunings, each to a constant fraction of the count before
    """
    require_positive("force", rounds=rounds)
    mask = problem.dense
    for done in range(rounds):
        scores = (problem.weights * problem.masked(mask).slopes(done)).abs()
        mask = problem.keep(scores, decayed_count(problem, done + 1, rounds), published=keep_above)
    return mask
