"""Two trained networks end to end: weights to curvature to spectrum to pruning limit.

The networks (20-32-32-5, tanh, 1893 parameters, 1824 of them weights) were trained with and
without an L1 penalty; their exact eigenvalues and the limits that follow are known.
"""

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sparselimit.curvature.lanczos import lanczos, rademacher
from sparselimit.curvature.products import Objective
from sparselimit.curvature.quadrature import Bracket, Spectrum, Tridiagonal
from sparselimit.limits.bounds import (
    Direction,
    Limit,
    batch_spread,
    interpolated_direction,
    magnitude_offset,
    pruning_limit,
    radii,
)
from sparselimit.limits.subspace import reoptimised
from sparselimit.limits.width import FormulaName, removable_share, sensitivity, width

FOLDER = Path(__file__).parents[1] / "reference"
REFERENCE = json.loads((FOLDER / "limits.json").read_text())["mlp"]
WEIGHTS = ("0.weight", "2.weight", "4.weight")


@dataclass(frozen=True)
class GaussNewton:
    """The dense Gauss-Newton matrix of a network and its eigenvectors."""

    matrix: torch.Tensor
    eigenvalues: np.ndarray
    vectors: np.ndarray

    def direction(self, offset: np.ndarray) -> Bracket:
        components = (self.vectors.T @ offset) ** 2
        return Bracket.exact(Spectrum(self.eigenvalues, components / components.sum()), "psd")


@dataclass(frozen=True)
class Case:
    """A trained network, its objective and exact spectra."""

    expected: dict
    objective: Objective
    hessian: Spectrum
    ggn: Spectrum

    @property
    def parameters(self) -> np.ndarray:
        return self.objective.parameters.numpy()

    @property
    def prunable(self) -> np.ndarray:
        shapes = self.objective.shapes.items()
        return np.concatenate([np.full(shape.numel(), name in WEIGHTS) for name, shape in shapes])

    @property
    def brackets(self) -> dict[str, Bracket]:
        return {
            "abs": Bracket.exact(self.hessian, "abs"),
            "clip": Bracket.exact(self.hessian, "clip"),
            "ggn": Bracket.exact(self.ggn, "psd"),
        }

    @cached_property
    def gauss_newton(self) -> GaussNewton:
        matrix = self.objective.exact_ggn()
        return GaussNewton(matrix, *np.linalg.eigh(matrix.numpy()))

    def limit(
        self,
        spectrum: Bracket,
        epsilon: float,
        formula: FormulaName = "published",
        direction: Direction | None = None,
    ) -> Limit:
        weights = self.parameters[self.prunable]
        outcome = pruning_limit(
            spectrum, weights, self.objective.dimension, epsilon, formula, direction
        )
        assert isinstance(outcome, Limit), outcome
        return outcome


def load(name: str, batch_size: int = 1000) -> Case:
    stored = np.load(FOLDER / f"mlp_{name}.npz")
    rng = np.random.default_rng(12345)
    means = 0.7 * rng.standard_normal((5, 20))
    labels = rng.integers(0, 5, 1000)
    points = means[labels] + rng.standard_normal((1000, 20))
    module = nn.Sequential(
        nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 5)
    )
    module.double().eval()
    nn.utils.vector_to_parameters(torch.from_numpy(stored["parameters"]), module.parameters())
    sample = torch.from_numpy(points), torch.from_numpy(labels)
    return Case(
        REFERENCE[name],
        Objective(module, cross_entropy, *sample, batch_size),
        Spectrum.of_eigenvalues(stored["hessian_eigenvalues"]),
        Spectrum.of_eigenvalues(stored["ggn_eigenvalues"]),
    )


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {name: load(name) for name in ("l1", "dense")}


@pytest.fixture(scope="module", params=["l1", "dense"])
def case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    return cases[request.param]


def random_signs(case: Case, count: int) -> torch.Tensor:
    generators = [np.random.default_rng([777, probe]) for probe in range(count)]
    return rademacher(case.objective.dimension, generators)


@pytest.mark.parametrize("name", ["l1", "dense"])
def test_loss_tolerance_and_radii(name: str) -> None:
    case = load(name, batch_size=128)
    assert case.objective.value() == pytest.approx(case.expected["loss"], rel=1e-9)
    epsilon = batch_spread(case.objective.batch_losses())
    assert epsilon == pytest.approx(case.expected["batch128_std"], rel=1e-9)
    radius = radii(case.parameters[case.prunable])
    for ratio, expected in case.expected["R_at_mu"].items():
        assert radius[int(np.ceil(float(ratio) * 1824))] == pytest.approx(expected, rel=1e-9)


def test_exact_hessian_spectrum(cases: dict[str, Case]) -> None:
    """The dense network's Hessian is checked through Lanczos below."""
    eigenvalues = torch.linalg.eigvalsh(cases["l1"].objective.exact_hessian())
    np.testing.assert_allclose(eigenvalues, cases["l1"].hessian.nodes, atol=1e-9)


def test_shares_from_exact_spectra(case: Case) -> None:
    exact = case.brackets
    variants: dict[str, tuple[Bracket, FormulaName]] = {
        "abs": (exact["abs"], "published"),
        "clip": (exact["clip"], "published"),
        "ggn": (exact["ggn"], "published"),
        "ggn_A_iso": (exact["ggn"], "A"),
        "ggn_B_iso": (exact["ggn"], "B"),
    }
    for row in case.expected["mu"]:
        for key, (bracket, formula) in variants.items():
            share = removable_share(bracket.lower, row["R"], row["eps"], formula)
            assert share == pytest.approx(row[key], abs=1e-9), (key, row)


