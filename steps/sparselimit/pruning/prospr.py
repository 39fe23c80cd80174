"""ProsPr: pruning by gradients through the first steps of training (Alizadeh et al. 2022).

The saliency of a weight is |dL/dm|, where m multiplies it once, before some steps of SGD, and L is
the loss after them. As in the published code the steps have momentum but no weight decay, and the
first momentum buffer counts as a constant.
"""

import torch
from torch import Tensor

from sparselimit.networks.forward import logits, losses
from sparselimit.pruning.problem import Problem, require_positive
from sparselimit.sparsity.masks import keep_largest

MOMENTUM = 0.9


def saliency(problem: Problem, *, steps: int = 3) -> Tensor:
    """|dL/dm| after steps at each member's own learning rate, float [E, n_weights].

    steps: steps of SGD that are looked ahead, one batch each; the loss is that of the next batch
    """
    require_positive("prospr", steps=steps)
    network, points, n = problem.network, problem.points, problem.network.n_weights

    def loss(parameters: Tensor, batch: Tensor) -> Tensor:
        return losses(logits(network, parameters, points.x[batch]), points.y[batch]).sum()

    def score(parameters: Tensor, seed: int, rate: Tensor) -> Tensor:
        *inner, outer = problem.batches(seed, steps + 1)
        rate = rate[:, None].to(parameters)
        keep = torch.ones_like(parameters[:, :n]).requires_grad_()
        moved = torch.cat([keep * parameters[:, :n], parameters[:, n:]], dim=1)
        velocity = torch.zeros_like(parameters)
        for step, batch in enumerate(inner):
            (slope,) = torch.autograd.grad(loss(moved, batch), moved, create_graph=step > 0)
            velocity = MOMENTUM * velocity + slope
            moved = moved - rate * velocity
        (meta,) = torch.autograd.grad(loss(moved, outer), keep)
        return meta.abs()

    return problem.score_by_seed(score, problem.learning_rate)


def start_mask(problem: Problem, *, steps: int = 3) -> Tensor:
    """The mask before training, bool [E, n_weights].

    The published code gives up a run of which a layer is emptied; here that is a result.

    steps: steps of SGD that the saliency looks ahead
    """
    scores, target = saliency(problem, steps=steps), problem.target
    if problem.protocol == "published":
        n = problem.network.n_weights
        target = (n * (1 - (1.0 - target.double() / n))).ceil().long()
    return problem.keep(scores, target, published=keep_largest)
