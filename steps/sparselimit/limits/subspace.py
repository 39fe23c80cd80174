"""Exact least squares over nested subspaces: a quadratic loss once the kept weights adapt."""

import numpy as np
from scipy.linalg import qr

from sparselimit.curvature.quadrature import Floats


def nested_residuals(columns: Floats, target: Floats) -> Floats:
    """min_v |target - columns[:, :k] v|^2 for every k = 0..K, from a single QR factorisation.

    columns: [n, K], any K of them in general position up to rank n;  target: [n].
    Returns [K + 1], non-increasing.
    """
    (triangle,) = qr(np.column_stack([columns, target]), mode="r", overwrite_a=True)
    projections = triangle[: columns.shape[1] + 1, -1]
    residuals = np.zeros(columns.shape[1] + 1)
    residuals[: projections.size] = np.cumsum(projections[::-1] ** 2)[::-1]
    return residuals


def reoptimised_losses(hessian: Floats, parameters: Floats, order: np.ndarray) -> Floats:
    """Loss increase of the quadratic model when weights go and all others re-optimise.

    hessian: [D, D], PSD;  parameters: [D];  order: indices of the parameters that may go, first
    to go first.  Returns [len(order) + 1] for m = 0..len(order) removed.

    With H = F^T F the minimum over the kept parameters v of (v - w)^T H (v - w) / 2 is half the
    squared residual of F w on the kept columns of F; these are nested, so one QR gives all of them.
    """
    eigenvalues, vectors = np.linalg.eigh(hessian)
    # A floor at rounding level keeps the rank full: a column that vanishes, as that of a dead
    # neuron's weight, would have QR make up a direction for it.
    floor = hessian.shape[0] * np.finfo(np.float64).eps * eigenvalues[-1]
    root = np.sqrt(np.maximum(eigenvalues, floor))[:, None] * vectors.T
    kept = np.setdiff1d(np.arange(len(parameters)), order)
    nested = np.concatenate([kept, order[::-1]])
    losses = nested_residuals(root[:, nested], root @ parameters) / 2
    return losses[len(kept) :][::-1]
