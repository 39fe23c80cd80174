"""The tables of the report, against numbers worked out by hand."""

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sparselimit import tables
from sparselimit.kinds import KINDS
from sparselimit.pruning.classifiers import tables as classifiers
from sparselimit.statistics import ACCURACIES
from sparselimit.store import Stored
from tests.unit.refusals import refused


def stored(kind: str, path: str, content: Mapping[str, Any], **config: object) -> Stored:
    return Stored(Path(path), content, {"kind": kind, "config": json.dumps(config)})


def runs_file(
    method: str, width: int, runs: list[dict[str, Any]], layers: pd.DataFrame | None = None
) -> Stored:
    """Runs of one method at one width; what is not given is as in a run that found nothing."""
    default = {
        "method": method,
        "network": f"w{width}",
        "target": 20,
        "d1": width,
        "d2": width,
        "d3": width,
        "learning_rate": 0.05,
        "schedule": "cosine",
        "seed": 0,
        "steps": 100,
        "weights": 20,
        "effective_weights": 18,
        "paths": 4.0,
        "accuracy": 0.5,
        "loss": 0.7,
        "diverged_at": -1,
    }
    content = {"runs": pd.DataFrame([default | run for run in runs]), "layers": layers}
    return stored("spiral-runs", f"wide/{method}.h5", content, method=method)


def frontier_file(best: dict[int, float]) -> Stored:
    table = pd.DataFrame({"weights": best.keys(), "accuracy": best.values()})
    return stored("frontier", "frontier.h5", {"by_weights": table.assign(steps=1000.0, networks=5)})


def records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")


def test_methods() -> None:
    imp = [
        {"accuracy": 0.9, "weights": 20, "effective_weights": 20, "paths": 9.0},
        {"accuracy": 0.6, "weights": 20, "effective_weights": 10, "paths": 1.0, "seed": 1},
        {"accuracy": 0.5, "weights": 18, "effective_weights": 0, "paths": 0.0, "diverged_at": 50},
        {"accuracy": 0.8, "weights": 20, "effective_weights": 16, "paths": 2.0, "seed": 2},
        {"accuracy": 1.0, "target": 24, "weights": 24},
    ]
    table = tables.methods([runs_file("imp", 3, imp), runs_file("imp", 4, [{}])])
    assert records(table)[0] == pytest.approx(
        {
            "study": "wide",
            "method": "imp",
            "network": "w3",
            "width": 3,
            "target": 20,
            "runs": 4,
            "steps": 400,
            "weights": 20.0,
            "density": 20 / 27,
            "effective_weights": 13.0,
            "connected": 0.75,
            "accuracy_median": 0.7,
            "accuracy_p10": 0.53,
            "accuracy_p90": 0.87,
            "accuracy_low": 0.5,
            "accuracy_high": 0.9,
            "diverged": 1,
        }
    )
    assert table[["width", "target", "runs"]].to_numpy().tolist() == [
        [3, 20, 4],
        [3, 24, 1],
        [4, 20, 1],
    ]


def test_success() -> None:
    runs = [{"accuracy": accuracy, "seed": i} for i, accuracy in enumerate([0.5, 0.9, 0.91, 0.96])]
    table = tables.success([runs_file("imp", 3, runs)])
    assert table.accuracy.tolist() == list(ACCURACIES)
    assert table.successes.tolist() == [3, 3, 1, 0, 0]
    assert table.rate.tolist() == [0.75, 0.75, 0.25, 0.0, 0.0]
    # Wilson's interval by its closed form, z = 1.96.
    z = 1.959964
    middle, half = (1 + z**2 / 2) / (4 + z**2), z * np.sqrt(4 * 0.25 * 0.75 + z**2 / 4) / (4 + z**2)
    assert table.rate_low[2] == pytest.approx(middle - half, abs=1e-6)
    assert table.rate_high[2] == pytest.approx(middle + half, abs=1e-6)


