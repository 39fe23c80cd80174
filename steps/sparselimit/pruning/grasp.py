"""GraSP: pruning that preserves gradient flow (Wang, Zhang & Grosse 2020).

The saliency of a weight is w (H g), with gradient g and Hessian H of the loss before training:
removing the weight changes the squared norm of the gradient by about -2 w (H g), and what is kept
is what would cost the most of it. (The paper ranks -w (H g) and keeps the smallest.)
"""

import torch
from torch import Tensor

from sparselimit.errors import InputError
from sparselimit.networks.forward import logits, losses
from sparselimit.pruning.problem import Problem, require_positive
from sparselimit.pruning.published import keep_above_next, xavier_start

start_parameters = xavier_start


def saliency(problem: Problem, *, per_class: int = 25, temperature: float = 200.0) -> Tensor:
    """w (H g) of the two classes' summed losses, over weights alone; float [E, n_weights].

    per_class: points of each class, the first in the order of the batches
    temperature: logits are divided by it
    """
    require_positive("grasp", per_class=per_class, temperature=temperature)
    network, n = problem.network, problem.network.n_weights

    def score(parameters: Tensor, seed: int) -> Tensor:
        x, y = _balanced(problem, seed, per_class)
        weights = parameters[:, :n].clone().requires_grad_()
        whole = torch.cat([weights, parameters[:, n:]], dim=1)
        outputs = logits(network, whole, x) / temperature
        loss = losses(outputs[:, y == 0], y[y == 0]) + losses(outputs[:, y == 1], y[y == 1])
        (slope,) = torch.autograd.grad(loss.sum(), weights, create_graph=True)
        (product,) = torch.autograd.grad((slope * slope.detach()).sum(), weights)
        return parameters[:, :n] * product

    return problem.score_by_seed(score)


def start_mask(problem: Problem, *, per_class: int = 25, temperature: float = 200.0) -> Tensor:
    """The mask before training, bool [E, n_weights].

    per_class: points of each class that the saliency is measured on
    temperature: logits are divided by it
    """
    scores = saliency(problem, per_class=per_class, temperature=temperature)
    n, k = problem.network.n_weights, problem.target
    if problem.protocol == "published":
        density = 1 - (1.0 - k.double() / n)
        k = n - (n * (1 - density)).long()
    return problem.keep(scores, k, published=keep_above_next)


def _balanced(problem: Problem, seed: int, per_class: int) -> tuple[Tensor, Tensor]:
    """The first points of either class in the batches before training, or all there are.

    Returns x [n, inputs] and y [n], class 0 before class 1. Raises InputError where a class is
    missing.
    """
    points = problem.points
    order = problem.batches(seed, len(points.x) // problem.batch_size).flatten()
    chosen = torch.cat([order[points.y[order] == label][:per_class] for label in (0, 1)])
    x, y = points.x[chosen], points.y[chosen]
    if len(y.unique()) < 2:
        raise InputError("grasp: the training set has points of one class (it needs both)")
    return x, y
