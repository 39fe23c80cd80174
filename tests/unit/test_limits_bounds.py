"""The fixed point: reference counts, a brute-force scan, refusals, sensitivity."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sparselimit.curvature.lanczos import lanczos
from sparselimit.curvature.quadrature import Bracket, Spectrum
from sparselimit.limits.bounds import (
    Limit,
    Unresolved,
    batch_spread,
    fixed_point,
    interpolated_direction,
    magnitude_offset,
    pruning_limit,
    radii,
)
from sparselimit.limits.width import FORMULAS, FormulaName, removable_share

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "limits.json").read_text())


def exact(eigenvalues: object) -> Bracket:
    return Bracket.exact(Spectrum.of_eigenvalues(eigenvalues), "psd")  # type: ignore[arg-type]


def found(outcome: Limit | Unresolved) -> Limit:
    assert isinstance(outcome, Limit)
    return outcome


def test_reference_fixed_points() -> None:
    weights = np.random.default_rng(0).laplace(size=1000)
    spectrum = exact(np.logspace(-6, 1, 1000))
    for case in REFERENCE["fixed_point"]:
        for formula in FORMULAS:
            limit = found(pruning_limit(spectrum, weights, 1000, case["eps"], formula))
            expected = case["paper" if formula == "published" else formula]
            assert limit.lower == limit.upper == limit.removed == expected


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("dimension", [60, 90])
def test_limit_is_the_largest_feasible_count_of_a_scan(
    formula: FormulaName, dimension: int
) -> None:
    """Also where the weights have a gap, so that the crossing sits at a jump of the radius."""
    rng = np.random.default_rng(4)
    spectrum = exact(10 ** rng.uniform(-4, 1, dimension))
    smooth = rng.standard_normal(60)
    gap = np.where(np.arange(60) < 45, 1e-3, 1.0) * smooth
    for weights in (smooth, gap, np.zeros(60), np.append(np.zeros(20), smooth[:40])):
        for epsilon in (1e-6, 1e-3, 0.1, 1e3):
            radius = radii(weights)
            feasible = [
                m
                for m in range(61)
                if removable_share(spectrum.lower, radius[m], epsilon, formula) >= m / dimension
            ]
            limit = found(pruning_limit(spectrum, weights, dimension, epsilon, formula))
            assert limit.lower == max(feasible)
            assert limit.radius == pytest.approx(
                np.linalg.norm(np.sort(abs(weights))[: max(feasible)])
            )
            assert limit.pruning_ratio == max(feasible) / 60 == pytest.approx(1 - limit.density)


@pytest.mark.parametrize("formula", FORMULAS)
def test_sensitivity_is_the_slope_of_the_fixed_point(formula: FormulaName) -> None:
    n = 20_000
    weights = norm.ppf((np.arange(n) + 0.5) / n)
    spectrum = exact(np.logspace(-5, 1, 50))
    low, middle, high = (
        found(pruning_limit(spectrum, weights, n, 0.3 * np.exp(s), formula)) for s in (-0.1, 0, 0.1)
    )
    slope = (high.removed - low.removed) / n / 0.2
    assert middle.sensitivity == pytest.approx(slope, rel=0.02)
    knee = np.where(np.arange(n) < 0.9 * n, 1e-4, 10)
    assert found(pruning_limit(spectrum, knee, n, 0.3, formula)).sensitivity < 1e-3


def test_no_limit_below_the_resolution_of_a_signed_spectrum() -> None:
    weights = np.random.default_rng(1).standard_normal(100)
    known = exact(np.logspace(-3, 0, 100))
    limit = found(pruning_limit(known, weights, 100, 0.1))
    for resolution in (0.99 * limit.tau, 1.01 * limit.tau):
        outcome = pruning_limit(Bracket(known.lower, known.upper, resolution), weights, 100, 0.1)
        assert isinstance(outcome, Limit) == (resolution < limit.tau)
    assert isinstance(outcome, Unresolved)
    assert "1 times the Lanczos steps" in outcome.reason


def test_a_limit_on_flat_directions_alone_is_not_resolved() -> None:
    """By B, an offset on stiff directions leaves tau = 0, which any resolution is above."""
    spectrum, stiff = Spectrum.of_eigenvalues([0.0, 1.0]), Spectrum.of_eigenvalues([1.0])

    def outcome_at(resolution: float) -> Limit | Unresolved:
        bracket = Bracket(spectrum, spectrum, resolution)
        return pruning_limit(bracket, np.ones(90), 100, 1e-4, "B", lambda m: Bracket(stiff, stiff))

    assert found(outcome_at(0)).tau == 0
    outcome = outcome_at(1e-16)
    assert isinstance(outcome, Unresolved)
    assert "near tau = 0, " in outcome.reason
    assert outcome.reason.endswith("resolves 1e-16: take more Lanczos steps")


@pytest.mark.parametrize("coarse", ["spectrum", "direction"])
def test_rounding_of_the_products_is_not_mended_by_more_steps(coarse: str) -> None:
    """The nodes below zero of a positive matrix in single precision, whichever bracket has them."""
    eigenvalues, weights = np.append(np.zeros(90), np.ones(10)), np.ones(90)
    rounded = np.append(np.full(90, -1e-5), np.ones(10))
    (run,) = lanczos(torch.from_numpy(rounded).mul, torch.ones(1, 100).double(), 20)
    rough, known = Bracket.psd([run]), exact(eigenvalues)
    assert rough.resolution == pytest.approx(3e-5)
    brackets = (rough, known) if coarse == "spectrum" else (known, rough)
    along = interpolated_direction([10, 99], [brackets[1], known])
    outcome = pruning_limit(brackets[0], weights, 100, 1e-5, "A", along)
    assert isinstance(outcome, Unresolved)
    assert "resolves 3e-05: take precision float64" in outcome.reason
    assert "steps" not in outcome.reason


def test_no_limit_where_the_bracket_is_wide() -> None:
    weights = np.random.default_rng(1).standard_normal(1000)
    lower = Spectrum.of_eigenvalues(np.logspace(-3, 0, 100))
    for factor, resolved in ((0.99, True), (0.5, False)):
        bracket = Bracket(lower, Spectrum(factor * lower.nodes, lower.weights))
        outcome = pruning_limit(bracket, weights, 1000, 0.1)
        assert isinstance(outcome, Limit) == resolved
    assert isinstance(outcome, Unresolved)
    ends = [found(pruning_limit(exact(f * lower.nodes), weights, 1000, 0.1)) for f in (1, 0.5)]
    assert all(f"{end.pruning_ratio:.4f}" in outcome.reason for end in ends)


@pytest.mark.parametrize(("formula", "epsilon"), [("A", 0.02), ("B", 0.2)])
def test_bracket_of_the_direction_brackets_the_limit(formula: FormulaName, epsilon: float) -> None:
    """Few Lanczos steps on the direction, everything else exact."""
    eigenvalues = np.logspace(-4, 0, 300)
    weights = np.random.default_rng(2).standard_normal(1000)
    (run,) = lanczos(torch.from_numpy(eigenvalues).mul, torch.ones(1, 300).double(), 16)
    spectrum, coarse = exact(eigenvalues), Bracket.psd([run])
    truth = found(pruning_limit(spectrum, weights, 1000, epsilon, formula))
    limit = found(pruning_limit(spectrum, weights, 1000, epsilon, formula, lambda m: coarse))
    assert limit.lower < truth.removed < limit.upper


def test_direction_is_asked_once_per_count_and_only_where_it_matters() -> None:
    weights = np.append(np.zeros(10), np.linspace(0.1, 1, 90))
    spectrum, asked = exact(np.logspace(-3, 0, 100)), []

    def direction(removed: int) -> Bracket:
        asked.append(removed)
        return exact([0.1, 1.0])

    aware = found(pruning_limit(spectrum, weights, 100, 0.01, "B", direction))
    assert len(asked) == len(set(asked)) <= 10
    assert min(asked) > 10  # nothing has moved before the zero weights are gone
    assert aware.removed != found(pruning_limit(spectrum, weights, 100, 0.01, "B")).removed
    asked.clear()
    pruning_limit(spectrum, weights, 100, 0.01, "published", direction)
    assert not asked


def test_directions_between_known_counts_are_mixtures() -> None:
    soft, stiff = Spectrum.of_eigenvalues([1.0]), Spectrum.of_eigenvalues([3.0])
    at = interpolated_direction([10, 20], [Bracket(soft, soft, 0.1), Bracket(stiff, soft, 0.2)])
    assert [at(m).lower.moment(1) for m in (0, 10, 15, 20, 99)] == pytest.approx([1, 1, 2, 3, 3])
    assert at(15).upper.moment(1) == 1
    assert at(15).resolution == 0.2
    only = interpolated_direction([5], [Bracket(soft, stiff)])
    assert only(7).upper.moment(1) == 3
    with pytest.raises(ValueError, match="strictly increasing"):
        interpolated_direction([5, 5], [Bracket(soft, soft)] * 2)


def test_magnitude_offset_takes_the_smallest_prunable_weights_ties_by_index() -> None:
    parameters = np.array([0.5, -0.1, 0.1, 0.01, -0.1, 2.0])
    prunable = np.array([True, True, True, False, True, True])
    assert magnitude_offset(parameters, prunable, 2).tolist() == [0, -0.1, 0.1, 0, 0, 0]
    offset = magnitude_offset(parameters, prunable, 5)
    assert offset.tolist() == [0.5, -0.1, 0.1, 0, -0.1, 2.0]
    assert np.linalg.norm(offset) == pytest.approx(radii(parameters[prunable])[5])
    many = np.random.default_rng(3).choice([0.1, -0.1, 1], 1000)
    tied = np.flatnonzero(np.abs(many) < 1)
    offset = magnitude_offset(many, np.ones(1000, dtype=bool), 300)
    assert np.array_equal(np.flatnonzero(offset), tied[:300])
    with pytest.raises(ValueError, match="cannot remove 6 of 5"):
        magnitude_offset(parameters, prunable, 6)


def test_the_spread_of_batches_is_a_tolerance() -> None:
    assert batch_spread([1.0, 3.0]) == 1  # population, not sample, deviation
    for losses in ([1.0], [2.0, 2.0]):
        with pytest.raises(ValueError, match="must be positive"):
            batch_spread(losses)


def test_fixed_point_refuses_more_weights_than_parameters() -> None:
    with pytest.raises(ValueError, match="11 prunable weights among 10 parameters"):
        fixed_point(lambda m: 1.0, 11, 10)
