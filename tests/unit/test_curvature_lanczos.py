"""Lanczos iteration and spectral quadrature against dense eigendecompositions and moments."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparselimit.curvature.lanczos import lanczos, rademacher
from sparselimit.curvature.quadrature import (
    Bracket,
    Spectrum,
    Tridiagonal,
    density,
    flatness,
    probe_average,
)


def rotated(eigenvalues: np.ndarray, seed: int = 0) -> np.ndarray:
    """A symmetric matrix with the given eigenvalues and random eigenvectors."""
    size = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]
    return (basis * eigenvalues) @ basis.T


def product(matrix: np.ndarray, dtype: torch.dtype = torch.float64) -> Callable[[Tensor], Tensor]:
    tensor = torch.from_numpy(matrix).to(dtype)
    return lambda vectors: vectors @ tensor


def signs(dimension: int, count: int) -> Tensor:
    return rademacher(dimension, [np.random.default_rng([5, probe]) for probe in range(count)])


def test_a_full_run_gives_the_spectral_measure_of_the_start_vector() -> None:
    eigenvalues = np.random.default_rng(1).standard_normal(30)
    matrix, start = rotated(eigenvalues), signs(30, 1)
    (run,) = lanczos(product(matrix), start, steps=99)
    measure = run.gauss()
    exact, vectors = np.linalg.eigh(matrix)
    assert run.exhausted
    np.testing.assert_allclose(measure.nodes, exact, atol=1e-12)
    np.testing.assert_allclose(measure.weights, (vectors.T @ start[0].numpy()) ** 2 / 30, atol=1e-9)


def test_krylov_space_ends_row_by_row() -> None:
    matrix = np.diag([0.0, 0.0, 1.0, 1.0, 2.0])
    start = torch.tensor([[1.0, 1, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 0, 0, 1]]).double()
    runs = lanczos(product(matrix), start, steps=5)
    assert [len(run.alpha) for run in runs] == [3, 1, 2]
    assert all(run.exhausted for run in runs)
    np.testing.assert_allclose(runs[0].gauss().nodes, [0, 1, 2], atol=1e-14)
    np.testing.assert_allclose(runs[0].gauss().weights, [0.4, 0.4, 0.2], atol=1e-14)
    np.testing.assert_allclose(runs[1].gauss().nodes, [1])
    for run, row in zip(runs, start, strict=True):
        (alone,) = lanczos(product(matrix), row[None], steps=5)
        np.testing.assert_allclose(run.alpha, alone.alpha, atol=1e-14)


def test_a_zero_operator_ends_at_once() -> None:
    (run,) = lanczos(lambda vectors: 0 * vectors, signs(4, 1), steps=3)
    assert run.gauss().nodes.tolist() == run.radau().nodes.tolist() == [0]


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_no_ghost_copies_of_a_converged_eigenvalue(dtype: torch.dtype, precision: float) -> None:
    """Without full re-orthogonalisation 100 steps find the outliers several times over."""
    eigenvalues = np.concatenate([np.linspace(0, 1, 197), [10, 20, 30]])
    (run,) = lanczos(product(rotated(eigenvalues), dtype), signs(200, 1).to(dtype), steps=100)
    top = run.gauss().nodes[-4:]
    assert top[0] <= 1 + precision
    np.testing.assert_allclose(top[1:], [10, 20, 30], rtol=precision)


def test_gauss_and_radau_are_exact_to_their_degree() -> None:
    matrix, start = rotated(np.linspace(0.1, 2, 40)), signs(40, 1)
    (run,) = lanczos(product(matrix), start, steps=4)
    vector = start[0].numpy() / np.sqrt(40)
    exact = [vector @ np.linalg.matrix_power(matrix, degree) @ vector for degree in range(11)]

    def reached(measure: Spectrum) -> list[bool]:
        return [bool(np.isclose(measure.moment(d), exact[d], rtol=1e-12)) for d in range(11)]

    assert reached(run.gauss()) == [True] * 8 + [False] * 3
    assert reached(run.radau()) == [True] * 9 + [False] * 2
    assert abs(run.radau().nodes[0]) < 1e-14


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    decades=st.floats(0.1, 12),
    zeros=st.integers(0, 30),
    steps=st.integers(1, 40),
)
def test_bracket_holds_the_exact_integral(
    seed: int, decades: float, zeros: int, steps: int
) -> None:
    rng = np.random.default_rng(seed)
    eigenvalues = 10 ** -rng.uniform(0, decades, 40)
    eigenvalues[:zeros] = 0
    start = torch.from_numpy(rng.standard_normal((2, 40)))
    runs = lanczos(product(np.diag(eigenvalues)), start, steps)
    exact = Spectrum.mixture([Spectrum(eigenvalues, row**2 / (row @ row)) for row in start.numpy()])
    bracket = Bracket.psd(runs)
    for tau in 10.0 ** np.arange(-8, 3):
        low, true, high = (
            measure.integral(flatness(tau)) for measure in (bracket.lower, exact, bracket.upper)
        )
        # Ritz values are exact to rounding of the largest eigenvalue, and f is 1/tau-Lipschitz.
        slack = 1e-14 + 1e-15 / tau
        assert low - slack <= true <= high + slack


def test_probes_are_signs_that_depend_on_their_generator_alone() -> None:
    many, few = signs(50, 3), signs(50, 1)
    assert torch.equal(many[:1], few)
    assert set(many.flatten().tolist()) == {-1, 1}


def test_probe_average_is_unbiased_within_its_standard_error() -> None:
    matrix = rotated(np.random.default_rng(3).standard_normal(60))
    probes = [run.gauss() for run in lanczos(product(matrix), signs(60, 30), steps=60)]
    for function, exact in (
        (lambda t: t, np.trace(matrix) / 60),
        (np.square, np.sum(matrix**2) / 60),
        (
            lambda t: 0.1 / (np.abs(t) + 0.1),
            (0.1 / (np.abs(np.linalg.eigvalsh(matrix)) + 0.1)).mean(),
        ),
    ):
        mean, error = probe_average(probes, function)
        assert 0 < error < 0.1 * abs(exact) + 0.05
        assert abs(mean - exact) < 4 * error
    assert np.isnan(probe_average(probes[:1], np.square)[1])


def test_rules_for_negative_nodes() -> None:
    spectrum = Spectrum(np.array([-2.0, -1e-16, 1e-16, 1.0]), np.full(4, 0.25))
    assert spectrum.nonnegative("abs").nodes.tolist() == [2, 0, 0, 1]
    assert spectrum.nonnegative("clip").nodes.tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match="not positive semi-definite"):
        spectrum.nonnegative("psd")
    with pytest.raises(ValueError, match="unknown rule 'ggn'"):
        spectrum.nonnegative("ggn")  # type: ignore[arg-type]


def test_signed_quadrature_states_its_resolution() -> None:
    matrix = rotated(np.linspace(-1, 2, 50))
    coarse = Bracket.signed(lanczos(product(matrix), signs(50, 2), steps=10), "abs")
    assert coarse.lower is coarse.upper
    assert coarse.resolution == pytest.approx(3 * 3 / 10, rel=0.02)
    exact = Bracket.signed(lanczos(product(matrix), signs(50, 2), steps=50), "clip")
    assert exact.resolution == 0


def test_density_is_normalised_and_no_node_is_lost_between_grid_points() -> None:
    spectrum = Spectrum(np.array([-1.0, 0.0, 1e-3, 100.0]), np.array([0.1, 0.6, 0.2, 0.1]))
    for measure in (spectrum, Spectrum.of_eigenvalues([2.0, 2.0]), Spectrum.of_eigenvalues([0.0])):
        grid, values = density(measure)
        mass = np.cumsum((values[1:] + values[:-1]) / 2 * np.diff(grid))
        assert mass[-1] == pytest.approx(1, abs=1e-4)
        assert np.ptp(grid) > np.ptp(measure.nodes)
    with pytest.raises(ValueError, match="smoothing must be positive"):
        density(spectrum, 0)


def test_density_shows_each_cluster_with_its_weight() -> None:
    grid, values = density(Spectrum(np.array([0.0, 100.0]), np.array([0.9, 0.1])))
    right = grid > 50
    assert np.trapezoid(values[right], grid[right]) == pytest.approx(0.1, abs=1e-4)
    assert grid[values.argmax()] == pytest.approx(0, abs=0.1)


def test_bad_input_is_refused() -> None:
    ones = np.ones(2)
    for nodes, weights, message in (
        (ones, np.ones(3) / 3, "as many weights"),
        (np.array([]), np.array([]), "at least one"),
        (ones, ones, "the sum 2"),
        (ones, np.array([2.0, -1.0]), "smallest is -1"),
        (np.array([np.nan, 1]), ones / 2, "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            Spectrum(nodes, weights)
    for start, steps, message in (
        (torch.ones(3), 2, "start vectors"),
        (torch.ones(1, 3), 0, "0 steps"),
        (torch.zeros(1, 3), 2, "is zero"),
    ):
        with pytest.raises(ValueError, match=message):
            lanczos(lambda v: v, start, steps)
    with pytest.raises(ValueError, match="not finite at step 1"):
        lanczos(lambda v: v * float("nan"), torch.ones(1, 3), 2)


def test_a_ritz_value_at_zero_needs_no_second_prescribed_node() -> None:
    """Rounding may leave a singular T slightly indefinite, where the Radau row would be noise."""
    singular = Tridiagonal(np.array([1.0, 1.0]), np.array([1.0 + 1e-15, 0.3]))
    assert singular.radau().nodes.tolist() == singular.gauss().nodes.tolist()