def test_connectivity() -> None:
    """Means over the runs of a group, layer by layer, before and after training."""
    counts = ["weights", "effective_weights", "active", "constant", "dead", "unused"]
    layers = pd.DataFrame(
        [
            (0, "start", 1, 6, 6, 3, 0, 0, 0),
            (0, "end", 1, 4, 2, 1, 1, 1, 0),
            (1, "start", 1, 6, 6, 3, 0, 0, 0),
            (1, "end", 1, 5, 5, 3, 0, 0, 0),
            (2, "end", 1, 1, 0, 0, 0, 1, 2),
        ],
        columns=["run", "when", "layer", *counts],
    )
    runs: list[dict[str, Any]] = [{}, {"seed": 1}, {"target": 24}]
    table = tables.connectivity([runs_file("imp", 3, runs, layers)])
    keys = ["study", "method", "network", "target", "when", "layer"]
    assert list(table.columns) == [*keys, *counts]
    assert table[["target", "when", *counts]].to_numpy().tolist() == [
        [20, "end", 4.5, 3.5, 2.0, 0.5, 0.5, 0.0],
        [20, "start", 6, 6, 3, 0, 0, 0],
        [24, "end", 1, 0, 0, 0, 1, 2],
    ]


def shard(
    weights: int, accuracy: list[float], steps: int = 100, raced: dict[str, Any] | None = None
) -> Stored:
    """A shard of the search: one row per start."""
    runs = pd.DataFrame({"accuracy": accuracy, "steps": steps})
    runs = runs.assign(dropped=-1, calibration=False) if raced is None else runs.assign(**raced)
    return stored("search-shard", f"k{weights}.h5", {"runs": runs}, weights=weights)


def test_equal_budget() -> None:
    """The search has as many steps as the method at each target: here those of two starts."""
    runs = [
        {"target": 12, "accuracy": 0.6},
        {"target": 12, "accuracy": 0.8, "seed": 1},
        {"target": 20, "accuracy": 0.9},
    ]
    shards = [shard(12, [0.5, 0.7]), shard(12, [0.6, 0.9]), shard(13, [1.0])]
    table = tables.equal_budget([runs_file("imp", 3, runs), *shards])
    assert table.target.tolist() == [12, 20]
    first = table.iloc[0]
    assert (first.runs, first.steps) == (2, 200)
    assert (first.method_best, first.method_median) == (0.8, 0.7)
    # Of the six pairs of starts, three hold 0.9, two of the others 0.7, one 0.6 at best.
    assert first.search_expected == pytest.approx((3 * 0.9 + 2 * 0.7 + 0.6) / 6)
    assert (first.search_low, first.search_high, first.search_full) == (0.6, 0.9, 0.9)
    assert table.iloc[1][["search_expected", "search_full"]].isna().all()


def test_a_budget_beyond_the_search_is_all_of_it() -> None:
    rich = [{"target": 12, "steps": 10_000}, {"target": 13, "steps": 1}]
    shards = [shard(12, [0.5, 0.7]), shard(13, [0.6, 0.8, 1.0])]
    table = tables.equal_budget([runs_file("imp", 3, rich), *shards])
    assert table.search_expected.tolist() == pytest.approx([0.7, 0.8])


def test_search_runs() -> None:
    files = [shard(8, [0.5, 0.6]), shard(4, [0.5]), shard(8, [0.7, 0.8, 0.9])]
    table = tables.search_runs(files)
    assert table.weights.tolist() == [4, 8]
    assert table.runs.tolist() == [1, 5]
    assert table[["q50", "q90", "q99", "best"]].iloc[0].tolist() == [0.5] * 4
    assert table[["q50", "q90", "q99", "best"]].iloc[1].tolist() == pytest.approx(
        [0.7, 0.86, 0.896, 0.9]
    )


def test_search_runs_of_a_race() -> None:
    """Starts that fell behind are no sample of full trainings: those trained in any case are."""
    raced = {"dropped": [1, 2, -1, -1, 0], "calibration": [False, True, True, False, True]}
    table = tables.search_runs([shard(9, [0.5, 0.6, 0.8, 0.9, 0.5], raced=raced)])
    assert table[["weights", "q50", "best", "runs"]].to_numpy().tolist() == [[9, 0.6, 0.9, 3]]


def test_search_success() -> None:
    """Counted by hand: three networks of 9 weights in two shards; what was given up has failed."""
    first: dict[str, Any] = {
        "network": [0, 0, 1, 1],
        "dropped": [1, 1, -1, -1],
        "calibration": [False, True, False, False],
    }
    second: dict[str, Any] = {"network": 2, "dropped": -1, "calibration": False}
    files = [shard(9, [0.9, 0.62, 0.61, 0.72], raced=first), shard(9, [0.5, 0.59], raced=second)]
    table = tables.search_success(files).set_index("accuracy")
    for column, count in (("weights", 9), ("networks", 3), ("runs", 6)):
        assert (table[column] == count).all()
    assert table.successes.tolist() == [3, 1, 1, 0, 0, 0, 0]
    assert table.networks_succeeded[[0.6, 0.65, 0.8]].tolist() == [2, 1, 0]
    assert table.best_rate[[0.6, 0.7]].tolist() == [1.0, 0.5]
    assert table.rate[0.6] == 0.5
    assert table.rate_low[0.6] + table.rate_high[0.6] == pytest.approx(1)


