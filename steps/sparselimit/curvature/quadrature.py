"""Spectral measures as nodes and weights: exact spectra and Lanczos quadratures alike.

For a symmetric D x D matrix H with eigenpairs (lam_i, u_i) and a unit vector v, the measure
sum_i (u_i^T v)^2 delta(t - lam_i)  integrates any f to  v^T f(H) v.  Averaged over random signs
v = z / |z| it becomes the spectral density of H, whose integral of f is tr f(H) / D.  Lanczos
iteration yields a small quadrature of that measure (Golub and Meurant, "Matrices, Moments and
Quadrature", 2010); averaged over probes it is stochastic Lanczos quadrature (Ubaru, Chen and Saad,
2017).  Nothing is smoothed or binned before a functional is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh_tridiagonal

from sparselimit.errors import InputError

Floats: TypeAlias = NDArray[np.float64]
NegativeRule: TypeAlias = Literal["abs", "clip", "psd"]

BREAKDOWN = 1e-12  # an off-diagonal below this share of max|alpha| ends the Krylov space
_MARGIN = 3  # of tau over what the nodes resolve
# How far below zero, as a share of the largest, rounding moves eigenvalues of a PSD matrix at most.
# By a quadrature in float32 it is far less than the first. By a dense eigensolver in float64 it is
# D rounding units, and there are those of the sums that made the matrix: the second allows ten
# times as much (measured on Gauss-Newton matrices: 0.06 times).
_QUADRATURE_SLACK = 1e-4
_EXACT_SLACK = 10 * np.finfo(np.float64).eps  # times D


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A discrete probability measure on the real line.

    nodes: [n] eigenvalues or Ritz values, in units of the operator.
    weights: [n] non-negative, sum 1.
    """

    nodes: Floats
    weights: Floats

    def __post_init__(self) -> None:
        if self.nodes.ndim != 1 or self.nodes.shape != self.weights.shape or not self.nodes.size:
            raise InputError(
                "a spectrum needs as many weights as nodes, and at least one: got shapes "
                f"{self.nodes.shape} and {self.weights.shape}"
            )
        if not (np.isfinite(self.nodes).all() and np.isfinite(self.weights).all()):
            raise InputError("a spectrum has a node or weight that is not finite")
        if self.weights.min() < 0 or abs(self.weights.sum() - 1) > 1e-8:
            raise InputError(
                "the weights of a spectrum must be non-negative and sum to 1: the smallest is "
                f"{self.weights.min():.3g}, the sum {self.weights.sum():.9g}"
            )

    @classmethod
    def of_eigenvalues(cls, eigenvalues: ArrayLike) -> Spectrum:
        """The exact spectral density: every eigenvalue with weight 1/D."""
        nodes = np.asarray(eigenvalues, dtype=np.float64)
        return cls(nodes, np.full(nodes.shape, 1 / max(nodes.size, 1)))

    @classmethod
    def mixture(cls, spectra: Sequence[Spectrum], shares: ArrayLike | None = None) -> Spectrum:
        """The average of measures, with the given shares (sum 1), else equal ones."""
        if shares is None:
            shares = np.full(len(spectra), 1 / max(len(spectra), 1))
        parts = list(zip(spectra, np.asarray(shares, dtype=np.float64), strict=True))
        return cls(
            np.concatenate([spectrum.nodes for spectrum, _ in parts]),
            np.concatenate([share * spectrum.weights for spectrum, share in parts]),
        )

    def integral(self, function: Callable[[Floats], Floats]) -> float:
        """The integral of `function`, which maps an array of nodes to their values."""
        return float(self.weights @ function(self.nodes))

    def moment(self, order: int) -> float:
        """The integral of t^order; D times it is the trace of H^order."""
        return self.integral(lambda t: t**order)

    def nonnegative(self, rule: NegativeRule, slack: float = _QUADRATURE_SLACK) -> Spectrum:
        """The measure with its negative nodes moved to where the width formulas can take them.

        'abs' reflects them (the published code), 'clip' calls them flat directions (optimistic),
        'psd' does the same but only for rounding: it refuses a spectrum that is truly indefinite,
        with a node below minus `slack` of the largest. Nodes at the rounding level of a symmetric
        eigensolver become exact zeros.
        """
        largest = float(np.abs(self.nodes).max())
        if rule == "psd" and self.nodes.min() < -slack * largest:
            raise InputError(
                f"the operator is not positive semi-definite: its spectrum reaches from "
                f"{self.nodes.min():.3g} to {self.nodes.max():.3g}; use the rule 'abs' or 'clip', "
                "or the generalised Gauss-Newton matrix"
            )
        if rule not in ("abs", "clip", "psd"):
            raise InputError(f"unknown rule {rule!r} for negative eigenvalues: abs, clip or psd")
        nodes = np.abs(self.nodes) if rule == "abs" else np.maximum(self.nodes, 0)
        rounding = self.nodes.size * np.finfo(np.float64).eps * largest
        return Spectrum(np.where(nodes > rounding, nodes, 0.0), self.weights)


def flatness(tau: float) -> Callable[[Floats], Floats]:
    """The function t -> tau / (t + tau) of a non-negative node, for tau in [0, inf].

    It is 1 at t = 0 for every tau, so a flat direction counts in full even at tau = 0.
    """

    def share(nodes: Floats) -> Floats:
        if np.isinf(tau):
            return np.ones_like(nodes)
        return np.divide(tau, nodes + tau, out=np.ones_like(nodes), where=nodes > 0)

    return share


