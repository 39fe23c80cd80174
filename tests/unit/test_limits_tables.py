"""Tables about trained networks, from small files made here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sparselimit import store, tables
from sparselimit.figures.registry import draw
from sparselimit.limits import tables as limits
from sparselimit.limits.tables import MAGNITUDES
from sparselimit.store import Stored
from tests.unit.refusals import refused


def stored(kind: str, path: str, content: dict[str, Any], **config: object) -> Stored:
    attributes = {"kind": kind, "config": json.dumps(config), "seconds": 7.5}
    return Stored(Path(path), content, attributes)


def network(name: str, weights: list[float], **recipe: object) -> Stored:
    """Some weights and a bias; `recipe` says how it was trained."""
    asked = {"architecture": "fc", "widths": [3], "l1": 0.0, "weight_decay": 0.0, "epochs": 5}
    content = {
        "parameters": np.array([*weights, 100.0]),
        "prunable": np.arange(len(weights) + 1) < len(weights),
        "history": pd.DataFrame({"validation_accuracy": [0.1, 0.9]}),
    }
    given = {"seed": 0, "state_dict": None, **asked, **recipe}
    return stored("network", f"train/networks/{name}.h5", content, **given)


def spectrum(name: str, operator: str, eigenvalues: list[list[float]], size: int) -> Stored:
    """Two eigenvalues in equal shares for each probe; row norms 1, 2, ..., the bias's above all."""
    low, high = np.array(eigenvalues).T
    content = {
        "alpha": np.stack([(low + high) / 2] * 2, axis=1),
        "beta": np.stack([(high - low) / 2, np.zeros(len(low))], axis=1),
        "steps": np.full(len(low), 2),
        "row_norm": np.append(np.arange(1.0, size + 1), 1e6),
        "diagonal": -np.arange(size + 1.0),
        "trace": np.array(3.0),
        "trace_error": np.array(0.5),
        "gradient_norm": np.array(0.2),
        "loss": np.array(0.1),
    }
    asked = {"operator": operator, "split": "fit", "row_probes": 64, "precision": "float64"}
    return stored("spectrum", f"spectrum/{name}-{operator}.h5", content, **asked)


def bounds(name: str, rows: list[dict[str, Any]]) -> Stored:
    default = {
        "operator": "ggn",
        "negative": "psd",
        "formula": "published",
        "direction": "none",
        "rule": "batch_std",
        "epsilon": 0.1,
        "prunable": 100,
        "resolution": 0.01,
        "removed_lower": 40,
        "removed_upper": 42,
        "pruning_ratio": 0.41,
        "reason": "",
        "one_shot_ratio": 0.3,
        "reoptimised_ratio": 0.4,
        "one_shot_ratio_by_accuracy": 0.5,
    }
    return stored(
        "bounds", f"bounds/{name}.h5", {"bounds": pd.DataFrame([default | r for r in rows])}
    )


UNRESOLVED = {
    "removed_lower": -1,
    "removed_upper": -1,
    "pruning_ratio": np.nan,
    "reason": "too coarse",
    "operator": "hessian",
    "negative": "abs",
    "resolution": 0.5,
}


def test_rows() -> None:
    """Five weights in three bins of magnitude; what is beyond the bins stands in the outermost."""
    weights = [0.011, -0.012, 0.0, 3e-9, -50.0]
    table = limits.rows([network("net", weights), spectrum("net", "ggn", [[1, 5]], 5)])
    assert set(table.network) == {"net"}
    assert set(table.operator) == {"ggn"}
    assert table.weights.tolist() == [2, 2, 1]
    assert table.share.tolist() == [0.4, 0.4, 0.2]
    assert table.magnitude_low.tolist() == pytest.approx([1e-8, 1e-2, 10**0.75])
    assert table.magnitude_high.tolist() == pytest.approx([10**-7.75, 10**-1.75, 10])
    assert table.row_norm_median.tolist() == [3.5, 1.5, 5]
    assert table.row_norm_p10.tolist() == pytest.approx([3.1, 1.1, 5])
    assert table.row_norm_p90.tolist() == pytest.approx([3.9, 1.9, 5])
    assert table.diagonal_median.tolist() == [-2.5, -0.5, -4]


def test_curvature() -> None:
    weights = [0.1, 0.2, -0.3, 0.4]
    files = [
        network("net", weights),
        spectrum("net", "ggn", [[1, 5], [0, 6]], 4),
        spectrum("net", "hessian", [[-2, 5]], 4),
        bounds("net", [{}, {"removed_upper": 45}, UNRESOLVED, UNRESOLVED]),
    ]
    ggn, hessian = limits.curvature(files).to_dict("records")
    assert ggn == pytest.approx(
        {
            "network": "net",
            "operator": "ggn",
            "parameters": 5,
            "split": "fit",
            "probes": 2,
            "steps": 2,
            "row_probes": 64,
            "precision": "float64",
            "seconds": 7.5,
            "resolution": 0.01,
            "widest_bracket": 0.05,
            "unresolved": 0,
            "loss": 0.1,
            "gradient_norm": 0.2,
            "smallest_eigenvalue": 0,
            "largest_eigenvalue": 6,
            "trace": 3.0,
            "trace_error": 0.5,
            "small_rows": 0,
            "rank_correlation": 1,
        },
        abs=1e-12,
    )
    assert (hessian["smallest_eigenvalue"], hessian["unresolved"]) == (pytest.approx(-2), 2)
    assert np.isnan(hessian["widest_bracket"])


