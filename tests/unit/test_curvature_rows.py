"""Diagonal, row norms and trace from products, against the dense matrix."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sparselimit.curvature import rows
from sparselimit.curvature.rows import Rows, row_statistics
from sparselimit.ensemble.checkpoint import Stopped
from tests.unit.refusals import refused

DIMENSION = 60


def symmetric() -> Tensor:
    """Rows of very different size."""
    scale = torch.logspace(-3, 1, DIMENSION, dtype=torch.float64)
    random = torch.from_numpy(np.random.default_rng(0).standard_normal((DIMENSION, DIMENSION)))
    return scale[:, None] * (random + random.T) * scale


MATRIX = symmetric()


def statistics(
    n: int,
    product: Callable[[Tensor], Tensor] = MATRIX.matmul,
    path: Path | None = None,
    seed: int = 1,
) -> Rows:
    generators = [np.random.default_rng([seed, i]) for i in range(n)]

    def multiply(vectors: Tensor) -> Tensor:
        return product(vectors.T).T

    return row_statistics(multiply, MATRIX[0], generators, checkpoint=path, identity=["matrix"])


def test_with_a_product_for_each_dimension_all_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    for numbers in (1, 7 * DIMENSION, 1 << 20):  # one product at a time, or seven, or all
        monkeypatch.setattr(rows, "_NUMBERS", numbers)
        found = statistics(DIMENSION + 5)
        np.testing.assert_array_equal(found.diagonal, MATRIX.diagonal())
        np.testing.assert_allclose(found.norms, MATRIX.norm(dim=1), rtol=1e-14)
        assert found.trace == pytest.approx(float(MATRIX.trace()), rel=1e-12)
        assert found.trace_error == 0


def test_estimates_are_unbiased_within_their_errors() -> None:
    """More probes than dimensions, which the function would answer exactly, in four parts."""
    n = 50
    parts = []
    for part in range(200):
        generators = [np.random.default_rng([2, part, i]) for i in range(n)]
        parts.append(row_statistics(lambda v: v @ MATRIX, MATRIX[0], generators))
    squares = np.array([part.norms**2 for part in parts])
    exact = MATRIX.square().sum(dim=1).numpy()
    assert (squares.std(axis=0) < 1.2 * np.sqrt(2 / n) * exact).all()
    error = squares.std(axis=0) / np.sqrt(len(parts))
    assert (abs(squares.mean(axis=0) - exact) < 5 * error).all()

    diagonals = np.array([part.diagonal for part in parts])
    error = diagonals.std(axis=0) / np.sqrt(len(parts))
    assert (abs(diagonals.mean(axis=0) - MATRIX.diagonal().numpy()) < 5 * error).all()

    away = [(part.trace - float(MATRIX.trace())) / part.trace_error for part in parts]
    assert np.mean(away) == pytest.approx(0, abs=0.4)
    assert np.std(away) == pytest.approx(1, abs=0.3)


def test_a_diagonal_matrix_is_known_from_one_product() -> None:
    diagonal = torch.linspace(-1, 2, 30)
    found = row_statistics(lambda v: v * diagonal, diagonal, [np.random.default_rng(0)])
    np.testing.assert_array_equal(found.diagonal, diagonal.double())
    np.testing.assert_array_equal(found.norms, diagonal.double().abs())
    assert found.trace == pytest.approx(float(diagonal.double().sum()), rel=1e-12)
    assert np.isnan(found.trace_error)


@pytest.mark.parametrize("n", [9, DIMENSION])
def test_it_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    monkeypatch.setattr(rows, "_NUMBERS", 2 * DIMENSION)
    path, calls = tmp_path / "rows.checkpoint", []

    def product(vectors: Tensor) -> Tensor:
        calls.append(vectors.shape[1])
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return MATRIX @ vectors

    with pytest.raises(Stopped):
        statistics(n, product, path)
    resumed, whole = statistics(n, product, path), statistics(n)
    assert sum(calls) == n
    for name, value in vars(whole).items():
        np.testing.assert_array_equal(getattr(resumed, name), value)
    with refused(str(path), "another run"):
        statistics(n - 1, product, path)
    if n < DIMENSION:  # else nothing is drawn
        with refused(str(path), "another run"):
            statistics(n, product, path, seed=2)