def test_thresholds() -> None:
    """Fewest weights that were kept, not asked for; at any width; missing where not reached."""
    files = [
        frontier_file({4: 0.5, 8: 0.81, 9: 0.8, 12: 0.96}),
        runs_file("imp", 3, [{"accuracy": 0.9, "weights": 19}, {"accuracy": 0.99, "weights": 25}]),
        runs_file("imp", 4, [{"accuracy": 0.85, "weights": 16}]),
        runs_file("snip", 3, [{"accuracy": 0.7}]),
    ]
    table = tables.thresholds(files)
    assert list(table.columns) == ["accuracy", "source", "weights", "steps", "best_accuracy"]
    fewest = table.pivot_table(index="source", columns="accuracy", values="weights", dropna=False)
    assert list(fewest.columns) == list(ACCURACIES)
    expected = {
        "imp": [16, 19, 25, 25, None],
        "search": [8, 12, 12, None, None],
        "snip": [None] * 5,
    }
    for source, weights in expected.items():
        found = table[table.source == source].sort_values("accuracy")
        assert [None if pd.isna(w) else w for w in found.weights] == weights
    totals = table.groupby("source")[["steps", "best_accuracy"]].first()
    assert list(totals.loc["imp"]) == [300, 0.99]
    assert list(totals.loc["search"]) == [4000, 0.96]
    assert list(totals.loc["snip"]) == [100, 0.7]


def test_networks() -> None:
    history = pd.DataFrame(
        {
            "epoch": [0, 1],
            "fit_loss": [2.0, 0.1],
            "fit_accuracy": [0.2, 0.9],
            "validation_accuracy": [0.1, 0.8],
        }
    )
    content = {
        "architecture": np.array(["fc"]),
        "widths": np.array([2, 1]),
        "parameters": np.array([0.5, -1e-4, 0.002, 0.0, 1e-5]),
        "prunable": np.array([True, True, True, True, False]),
        "history": history,
    }
    asked = {"l1": 0.5, "state_dict": None}
    (row,) = records(tables.networks([stored("network", "a/dense.h5", content, **asked)]))
    assert row == {
        "network": "dense",
        "architecture": "fc 2 1",
        "parameters": 5,
        "prunable": 4,
        "l1": 0.5,
        "below_1e-3": 0.5,
        "fit_loss": 0.1,
        "fit_accuracy": 0.9,
        "validation_accuracy": 0.8,
    }


QUALITY = {
    f"{s}_{what}": 0.5 for s in ("fit", "validation", "test") for what in ("loss", "accuracy")
}


def pruned_file(network: str, method: str, asked: list[float | None], **options: object) -> Stored:
    """As many networks as densities, of 100 weights in all; by IMP none are asked for."""
    runs = pd.DataFrame(
        {
            "round": range(len(asked)),
            "asked": [np.nan if d is None else d for d in asked],
            "weights": [40 - 10 * i for i in range(len(asked))],
            "density": [0.4 - 0.1 * i for i in range(len(asked))],
            "epochs": 7.0,
            "one_shot_weights": [20] * len(asked),
            **QUALITY,
        }
    )
    layers = {"layer": [1, 2] * len(runs), "weights": [60, 40] * len(runs)}
    path = f"results/baselines/{network}/{method}/part-000-of-001.h5"
    told = {"pruning_protocol": "exact", "options": options}
    content = {"runs": runs, "layers": pd.DataFrame(layers)}
    return stored("pruned-networks", path, content, method="imp", name=method, **told)


def test_baselines_stand_beside_the_network_they_are_compared_with() -> None:
    ratios = np.arange(0, 1, 0.05)
    sweep = pd.DataFrame({"pruning_ratio": ratios, "removed": (100 * ratios).round().astype(int)})
    sweep = sweep.assign(radius=ratios, **QUALITY)
    sweep["test_accuracy"] = 1 - ratios
    sweeps = [stored("sweep", f"a/{name}.h5", {"sweep": sweep}) for name in ("net", "other")]
    files = [pruned_file("net", "gem", [0.41, 0.3]), pruned_file("net", "again", [None]), *sweeps]
    table = classifiers.baselines(files)
    assert set(table.network) == {"net"}
    assert table.method.tolist() == ["again", "dense", "gem", "gem", "one_shot", "one_shot"]
    dense, shots = table[table.method == "dense"], table[table.method == "one_shot"]
    assert dense[["weights", "density", "test_accuracy"]].to_numpy().tolist() == [[100, 1, 1]]
    assert shots.asked.tolist() == [0.3, 0.41]
    assert shots.weights.tolist() == [30, 40]
    assert shots.test_accuracy.tolist() == pytest.approx([0.3, 0.4])
    gems = table[table.method == "gem"]
    assert gems.pruning_ratio.tolist() == pytest.approx([0.6, 0.7])
    assert gems["round"].tolist() == [0, 1]
    assert gems.one_shot_density.tolist() == pytest.approx([0.2, 0.2])
    assert classifiers.baselines(sweeps).empty