def test_lanczos_quadrature_of_the_hessian(case: Case) -> None:
    (run,) = lanczos(case.objective.product("hessian"), random_signs(case, 1), 100)
    for row in case.expected["slq"]:
        spectrum = Tridiagonal(run.alpha[: row["m"]], run.beta[: row["m"]]).gauss()
        assert len(spectrum.nodes) == row["n_nodes"]
        assert spectrum.moment(1) == pytest.approx(row["mean"], abs=1e-6)
        assert spectrum.moment(2) == pytest.approx(row["second_moment"], abs=1e-6)
        extremes = [row["theta_min"], row["theta_max"]]
        np.testing.assert_allclose(spectrum.nodes[[0, -1]], extremes, atol=1e-6)
        for known, shares in (
            (spectrum.nonnegative("abs"), row["G_abs"]),
            (spectrum.nonnegative("clip"), row["G_clip"]),
        ):
            for tau, expected in shares.items():
                assert width(known, float(tau)) == pytest.approx(expected, abs=1e-6)


def test_gauss_newton_brackets(case: Case) -> None:
    """Ten probes: values of both rules, and the probes' exact average between them."""
    np.testing.assert_allclose(case.gauss_newton.eigenvalues, case.ggn.nodes, atol=1e-9)
    probes = random_signs(case, 10)
    np.testing.assert_allclose(
        case.objective.product("ggn")(probes[:2]), probes[:2] @ case.gauss_newton.matrix, atol=1e-12
    )
    for steps in (20, 80):
        bracket = Bracket.psd(lanczos(lambda v: v @ case.gauss_newton.matrix, probes, steps))
        for row in case.expected["gauss_radau"]:
            if row["m"] != steps:
                continue
            low, high = (width(end, row["tau"]) for end in (bracket.lower, bracket.upper))
            assert low == pytest.approx(row["gauss"], abs=1e-9)
            assert high == pytest.approx(row["radau"], abs=5e-8)
            assert low - 1e-12 <= row["quad"] <= high + 1e-12


def test_pruning_limits_from_exact_spectra(case: Case) -> None:
    exact = case.brackets

    def direction(removed: int) -> Bracket:
        return case.gauss_newton.direction(
            magnitude_offset(case.parameters, case.prunable, removed)
        )

    weights = np.flatnonzero(case.prunable)
    order = weights[np.argsort(np.abs(case.parameters[weights]), kind="stable")]
    rises = reoptimised(case.gauss_newton.matrix.numpy(), case.parameters, order).losses

    for rule, expected in case.expected["fixed_points"].items():
        epsilon = case.expected["batch128_std"] if rule == "batch_std" else float(rule)
        ratios = {
            f"published_{name}": case.limit(spectrum, epsilon).pruning_ratio
            for name, spectrum in exact.items()
        }
        ratios["B_isotropic"] = case.limit(exact["ggn"], epsilon, "B").pruning_ratio
        ratios["A"] = case.limit(exact["ggn"], epsilon, "A", direction).pruning_ratio
        ratios["B"] = case.limit(exact["ggn"], epsilon, "B", direction).pruning_ratio
        ratios["reoptimised"] = np.flatnonzero(rises <= epsilon)[-1] / weights.size
        assert ratios == pytest.approx(expected, abs=0.001)

    # The direction changes slowly with the count: twenty measures serve for all.
    grid = np.linspace(weights.size / 20, weights.size, 20).astype(int).tolist()
    between = interpolated_direction(grid, [direction(removed) for removed in grid])
    exactly, nearly = (case.limit(exact["ggn"], 0.01, "B", curve) for curve in (direction, between))
    assert nearly.pruning_ratio == pytest.approx(exactly.pruning_ratio, abs=0.005)


def test_limit_from_lanczos_alone_brackets_the_exact_one(cases: dict[str, Case]) -> None:
    """Direction-aware, from products only: one run per probe and one per count tried."""
    case = cases["l1"]

    def bracket(start: torch.Tensor) -> Bracket:
        return Bracket.psd(lanczos(lambda v: v @ case.gauss_newton.matrix, start, 60))

    def offset(removed: int) -> np.ndarray:
        return magnitude_offset(case.parameters, case.prunable, removed)

    @cache
    def measured(removed: int) -> Bracket:
        return bracket(torch.from_numpy(offset(removed))[None])

    # With the exact spectrum the direction's quadrature is the only error, and it is bracketed;
    # ten probes add their noise.
    spectrum = case.brackets["ggn"]
    exact = case.gauss_newton
    truth = case.limit(spectrum, 0.01, "B", lambda removed: exact.direction(offset(removed)))
    aware = case.limit(spectrum, 0.01, "B", measured)
    assert aware.lower <= truth.removed <= aware.upper
    sampled = case.limit(bracket(random_signs(case, 10)), 0.01, "B", measured)
    assert sampled.pruning_ratio == pytest.approx(truth.pruning_ratio, abs=0.01)


def test_sensitivity_of_the_l1_network(cases: dict[str, Case]) -> None:
    spectrum = cases["l1"].brackets["abs"].lower
    slopes = [sensitivity(spectrum, tau) for tau in (1e-3, 1e-2, 1e-1)]
    assert slopes == pytest.approx([0.108, 0.097, 0.039], abs=0.001)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("l1", [0.825, 0.861, 0.912, 0.949]), ("dense", [0.377, 0.553, 0.748, 0.869])],
)
def test_published_limits_over_tolerances(
    cases: dict[str, Case], name: str, expected: list[float]
) -> None:
    spectrum = cases[name].brackets["abs"]
    ratios = [cases[name].limit(spectrum, eps).pruning_ratio for eps in (1e-3, 1e-2, 0.1, 0.5)]
    assert ratios == pytest.approx(expected, abs=0.001)
