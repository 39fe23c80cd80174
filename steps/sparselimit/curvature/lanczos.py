"""Lanczos iteration on a symmetric operator given by its products.

Rounding destroys the orthogonality of the plain three-term recurrence, and with it the meaning of
the quadrature near zero, where a pruning limit is decided: every vector is orthogonalised against
all earlier ones, twice, with inner products in float64.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from sparselimit.curvature.quadrature import BREAKDOWN, Tridiagonal
from sparselimit.errors import InputError

_ROWS = 16  # basis vectors turned to float64 at a time


def rademacher(dimension: int, generators: Iterable[np.random.Generator]) -> Tensor:
    """Random signs, one probe vector from each generator: float64 [probes, dimension]."""
    signs = [2 * generator.integers(0, 2, dimension) - 1 for generator in generators]
    return torch.from_numpy(np.array(signs, dtype=np.float64))


def lanczos(product: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> list[Tridiagonal]:
    """Run `steps` Lanczos steps from each row of `start`, all rows at once.

    product: maps vectors [P, D] to H vectors [P, D], with one fixed symmetric H.
    start: [P, D], any non-zero rows; its dtype is that of the products and of the stored basis,
        which takes steps * P * D entries.
    steps: at most; a row ends early where its Krylov space does (beta < 1e-12 max|alpha|).
    Returns one `Tridiagonal` per row.
    """
    if start.ndim != 2 or steps < 1:
        raise InputError(
            f"lanczos needs start vectors [P, D] and at least one step, got shape "
            f"{tuple(start.shape)} and {steps} steps"
        )
    length = start.double().norm(dim=1, keepdim=True)
    if not bool((length > 0).all()):
        raise InputError("a start vector of the Lanczos iteration is zero or not finite")
    probes, dimension = start.shape
    steps = min(steps, dimension)
    basis = start.new_empty(steps, probes, dimension)
    alpha, beta = np.zeros((probes, steps)), np.zeros((probes, steps))
    taken, running = np.zeros(probes, dtype=int), np.ones(probes, dtype=bool)
    vector = start.double() / length
    for step in range(steps):
        basis[step] = vector
        image = product(basis[step]).double()
        alpha[:, step] = (image * basis[step]).sum(1).cpu()
        for _ in range(2):
            _orthogonalise(image, basis[: step + 1])
        residual = image.norm(dim=1, keepdim=True)
        beta[:, step] = residual[:, 0].cpu()
        taken += running
        if not np.isfinite(beta[:, step]).all():
            raise InputError(f"the operator returned a value that is not finite at step {step + 1}")
        running &= beta[:, step] > BREAKDOWN * np.abs(alpha).max(axis=1)
        if not running.any():
            break
        vector = torch.where(
            torch.from_numpy(running).to(image.device)[:, None], image / residual, 0
        )
    return [
        Tridiagonal(alpha[probe, :size], beta[probe, :size]) for probe, size in enumerate(taken)
    ]


def _orthogonalise(vectors: Tensor, basis: Tensor) -> None:
    """Remove from float64 vectors [P, D], in place, their components along basis [k, P, D]."""
    for rows in basis.split(_ROWS):
        block = rows.double().movedim(1, 0)  # [P, rows, D]
        components = torch.einsum("prd,pd->pr", block, vectors)
        vectors -= torch.einsum("prd,pr->pd", block, components)
