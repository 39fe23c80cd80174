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
from sparselimit.limits.prediction import VARIANTS, lanczos_runs, predictions
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


def spectrum_file(operator: str, *, steps: int = DIMENSION, offsets: bool = True) -> Stored:
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
    }
    return stored("spectrum", content, operator=operator)


def network_file() -> Stored:
    return stored("network", {"parameters": PARAMETERS, "prunable": PRUNABLE})


def sweep_file() -> Stored:
    table = pd.DataFrame(
        {
            "removed": range(0, 50, 5),
            "fit_loss": 0.4 + 0.02 * np.arange(10),
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
    spectra = [spectrum_file("hessian", offsets=False), spectrum_file("ggn")]
    table = predictions(network_file(), spectra, sweep_file(), [0.11, 0.05])
    variants = [(name, *variant) for name in ("hessian", "ggn") for variant in VARIANTS[name]]
    rules = [("batch_std", BATCH_LOSSES.std()), ("fixed", 0.11), ("fixed", 0.05)]
    columns = ["operator", "negative", "formula", "rule", "epsilon"]
    expected = {(*variant, *rule) for variant in variants for rule in rules}
    assert set(table[columns].itertuples(index=False, name=None)) == expected
    assert len(table) == len(expected)
    for row in table.to_dict("records"):
        exact = Spectrum.of_eigenvalues(EIGENVALUES[row["operator"]])
        found = pruning_limit(
            Bracket.exact(exact, row["negative"]),
            PARAMETERS[PRUNABLE],
            DIMENSION,
            row["epsilon"],
            row["formula"],
            exact_direction(row["operator"]) if row["formula"] == "B" else None,
        )
        assert isinstance(found, Limit)
        assert (row["removed_lower"], row["removed_upper"]) == (found.lower, found.upper)
        assert (row["pruning_ratio"], row["density"]) == (found.pruning_ratio, found.density)
        for name in ("radius", "tau", "sensitivity"):
            assert row[name] == pytest.approx(getattr(found, name), rel=1e-5, abs=1e-9)
        assert row["reason"] == ""


def test_measured_thresholds_stand_beside_them() -> None:
    """Loss rises by 0.02 with every five weights removed."""
    table = predictions(network_file(), [spectrum_file("ggn")], sweep_file(), [0.11, 0.05, 9.0])
    by_epsilon = table.set_index("epsilon").one_shot_removed.to_dict()
    assert by_epsilon == {BATCH_LOSSES.std(): 15, 0.11: 25, 0.05: 10, 9.0: 45}
    assert (table.prunable == 50).all()
    assert (table.one_shot_ratio == table.one_shot_removed / 50).all()


@pytest.mark.parametrize(("tolerance", "removed"), [(0.0, 10), (0.015, 15), (0.1, 25), (1.0, 45)])
def test_a_threshold_by_accuracy_stands_beside_them(tolerance: float, removed: int) -> None:
    """It ends where accuracy first falls too far, even if it recovers."""
    table = predictions(network_file(), [spectrum_file("ggn")], sweep_file(), [0.1], tolerance)
    assert (table.one_shot_ratio_by_accuracy == removed / 50).all()


def test_the_direction_counts_only_if_the_file_has_it() -> None:
    files = [spectrum_file("ggn", offsets=offsets) for offsets in (True, False)]
    aware, blind = (predictions(network_file(), [f], sweep_file(), [0.11]) for f in files)
    published = aware.formula == "published"
    pd.testing.assert_frame_equal(aware[published], blind[published])
    assert (aware[~published].tau != blind[~published].tau).all()


@pytest.mark.parametrize("steps", [2, 8, 60])
def test_every_row_has_a_limit_or_a_reason(tmp_path: Path, steps: int) -> None:
    spectra = [spectrum_file(operator, steps=steps) for operator in ("hessian", "ggn")]
    table = predictions(network_file(), spectra, sweep_file(), [1e-6, 0.11])
    store.write(tmp_path / "bounds.h5", "bounds", {"bounds": table}, config={})
    table = store.read(tmp_path / "bounds.h5", "bounds").table("bounds")
    known = table.reason == ""
    numbers = table[["pruning_ratio", "density", "radius", "tau", "sensitivity"]]
    assert numbers[known].notna().all(axis=None)
    assert numbers[~known].isna().all(axis=None)
    assert (table[~known][["removed_lower", "removed_upper"]] == -1).all(axis=None)
    assert (table[known].removed_lower <= table[known].removed_upper).all()
    assert table[~known].reason.str.contains("Lanczos steps").all()
    assert known.all() == (steps == 60)


def test_a_spread_between_batches_that_is_none_is_refused() -> None:
    spectrum = spectrum_file("ggn")
    content = {**spectrum.content, "batch_losses": np.array([0.4])}
    spectrum = replace(spectrum, content=content)
    with refused("'batch_std'", "must be positive"):
        predictions(network_file(), [spectrum], sweep_file(), [0.1])
