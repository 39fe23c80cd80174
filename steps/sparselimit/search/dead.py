"""Starts that are lost before they begin: proofs, from initial values, that no training helps.

Call a hidden unit *shut* if its output is zero on every point. Suppose that shut units cut the
output off from all inputs, and let *below* be the parameters of the cut and of all units from which
every path to the output crosses it. ReLU passes no gradient where its output is zero, so parameters
below have none: weight decay alone moves them, and from zero momentum that multiplies all of them
by one common factor c(t), the solution of a scalar recursion (`least_factor`). So if the units of
the cut are shut for every factor between the least one and 1, then by induction over the steps they
stay shut, no input ever reaches the output, and the logit remains a constant.

Biases do not scale along with the products of weights that they are added to, so a unit of the
second or a later layer can open as its layer shrinks, and 0.5% of the starts with a constant output
do come to life. That a unit is shut for all factors and all points is shown by interval arithmetic
over pieces of the factors and boxes of points. What it cannot show is left to training.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sparselimit.networks.mlp import MLP

# More boxes and pieces prove more; with these, of the starts whose output is constant, 97%.
BOXES = 256
PIECES = 6
SAMPLE = 64


def least_factor(
    rates: np.ndarray, steps_per_epoch: int, *, momentum: float = 0.9, weight_decay: float = 5e-4
) -> float:
    """The least factor that weight decay alone applies to a parameter in the course of training.

    `rates` [epochs] are the learning rates. Heavy-ball momentum from rest: v <- mu v + lambda c,
    c <- c - rate v, from c = 1 and v = 0.
    """
    factor, velocity, least = 1.0, 0.0, 1.0
    for rate in np.repeat(rates, steps_per_epoch).tolist():
        velocity = momentum * velocity + weight_decay * factor
        factor -= rate * velocity
        least = min(least, factor)
    return least


def provably_dead(
    network: MLP, parameters: Tensor, mask: Tensor, x: Tensor, least: float, steps: int
) -> Tensor:
    """Which starts will give the same output on all points of x forever, bool [E].

    `parameters` and `mask` [E, n_parameters] in single precision, `x` [N, inputs]; `least` is the
    `least_factor` of a training of so many steps. In single precision the parameters of a member
    share their factor only up to the rounding of each step, for which the proof leaves room.
    """
    dead = torch.zeros(len(parameters), dtype=torch.bool)
    if least <= 0:
        return dead
    kept = torch.where(mask, parameters, 0.0)
    connected = network.weights(mask)
    # Few are shut at the first step on a sample of points: only they can be shut for good.
    sample = x[:: -(-len(x) // SAMPLE)].T
    shut = _shut(network, kept, sample, sample, [1.0, 1.0], 0.0)
    likely = _cut_off(connected, shut).nonzero()[:, 0]
    boxes = [box.aminmax(dim=0) for box in x.tensor_split(min(BOXES, len(x)))]
    low, high = (torch.stack(bounds, dim=1) for bounds in zip(*boxes, strict=True))
    factors = np.geomspace(least, 1.0, PIECES + 1).tolist()
    slack = steps * 2 * torch.finfo(torch.float32).eps
    for some in likely.split(512):
        shut = _shut(network, kept[some], low, high, factors, slack)
        dead[some] = _cut_off([layer[some] for layer in connected], shut)
    return dead


def _shut(
    network: MLP,
    parameters: Tensor,
    low: Tensor,
    high: Tensor,
    factors: Sequence[float],
    slack: float,
) -> list[Tensor]:
    """Which units of each hidden layer are zero for all points and factors, bool [E, units].

    Points lie in boxes `low` to `high` [inputs, boxes]. All parameters are multiplied by a common
    factor from the range of `factors`, whose pieces are treated one by one, and by one of their own
    that differs from 1 by at most `slack`.
    """
    layers = list(zip(network.weights(parameters), network.biases(parameters), strict=True))[:-1]
    shut = [torch.ones_like(bias, dtype=torch.bool) for _, bias in layers]
    for least, most in pairwise(factors):
        below = low, high
        for (weight, bias), unit in zip(layers, shut, strict=True):
            lower, upper = below
            # Bounds of the pre-activation divided by the factor of this layer.
            rising, falling = weight.clamp(min=0), weight.clamp(max=0)
            largest = torch.maximum(lower.abs(), upper.abs())
            room = slack * (weight.abs() @ largest + bias.abs()[:, :, None])
            top = rising @ upper + falling @ lower + bias[:, :, None] + room
            bottom = rising @ lower + falling @ upper + bias[:, :, None] - room
            unit &= (top <= 0).all(dim=2)
            below = least * bottom.clamp(min=0), most * top.clamp(min=0)
    return shut


def _cut_off(connected: Sequence[Tensor], shut: Sequence[Tensor]) -> Tensor:
    """Whether units that are shut and stay so cut the output off from every input, bool [E].

    `connected` are the layers' masks [E, out, in], `shut` [E, units] of the hidden layers. A shut
    unit counts only if everything that leads to it is below the cut: a unit above is trained, and
    what it feeds may open. To leave one out moves others above the cut, hence the repetition.
    """
    shut = [units.clone() for units in shut]
    for _ in shut:
        above = [torch.ones_like(connected[-1][:, :, 0])]
        for mask, units in zip(reversed(connected[1:]), reversed(shut), strict=True):
            above.insert(0, (mask & above[0][:, :, None]).any(dim=1) & ~units)
        fed = torch.zeros_like(shut[0])
        for layer, mask in enumerate(connected[1:-1]):
            fed = (mask & (above[layer] | fed)[:, None, :]).any(dim=2)
            shut[layer + 1] &= ~fed
    return ~(connected[0] & above[0][:, :, None]).any(dim=(1, 2))
