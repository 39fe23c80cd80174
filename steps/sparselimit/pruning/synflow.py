"""SynFlow: pruning without data by iterative synaptic flow conservation (Tanaka et al. 2020).

The saliency of a weight is |w dR/dw|, where R is the output of the network with the absolute values
of all parameters for an input of ones: the share of R that flows through the weight. What flows into
a hidden neuron, from weights and bias, flows out of it. As in Zhang & Papyan (2024), biases take
part and go when their neuron has lost its outgoing weights.
"""

import torch
from torch import Tensor

from sparselimit.networks.mlp import MLP
from sparselimit.pruning.problem import Problem
from sparselimit.pruning.published import counts, keep_above
from sparselimit.sparsity.masks import with_biases


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
    network, n, mask = problem.network, problem.network.n_weights, problem.dense
    published = problem.protocol == "published"
    # In single precision the smallest flows of a wide network round to nothing.
    whole = problem.parameters if published else problem.parameters.double()
    for done in range(1, rounds + 1):
        r = done / rounds
        if published:
            k = n - counts(lambda t: n - t**r / n ** (r - 1), problem.target)
        else:
            k = problem.geometric(r)
        left = torch.where(with_biases(network, mask), whole, 0.0)
        scores = problem.with_parameters(left).score_by_seed(
            lambda parameters, _: flow(network, parameters)
        )
        mask = problem.keep(scores, k, published=keep_above, within=mask)
    return mask
