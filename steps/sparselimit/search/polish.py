"""Polish: what a trained network can still gain when its loss is minimised in earnest.

That a network exists is shown by its weights, whatever found them. SGD stops short of the minimum,
and weight decay holds it away; L-BFGS on all points at once, in double precision and without weight
decay, goes there.
"""

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from sparselimit.ensemble import batched
from sparselimit.ensemble.members import Points
from sparselimit.networks.forward import logits, losses
from sparselimit.networks.mlp import MLP

ITERATIONS = 500
MEMORY = 30  # pairs of steps and gradients: about one per parameter


def quality(network: MLP, parameters: Tensor, points: Points) -> tuple[Tensor, Tensor]:
    """Accuracy and mean loss of each member, evaluated in double precision; float64 [E] each."""
    points = Points(points.x.double(), points.y.double())
    return batched.evaluate(network, parameters.double(), points)


def polished(network: MLP, parameters: Tensor, mask: Tensor, points: Points) -> Tensor:
    """One network after L-BFGS if that made it more accurate, else as it was.

    `parameters` float32 and `mask` [n_parameters]; returns float32, and accuracy is judged as these
    are rounded.
    """
    after = parameters.clone()
    found = minimum(network, parameters, mask, points)
    after[mask] = found[mask].to(after.dtype)
    before_and_after = quality(network, torch.stack([parameters, after]), points)[0]
    return after if before_and_after[1] > before_and_after[0] else parameters


def minimum(
    network: MLP,
    start: Tensor,
    kept: Tensor,
    points: Points,
    *,
    weight_decay: float = 0.0,
    iterations: int = ITERATIONS,
) -> Tensor:
    """Where L-BFGS from `start` ends or gives up: float64 [n_parameters], zero where not kept.

    It minimises the mean loss plus  weight_decay / 2  times the squared norm of the parameters,
    which is what SGD with this weight decay descends.
    """
    start = start.double()
    x, y = points.x.double(), points.y.double()

    def loss_and_gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.tensor(values, requires_grad=True)
        whole = torch.zeros_like(start).masked_scatter(kept, free)
        loss = losses(logits(network, whole[None], x), y)[0]
        loss = loss + weight_decay / 2 * free.square().sum()
        loss.backward()
        assert free.grad is not None
        return loss.item(), free.grad.numpy()

    found = minimize(
        loss_and_gradient,
        start[kept].numpy(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxcor": MEMORY, "ftol": 0.0, "gtol": 1e-9},
    )
    return torch.zeros_like(start).masked_scatter(kept, torch.tensor(found.x))
