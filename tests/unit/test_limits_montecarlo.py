"""Exact minima over subspaces, and the width formulas against them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sparselimit.curvature.quadrature import Spectrum
from sparselimit.limits.cone import Cone, statistical_dimensions
from sparselimit.limits.montecarlo import (
    Model,
    compare,
    reference_spectra,
    transitions,
    views,
)
from sparselimit.limits.subspace import nested_residuals, reoptimised
from sparselimit.limits.tables import judged
from sparselimit.limits.width import removable_share
from tests.unit.refusals import refused

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "limits.json").read_text())


@pytest.mark.parametrize("shape", [(9, 5), (6, 6), (4, 7)])
def test_nested_residuals_are_those_of_least_squares(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    columns, target = rng.standard_normal(shape), rng.standard_normal(shape[0])
    expected = [
        np.sum((target - columns[:, :k] @ np.linalg.lstsq(columns[:, :k], target)[0]) ** 2)
        for k in range(shape[1] + 1)
    ]
    np.testing.assert_allclose(nested_residuals(columns, target), expected, atol=1e-12)


@pytest.mark.parametrize("rank", [12, 7])
def test_reoptimised_losses_are_the_minima_over_the_kept_parameters(rank: int) -> None:
    rng = np.random.default_rng(1)
    root = rng.standard_normal((rank, 12))
    root[:, 6] = 0  # a kept parameter without effect
    hessian, parameters = root.T @ root, rng.standard_normal(12)
    order = np.array([3, 0, 7, 8, 2, 11])
    losses = reoptimised(hessian, parameters, order).losses
    for removed in range(len(order) + 1):
        kept = np.setdiff1d(np.arange(12), order[:removed])
        fit = np.linalg.lstsq(root[:, kept], root @ parameters)[0]
        minimum = np.sum((root @ parameters - root[:, kept] @ fit) ** 2) / 2
        assert losses[removed] == pytest.approx(minimum, abs=1e-9)
    assert losses[0] == pytest.approx(0, abs=1e-12)


def test_transitions_reproduce_the_reference_trials() -> None:
    """Same seeds and draws: medians and quantiles of all 80 rows at D = 50, and the formulas."""
    reference = REFERENCE["monte_carlo"]
    shapes = reference_spectra(reference["dimension"])
    models: tuple[Model, ...] = ("A", "B")
    for name, eigenvalues in shapes.items():
        spectrum = Spectrum.of_eigenvalues(eigenvalues)
        for model in models:
            rows = [
                row for row in reference["rows"] if (row["spectrum"], row["model"]) == (name, model)
            ]
            measured = transitions(
                eigenvalues,
                [row["eps"] for row in rows],
                model,
                reference["trials"],
                reference["seed"],
            )
            for row, transition in zip(rows, measured, strict=True):
                share = removable_share(spectrum, 1, row["eps"], model)
                assert share == pytest.approx(row["mu_corr"], abs=1e-6), row
                assert transition.median == pytest.approx(row["mu50"], abs=1e-9), row
                if row["spectrum"] != "flat" or row["eps"] != 0.5:  # there rounding decides
                    assert transition.low == pytest.approx(row["mu_lo"], abs=1e-9), row
                    assert transition.high == pytest.approx(row["mu_hi"], abs=1e-9), row


def test_the_verdict_at_two_hundred_dimensions() -> None:
    """Corrected formulas within 0.015 (A) and 0.04 (B) of what is measured; the published far."""
    rows = compare(dimension=200, trials=60, seed=1)
    assert {(row.spectrum, row.model) for row in rows} == {
        (spectrum, model) for spectrum in reference_spectra(200) for model in "AB"
    }
    assert all(row.measured.low <= row.measured.median <= row.measured.high for row in rows)
    table = pd.DataFrame(
        [(r.model, r.published, r.corrected, r.measured.median) for r in rows],
        columns=["model", "published", "corrected", "measured"],
    )
    found = judged(table, 200).set_index(["model", "formula"])
    assert found.allowed.to_dict() == {
        (model, formula): {"A": 0.015, "B": 0.04}[model]
        for model in "AB"
        for formula in ("published", "corrected")
    }
    for model in "AB":
        assert found.holds[model, "corrected"]
        assert found.rms_error[model, "corrected"] < 0.02  # most of it the noise of 60 trials
        assert not found.holds[model, "published"]
        assert 0.08 < found.rms_error[model, "published"] < 0.13
        assert found.transitions[model, "corrected"] == len(rows) / 2


def test_the_verdict_by_hand() -> None:
    table = pd.DataFrame(
        [
            ("A", 0.5, 0.40, 0.40),
            ("A", 0.1, 0.29, 0.30),
            ("A", 0.9, 1.0, 0.97),
            ("B", 0.2, 0.2, 0.2),
        ],
        columns=["model", "published", "corrected", "measured"],
    )
    found = judged(table, 100).set_index(["model", "formula"])
    assert found.transitions.tolist() == [3, 3, 1, 1]
    # What is removable as a whole counts in the largest error, not in the mean.
    assert found.rms_error.tolist() == pytest.approx([np.sqrt(0.05 / 2), 0.01 / np.sqrt(2), 0, 0])
    assert found.largest_error.tolist() == pytest.approx([0.2, 0.03, 0, 0])
    assert found.allowed.tolist() == [0.03, 0.03, 0.08, 0.08]
    assert found.holds["A", "published"] == np.False_
    assert found.holds["B"].all()


# --- The cone of a sublevel set -------------------------------------------------------------------


def ellipsoid(dimension: int, seed: int, flat: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Eigenvalues, offset and a tolerance that leaves the origin outside."""
    rng = np.random.default_rng(seed)
    eigenvalues, offset = rng.exponential(size=dimension), rng.normal(size=dimension)
    if flat:
        eigenvalues[-1] = 0
    return eigenvalues, offset, 0.5 * rng.uniform(0.1, 0.9) * float(eigenvalues @ offset**2)


