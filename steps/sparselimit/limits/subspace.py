"""Exact least squares over nested subspaces: a quadratic loss once the kept weights adapt."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, solve_triangular

from sparselimit.curvature.quadrature import Floats


def nested_residuals(columns: Floats, target: Floats) -> Floats:
    """min_v |target - columns[:, :k] v|^2 for every k = 0..K, from a single QR factorisation.

    columns: [n, K], any K of them in general position up to rank n;  target: [n].
    Returns [K + 1], non-increasing.
    """
    return _residuals(_triangle(columns, target), columns.shape[1])


def _triangle(columns: Floats, target: Floats) -> Floats:
    """R of the columns with the target behind them."""
    (triangle,) = qr(np.column_stack([columns, target]), mode="r", overwrite_a=True)
    return np.asarray(triangle)


def _residuals(triangle: Floats, columns: int) -> Floats:
    projections = triangle[: columns + 1, -1]
    residuals = np.zeros(columns + 1)
    residuals[: projections.size] = np.cumsum(projections[::-1] ** 2)[::-1]
    return residuals


@dataclass(frozen=True)
class Reoptimised:
    """A quadratic loss whose parameters go one after the other, while all others re-optimise.

    order        indices of the parameters that may go, first to go first
    losses       rise of the loss after m = 0..len(order) of them went
    nested       indices of all parameters, those that stay longest first
    triangle     R and Q^T F w of the factorisation of F's columns in that order, [D, D + 1]
    """

    order: np.ndarray
    losses: Floats
    nested: np.ndarray
    triangle: Floats

    def parameters(self, removed: int) -> Floats:
        """The minimising parameters [D] after so many went, which are 0."""
        kept = len(self.nested) - removed
        found = np.zeros(len(self.nested))
        found[self.nested[:kept]] = solve_triangular(
            self.triangle[:kept, :kept], self.triangle[:kept, -1]
        )
        return found


def reoptimised(
    hessian: Floats, parameters: Floats, order: np.ndarray, damping: float = 0.0
) -> Reoptimised:
    """What the quadratic model says of pruning in an order, the kept parameters adapting.

    hessian: [D, D], PSD;  parameters: [D], its minimum;  order: see `Reoptimised`.
    damping: added to all eigenvalues, which keeps the others from moving far where it is flat.

    With H = F^T F the minimum over the kept parameters v of (v - w)^T H (v - w) / 2 is half the
    squared residual of F w on the kept columns of F; these are nested, so one QR gives all of them.
    """
    eigenvalues, vectors = np.linalg.eigh(hessian)
    # A floor at rounding level keeps the rank full: a column that vanishes, as that of a dead
    # neuron's weight, would have QR make up a direction for it.
    floor = hessian.shape[0] * np.finfo(np.float64).eps * eigenvalues[-1]
    root = np.sqrt(np.maximum(eigenvalues + damping, floor))[:, None] * vectors.T
    kept = np.setdiff1d(np.arange(len(parameters)), order)
    nested = np.concatenate([kept, order[::-1]])
    triangle = _triangle(root[:, nested], root @ parameters)
    losses = _residuals(triangle, len(nested)) / 2
    return Reoptimised(order, losses[len(kept) :][::-1], nested, triangle)
