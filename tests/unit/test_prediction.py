"""Predictions of a network's limit from stored spectra, beside what one-shot pruning measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from sparselimit import store
from sparselimit.curvature.lanczos import lanczos, rademacher
from sparselimit.curvature.quadrature import Bracket, Spectrum, Tridiagonal
from sparselimit.limits.bounds import (
    Direction,
    Limit,
    interpolated_direction,
    magnitude_offset,
    pruning_limit,
)
from sparselimit.limits.prediction import (
    VARIANTS,
    Reading,
    lanczos_runs,
    predictions,
    readings,
    sensitivities,
)
from sparselimit.store import Stored
from tests.unit.refusals import refused

DIMENSION, REMOVED = 60, [15, 30, 45]
EIGENVALUES = {
    "ggn": np.append(np.zeros(10), np.logspace(-4, 1, DIMENSION - 10)),
    "hessian": np.append(-np.logspace(-4, -2, 10), np.logspace(-4, 1, DIMENSION - 10)),
}
PARAMETERS = np.random.default_rng(0).normal(size=DIMENSION)
PRUNABLE = np.arange(DIMENSION) % 6 > 0  # 50 weights, 10 biases
BATCH_LOSSES = np.array([0.30, 0.50, 0.40, 0.40])


def stored(name: str, content: dict[str, Any], **config: object) -> Stored:
    return Stored(Path(f"{name}.h5"), content, {"kind": name, "config": json.dumps(config)})


def curvature(operator: str, starts: torch.Tensor, steps: int) -> list[Tridiagonal]:
    """Lanczos runs on the diagonal matrix of the operator's eigenvalues."""
    return lanczos(lambda v: v * torch.tensor(EIGENVALUES[operator]), starts, steps)


def columns(prefix: str, runs: list[Tridiagonal]) -> dict[str, NDArray[Any]]:
    steps = max((run.alpha.size for run in runs), default=0)
    padded = {
        name: np.array([np.pad(getattr(run, name), (0, steps - run.alpha.size)) for run in runs])
        for name in ("alpha", "beta")
    }
    found = {f"{prefix}{name}": values.reshape(len(runs), steps) for name, values in padded.items()}
    return {**found, f"{prefix}steps": np.array([r.alpha.size for r in runs], dtype=np.int64)}


def spectrum(operator: str, *, steps: int = DIMENSION, offsets: bool = True) -> Stored:
    """A spectrum as its step stores it.

    In the basis of the eigenvectors random signs give every eigenvalue the same weight, so that one
    run of full length holds the spectrum itself.
    """
    probes = rademacher(DIMENSION, [np.random.default_rng(i) for i in range(2)])
    removed = REMOVED if offsets else []
    starts = torch.tensor(np.array([magnitude_offset(PARAMETERS, PRUNABLE, m) for m in removed]))
    content = {
        **columns("", curvature(operator, probes, steps)),
        **columns("offset_", curvature(operator, starts, DIMENSION) if offsets else []),
        "offset_removed": np.array(removed, dtype=np.int64),
        "batch_losses": BATCH_LOSSES,
        "trace": np.array(EIGENVALUES[operator].sum()),
        "diagonal": EIGENVALUES[operator],
    }
    return stored("spectrum", content, operator=operator)


def read(operator: str, *, steps: int = DIMENSION, offsets: bool = True) -> list[Reading]:
    return readings([spectrum(operator, steps=steps, offsets=offsets)])


def network_file() -> Stored:
    return stored("network", {"parameters": PARAMETERS, "prunable": PRUNABLE})


def sweep_file() -> Stored:
    table = pd.DataFrame(
        {
            "removed": range(0, 50, 5),
            "fit_loss": 0.4 + 0.02 * np.arange(10),
            "reoptimised_rise": 0.01 * np.arange(10),
            "validation_accuracy": [0.9, 0.9, 0.91, 0.89, 0.8, 0.9, 0.7, 0.6, 0.5, 0.4],
        }
    )
    return stored("sweep", {"sweep": table})


def test_lanczos_runs_are_read_to_their_own_length() -> None:
    short, long = Tridiagonal(np.ones(2), np.ones(2)), Tridiagonal(np.ones(5), np.ones(5))
    file = stored("spectrum", {**columns("", [short, long]), **columns("offset_", [long])})
    assert [run.alpha.size for run in lanczos_runs(file)] == [2, 5]
    assert [run.beta.size for run in lanczos_runs(file, "offset_")] == [5]


def exact_direction(operator: str) -> Direction:
    offsets = [magnitude_offset(PARAMETERS, PRUNABLE, m) for m in REMOVED]
    exact = [Spectrum(EIGENVALUES[operator], v**2 / (v @ v)) for v in offsets]
    return interpolated_direction(REMOVED, [Bracket.exact(s, "psd") for s in exact])