@dataclass(frozen=True, eq=False)
class Tridiagonal:
    """What k Lanczos steps leave: the Jacobi matrix of the start vector's spectral measure.

    alpha: [k] diagonal.  beta: [k] norms of the residuals; beta[-1] couples to the step not taken,
    and is zero to rounding if the Krylov space is exhausted, when the quadrature is exact.
    """

    alpha: Floats
    beta: Floats

    @property
    def exhausted(self) -> bool:
        """Whether the iteration ended by itself."""
        return bool(self.beta[-1] <= BREAKDOWN * np.abs(self.alpha).max())

    def gauss(self) -> Spectrum:
        """Gauss quadrature: Ritz values, and squared first components of their vectors.

        Exact for polynomials of degree 2k-1 (Golub and Welsch, 1969).
        """
        return _golub_welsch(self.alpha, self.beta[:-1])

    def radau(self) -> Spectrum:
        """Gauss-Radau quadrature with a prescribed node at 0, for a PSD operator.

        One more row, whose diagonal entry puts an eigenvalue at zero, makes it exact for degree 2k
        (Golub, 1973).  For a completely monotone function such as tau/(t+tau) Gauss is a lower and
        this an upper bound of the integral.
        """
        pivot = self.alpha[0]
        for diagonal, coupling in zip(self.alpha[1:], self.beta[:-1], strict=True):
            if pivot <= 0:
                break
            pivot = diagonal - coupling**2 / pivot
        # A Ritz value that is zero to rounding: the Gauss rule has the prescribed node already.
        if pivot <= 0 or self.exhausted:
            return self.gauss()
        return _golub_welsch(np.append(self.alpha, self.beta[-1] ** 2 / pivot), self.beta)


def _golub_welsch(diagonal: Floats, off_diagonal: Floats) -> Spectrum:
    nodes, vectors = eigh_tridiagonal(diagonal, off_diagonal)
    weights = np.square(vectors[0], dtype=np.float64)
    return Spectrum(np.asarray(nodes, dtype=np.float64), weights / weights.sum())


@dataclass(frozen=True, eq=False)
class Bracket:
    """A spectral measure as far as it is known, ready for the width formulas.

    lower, upper: measures with non-negative nodes under which the integral of tau/(t+tau) is a
    lower and an upper bound.  They are one and the same where no bound exists.
    resolution: the smallest tau at which the integral may be trusted.
    limited_by: what sets it, the number of Lanczos steps or the rounding of the products.
    """

    lower: Spectrum
    upper: Spectrum
    resolution: float = 0.0
    limited_by: Literal["steps", "rounding"] = "steps"

    @classmethod
    def exact(cls, spectrum: Spectrum, rule: NegativeRule) -> Bracket:
        """A spectrum that is known, for example from a dense eigendecomposition in float64."""
        known = spectrum.nonnegative(rule, _EXACT_SLACK * spectrum.nodes.size)
        return cls(known, known)

    @classmethod
    def psd(cls, runs: Sequence[Tridiagonal]) -> Bracket:
        """Gauss and Gauss-Radau, averaged over the probes of a PSD operator.

        The bracket bounds the error of the quadrature, not the noise of the probes. A node below
        zero shows how large the rounding of the products is, above which tau has to stay.
        """
        gauss = Spectrum.mixture([run.gauss() for run in runs])
        radau = Spectrum.mixture([run.radau() for run in runs])
        rounding = max(0.0, -float(gauss.nodes.min()))
        known = gauss.nonnegative("psd"), radau.nonnegative("psd")
        return cls(*known, _MARGIN * rounding, limited_by="rounding")

    @classmethod
    def signed(cls, runs: Sequence[Tridiagonal], rule: NegativeRule) -> Bracket:
        """Gauss only: tau/(|t|+tau) has a kink at 0, so no bound holds for an indefinite operator.

        k steps resolve eigenvalues to (lmax - lmin)/k (Chen, Trogdon and Ubaru, 2021: Wasserstein
        error of the quadrature) and the function is 1/tau-Lipschitz; three times that is asked.
        """
        gauss = Spectrum.mixture([run.gauss() for run in runs])
        steps = [run.alpha.size for run in runs if not run.exhausted]
        resolution = _MARGIN * float(np.ptp(gauss.nodes)) / min(steps) if steps else 0.0
        known = gauss.nonnegative(rule)
        return cls(known, known, resolution)


def density(spectrum: Spectrum, smoothing: float = 0.005) -> tuple[Floats, Floats]:
    """The measure smoothed by a Gaussian, for plotting only: (grid, density), integral 1.

    smoothing: standard deviation of the Gaussian in units of the spectrum's range.  The grid takes
    four points per standard deviation and four standard deviations beyond the extreme nodes, so
    that no node falls between points or off the end.
    """
    if smoothing <= 0:
        raise InputError(f"smoothing must be positive, got {smoothing}")
    low, high = float(spectrum.nodes.min()), float(spectrum.nodes.max())
    width = smoothing * ((high - low) or abs(high) or 1.0)
    grid = np.linspace(low - 4 * width, high + 4 * width, int((high - low) / width * 4) + 33)
    distance = (grid[:, None] - spectrum.nodes) / width
    values = np.exp(-(distance**2) / 2) @ spectrum.weights / (width * np.sqrt(2 * np.pi))
    return grid, values