def test_a_sweep_of_one_ratio_has_the_dense_network_alone() -> None:
    """The nearest that it has to any density."""
    sweep = pd.DataFrame({"pruning_ratio": [0.0], "removed": [0], "radius": [0.0], **QUALITY})
    files = [pruned_file("net", "gem", [0.4]), stored("sweep", "a/net.h5", {"sweep": sweep})]
    table = classifiers.baselines(files).set_index("method")
    assert table.weights.to_dict() == {"dense": 100, "gem": 40, "one_shot": 100}
    assert table.density.to_dict() == {"dense": 1, "gem": 0.4, "one_shot": 1}


def test_rounds_shows_densities_of_the_dense_network() -> None:
    """A limit, which is a share of what a round has left, in the weights of the dense network."""
    limits = pd.DataFrame(
        {
            "method": "imp",
            "round": [0, 0, 1],
            "formula": ["published", "B", "B"],
            "density": [0.5, 0.25, np.nan],
            "reason": ["", "", "too coarse"],
            **dict.fromkeys(("operator", "negative", "direction"), ""),
            "epsilon": 0.1,
        }
    )
    files = [
        pruned_file("net", "imp", [None, None]),
        pruned_file("net", "gem", [0.4]),
        stored("round-limits", "round_limits/net.h5", {"limits": limits}),
    ]
    table = classifiers.rounds(files)
    assert table.method.tolist() == ["imp"] * 3
    assert table.density.tolist() == pytest.approx([0.4, 0.4, 0.3])
    assert table.predicted_density.tolist() == pytest.approx([0.2, 0.1, np.nan], nan_ok=True)
    assert table.one_shot_density.tolist() == pytest.approx([0.2, 0.2, 0.2])
    assert table.reason.tolist() == ["", "", "too coarse"]
    assert classifiers.rounds(files[:2]).empty


def test_reached_is_the_last_density_before_accuracy_is_lost() -> None:
    """Luck beyond the first loss does not count; a method that never keeps it has none."""
    ratios = np.array([0.0, 0.25, 0.5, 0.75])
    sweep = pd.DataFrame({"pruning_ratio": ratios, "removed": [0, 25, 50, 75]})
    sweep = sweep.assign(
        validation_accuracy=[0.9, 0.89, 0.7, 0.9], test_accuracy=[0.8, 0.7, 0.6, 0.5]
    )
    bounds = pd.DataFrame(
        {
            "formula": ["B", "B"],
            "operator": "ggn",
            "negative": "psd",
            "direction": "offset",
            "rule": ["batch_std", "fixed"],
            "pruning_ratio": [0.6, 0.7],
        }
    )
    good, bad = pruned_file("net", "gem", [0.4, 0.3, 0.2]), pruned_file("net", "bad", [0.4])
    good.table("runs")["validation_accuracy"] = [0.95, 0.9, 0.5]
    good.table("runs")["test_accuracy"] = [0.6, 0.55, 0.4]
    files = [
        stored("bounds", "a/net.h5", {"bounds": bounds}, accuracy_tolerance=0.01),
        stored("sweep", "a/net.h5", {"sweep": sweep}),
        *(good, bad),
    ]
    found = {row["method"]: row for row in records(classifiers.reached(files))}
    assert [row["source"] for row in found.values()] == ["predicted", *["measured"] * 3]
    assert found["B ggn psd offset"]["pruning_ratio"] == 0.6
    one_shot, gem = found["one_shot"], found["gem"]
    assert (one_shot["density"], one_shot["test_accuracy"]) == (0.75, 0.7)
    assert (gem["density"], gem["test_accuracy"]) == pytest.approx((0.3, 0.55))
    assert np.isnan(found["bad"]["density"])


