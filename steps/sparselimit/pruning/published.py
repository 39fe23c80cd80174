"""Counting as the published code does it, slips included (`protocol: published`).

The rules compare scores with a threshold instead of counting: what ties with the threshold is kept
by one method and dropped by another, and float rounding of target / N * N decides some counts. They
are repeated to the letter, in Python floats, so that published masks can be reproduced.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sparselimit.networks.mlp import xavier_normal_weights
from sparselimit.pruning.problem import Problem
from sparselimit.seeds import generator


def rounded_count(n_weights: int, target: Tensor) -> Tensor:
    """int(N * (t / N)): the targets, or one less where the division rounds down; int64 [E]."""
    return (n_weights * (target.double() / n_weights)).long()


def counts(rule: Callable[[int], float], target: Tensor) -> Tensor:
    """What a rule in Python floats says of each target, cut to whole numbers; int64 [E]."""
    return torch.tensor([int(rule(t)) for t in target.tolist()], device=target.device)


def decayed_count(problem: Problem, done: int, rounds: int) -> Tensor:
    """Weights to keep after some of the rounds of Iter-SNIP and FORCE, int64 [E].

    They fall geometrically to the target; as published by int(N * exp(-done * (-log(t / N)) /
    rounds)), whose last may be one below the target.
    """
    if problem.protocol == "exact":
        return problem.geometric(done / rounds)
    n = problem.network.n_weights
    return counts(lambda t: n * math.exp(-done * (-math.log(t / n)) / rounds), problem.target)


def keep_at_least(scores: Tensor, k: Tensor) -> Tensor:
    """Keep scores >= the k-th largest of each member: ties are kept. [E, N] and [E] to bool [E, N].

    A row of NaN keeps nothing.
    """
    return scores >= _largest(scores, k)


def keep_above(scores: Tensor, k: Tensor) -> Tensor:
    """Keep scores > the k-th largest of each member: k - 1 survive, fewer with ties.

    With k >= N there is no threshold and everything is kept.
    """
    return (scores > _largest(scores, k)) | (k >= scores.shape[1])[:, None]


def keep_above_next(scores: Tensor, k: Tensor) -> Tensor:
    """Keep scores > the (k + 1)-th largest of each member: k survive, fewer with ties.

    With k >= N there is no threshold and everything is kept.
    """
    return (scores > _largest(scores, k + 1)) | (k >= scores.shape[1])[:, None]


def _largest(scores: Tensor, k: Tensor) -> Tensor:
    """The k-th largest score of each member, [E, 1]."""
    descending = scores.sort(dim=1, descending=True).values
    return descending.gather(1, (k - 1).clamp(0, scores.shape[1] - 1)[:, None])


def xavier_start(problem: Problem) -> Tensor:
    """Initial values of methods whose published code re-draws the weights before it scores them.

    By `published`, weights (not biases) are Xavier-normal, by shape and seed; [E, n_parameters]. A
    given initial network stays as it is.
    """
    if problem.protocol == "exact" or problem.given:
        return problem.parameters
    network, parameters = problem.network, problem.parameters.clone()
    for seed in problem.seed.unique():
        drawn = xavier_normal_weights(network, generator("xavier", network.sizes, int(seed)))
        parameters[problem.seed == seed, : network.n_weights] = torch.as_tensor(drawn).to(
            parameters
        )
    return parameters
