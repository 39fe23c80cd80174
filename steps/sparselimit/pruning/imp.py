"""Iterative magnitude pruning during training on the cubic schedule of Zhu & Gupta (2017).

As in Zhang & Papyan (2024): training is cut into `prunings` intervals; at the end of the j-th the
smallest weights are removed until t + (N - t) (1 - j / J)^3 are left, J = prunings - 1. Momentum
and learning rate go on.
"""

import torch

from sparselimit.ensemble.state import Event, State
from sparselimit.errors import InputError
from sparselimit.pruning.problem import Problem, magnitudes, require
from sparselimit.pruning.published import keep_above
from sparselimit.sparsity.masks import with_biases


def objection(*, prunings: int) -> str | None:
    """To options that it cannot work with."""
    return None if prunings >= 2 else f"{prunings} prunings (it needs at least 2)"


def events(problem: Problem, *, prunings: int = 200) -> list[Event]:
    """The pruning steps.

    prunings: intervals that training is cut into; the target is reached before the last
    """
    require("imp", objection(prunings=prunings))
    if problem.steps < 2:
        raise InputError(f"imp: {prunings} prunings in {problem.steps} steps (it needs at least 2)")
    interval = max(1, problem.steps // prunings)
    last = min(prunings - 1, (problem.steps - 1) // interval)
    published = problem.protocol == "published"
    # The published loop runs on past its target: the cubic turns negative and prunes below it.
    stop = problem.steps if published else interval * last + 1
    steps = range(interval, stop, interval)
    end = prunings - 1 if published else last

    def prune(state: State, step: int) -> None:
        left = (1 - step // interval / end) ** 3
        network, n = state.network, state.network.n_weights
        target = problem.target[state.index].to(state.mask.device, torch.float64)
        dense = target + (n - target) * left
        k = dense if published else dense.round()
        magnitude = magnitudes(state.parameters[:, :n])
        kept = problem.keep(magnitude, k.long(), published=keep_above, within=state.mask[:, :n])
        state.set_mask(state.mask & with_biases(network, kept))

    return [Event(steps, prune)]