def test_hyperparameters_are_those_that_files_were_made_with() -> None:
    recipe = dict.fromkeys(classifiers._RECIPE, 1) | {"milestones": [3, 5], "schedule": "step"}
    asked = {"data": "results/data/digits.h5", "state_dict": None, **recipe}
    files = [
        stored("network", "a/net.h5", {}, **asked),
        stored("network", "a/given.h5", {}, **{**asked, "state_dict": "x.pt"}),
        pruned_file("net", "gem", [0.4], l2=0.1),
        pruned_file("net", "gem", [0.2], l2=0.1),
    ]
    given, trained, gem = records(classifiers.hyperparameters(files))
    assert (given["network"], given["data"]) == ("given", "digits")
    assert given["epochs"] is None
    assert (trained["milestones"], trained["schedule"], trained["epochs"]) == ("3 5", "step", 1)
    assert (gem["network"], gem["method"]) == ("net", "gem")
    assert gem["options"] == "protocol exact, l2 0.1"


@pytest.mark.parametrize(("name", "kind"), [("sweeps", "sweep"), ("bounds", "bounds")])
def test_tables_of_several_networks_name_each(name: str, kind: str) -> None:
    one, two = pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [3]})
    files = [stored(kind, "x/dense.h5", {kind: one}), stored(kind, "x/sparse.h5", {kind: two})]
    table = tables.TABLES[name](files)
    assert records(table) == [
        {"a": 1, "network": "dense"},
        {"a": 2, "network": "dense"},
        {"a": 3, "network": "sparse"},
    ]
    assert table.index.tolist() == [0, 1, 2]


def test_blocks() -> None:
    """Two shards of one search and one of another; networks 0 and 2 have equally many weights."""

    def shard(path: str, weights: dict[int, int], runs: list[tuple[int, float]]) -> Stored:
        content = {
            "networks": pd.DataFrame({"network": weights.keys(), "weights": weights.values()}),
            "runs": pd.DataFrame(runs, columns=["network", "accuracy"]).assign(steps=10),
        }
        return stored("block-runs", path, content)

    files = [
        shard("b/first/0.h5", {0: 12, 2: 12}, [(0, 0.5), (0, 0.95), (2, 0.7), (2, 0.8)]),
        shard("b/first/1.h5", {1: 9}, [(1, 0.6), (1, 0.5)]),
        shard("b/second/0.h5", {0: 12}, [(0, 1.0)]),
    ]
    table = tables.blocks(files)
    levels = len(ACCURACIES)
    extent = ["search", "weights", "networks", "runs", "steps", "best_accuracy"]
    assert table[extent].to_numpy().tolist() == [
        *[["first", 9, 1, 2, 20, 0.6]] * levels,
        *[["first", 12, 2, 4, 40, 0.95]] * levels,
        *[["second", 12, 1, 1, 10, 1.0]] * levels,
    ]
    assert table.accuracy.tolist() == [*ACCURACIES] * 3
    assert table.successes.tolist() == [0] * 5 + [2, 1, 1, 0, 0] + [1] * 5
    assert table.rate.tolist() == [0.0] * 5 + [0.5, 0.25, 0.25, 0.0, 0.0] + [1.0] * 5
    # Wilson's interval of 0 of 2 and of 1 of 1: from 0 to z^2 / (n + z^2), from 1 / (1 + z^2) to 1.
    z2 = 1.959964**2
    assert table.rate_high[0] == pytest.approx(z2 / (2 + z2), abs=1e-6)
    assert table.rate_low[10] == pytest.approx(1 / (1 + z2), abs=1e-6)
    assert (table.rate_low[0], table.rate_high[10]) == (0, 1)


def test_spectra() -> None:
    """One probe, of a matrix with the eigenvalues 1 and 5 in equal shares."""
    content = {
        "alpha": np.array([[3.0, 3.0, 0.0]]),
        "beta": np.array([[2.0, 0.0, 0.0]]),
        "steps": np.array([2]),
    }
    table = tables.spectra([stored("spectrum", "x/dense-ggn.h5", content, operator="ggn")])
    assert set(table.network) == {"dense"}
    assert set(table.operator) == {"ggn"}
    x, density = table.eigenvalue.to_numpy(), table.density.to_numpy()
    assert np.trapezoid(density, x) == pytest.approx(1, rel=1e-3)
    for peak in (1.0, 5.0):
        near = abs(x - peak) < 0.2
        assert np.trapezoid(density[near], x[near]) == pytest.approx(0.5, rel=1e-3)
        assert x[near][density[near].argmax()] == pytest.approx(peak, abs=0.01)


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [("frontier", "frontier", "by_weights"), ("geometry", "geometry", "geometry")],
)
def test_tables_of_a_single_file(name: str, kind: str, part: str) -> None:
    content = pd.DataFrame({"a": [1, 2]})
    file = stored(kind, "x/file.h5", {part: content})
    pd.testing.assert_frame_equal(tables.TABLES[name]([file]), content)
    for wrong in ([], [file, file]):
        with refused(f"{len(wrong)} files given where one is needed"):
            tables.TABLES[name](wrong)