def test_variation() -> None:
    """Of three networks two are trained alike but for the seed."""
    spread = np.repeat(MAGNITUDES[4:24:5] * 1.01, 25).tolist()  # four bins
    files = [
        network("one", spread),
        network("two", spread[:75] + spread[50:75], seed=1),
        network("far", [9.0] * 50, l1=0.1),
        spectrum("one", "ggn", [[1.2, 9], [1.3, 30]], 100),
        spectrum("far", "ggn", [[-1.2, 9], [-1.2, 9]], 50),
    ]
    table = limits.variation(files).set_index(["of", "differ", "first", "second"])
    assert table.distance.to_dict() == pytest.approx(
        {
            ("weights", "seed", "one", "two"): 0.25,
            ("weights", "recipe", "one", "far"): 1,
            ("weights", "recipe", "two", "far"): 1,
            ("ggn", "probe", "one, probe 1", "one, probe 2"): 0.5,
            ("ggn", "probe", "far, probe 1", "far, probe 2"): 0,
            ("ggn", "recipe", "one", "far"): 0.75,
        }
    )
    assert table.chance["ggn"].isna().all()


def test_variation_by_chance_is_that_of_equal_distributions() -> None:
    """Over 40 pairs of samples."""
    rng, distances, chances = np.random.default_rng(0), [], []
    for _ in range(40):
        a, b = (np.exp(rng.normal(-3, 1.5, size)).tolist() for size in (300, 800))
        files = [network("a", a), network("b", b), spectrum("a", "ggn", [[1, 2]], 300)]
        row = limits.variation(files).iloc[0]
        distances.append(row.distance)
        chances.append(row.chance)
    assert np.mean(distances) == pytest.approx(np.mean(chances), rel=0.05)
    assert 0.05 < np.mean(chances) < 0.2


def test_gaps() -> None:
    table = limits.gaps([bounds("net", [{}, UNRESOLVED])])
    first, second = table.to_dict("records")
    gaps = {
        "bracket": 0.02,
        "above_reoptimised": 0.01,
        "above_one_shot": 0.11,
        "above_one_shot_by_accuracy": -0.09,
    }
    assert {name: first[name] for name in gaps} == pytest.approx(gaps)
    assert all(np.isnan(second[name]) for name in gaps)
    assert (first["network"], second["operator"]) == ("net", "hessian")


def test_penalties() -> None:
    """A network that came as a state dict was trained nobody knows how."""
    corrected = {"formula": "B", "direction": "offset", "pruning_ratio": 0.6}
    isotropic = {"formula": "B", "direction": "isotropic", "pruning_ratio": 0.7}
    rows = [{}, corrected, isotropic, {"rule": "fixed", "epsilon": 0.2}, UNRESOLVED]
    files = [
        network("net", [0.5, 1e-4], l1=0.01),
        network("given", [0.5], state_dict="mine.pt"),
        bounds("net", rows),
        bounds("given", rows),
    ]
    first, second = limits.penalties(files).to_dict("records")
    assert first == pytest.approx(
        {
            "network": "net",
            "architecture": "fc 3",
            "l1": 0.01,
            "weight_decay": 0.0,
            "epochs": 5,
            "seed": 0,
            "validation_accuracy": 0.9,
            "below_1e-3": 0.5,
            "rule": "batch_std",
            "epsilon": 0.1,
            "published": 0.41,
            "corrected": 0.6,
            "reoptimised": 0.4,
            "one_shot": 0.3,
            "one_shot_by_accuracy": 0.5,
        }
    )
    assert (second["rule"], second["epsilon"], second["published"]) == ("fixed", 0.2, 0.41)
    assert pd.isna(second["corrected"])


def test_penalties_of_networks_that_were_all_given(tmp_path: Path) -> None:
    """A table without rows can be read again, and drawn."""
    files = [network("given", [0.5], state_dict="mine.pt"), bounds("given", [{}])]
    path = tmp_path / "penalties.csv"
    limits.penalties(files).to_csv(path, index=False)
    table = store.read_table(path)
    trained = [network("net", [0.5]), bounds("net", [{}])]
    assert table.columns.tolist() == limits.penalties(trained).columns.tolist()
    assert table.empty
    assert "no two networks" in draw("penalties", penalties=table).texts[0].get_text()


def test_sensitivity_names_each_network() -> None:
    parts = [pd.DataFrame({"scale": [1.0, 2.0]}), pd.DataFrame({"scale": [3.0]})]
    files = [
        stored("bounds", f"bounds/{name}.h5", {"sensitivity": part})
        for name, part in zip("ab", parts, strict=True)
    ]
    table = tables.sensitivity(files)
    assert table.to_numpy().tolist() == [["a", 1.0], ["a", 2.0], ["b", 3.0]]


def test_verdict_is_about_the_dimension_of_its_file() -> None:
    rows = pd.DataFrame(
        [("A", 0.5, 0.42, 0.4)], columns=["model", "published", "corrected", "measured"]
    )
    table = tables.verdict([stored("geometry", "geometry.h5", {"geometry": rows}, dimension=100)])
    assert table.allowed.tolist() == [0.03, 0.03]
    assert table.holds.tolist() == [False, True]


@pytest.mark.parametrize("name", ["rows", "curvature", "variation", "gaps", "penalties"])
def test_a_table_of_no_files_says_what_it_lacks(name: str) -> None:
    with refused("no file of kind", "nothing to tell"):
        tables.TABLES[name]([])
