"""Lanczos iteration and spectral quadrature against dense eigendecompositions and moments."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparselimit.curvature import lanczos as iteration
from sparselimit.curvature.lanczos import lanczos, rademacher
from sparselimit.curvature.quadrature import (
    Bracket,
    Spectrum,
    Tridiagonal,
    density,
    flatness,
)
from sparselimit.ensemble.checkpoint import Stopped
from tests.unit.refusals import refused


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


def test_single_precision_states_its_rounding_as_resolution() -> None:
    """A matrix of rank 20: its zeros come out as large as rounding makes them."""
    eigenvalues = np.append(np.zeros(80), np.logspace(-1, 2, 20))
    matrix, start = rotated(eigenvalues), signs(100, 2)
    single = Bracket.psd(lanczos(product(matrix, torch.float32), start.float(), steps=60))
    double = Bracket.psd(lanczos(product(matrix), start, steps=60))
    assert 1e-7 < single.resolution < 1e-3
    assert double.resolution < 1e-12


def test_rules_for_negative_nodes() -> None:
    spectrum = Spectrum(np.array([-2.0, -1e-16, 1e-16, 1.0]), np.full(4, 0.25))
    assert spectrum.nonnegative("abs").nodes.tolist() == [2, 0, 0, 1]
    assert spectrum.nonnegative("clip").nodes.tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match="not positive semi-definite"):
        spectrum.nonnegative("psd")
    with pytest.raises(ValueError, match="unknown rule 'ggn'"):
        spectrum.nonnegative("ggn")  # type: ignore[arg-type]


def test_an_exact_spectrum_is_definite_to_its_own_rounding() -> None:
    """A singular matrix passes; one with an eigenvalue that a quadrature would hide does not."""
    known = np.append(np.zeros(30), np.linspace(0.1, 1, 30))
    dense = Spectrum.of_eigenvalues(np.linalg.eigvalsh(rotated(known)))
    assert dense.nodes.min() < 0
    assert Bracket.exact(dense, "psd").lower.nodes[0] == 0
    for lowest in (-1e-5, -1e-12):
        indefinite = Spectrum.of_eigenvalues(np.append(lowest, known))
        assert indefinite.nonnegative("psd").nodes[0] == 0  # as a quadrature
        with pytest.raises(ValueError, match="not positive semi-definite"):
            Bracket.exact(indefinite, "psd")


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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_memory_changes_no_result(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows at once, two at a time, one at a time, one in a file; basis in one block or many."""
    diagonal = torch.linspace(0, 3, 90, dtype=dtype)
    start, called = signs(90, 5).to(dtype), []

    def multiply(vectors: Tensor) -> Tensor:
        called.append(len(vectors))
        return vectors * diagonal

    each = 30 * 90 * start.element_size()
    runs = {memory: lanczos(multiply, start, 30, memory=memory) for memory in (5 * each, 2 * each)}
    assert called == [5] * 30 + [2] * 60 + [1] * 30
    called.clear()
    runs |= {memory: lanczos(multiply, start, 30, memory=memory) for memory in (each, 1)}
    assert called == [1] * 300
    for others in runs.values():
        for run, other in zip(runs[5 * each], others, strict=True):
            np.testing.assert_array_equal(run.alpha, other.alpha)
            np.testing.assert_array_equal(run.beta, other.beta)
    monkeypatch.setitem(iteration._BLOCK, "cpu", 7)
    for run, other in zip(runs[1], lanczos(multiply, start, 30), strict=True):
        np.testing.assert_allclose(run.alpha, other.alpha, rtol=1e-9)


class Multiply:
    """Products with a diagonal matrix, of which one is disturbed."""

    def __init__(self, disturb_at: int, disturb: Callable[[], object]) -> None:
        self.calls, self.disturb_at, self.disturb = 0, disturb_at, disturb

    def __call__(self, vectors: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.disturb_at:
            self.disturb()
        return vectors * torch.linspace(-1, 2, 40, dtype=vectors.dtype)


def crash() -> None:
    raise MemoryError


def nothing() -> None:
    pass


STEPS, EACH = 12, 12 * 40 * 8  # steps of the runs that are disturbed, bytes of the basis of each


@pytest.mark.parametrize(
    ("memory", "disturb_at"), [(3 * EACH, 2), (3 * EACH, 7), (EACH, 2), (EACH, 12), (1, 7), (1, 24)]
)
def test_a_run_that_was_disturbed_goes_on_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, disturb_at: int
) -> None:
    """Asked to stop, or crashed with a checkpoint at each step; three rows at once, or in turn."""
    start, path = signs(40, 3), tmp_path / "new" / "run.checkpoint"

    def run(disturbed: Multiply) -> list[Tridiagonal]:
        return lanczos(disturbed, start, STEPS, memory=memory, checkpoint=path, identity=["x"])

    undisturbed = Multiply(0, nothing)
    expected = lanczos(undisturbed, start, STEPS, memory=memory)
    with pytest.raises(Stopped):
        run(Multiply(disturb_at, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    monkeypatch.setattr(iteration, "CHECKPOINT_SECONDS", -1)
    with pytest.raises(MemoryError):
        run(Multiply(4, crash))
    rest = Multiply(0, nothing)
    found = run(rest)
    assert disturb_at + 3 + rest.calls == undisturbed.calls
    again = Multiply(0, nothing)
    for results in (found, run(again)):
        for one, other in zip(results, expected, strict=True):
            np.testing.assert_array_equal(one.alpha, other.alpha)
            np.testing.assert_array_equal(one.beta, other.beta)
    assert again.calls == 0
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("first", "then"), [(2 * EACH, 10 * EACH), (3 * EACH, 2 * EACH), (1, EACH)]
)
def test_a_run_goes_on_with_other_memory(tmp_path: Path, first: int, then: int) -> None:
    """What is free on a GPU is never the same again: rows under way stay together."""
    start, path, undisturbed = signs(40, 3), tmp_path / "run.checkpoint", Multiply(0, nothing)
    expected = lanczos(undisturbed, start, STEPS, memory=first)
    stop = Multiply(7, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        lanczos(stop, start, STEPS, memory=first, checkpoint=path)
    rest = Multiply(0, nothing)
    found = lanczos(rest, start, STEPS, memory=then, checkpoint=path)
    assert stop.calls + rest.calls == undisturbed.calls
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.alpha, other.alpha)
        np.testing.assert_array_equal(one.beta, other.beta)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    stop = Multiply(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        lanczos(stop, signs(40, 2), STEPS, checkpoint=path, identity=["this"])
    with refused(str(path), "another run; delete it"):
        lanczos(stop, signs(40, 2), STEPS, checkpoint=path, identity=["that"])
    (basis,) = tmp_path.glob("*.basis-0")
    for spoil in (lambda: os.truncate(basis, 100), basis.unlink):
        spoil()
        with refused(str(basis), "incomplete", "delete both"):
            lanczos(stop, signs(40, 2), STEPS, checkpoint=path, identity=["this"])


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
        (torch.tensor([[1, float("nan")]]), 2, "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            lanczos(lambda v: v, start, steps)
    with pytest.raises(ValueError, match="not finite at step 1"):
        lanczos(lambda v: v * float("nan"), torch.ones(1, 3), 2)


def test_a_ritz_value_at_zero_needs_no_second_prescribed_node() -> None:
    """Rounding may leave a singular T slightly indefinite, where the Radau row would be noise."""
    singular = Tridiagonal(np.array([1.0, 1.0]), np.array([1.0 + 1e-15, 0.3]))
    assert singular.radau().nodes.tolist() == singular.gauss().nodes.tolist()