def test_predictions_are_those_of_the_exact_spectrum() -> None:
    spectra = [*read("hessian", offsets=False), *read("ggn")]
    table = predictions(network_file(), spectra, sweep_file(), [0.11, 0.05])
    variants = [(name, *variant) for name in ("hessian", "ggn") for variant in VARIANTS[name]]
    rules = [("batch_std", BATCH_LOSSES.std()), ("fixed", 0.11), ("fixed", 0.05)]
    columns = ["operator", "negative", "formula", "direction", "rule", "epsilon"]
    expected = {(*variant, *rule) for variant in variants for rule in rules}
    assert set(table[columns].itertuples(index=False, name=None)) == expected
    assert len(table) == len(expected)
    for row in table.to_dict("records"):
        eigenvalues = EIGENVALUES[row["operator"]]
        if of_trace := row["formula"] == "trace":
            eigenvalues = np.array([eigenvalues.mean()])
        found = pruning_limit(
            Bracket.exact(Spectrum.of_eigenvalues(eigenvalues), row["negative"]),
            PARAMETERS[PRUNABLE],
            DIMENSION,
            row["epsilon"],
            "published" if of_trace else row["formula"],
            exact_direction(row["operator"]) if row["direction"] == "offset" else None,
        )
        assert isinstance(found, Limit)
        assert (row["removed_lower"], row["removed_upper"]) == (found.lower, found.upper)
        assert (row["pruning_ratio"], row["density"]) == (found.pruning_ratio, found.density)
        for name in ("radius", "tau", "sensitivity"):
            assert row[name] == pytest.approx(getattr(found, name), rel=1e-5, abs=1e-9)
        assert row["reason"] == ""


def test_measured_thresholds_stand_beside_them() -> None:
    """Loss rises by 0.02 with every five weights removed, by half if the kept ones adapt."""
    table = predictions(network_file(), read("ggn"), sweep_file(), [0.11, 0.045, 9.0])
    removed = table.set_index("epsilon")[["one_shot_ratio", "reoptimised_ratio"]] * 50
    spread = BATCH_LOSSES.std()
    assert removed.one_shot_ratio.to_dict() == {spread: 15, 0.11: 25, 0.045: 10, 9.0: 45}
    assert removed.reoptimised_ratio.to_dict() == {spread: 35, 0.11: 45, 0.045: 20, 9.0: 45}
    assert (table.prunable == 50).all()


def test_what_was_not_measured_is_missing() -> None:
    sweep = sweep_file()
    sweep.table("sweep")["reoptimised_rise"] = np.nan
    table = predictions(network_file(), read("ggn"), sweep, [0.1])
    assert table.reoptimised_ratio.isna().all()
    assert table.one_shot_ratio.notna().all()


def test_the_trace_says_less_than_the_spectrum() -> None:
    """Jensen's inequality: tau / (t + tau) is convex in t."""
    table = predictions(network_file(), read("ggn"), sweep_file(), [1e-3, 0.01, 0.1, 1.0])
    ratios = table[table.direction == "none"].pivot_table(
        index="epsilon", columns="formula", values="pruning_ratio"
    )
    assert (ratios.trace <= ratios.published).all()
    assert (ratios.trace < ratios.published - 0.1).any()


@pytest.mark.parametrize(("tolerance", "removed"), [(0.0, 10), (0.015, 15), (0.1, 25), (1.0, 45)])
def test_a_threshold_by_accuracy_stands_beside_them(tolerance: float, removed: int) -> None:
    """It ends where accuracy first falls too far, even if it recovers."""
    table = predictions(network_file(), read("ggn"), sweep_file(), [0.1], tolerance)
    assert (table.one_shot_ratio_by_accuracy == removed / 50).all()


def test_a_fall_of_exactly_the_tolerance_is_within_it() -> None:
    """0.95 - 0.94 > 0.01 in floating point."""
    sweep = sweep_file()
    sweep.table("sweep")["validation_accuracy"] = [0.95, *[0.94] * 4, *[0.93] * 5]
    table = predictions(network_file(), read("ggn"), sweep, [0.1], 0.01)
    assert (table.one_shot_ratio_by_accuracy == 20 / 50).all()


def test_the_direction_counts_only_if_the_file_has_it() -> None:
    spectra = [read("ggn", offsets=offsets) for offsets in (True, False)]
    aware, blind = (predictions(network_file(), r, sweep_file(), [0.11]) for r in spectra)
    by_formula = ["formula", "direction", "rule"]
    aware, blind = (table.set_index(by_formula).sort_index() for table in (aware, blind))
    assert set(blind.index.get_level_values("direction")) == {"none", "isotropic"}
    assert len(blind) == 4 * 2  # the isotropic B once
    same = blind.index[blind.index.get_level_values("formula") != "A"]
    pd.testing.assert_frame_equal(aware.loc[same], blind.loc[same])
    for name in ("A", "B"):
        assert (aware.tau[name, "offset"] != blind.tau[name, "isotropic"]).all()