def test_bracket() -> None:
    """Enough weights by whatever found a network; too few where all failed."""
    by_search = pd.DataFrame({"weights": [8, 9, 10], "accuracy": [0.6, 0.85, 0.82]})
    exclusion = pd.DataFrame(
        [(k, level, 0.01 * k) for k in (8, 9, 10) for level in ACCURACIES],
        columns=["weights", "accuracy", "excluded_rate"],
    )
    search = stored("frontier", "f.h5", {"by_weights": by_search, "exclusion": exclusion})
    removed = pd.DataFrame({"weights": [12, 14], "accuracy": [0.91, 0.96]})
    beam = stored("beam", "b.h5", {"by_weights": removed})
    pruned = runs_file("imp", 3, [{"accuracy": 0.97, "weights": 20}, {"weights": 10}])
    table = tables.bracket([search, beam, pruned]).set_index("accuracy")
    assert table.at_most.fillna(0).tolist() == [9, 12, 14, 0, 0]
    assert table.source.tolist() == ["search", "beam", "beam", "", ""]
    assert table.searched_from.tolist() == [8] * 5
    assert table.searched_below.tolist() == [9, 11, 11, 11, 11]
    assert table.excluded_rate.tolist() == pytest.approx([0.08, 0.1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("weights", "accuracy", "searched", "excluded"),
    [
        ([4, 5, 6], [0.6, 0.6, 0.6], (4, 7), 0.06),
        ([6, 4, 5], [0.9, 0.6, 0.6], (4, 6), 0.05),
        ([10, 11, 12], [0.6, 0.6, 0.85], (10, 12), 0.11),
        ([10, 11, 12], [0.85, 0.6, 0.6], (10, 10), np.nan),  # the least is enough
        ([4, 5, 8, 9], [0.6, 0.6, 0.6, 0.85], (4, 6), 0.05),  # 6 and 7 were not searched
    ],
)
def test_nothing_is_said_to_be_searched_that_was_not(
    weights: list[int], accuracy: list[float], searched: tuple[int, int], excluded: float
) -> None:
    by_search = pd.DataFrame({"weights": weights, "accuracy": accuracy})
    exclusion = by_search.assign(accuracy=0.8, excluded_rate=0.01 * by_search.weights)
    search = stored("frontier", "f.h5", {"by_weights": by_search, "exclusion": exclusion})
    beam = stored("beam", "b.h5", {"by_weights": by_search.iloc[:0]})
    row = tables.bracket([search, beam]).iloc[0]
    assert (row.searched_from, row.searched_below) == searched
    assert row.excluded_rate == pytest.approx(excluded, nan_ok=True)


# --- Many files ----------------------------------------------------------------------------------

ROWS, FILES = 4000, 12


class Made(Mapping[str, pd.DataFrame]):
    """Parts of a file that are made whenever they are asked for, as `store.browse` reads them."""

    def __init__(self, **parts: Callable[[], pd.DataFrame]) -> None:
        self.parts = parts

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.parts[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def _rows(**columns: object) -> Callable[[], pd.DataFrame]:
    return lambda: pd.DataFrame({"row": np.arange(ROWS), **columns})


def _many(kind: str, number: int) -> Stored:
    """One of many large files, each of its own numbers in memory."""
    some = np.random.default_rng(number)
    accuracy = some.integers(0, 5, ROWS) / 4
    if kind == "spiral-runs":
        run = runs_file(f"m{number}", 3, [{}]).table("runs").iloc[0]
        layers = dict.fromkeys(["weights", "effective_weights", "active", "constant"], 1.0)
        content = {
            "runs": _rows(**{str(k): v for k, v in run.items()} | {"accuracy": accuracy}),
            "layers": _rows(run=0, when="end", layer=1, **layers, dead=0.0, unused=0.0),
        }
        return stored(kind, f"wide/m{number}.h5", Made(**content), method=f"m{number}")
    raced = {"dropped": -1, "calibration": False, "diverged_at": -1}
    runs = _rows(network=np.arange(ROWS), accuracy=accuracy, steps=7, **raced)
    networks = _rows(network=np.arange(ROWS), weights=12)
    parts = Made(runs=runs, networks=networks)
    return stored(kind, f"b/first/{number}.h5", parts, weights=20 - number)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("methods", ["spiral-runs"]),
        ("success", ["spiral-runs"]),
        ("connectivity", ["spiral-runs"]),
        ("equal_budget", ["spiral-runs", "search-shard"]),
        ("search_runs", ["search-shard"]),
        ("blocks", ["block-runs"]),
        ("outcomes", ["search-shard"]),
    ],
)
def test_a_table_of_many_files_takes_the_memory_of_one(name: str, kinds: list[str]) -> None:
    def peak(n: int) -> int:
        files = [_many(kind, i) for kind in kinds for i in range(n)]
        gc.collect()
        tracemalloc.start()
        try:
            tables.TABLES[name](files)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # what is made once and kept is not counted
    assert peak(FILES) < 2 * peak(1)


