"""Starts that are lost before they begin: proofs, from initial values, that no training helps.

Call a hidden unit *shut* if its output is zero on every point. Suppose that shut units cut the
output off from all inputs, and call *below* the parameters of the cut and of all units from which
every path to the output crosses it. ReLU passes no gradient where its output is zero, so parameters
below have none: weight decay alone moves them, and from zero momentum that multiplies all of them
by one common factor c(t), the solution of a scalar recursion (`least_factor`). So if the units of
the cut are shut for every factor between the least one and 1, then by induction over the steps they
stay shut, no input ever reaches the output, and the logit remains a constant.

Biases do not scale along with the products of weights that they are added to, so a unit of the
second or a later layer can open as its layers shrink; about one in a hundred of the starts with a
constant output does come to life. That a unit is shut for all factors and all points is shown by
interval arithmetic over the range of factors and boxes of points. What that cannot show, a tenth of
the starts with a constant output, is left to training.
"""

from collections.abc import Sequence

import numpy as np

from sparselimit.networks.mlp import MLP

BOXES = 64  # more of them prove hardly more
MEMBERS_AT_ONCE = 128  # intermediate values stay in cache


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
    network: MLP,
    parameters: np.ndarray,
    mask: np.ndarray,
    x: np.ndarray,
    least: float,
    steps: int,
) -> np.ndarray:
    """Which starts will give the same output on all points of x forever, bool [E].

    `parameters` and `mask` [E, n_parameters], `x` [N, inputs], to be trained in single precision;
    `least` is the `least_factor` of a training of so many steps. Points that are neighbours in x
    should be neighbours in space: where they are not, less can be proved. Nothing is where
    `least` <= 0.
    """
    if least <= 0:
        return np.zeros(len(parameters), dtype=bool)
    boxes = np.array_split(x, min(BOXES, len(x)))
    low = np.stack([box.min(axis=0) for box in boxes], axis=1)
    high = np.stack([box.max(axis=0) for box in boxes], axis=1)
    # In single precision the parameters share their factor only up to one rounding at each step.
    slack = 2 * steps * float(np.finfo(np.float32).eps)
    found = []
    for first in range(0, len(parameters), MEMBERS_AT_ONCE):
        some = slice(first, first + MEMBERS_AT_ONCE)
        kept = np.where(mask[some], parameters[some], 0)
        shut = _shut(network, kept, low, high, least, slack)
        found.append(_cut_off(network.weights(mask[some]), shut))
    return np.concatenate(found)


def _shut(
    network: MLP,
    parameters: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    least: float,
    slack: float,
) -> list[np.ndarray]:
    """Which units of each hidden layer are zero for all points and factors, bool [E, units].

    Points lie in boxes from `low` to `high` [inputs, boxes]. All parameters are multiplied by a
    common factor from `least` to 1, and each by one of its own that is within `slack` of 1.
    """
    shut = []
    for weight, bias in list(
        zip(network.weights(parameters), network.biases(parameters), strict=True)
    )[:-1]:
        # Bounds of the pre-activation divided by the common factor, which is positive.
        rising, falling, base = weight.clip(min=0), weight.clip(max=0), bias[:, :, None]
        largest = np.maximum(abs(low), abs(high))
        room = slack * (abs(weight) @ largest + abs(base))
        top = rising @ high + falling @ low + base + room
        bottom = rising @ low + falling @ high + base - room
        shut.append((top <= 0).all(axis=2))
        low, high = least * bottom.clip(min=0), top.clip(min=0)
    return shut


def _cut_off(connected: Sequence[np.ndarray], shut: Sequence[np.ndarray]) -> np.ndarray:
    """Whether units that are shut and stay so cut the output off from every input, bool [E].

    `connected` are the layers' masks [E, out, in], `shut` [E, units] of the hidden layers. A shut
    unit counts only if everything that leads to it is below the cut: a unit above is trained, and
    what it feeds may open. To leave one out moves others above the cut, hence the repetition.
    """
    while True:
        above = [np.ones_like(connected[-1][:, :, 0])]
        for mask, units in zip(reversed(connected[1:]), reversed(shut), strict=True):
            above.insert(0, (mask & above[0][:, :, None]).any(axis=1) & ~units)
        fed = [np.zeros_like(shut[0])]
        for layer, mask in enumerate(connected[1:-1]):
            fed.append((mask & (above[layer] | fed[layer])[:, None, :]).any(axis=2))
        if not any((units & moved).any() for units, moved in zip(shut, fed, strict=True)):
            return ~(connected[0] & above[0][:, :, None]).any(axis=(1, 2))
        shut = [units & ~moved for units, moved in zip(shut, fed, strict=True)]