SHAPES = pytest.mark.parametrize(
    ("dimension", "flat"), [(2, False), (3, False), (3, True), (6, False), (6, True)]
)


@SHAPES
def test_the_cone_holds_the_directions_that_meet_the_set(dimension: int, flat: bool) -> None:
    for seed in range(5):
        eigenvalues, offset, epsilon = ellipsoid(dimension, seed, flat)
        directions = np.random.default_rng(seed).normal(size=(400, dimension))
        lengths = np.maximum(directions @ (eigenvalues * offset), 0) / (directions**2 @ eigenvalues)
        nearest = lengths[:, None] * directions - offset
        expected = nearest**2 @ eigenvalues <= 2 * epsilon
        found = Cone.of(eigenvalues, offset, epsilon).contains(directions)
        np.testing.assert_array_equal(found, expected)
        assert 0 < expected.sum() < 400


@SHAPES
def test_projections_onto_the_cone(dimension: int, flat: bool) -> None:
    """What makes a point of a convex cone the nearest one (Moreau): the rest is orthogonal to it,
    and at an obtuse angle to the whole cone."""
    for seed in range(5):
        seen = Cone.of(*ellipsoid(dimension, seed, flat))
        rng = np.random.default_rng(seed)
        points, others = rng.normal(size=(100, dimension)), rng.normal(size=(4000, dimension))
        nearest = seen.projected(points)
        form = (nearest @ seen.vectors) ** 2 @ seen.curvatures
        assert form.max() < 1e-9 * np.abs(seen.curvatures).max()
        np.testing.assert_allclose((nearest * (points - nearest)).sum(axis=1), 0, atol=1e-7)
        inside = others[seen.contains(others)]
        assert len(inside) > 10
        assert ((points - nearest) @ inside.T).max() < 1e-7
        held = seen.contains(points)
        np.testing.assert_allclose(nearest[held], points[held], atol=1e-12)


def test_statistical_dimension_of_a_circular_cone() -> None:
    """A ball at distance R fills a cone of sin^2 = r^2 / R^2, whose dimension is D sin^2 + O(1)."""
    dimension, points = 400, np.random.default_rng(0).normal(size=(300, 400))
    offset = np.zeros(dimension)
    offset[0] = 2.0  # a ball of radius 1
    found = statistical_dimensions(np.ones(dimension), offset, 0.5, points).mean()
    assert found == pytest.approx(dimension / 4, abs=3)
    inside = statistical_dimensions(np.ones(dimension), offset / 3, 0.5, points)
    assert (inside == dimension).all()
    with refused("within the tolerance"):
        Cone.of(np.ones(dimension), offset / 3, 0.5)


def test_statistical_dimensions_are_those_of_formula_a() -> None:
    """By projection, against formula A; the published width is less."""
    rng = np.random.default_rng(5)
    for name, share in (("power1", 0.30), ("power1", 0.60), ("power2", 0.30), ("loguniform", 0.60)):
        eigenvalues = reference_spectra(100)[name]
        spectrum = Spectrum.of_eigenvalues(eigenvalues)
        epsilon = _epsilon_at(spectrum, share)
        measured = []
        for _ in range(40):
            offset = rng.normal(size=100)
            offset /= np.linalg.norm(offset)
            points = rng.normal(size=(20, 100))
            measured.append(statistical_dimensions(eigenvalues, offset, epsilon, points).mean())
        error = np.std(measured, ddof=1) / np.sqrt(40)
        expected = 100 * removable_share(spectrum, 1, epsilon, "A")
        assert np.mean(measured) == pytest.approx(expected, abs=3 * error + 0.7)
        assert np.mean(measured) > 100 * share + 1


def _epsilon_at(spectrum: Spectrum, share: float) -> float:
    """The tolerance at which the published formula finds a share removable, at distance 1."""
    low, high = 1e-9, 1.0
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (
            (middle, high) if removable_share(spectrum, 1, middle) < share else (low, middle)
        )
    return float(high)


def test_views_from_growing_distances() -> None:
    """The transition is where the dimensions of subspace and cone sum up to that of the space."""
    table, met = views(dimension=80, trials=80, seed=2)
    assert met.shape == (len(table), 81)
    assert (np.diff(met, axis=1) >= 0).all()  # a larger subspace meets what a smaller one does
    assert (np.diff(met, axis=0) <= 0).all()  # and less from farther away
    assert (met[:, -1] == 1).all()
    assert (met[-1, :2] == 0).all()
    turn = 1 - np.argmax(met >= 0.5, axis=1) / 80
    np.testing.assert_allclose(turn, table.corrected, atol=0.03)
    np.testing.assert_allclose(
        table.measured, table.corrected, atol=3 * table.measured_error.max() + 0.02
    )
    assert (table.corrected - table.published).max() > 0.2
    assert table.distance.is_monotonic_increasing
