"""SNIP: single-shot pruning by connection sensitivity (Lee, Ajanthan & Torr 2019).

The saliency of a weight is |w dL/dw| on one batch, before training.
"""

import torch
from torch import Tensor

from sparselimit.ensemble.batched import gradients
from sparselimit.networks.mlp import xavier_normal_weights
from sparselimit.pruning.problem import Problem
from sparselimit.pruning.published import keep_at_least, rounded_count
from sparselimit.seeds import generator


def saliency(problem: Problem, *, batches: int = 1) -> Tensor:
    """|w g| with g the gradient on the batches taken together, float [E, n_weights].

    batches: number of batches that the gradient is averaged over
    """
    network, points = problem.network, problem.points

    def score(parameters: Tensor, seed: int) -> Tensor:
        chosen = problem.batches(seed, batches).flatten()
        slope = gradients(network, parameters, points.x[chosen], points.y[chosen])
        return (slope * parameters).abs()[:, : network.n_weights]

    return problem.score_by_seed(score)


def start_mask(problem: Problem, *, batches: int = 1) -> Tensor:
    """The mask before training, bool [E, n_weights].

    batches: number of batches that the saliency is measured on
    """
    scores, target = saliency(problem, batches=batches), problem.target
    if problem.protocol == "published":
        scores = scores / scores.sum(dim=1, keepdim=True)
        target = rounded_count(problem.network.n_weights, target)
    return problem.keep(scores, target, published=keep_at_least)


def start_parameters(problem: Problem) -> Tensor:
    """The published code re-draws the weights (not the biases) by Xavier-normal before scoring."""
    if problem.protocol == "exact":
        return problem.parameters
    network, parameters = problem.network, problem.parameters.clone()
    for seed in problem.seed.unique():
        drawn = xavier_normal_weights(network, generator("xavier", network.sizes, int(seed)))
        parameters[problem.seed == seed, : network.n_weights] = torch.as_tensor(drawn).to(
            parameters
        )
    return parameters