@pytest.mark.parametrize("name", ["search_runs", "blocks"])
def test_it_is_the_same_however_runs_are_cut_into_files(name: str) -> None:
    kind = {"search_runs": "search-shard", "blocks": "block-runs"}[name]
    whole = [_many(kind, i) for i in range(2)]
    halves = []
    for file in whole:
        for half in (0, 1):
            parts = {part: file.table(part)[half::2].reset_index() for part in file.content}
            halves.append(Stored(file.path, parts, file.attributes))
    table = tables.TABLES[name]
    pd.testing.assert_frame_equal(table(whole), table(halves))


def meeting_files() -> list[Stored]:
    """Two networks of one width; of the second there is one prediction and one refusal."""
    levels = list(ACCURACIES)
    known = pd.DataFrame(
        {
            "accuracy": levels,
            "weights": [12, 16, 17, 22, -1],
            "loss": [0.4, 0.2, 0.1, 0.01, np.nan],
            "source": ["search", "beam", "beam", "beam", ""],
        }
    )
    networks = pd.DataFrame(
        {"network": ["w4", "w4"], "d1": [4, 4], "weights": [44, 44], "loss": [0.1, 0.3]}
    )
    kept = {0: [11, 15, 16, 22, -1], 1: [20, -1, -1, -1, -1]}
    why = {0: ["", "", "", "", "unknown"], 1: ["", "budget", "budget", "budget", "unknown"]}
    limits = pd.concat(
        pd.DataFrame({"place": i, "accuracy": levels, "kept": kept[i], "refused": why[i]}).assign(
            budget=known.loss - networks.loss[i], operator="ggn", negative="psd", formula="B"
        )
        for i in (0, 1)
    )
    content = {"known": known, "networks": networks, "limits": limits}
    pruned = [{"accuracy": 0.91, "weights": 24}, {"accuracy": 0.81, "weights": 19}]
    accuracy = [0.6, 0.6, 0.6, 0.6, 0.81]
    search = pd.DataFrame({"weights": range(8, 13), "accuracy": accuracy, "steps": 1.0})
    exclusion = pd.DataFrame({"accuracy": levels, "weights": 8, "excluded_rate": 0.1})
    return [
        stored("spiral-limits", "l.h5", content),
        stored("frontier", "f.h5", {"by_weights": search, "exclusion": exclusion}),
        stored("beam", "b.h5", {"by_weights": pd.DataFrame({"weights": [16], "accuracy": [0.92]})}),
        runs_file("imp", 6, pruned),
        runs_file("random_imp", 6, [{"accuracy": 0.9, "weights": 4}]),
        runs_file("snip", 6, [{"accuracy": 0.85, "weights": 30}]),
    ]


def test_meeting() -> None:
    table = tables.meeting(meeting_files())
    assert table.accuracy.tolist() == list(ACCURACIES)
    assert table.columns[[0, 1, 2, 3]].tolist() == ["accuracy", "width", "network", "weights_dense"]
    assert set(table.network) == {"w4"}
    assert set(table.width) == {4}
    assert set(table.weights_dense) == {44}
    assert set(table.networks) == {2}
    first = table.iloc[0]
    predicted = ["predicted", "predicted_weights", "predicted_low", "predicted_high"]
    assert first[predicted].tolist() == [2, 15.5, 11, 20]
    assert (first.density, first.pruning_ratio) == (15.5 / 44, 1 - 15.5 / 44)
    assert (first.dense_loss, first.budget) == pytest.approx((0.2, 0.2))
    assert table.predicted.tolist() == [2, 1, 1, 1, 0]
    assert table.refused_budget.tolist() == [0, 1, 1, 1, 0]
    assert table.refused_unknown.tolist() == [0, 0, 0, 0, 2]
    assert not table[["refused_indefinite", "refused_unresolved"]].to_numpy().any()
    assert table.known_weights.fillna(0).tolist() == [12, 16, 17, 22, 0]
    assert set(table.searched_from) == {8}
    assert table.searched_below.tolist() == [12, 13, 13, 13, 13]
    assert table.best_method.fillna("").tolist() == ["imp", "imp", "", "", ""]
    assert table.best_method_weights.fillna(0).tolist() == [19, 24, 0, 0, 0]


