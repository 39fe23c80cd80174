"""Exact minima over subspaces, and the width formulas against them."""

import json
from pathlib import Path

import numpy as np
import pytest

from sparselimit.curvature.quadrature import Spectrum
from sparselimit.limits.montecarlo import Model, compare, reference_spectra, transitions
from sparselimit.limits.subspace import nested_residuals, reoptimised_losses
from sparselimit.limits.width import removable_share

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
    losses = reoptimised_losses(hessian, parameters, order)
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


def test_corrected_formula_meets_the_measurement_and_the_published_one_does_not() -> None:
    rows = compare(dimension=60, trials=150, seed=7)
    assert {(row.spectrum, row.model) for row in rows} == {
        (spectrum, model) for spectrum in reference_spectra(60) for model in "AB"
    }
    for model, allowed in (("A", 0.03), ("B", 0.08)):
        of_model = [row for row in rows if row.model == model]
        assert max(abs(row.corrected - row.measured.median) for row in of_model) < allowed
        assert max(abs(row.published - row.measured.median) for row in of_model) > 0.3
    assert all(row.measured.low <= row.measured.median <= row.measured.high for row in rows)
