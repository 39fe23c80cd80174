"""SynFlow: pruning without data by iterative synaptic flow conservation (Tanaka et al. 2020).

The saliency of a weight is |w dR/dw|, where R is the output of the network with the absolute values
of all parameters for an input of ones: the part of R that flows through the weight. What flows into
a hidden neuron, through weights and from its bias, flows out of it. As in Zhang & Papyan (2024),
biases take part; that of a neuron without outgoing weights has no flow and is lost with them.
"""

import torch
from torch import Tensor

from sparselimit.networks.mlp import MLP
from sparselimit.pruning.problem import Problem, require_positive
from sparselimit.pruning.published import counts, keep_above


def flow(network: MLP, parameters: Tensor) -> Tensor:
    """The synaptic flow through each weight, [E, n_weights], for parameters [E, n_parameters]."""
    magnitude = parameters.abs()
    weights, biases = network.weights(magnitude), network.biases(magnitude)
    # Nothing is negative, so that ReLU passes everything.
    into = [torch.ones_like(weights[0][:, 0, :])]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        into.append(torch.baddbmm(bias[:, :, None], weight, into[-1][:, :, None])[:, :, 0])
    out = torch.ones_like(biases[-1])
    scores = []
    for weight, signal in zip(reversed(weights), reversed(into), strict=True):
        through = out[:, :, None] * weight
        scores.append((through * signal[:, None, :]).flatten(1))
        out = through.sum(dim=1)
    return torch.cat(scores[::-1], dim=1)


def start_mask(problem: Problem, *, rounds: int = 100) -> Tensor:
    """The mask before training, bool [E, n_weights].

    rounds: prunings, each by a constant factor
    """
    require_positive("synflow", rounds=rounds)
    mask, whole = problem.dense, problem
    if problem.protocol == "exact":
        # Products over all layers, which single precision may round to nothing.
        whole = problem.with_parameters(problem.parameters.double())
    for done in range(1, rounds + 1):
        scores = whole.masked(mask).score_by_seed(
            lambda parameters, _: flow(problem.network, parameters)
        )
        k = weights_left(problem, done, rounds)
        mask = problem.keep(scores, k, published=keep_above, within=mask)
    return mask


def weights_left(problem: Problem, done: int, rounds: int) -> Tensor:
    """Weights to keep after some of the rounds, int64 [E]."""
    n, r = problem.network.n_weights, done / rounds
    if problem.protocol == "published":
        return n - counts(lambda t: n - t**r / n ** (r - 1), problem.target)
    return problem.geometric(r)
