"""The width formulas against reference values, closed forms, each other and finite differences."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparselimit.curvature.quadrature import Spectrum
from sparselimit.limits.montecarlo import reference_spectra
from sparselimit.limits.width import (
    FORMULAS,
    FormulaName,
    removable_share,
    sensitivity,
    solve_tau,
    width,
)

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "limits.json").read_text())
CURVED: tuple[FormulaName, ...] = ("A", "B")

spectra = st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=12).map(Spectrum.of_eigenvalues)


def test_reference_values() -> None:
    for case in REFERENCE["formulas"]:
        spectrum = Spectrum.of_eigenvalues(case["lam"])
        shares = [removable_share(spectrum, case["R"], case["eps"], f) for f in FORMULAS]
        expected = [case[key] for key in ("mu_paper", "mu_A", "mu_B")]
        assert shares == pytest.approx(expected, abs=1e-9), case


@pytest.mark.parametrize("e", [1e-6, 0.3, 1 - 1e-9, 1, 1.5, 1e6])
@pytest.mark.parametrize("dimension", [1, 7, 200])
def test_flat_spectrum_in_closed_form(e: float, dimension: int) -> None:
    flat = Spectrum.of_eigenvalues(np.ones(dimension))
    shares = [removable_share(flat, 1, e / 2, formula) for formula in FORMULAS]
    assert shares == pytest.approx([e / (1 + e), min(e, 1), float(e >= 1)], abs=1e-9)


def test_offsets_along_given_eigenvectors() -> None:
    """Predictions at D = 300 for an offset on the top or bottom eigenvector, or spread over few."""
    dimension = REFERENCE["direction"]["dimension"]
    groups = {
        "top": np.arange(1),
        "bottom": np.arange(dimension - 1, dimension),
        "top10pct": np.arange(dimension // 10),
        "bottom50pct": np.arange(dimension // 2, dimension),
    }
    for row in REFERENCE["direction"]["rows"]:
        eigenvalues = reference_spectra(dimension)[row["spectrum"]]
        share = removable_share(
            Spectrum.of_eigenvalues(eigenvalues),
            1,
            row["eps"],
            row["model"],
            Spectrum.of_eigenvalues(eigenvalues[groups[row["dir"]]]),
        )
        # Offsets spread over several eigenvectors were drawn at random there, uniform here.
        spread = groups[row["dir"]].size > 1
        assert share == pytest.approx(row["pred_dir"], abs=0.02 if spread else 1e-9), row
        assert share == pytest.approx(row["mu50"], abs=0.03 if spread else 0.02), row


def test_formula_a_is_the_statistical_dimension_of_the_cone() -> None:
    """Against projections of Gaussian vectors on the cone spanned by the sublevel set."""
    for row in REFERENCE["statistical_dimension"]:
        spectrum = Spectrum.of_eigenvalues(reference_spectra(row["D"])[row["spectrum"]])
        share = removable_share(spectrum, 1, row["eps"], "A")
        assert row["D"] * share == pytest.approx(row["isotropic"], abs=1e-6)
        assert row["D"] * share == pytest.approx(row["mc"], abs=3 * row["se"] + 0.5)


@settings(max_examples=60, deadline=None)
@given(spectrum=spectra, epsilon=st.floats(1e-6, 1e3), radius=st.floats(0.01, 100))
def test_isotropic_formulas_satisfy_their_implicit_equations(
    spectrum: Spectrum, epsilon: float, radius: float
) -> None:
    """mean x/(1 + (1-mu) x) = 1 for A and mean x/(mu + (1-mu) x) = 1 for B, with x = lam/e."""
    e = 2 * epsilon / radius**2
    published, a, b = (removable_share(spectrum, radius, epsilon, f) for f in FORMULAS)
    assert published == pytest.approx(np.mean(e / (spectrum.nodes + e)), rel=1e-9)
    assert a >= published - 1e-12
    assert b <= a + 1e-12
    assert (b >= published - 1e-9) or published < 0.5 + 1e-9
    for share, scale in ((a, 1.0), (b, b)):
        if 1e-6 < share < 1 - 1e-6:
            terms = spectrum.nodes / (e * scale + (1 - share) * spectrum.nodes)
            assert np.mean(terms) == pytest.approx(1, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(spectrum=spectra, epsilon=st.floats(1e-4, 1e2), scale=st.floats(0.1, 10))
def test_scaling_weights_is_scaling_the_tolerance(
    spectrum: Spectrum, epsilon: float, scale: float
) -> None:
    merged = Spectrum(*map(np.array, zip(*sorted(_merge(spectrum).items()), strict=True)))
    for formula in FORMULAS:
        share = removable_share(spectrum, scale, epsilon, formula)
        scaled = removable_share(spectrum, 1, epsilon / scale**2, formula)
        assert share == pytest.approx(scaled, abs=1e-9)
        assert share == pytest.approx(removable_share(merged, scale, epsilon, formula), abs=1e-7)


def _merge(spectrum: Spectrum) -> dict[float, float]:
    """Equal eigenvalues as one node with their common weight."""
    merged: dict[float, float] = {}
    for node, weight in zip(spectrum.nodes, spectrum.weights, strict=True):
        merged[node] = merged.get(node, 0) + weight
    return merged


def test_edges() -> None:
    half_zero = Spectrum.of_eigenvalues([0, 0, 1, 4])
    assert [width(half_zero, tau) for tau in (0, float("inf"))] == [0.5, 1]
    assert all(removable_share(half_zero, 0, 0.1, formula) == 1 for formula in FORMULAS)
    # Beyond the curvature along the offset the pruned point is within the tolerance itself.
    stiff = Spectrum.of_eigenvalues([4.0])
    for formula in CURVED:
        assert removable_share(half_zero, 1, 2.0, formula, stiff) == 1
        assert removable_share(half_zero, 1, 1.99, formula, stiff) < 1
    # An offset with no flat component and below 1/(u^T H^+ u) leaves the flat directions alone.
    assert solve_tau("B", stiff, 1, 1.99) == 0
    assert removable_share(half_zero, 1, 1.99, "B", stiff) == 0.5
    # A flat direction in the offset itself reopens the rest.
    assert 0.5 < removable_share(half_zero, 1, 1e-3, "B", half_zero) < 0.51
    for radius, epsilon in ((1, 0), (1, -1), (-1, 1), (float("nan"), 1)):
        with pytest.raises(ValueError, match="epsilon > 0 and a radius >= 0"):
            removable_share(half_zero, radius, epsilon)
    with pytest.raises(ValueError, match=r"Spectrum\.nonnegative"):
        removable_share(Spectrum.of_eigenvalues([-1, 1]), 1, 1)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("epsilon", [1e-4, 2e-3])
def test_sensitivity_at_fixed_radius_is_the_slope(formula: FormulaName, epsilon: float) -> None:
    spectrum = Spectrum.of_eigenvalues(np.logspace(-5, 0, 60))
    direction = Spectrum.of_eigenvalues(np.append(np.logspace(-6, -1, 30), 0))
    tau = solve_tau(formula, direction, 0.7, epsilon)
    step = 1e-4
    ahead, behind = (
        removable_share(spectrum, 0.7, epsilon * np.exp(s), formula, direction)
        for s in (step, -step)
    )
    slope = sensitivity(spectrum, tau, formula, direction)
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-6)
    assert slope > 0.01
