"""The pruning limit of one network: where the removable share meets the share removed.

The radius depends on how much is removed, R_m^2 = the sum of the m smallest squared weights, so
the limit is the fixed point  mu(R_m) = m / D_H.  The width counts all D_H trainable parameters,
masks only the prunable weights among them: the limit is a count m, reported over the latter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparselimit.curvature.quadrature import Bracket, Floats, Spectrum
from sparselimit.errors import InputError
from sparselimit.limits.width import FormulaName, removable_share, sensitivity, solve_tau

MAX_BRACKET = 0.005  # widest bracket, as a share of the prunable weights, that is called a limit

# Why there is no prediction: no loss to allow is known, or it is below the network's own; the
# curvature is indefinite; the quadrature is too coarse.
Refusal = Literal["unknown", "budget", "indefinite", "unresolved"]
REFUSALS: tuple[Refusal, ...] = get_args(Refusal)

Direction = Callable[[int], Bracket]


@dataclass(frozen=True)
class Limit:
    """The largest number of weights that the geometry allows to remove.

    lower, upper: counts that bracket it (they differ only by the error of the quadrature);
    prunable: number of prunable weights;  radius: R at the limit;  tau: argument of the width
    there;  sensitivity: d(removed share of all parameters) / d ln epsilon along the fixed point.
    """

    lower: int
    upper: int
    prunable: int
    radius: float
    tau: float
    sensitivity: float

    @property
    def removed(self) -> int:
        """The middle of the bracket."""
        return (self.lower + self.upper) // 2

    @property
    def pruning_ratio(self) -> float:
        """Share of the prunable weights removed."""
        return self.removed / self.prunable

    @property
    def density(self) -> float:
        """Share of the prunable weights kept."""
        return 1 - self.pruning_ratio


@dataclass(frozen=True)
class Unresolved:
    """No limit: the quadrature is too coarse for one. `reason` says why and what to do."""

    reason: str


def radii(weights: ArrayLike) -> Floats:
    """R_m for m = 0..n removed weights of smallest magnitude: [n + 1], non-decreasing."""
    squares = np.sort(np.square(np.asarray(weights, dtype=np.float64).ravel()))
    return np.sqrt(np.concatenate([[0.0], np.cumsum(squares)]))


def smallest_first(parameters: ArrayLike, prunable: ArrayLike) -> NDArray[np.int64]:
    """Where the prunable weights lie, in the order in which magnitude pruning removes them.

    parameters: flat vector [D];  prunable: bool [D].  Ties by index.  Returns indices into [D].
    """
    positions = np.flatnonzero(np.asarray(prunable))
    magnitudes = np.abs(np.asarray(parameters)[positions])
    return positions[np.argsort(magnitudes, kind="stable")]


def magnitude_offset(parameters: ArrayLike, prunable: ArrayLike, removed: int) -> Floats:
    """What removing the smallest prunable weights takes away: those weights, zero elsewhere.

    parameters: flat vector [D];  prunable: bool [D].  Lanczos iteration from this vector gives the
    direction measure of formulas A and B.
    """
    values = np.asarray(parameters, dtype=np.float64)
    order = smallest_first(values, prunable)
    if not 0 <= removed <= order.size:
        raise InputError(f"cannot remove {removed} of {order.size} prunable weights")
    offset = np.zeros_like(values)
    offset[order[:removed]] = values[order[:removed]]
    return offset


def interpolated_direction(removed: Sequence[int], directions: Sequence[Bracket]) -> Direction:
    """The direction measure at any count, from those at increasing counts `removed`.

    Between two of them it is their mixture, linear in the count; beyond, the nearest.
    """
    if len(removed) != len(directions) or not removed or np.any(np.diff(removed) <= 0):
        raise InputError("directions need as many counts of removed weights, strictly increasing")

    def at(count: int) -> Bracket:
        position = float(np.interp(count, removed, np.arange(len(removed))))
        left = int(position)
        pair = directions[left], directions[min(left + 1, len(removed) - 1)]
        share, coarser = position - left, _coarsest(*pair)
        return Bracket(
            Spectrum.mixture([end.lower for end in pair], [1 - share, share]),
            Spectrum.mixture([end.upper for end in pair], [1 - share, share]),
            coarser.resolution,
            coarser.limited_by,
        )

    return at


def _coarsest(*brackets: Bracket) -> Bracket:
    """The one of the lowest resolution."""
    return max(brackets, key=lambda bracket: bracket.resolution)


def batch_spread(batch_losses: ArrayLike) -> float:
    """The published tolerance, the rise in loss that counts as none: its spread between batches.

    The population standard deviation of the per-batch losses shrinks as the batches grow, roughly
    as 1/sqrt(batch size): report it with its batch size.
    """
    losses = np.asarray(batch_losses, dtype=np.float64)
    epsilon = float(losses.std())
    if not (epsilon > 0 and np.isfinite(epsilon)):
        raise InputError(
            f"the tolerance 'batch_std', the spread of {losses.size} batch losses, is {epsilon}: "
            "it must be positive; take smaller batches"
        )
    return epsilon


def fixed_point(share: Callable[[int], float], prunable: int, dimension: int) -> int:
    """The largest m in 0..prunable with share(m) >= m / dimension, by bisection.

    share: the removable share at m removed weights, non-increasing in m. (Aware of the direction,
    it need not be; the result is then one of its sign changes.)
    """
    if not 0 < prunable <= dimension:
        raise InputError(
            f"{prunable} prunable weights among {dimension} parameters: expected 1 <= weights <= "
            "parameters"
        )
    if share(prunable) >= prunable / dimension:
        return prunable
    feasible, infeasible = 0, prunable
    while infeasible - feasible > 1:
        middle = (feasible + infeasible) // 2
        if share(middle) >= middle / dimension:
            feasible = middle
        else:
            infeasible = middle
    return feasible


def last_within(removed: np.ndarray, within: np.ndarray) -> int:
    """The largest count up to which the damage is always within the tolerance.

    `removed` [n] increasing from 0, `within` bool [n], True at 0; what happens beyond the first
    excess is luck of single points and does not count.
    """
    excess = np.flatnonzero(~within)
    return int(removed[excess[0] - 1] if len(excess) else removed[-1])


def pruning_limit(
    spectrum: Bracket,
    weights: ArrayLike,
    dimension: int,
    epsilon: float,
    formula: FormulaName = "published",
    direction: Direction | None = None,
) -> Limit | Unresolved:
    """The fixed point of a formula for one network, or why there is none to be had.

    spectrum: of the curvature over all `dimension` trainable parameters.
    weights: the prunable weights, in any order and shape.
    direction: the direction measure at m removed weights; without it the offset is isotropic.

    Gauss quadrature bounds the share from below and Gauss-Radau from above, in the spectrum and in
    the direction alike (both g decrease as the direction's integral of 1/(t+tau) grows), so the
    fixed points of the two bound the true one.
    """
    radius = radii(weights)
    prunable = len(radius) - 1

    @cache  # a direction may cost a Lanczos run
    def along(m: int) -> Bracket:
        if direction is None or formula == "published" or radius[m] == 0:
            return spectrum
        return direction(m)

    def limit(side: Callable[[Bracket], Spectrum]) -> int:
        def share(m: int) -> float:
            return removable_share(side(spectrum), radius[m], epsilon, formula, side(along(m)))

        return fixed_point(share, prunable, dimension)

    lower = limit(lambda bracket: bracket.lower)
    upper = limit(lambda bracket: bracket.upper)

    tau = solve_tau(formula, along(lower).lower, radius[lower], epsilon)
    coarser = _coarsest(spectrum, along(lower))
    if tau < coarser.resolution:
        return Unresolved(
            f"the limit rests on curvatures near tau = {tau:.3g}, and the quadrature resolves "
            f"{coarser.resolution:.3g}: {_remedy(coarser, tau)}"
        )
    if (upper - lower) / prunable >= MAX_BRACKET:
        return Unresolved(
            f"the limit lies between pruning ratios {lower / prunable:.4f} and "
            f"{upper / prunable:.4f}, further apart than {MAX_BRACKET}: take more Lanczos steps"
        )
    slope = 0.0
    if lower < prunable:
        growth = dimension * (1 - float(radius[lower] / radius[lower + 1]) ** 2)
        slope = sensitivity(spectrum.lower, tau, formula, along(lower).lower, growth)
    return Limit(lower, upper, prunable, float(radius[lower]), tau, slope)


def _remedy(bracket: Bracket, tau: float) -> str:
    """What resolves a tau that is below the resolution."""
    if bracket.limited_by == "rounding":  # which more steps do not lower
        return "take precision float64 if it was float32, or tolerate a larger rise of the loss"
    times = f"about {bracket.resolution / tau:.2g} times the" if tau > 0 else "more"
    return f"take {times} Lanczos steps"
