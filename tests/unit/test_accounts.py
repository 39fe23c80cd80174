"""What a study did and what became of its runs, against cases worked out by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from sparselimit.accounts import OUTCOMES, extent, outcomes, splits
from sparselimit.store import Stored
from tests.unit.refusals import refused
from tests.unit.test_tables import records, runs_file, stored


def layers(least: list[int]) -> pd.DataFrame:
    """Two layers of each run, after training and before it; one keeps so many weights."""
    rows = [
        (run, when, layer, kept if layer == 2 and when == "end" else 5)
        for run, kept in enumerate(least)
        for when in ("start", "end")
        for layer in (1, 2)
    ]
    return pd.DataFrame(rows, columns=["run", "when", "layer", "weights"])


def counted(table: pd.DataFrame) -> dict[str, int]:
    return dict(zip(table.outcome, table.runs, strict=True))


def test_the_first_outcome_that_holds_counts() -> None:
    runs: list[dict[str, Any]] = [
        {"diverged_at": 3, "paths": 0.0},
        {"paths": 0.0},  # its layer is empty
        {"paths": 0.0},
        {"accuracy": 0.5},
        {"accuracy": 0.5001},
        {"accuracy": 0.7999},
        {"accuracy": 0.8, "weights": 19},
        {"accuracy": 0.99},
    ]
    table = outcomes([runs_file("imp", 3, runs, layers([5, 0, 1, 5, 5, 5, 5, 5]))])
    assert counted(table) == {
        "diverged": 1,
        "empty layer": 1,
        "no path": 1,
        "constant output": 1,
        "below 80 %": 2,
        "80 % or more": 2,
    }
    assert set(table.outcome) < set(OUTCOMES)
    assert table.share.sum() == pytest.approx(1)
    assert table.set_index("outcome").share["below 80 %"] == 2 / 8
    assert table.set_index("outcome").off_target.to_dict()["80 % or more"] == 1
    assert set(table.stage) == {"prune"}
    assert table[
        ["study", "source", "network", "target"]
    ].drop_duplicates().to_numpy().tolist() == [["wide", "imp", "w3", 20]]


def test_a_target_of_effective_weights_is_counted_in_them() -> None:
    runs = [{"effective_weights": 20, "weights": 25}, {"effective_weights": 18, "weights": 20}]
    file = runs_file("imp_effective", 3, runs, layers([5, 5]))
    effective = Stored(
        file.path,
        file.content,
        file.attributes | {"config": '{"method": "imp", "count": "effective"}'},
    )
    assert outcomes([effective]).off_target.sum() == 1
    assert outcomes([file]).off_target.sum() == 1
    alike = runs_file(
        "imp_effective", 3, [run | {"method": "random_imp"} for run in runs], layers([5, 5])
    )
    assert outcomes([alike]).off_target.sum() == 0  # controls have no target of their own


def test_starts_of_a_race() -> None:
    """Dead from the start, given up, behind but trained on, and to the end."""
    runs = pd.DataFrame(
        [(0, False, 0.7), (2, False, 0.9), (2, True, 0.9), (-1, False, 0.6), (-1, False, 0.5)],
        columns=["dropped", "calibration", "accuracy"],
    ).assign(diverged_at=-1, steps=10)
    table = outcomes([stored("search-shard", "k9.h5", {"runs": runs}, weights=9)])
    assert counted(table) == {
        "constant output": 2,
        "given up": 1,
        "80 % or more": 1,
        "below 80 %": 1,
    }
    assert set(table.target) == {9}


def test_shards_are_counted_together() -> None:
    runs = pd.DataFrame({"network": [0, 1], "accuracy": [0.9, 0.5], "diverged_at": -1})
    networks = pd.DataFrame({"network": [0, 1], "weights": [8, 9]})
    shards = [
        stored("block-runs", f"blocks/first/{i}.h5", {"runs": runs, "networks": networks})
        for i in range(3)
    ]
    assert records(outcomes(shards)[["study", "target", "outcome", "runs", "share"]]) == [
        {"study": "first", "target": 8, "outcome": "80 % or more", "runs": 3, "share": 1},
        {"study": "first", "target": 9, "outcome": "constant output", "runs": 3, "share": 1},
    ]


def test_predictions_that_cannot_be_told() -> None:
    rows = pd.DataFrame({"reason": ["", "too coarse", "too coarse"], "prunable": 100})
    rows = rows.assign(formula="B", operator="ggn", negative="psd")
    table = outcomes([stored("bounds", "bounds/conv.h5", {"bounds": rows})])
    assert counted(table) == {"predicted": 1, "unresolved": 2}
    assert set(table.network) == {"conv"}
    assert set(table.source) == {"B, ggn psd"}


def pruned_classifiers() -> Stored:
    """Three networks, of which the first was not trained again and the last lost a layer."""
    runs = pd.DataFrame({"weights": [90, 50, 10], "epochs": [0.0, 4.0, 4.0]})
    rows = [(run, layer, 0 if run + layer == 3 else 5) for run in range(3) for layer in (0, 1)]
    content = {"runs": runs, "layers": pd.DataFrame(rows, columns=["run", "layer", "kept"])}
    path = "baselines/conv/imp/part-000-of-001.h5"
    return stored("pruned-networks", path, content, method="imp", name=None)


def test_classifiers_that_lost_a_layer() -> None:
    table = outcomes([pruned_classifiers()])
    assert table[["source", "network", "target", "outcome"]].to_numpy().tolist() == [
        ["imp", "conv", 90, "trained"],
        ["imp", "conv", 50, "trained"],
        ["imp", "conv", 10, "empty layer"],
    ]


def timed(file: Stored, seconds: float, device: str = "cpu") -> Stored:
    return Stored(file.path, file.content, file.attributes | {"seconds": seconds, "device": device})


def test_extent() -> None:
    levels = pd.DataFrame({"runs": [4, 5], "steps": [40.0, 50.0]})
    files = [
        timed(runs_file("imp", 3, [{}, {"seed": 1}]), 2.5),
        timed(runs_file("snip", 3, [{"steps": 7}]), 1.0, "cuda"),
        timed(stored("beam", "beam.h5", {"by_weights": levels}), 3.0),
        timed(stored("network", "a.h5", {}, state_dict=None), 4.0),
        timed(stored("network", "b.h5", {}, state_dict="mine.pt"), 1.0),
        timed(pruned_classifiers(), 2.0),
        timed(stored("geometry", "geometry.h5", {}), 0.5),
    ]
    table = extent(files)
    columns = ["kind", "files", "networks", "steps", "seconds", "devices"]
    assert table[columns].to_numpy().tolist() == [
        ["spiral-runs", 2, 3, 207, 3.5, "cpu cuda"],
        ["beam", 1, 9, 90, 3.0, "cpu"],
        ["network", 2, 1, 0, 5.0, "cpu"],
        ["pruned-networks", 1, 2, 0, 2.0, "cpu"],
        ["geometry", 1, 0, 0, 0.5, "cpu"],
    ]
    with refused("no result file is given"):
        extent([])


def test_splits() -> None:
    content = {
        "x": np.zeros((6, 1, 8, 8)),
        "y": np.array([0, 1, 1, 2, 0, 2]),
        "split": np.array([0, 0, 0, 0, 3, 3]),
    }
    table = splits([stored("images", "data/digits.h5", content)])
    assert table.to_numpy().tolist() == [
        ["digits", "fit", 4, "1 x 8 x 8", 3, 1, 2],
        ["digits", "test", 2, "1 x 8 x 8", 3, 0, 1],
    ]
