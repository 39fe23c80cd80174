"""Squared Gaussian widths: the share of parameters that a loss tolerance allows to remove.

Quadratic model of the loss around trained weights, Hessian H with eigenvalues lam_i over all D_H
parameters; the pruned point lies at distance R in the unit direction u, with u_i its components
on the eigenvectors of H; the loss may rise by eps. With e = 2 eps / R^2, every formula is

    mu(tau) = mean_i tau / (lam_i + tau)        (share of the D_H parameters removed)

at the tau that solves g(tau) = e for its own increasing g:

    published   g = tau
        Zhang et al., "How Sparse Can We Prune A Deep Network" (NeurIPS 2024), as their code has it:
        the width of a central cross-section of the sublevel ellipsoid.
    A           g = tau * sum u_i^2 lam_i / (lam_i + tau)
        a random subspace through the pruned point.
    B           g = [sum u_i^2 lam_i / (lam_i + tau)] / [sum u_i^2 / (lam_i + tau)]
        a random subspace orthogonal to the offset, which is what a magnitude mask is: the weights
        it removes and those it keeps share no coordinate.

A and B are deterministic equivalents of the exact minimum of the quadratic over the subspace
(`limits.montecarlo` checks them). They hold for a given mask in generic position, never for all
masks at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from sparselimit.curvature.quadrature import Floats, Spectrum, flatness
from sparselimit.errors import InputError

FormulaName: TypeAlias = Literal["published", "A", "B"]

_TINY, _HALVINGS = 1e-300, 70  # log-bisection from the smallest floats to 16 digits
_ROUNDING = 1e-12


def width(spectrum: Spectrum, tau: float) -> float:
    """mu(tau), for tau in [0, inf]; a flat direction counts as 1."""
    if spectrum.nodes.min() < 0:
        raise InputError(
            f"the width needs a non-negative spectrum, got an eigenvalue {spectrum.nodes.min():.3g}"
            ": choose a rule with Spectrum.nonnegative"
        )
    return spectrum.integral(flatness(tau))


def _stiffness(tau: float) -> Callable[[Floats], Floats]:
    return lambda t: t / (t + tau)


def _transition(spectrum: Spectrum, tau: float) -> float:
    """d mu / d ln tau, in [0, 1/4]."""
    return spectrum.integral(lambda t: tau * t / (t + tau) ** 2)


@dataclass(frozen=True)
class Formula:
    """g(tau) under the direction measure  sum_i u_i^2 delta(t - lam_i),  and d ln g / d ln tau."""

    value: Callable[[Spectrum, float], float]
    elasticity: Callable[[Spectrum, float], float]


def _value_a(direction: Spectrum, tau: float) -> float:
    return tau * direction.integral(_stiffness(tau))


def _elasticity_a(direction: Spectrum, tau: float) -> float:
    return 1 - _transition(direction, tau) / direction.integral(_stiffness(tau))


FORMULAS: dict[FormulaName, Formula] = {
    "published": Formula(lambda u, tau: tau, lambda u, tau: 1.0),
    "A": Formula(_value_a, _elasticity_a),
    "B": Formula(
        lambda u, tau: _value_a(u, tau) / width(u, tau),
        lambda u, tau: _elasticity_a(u, tau) - _transition(u, tau) / width(u, tau),
    ),
}


def solve_tau(formula: FormulaName, direction: Spectrum, radius: float, epsilon: float) -> float:
    """The tau at which the formula stands, in [0, inf].

    Infinite where the pruned point itself is within the tolerance: at R = 0, and for A and B at
    e >= u^T H u. Zero where no subspace reaches it but the flat directions: for B at
    e <= g(0+) = 1 / (u^T H^+ u), if u has no flat component.
    """
    if not (epsilon > 0 and radius >= 0):
        raise InputError(
            f"a limit needs a tolerance epsilon > 0 and a radius >= 0, got {epsilon} and {radius}"
        )
    ratio = 2 * epsilon / float(radius) ** 2 if radius**2 > 0 else float("inf")
    if formula == "published" or np.isinf(ratio):
        return ratio
    curvature = direction.moment(1)
    # On a flat spectrum both cases below meet at e = u^T H u: rounding must not choose.
    if ratio >= curvature * (1 - _ROUNDING):
        return float("inf")
    g = FORMULAS[formula].value
    if g(direction, _TINY) >= ratio:
        return 0.0
    # g_B >= g_A >= u^T H u - u^T H^2 u / tau bounds the root from above.
    highest = direction.moment(2) / (curvature - ratio)
    return increasing_root(lambda tau: g(direction, tau), ratio, highest)


def increasing_root(function: Callable[[float], float], target: float, highest: float) -> float:
    """The tau in (0, highest] where an increasing function meets its target, by log-bisection."""
    low, high = np.log(_TINY), np.log(highest)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if function(np.exp(middle)) < target else (low, middle)
    return float(np.exp(high))


def removable_share(
    spectrum: Spectrum,
    radius: float,
    epsilon: float,
    formula: FormulaName = "published",
    direction: Spectrum | None = None,
) -> float:
    """The share mu of all D_H parameters that can be removed at distance `radius`.

    direction: the measure of the offset's direction, from Lanczos iteration started at the offset;
        without it the offset is isotropic, u_i^2 = 1/D.
    """
    return width(spectrum, solve_tau(formula, direction or spectrum, radius, epsilon))


def sensitivity(
    spectrum: Spectrum,
    tau: float,
    formula: FormulaName = "published",
    direction: Spectrum | None = None,
    growth: float = 0.0,
) -> float:
    """d mu / d ln epsilon, at fixed radius, or with  growth = d ln R^2 / d mu  at a fixed point.

    At fixed radius the published formula's is in [0, 1/4]. A knee of R, as L1 training leaves it,
    makes it vanish: such a limit says where the knee is, and little about the curvature.
    """
    if tau == 0 or np.isinf(tau):
        return 0.0
    slope = _transition(spectrum, tau)
    elasticity = FORMULAS[formula].elasticity(direction or spectrum, tau)
    return slope / (elasticity + slope * growth)