@pytest.mark.parametrize("steps", [2, 8, 60])
def test_every_row_has_a_limit_or_a_reason(tmp_path: Path, steps: int) -> None:
    files = network_file(), [*read("hessian", steps=steps), *read("ggn", steps=steps)], sweep_file()
    table = predictions(*files, [1e-6, 0.11])
    curves = sensitivities(*files, [0.11], [1e-6, 0.1], [1, 3])
    content = {"bounds": table, "sensitivity": curves}
    store.write(tmp_path / "bounds.h5", "bounds", content, config={})
    table, curves = (store.read(tmp_path / "bounds.h5", "bounds").table(name) for name in content)
    known = table.reason == ""
    numbers = table[["pruning_ratio", "density", "radius", "tau", "sensitivity"]]
    assert numbers[known].notna().all(axis=None)
    assert numbers[~known].isna().all(axis=None)
    assert (table[~known][["removed_lower", "removed_upper"]] == -1).all(axis=None)
    assert (table[known].removed_lower <= table[known].removed_upper).all()
    assert table[~known].reason.str.contains("Lanczos steps").all()
    assert known.all() == (steps == 60)
    assert (curves.pruning_ratio.notna() == (curves.reason == "")).all()
    assert (curves.reason == "").all() == (steps == 60)


def test_a_spread_between_batches_that_is_none_is_refused() -> None:
    file = spectrum("ggn")
    file = replace(file, content={**file.content, "batch_losses": np.array([0.4])})
    with refused("'batch_std'", "must be positive"):
        readings([file])


# --- Sensitivity ----------------------------------------------------------------------------------


def test_curves_are_predictions_at_each_tolerance() -> None:
    files = network_file(), [*read("hessian"), *read("ggn")], sweep_file()
    epsilons = [1e-3, 0.02, 0.11]
    curves = sensitivities(*files, [0.5], epsilons, [2.0]).query("varied == 'epsilon'")
    single = predictions(*files, epsilons).query("rule == 'fixed'")
    assert len(curves) == 7 * 3
    shared = [*files[1][0].names, "epsilon", "pruning_ratio", "one_shot_ratio", "reoptimised_ratio"]
    pd.testing.assert_frame_equal(
        curves[shared].reset_index(drop=True), single[shared].reset_index(drop=True)
    )
    for _, curve in curves.groupby(["operator", "negative", "formula", "direction"]):
        assert (curve.sort_values("epsilon").pruning_ratio.diff().iloc[1:] >= 0).all()


def test_larger_weights_are_a_smaller_tolerance() -> None:
    """At the same curvature, twice the weights allow what a quarter of the tolerance does."""
    files = network_file(), read("ggn"), sweep_file()
    spread = BATCH_LOSSES.std()
    curves = sensitivities(*files, [0.1], [spread / 4, 0.1 / 9], [1.0, 2.0, 3.0])
    names = ["formula", "direction"]
    by_epsilon = curves[curves.varied == "epsilon"].set_index([*names, "epsilon"]).pruning_ratio
    scaled = curves[curves.varied == "scale"].set_index([*names, "rule", "scale"])
    assert len(scaled) == 5 * 2 * 3
    for formula, direction in curves[names].drop_duplicates().itertuples(index=False):
        key = formula, direction
        for rule, scale, epsilon in (("batch_std", 2.0, spread / 4), ("fixed", 3.0, 0.1 / 9)):
            found = scaled.pruning_ratio[(*key, rule, scale)]
            assert found == pytest.approx(by_epsilon[(*key, epsilon)], abs=0.021)  # one weight
        assert (
            scaled.pruning_ratio[(*key, "fixed", 1.0)] >= scaled.pruning_ratio[(*key, "fixed", 3.0)]
        )
    assert scaled[["one_shot_ratio", "reoptimised_ratio"]].isna().all(axis=None)


def test_weights_scaled_with_their_curvature_have_the_same_limit() -> None:
    """The same function: its second derivatives fall as the square of the scale."""
    scale, epsilon = 3.0, 0.05
    for formula in ("published", "A", "B"):
        found = [
            pruning_limit(
                Bracket.exact(Spectrum.of_eigenvalues(EIGENVALUES["ggn"] / factor**2), "psd"),
                factor * PARAMETERS[PRUNABLE],
                DIMENSION,
                epsilon,
                formula,
            )
            for factor in (1.0, scale)
        ]
        one, other = found
        assert isinstance(one, Limit)
        assert isinstance(other, Limit)
        assert one.removed == other.removed