def test_answers() -> None:
    """Truth, algorithms and theory of each accuracy; theory is that of one formula."""
    table = tables.answers(meeting_files()).drop(columns="excluded_rate")
    plain = table.astype(object).where(table.notna(), 0)
    assert records(plain.iloc[[0, 1, 4]]) == [
        {
            "accuracy": 0.8,
            "known_weights": 4,
            "known_source": "random_imp",
            "searched_from": 8,
            "searched_below": 12,
            "method": "imp",
            "method_weights": 19,
            "gap": 15,
            "weights_dense": 44,
            "networks": 2,
            "predicted": 2,
            "predicted_weights": 15.5,
            "predicted_low": 11,
            "predicted_high": 20,
        },
        {
            "accuracy": 0.9,
            "known_weights": 4,
            "known_source": "random_imp",
            "searched_from": 8,
            "searched_below": 13,
            "method": "imp",
            "method_weights": 24,
            "gap": 20,
            "weights_dense": 44,
            "networks": 2,
            "predicted": 1,
            "predicted_weights": 15,
            "predicted_low": 15,
            "predicted_high": 15,
        },
        {
            "accuracy": 0.995,
            "known_weights": 0,
            "known_source": "",
            "searched_from": 8,
            "searched_below": 13,
            "method": 0,
            "method_weights": 0,
            "gap": 0,
            "weights_dense": 44,
            "networks": 2,
            "predicted": 0,
            "predicted_weights": 0,
            "predicted_low": 0,
            "predicted_high": 0,
        },
    ]


def test_answers_without_a_prediction_leave_theory_empty() -> None:
    limits, *rest = meeting_files()
    other = limits.table("limits").assign(formula="A")
    content = {name: limits.table(name) for name in ("known", "networks")} | {"limits": other}
    table = tables.answers([stored("spiral-limits", "l.h5", content), *rest])
    assert table.accuracy.tolist() == list(ACCURACIES)
    assert table.predicted_weights.isna().all()


OF_FRONTIER = ("certificate", "known", "exclusion", "power")
OF_NETWORKS = (
    *(
        "rows",
        "curvature",
        "variation",
        "gaps",
        "penalties",
        "baselines",
        "reached",
        "rounds",
        "hyperparameters",
    ),
)


def test_files_that_a_table_is_not_made_from_are_refused() -> None:
    frontier, runs = frontier_file({4: 0.5}), runs_file("imp", 3, [{}])
    for name in set(tables.TABLES) - {
        "frontier",
        "thresholds",
        "equal_budget",
        "from_above",
        "bracket",
        "extent",
        "meeting",
        "answers",
        *OF_FRONTIER,
        *OF_NETWORKS,
    }:
        with refused("frontier.h5", "'frontier'", "has no"):
            tables.TABLES[name]([frontier])
    for name in OF_NETWORKS:
        with refused("no file of kind"):
            tables.TABLES[name]([frontier])
    for name in ("frontier", *OF_FRONTIER):
        with refused("imp.h5", "'spiral-runs'", "has no"):
            tables.TABLES[name]([runs])
    with refused("0 files given where one is needed"):
        tables.thresholds([runs])
    with refused("0 files given where one is needed"):
        tables.meeting([frontier, runs])
    with refused("imp.h5", "has no table by_weights"):
        tables.from_above([runs])
    with refused("no file of kind 'spiral-runs' is given"):
        tables.equal_budget([frontier])


def test_every_table_names_kinds_that_there_are() -> None:
    for name, function in tables.TABLES.items():
        assert function.__name__ == name
        first_line = (function.__doc__ or "").splitlines()[0]
        listed = first_line.removeprefix("From `").split("`:")[0].split("` and all other")[0]
        named = listed.split("` and `")
        assert set(named) <= set(KINDS), name
