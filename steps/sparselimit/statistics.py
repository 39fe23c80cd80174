"""What a number of trials says: intervals of a success rate, what failures exclude, equal budgets.

All functions but `expected_best` work elementwise on arrays that broadcast.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from sparselimit.errors import InputError

# At which accuracies networks of the spiral are compared.
ACCURACIES = (0.8, 0.9, 0.95, 0.99, 0.995)
CHANCE = 0.5  # accuracy of a constant output there: the classes are of one size

_ROUNDING = 1e-12  # of an accuracy, a quotient of two counts

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def keeps_accuracy(accuracy: ArrayLike, own: ArrayLike, tolerance: float) -> BoolArray:
    """Whether an accuracy is at most `tolerance` below that of the network it is compared with.

    Of counts, not of their roundings: 94 of 100 is 0.01 below 95 of 100, though 0.95 - 0.94 > 0.01.
    """
    fall = np.asarray(own, np.float64) - np.asarray(accuracy, np.float64)
    return np.asarray(fall <= tolerance + _ROUNDING)


def wilson(
    successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Wilson's score interval of a success rate: lower and upper bound.

    The rates that a normal test of `successes` out of `trials` does not reject (E. B. Wilson,
    J. Am. Stat. Assoc. 22 (1927) 209). No trials leave all rates open: (0, 1).

    Raises InputError unless 0 <= successes <= trials and 0 < confidence < 1.
    """
    k, n = _counts(successes, trials)
    z2 = float(ndtri((1 + _fraction("confidence", confidence)) / 2)) ** 2
    # Multiplied through by n, so that no trials need no case of their own.
    centre = (k + z2 / 2) / (n + z2)
    spread = np.sqrt(z2 * (k * (n - k) / np.maximum(n, 1) + z2 / 4)) / (n + z2)
    low = np.where(k == 0, 0.0, centre - spread)
    high = np.where(k == n, 1.0, centre + spread)
    return low, high


def excluded_rate(trials: ArrayLike, confidence: float = 0.95) -> FloatArray:
    """The success rate above which `trials` failures in a row are too unlikely.

    The p at which (1 - p)^trials = 1 - confidence; about 3 / trials at 95%. Trials may be a
    fraction, as equivalents of full runs are; without any, no rate is excluded and p is 1.
    """
    n = np.asarray(trials, dtype=np.float64)
    if (n < 0).any():
        raise InputError(f"trials {n.min():g}: give 0 or more")
    failure = np.log1p(-_fraction("confidence", confidence))
    with np.errstate(divide="ignore"):
        return -np.expm1(failure / n)


def power(rate: ArrayLike, trials: ArrayLike) -> FloatArray:
    """Probability that at least one of `trials` independent tries of this success rate succeeds."""
    p, n = np.asarray(rate, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if ((p < 0) | (p > 1)).any():
        raise InputError("rate: a success rate lies between 0 and 1")
    return 1.0 - (1.0 - p) ** n


def expected_best(values: ArrayLike, budget: int) -> float:
    """Expected maximum of `budget` of the values [n], drawn without replacement; exact.

    The i-th smallest value is the maximum with probability C(i - 1, B - 1) / C(n, B), and is drawn
    with probability B / i if none above it is.

    Raises InputError unless 1 <= budget <= n.
    """
    ascending = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ascending)
    if not 1 <= budget <= n:
        raise InputError(f"budget {budget}: a best of {n} values is over 1 to {n} of them")
    return float((ascending * _none_above(n, budget) * budget / np.arange(1, n + 1)).sum())


def best_quantiles(values: ArrayLike, budget: int, levels: ArrayLike) -> FloatArray:
    """Quantiles of the maximum of `budget` of the values [n], drawn without replacement; exact.

    The maximum is at most the i-th smallest value with probability C(i, B) / C(n, B).

    Raises InputError unless 1 <= budget <= n.
    """
    ascending = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ascending)
    if not 1 <= budget <= n:
        raise InputError(f"budget {budget}: a best of {n} values is over 1 to {n} of them")
    place = np.searchsorted(_none_above(n, budget), np.asarray(levels, dtype=np.float64))
    return ascending[np.minimum(place, n - 1)]


def _none_above(n: int, budget: int) -> FloatArray:
    """Probability that none above the i-th smallest of n values is drawn, for i = 1..n.

    C(i, B) / C(n, B), as a product: logarithms of factorials would cancel.
    """
    not_drawn = np.maximum(1 - budget / np.arange(n, 1, -1), 0)
    return np.cumprod(np.concatenate([[1.0], not_drawn]))[::-1]


def _counts(part: ArrayLike, whole: ArrayLike) -> tuple[FloatArray, FloatArray]:
    k, n = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    if ((k < 0) | (k > n)).any():
        raise InputError(f"counts up to {k.max():g} of {n.min():g}: give 0 <= part <= whole")
    return k, n


def _fraction(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise InputError(f"{name} {value:g}: give a number between 0 and 1")
    return value
