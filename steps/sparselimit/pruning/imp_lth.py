"""Iterative magnitude pruning with rewinding: lottery tickets (Frankle & Carbin 2019).

The network is trained several times over. After each training but the last the smallest weights are
removed, and what is left goes back to its initial values. The number of weights falls
geometrically from one training to the next and reaches the target before the last.
"""

import torch
from torch import Tensor

from sparselimit.ensemble.state import Event, State
from sparselimit.pruning.problem import Problem, magnitudes, require
from sparselimit.pruning.published import counts, keep_above
from sparselimit.sparsity.masks import with_biases


def objection(*, trainings: int) -> str | None:
    """To options that it cannot work with."""
    if trainings >= 2:
        return None
    return f"{trainings} trainings (it prunes between two: use at least 2)"


def events(problem: Problem, *, trainings: int = 5) -> list[Event]:
    """The prunings between trainings, each with the rewind.

    trainings: trainings in all, each with the whole schedule of learning rates
    """
    require("imp_lth", objection(trainings=trainings))

    def prune_and_rewind(state: State, step: int) -> None:
        network, n = state.network, state.network.n_weights
        magnitude = magnitudes(state.parameters[:, :n])
        k = _weights_left(problem, step // problem.steps / (trainings - 1))[state.index]
        kept = problem.keep(
            magnitude, k.to(magnitude.device), published=keep_above, within=state.mask[:, :n]
        )
        state.parameters = problem.parameters[state.index].to(state.parameters)
        state.velocity = torch.zeros_like(state.velocity)
        state.set_mask(state.mask & with_biases(network, kept))

    return [Event(range(problem.steps, trainings * problem.steps, problem.steps), prune_and_rewind)]


def _weights_left(problem: Problem, fraction: float) -> Tensor:
    """Weights to keep when `fraction` of the prunings are done, int64 [E]."""
    if problem.protocol == "exact":
        return problem.geometric(fraction)
    # In Python floats: torch rounds a power differently, and a count may hang on its last digit.
    n = problem.network.n_weights
    return counts(lambda target: n * (target / n) ** fraction, problem.target)
