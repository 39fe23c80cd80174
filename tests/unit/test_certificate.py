"""The certificate: how shards come together, and what their counts say."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sparselimit import store
from sparselimit.networks.mlp import MLP, positions
from sparselimit.search.certificate import FEWEST, gather
from sparselimit.search.exhaustive import Networks, initial_values
from sparselimit.sparsity.masks import with_biases
from sparselimit.statistics import ACCURACIES, wilson
from sparselimit.store import Stored
from tests.unit.refusals import refused

RUNGS = {"rungs": [4, 16], "keep": [0.35, 0.1], "calibrate": 2}


def shard_file(
    weights: int, shard: int, shards: int, first: int = 0, starts: int = 20, **settings: object
) -> Stored:
    """A shard as it would be read, with invented results."""
    networks = Networks.shard(weights, shard, shards)
    n = len(networks)
    rng = np.random.default_rng([weights, shard, shards, first])
    accuracy = rng.choice([0.5, 0.7, 0.82, 0.93], n * starts, p=[0.4, 0.3, 0.2, 0.1])
    if weights == 7:
        accuracy = np.minimum(accuracy, 0.7)
    start = np.tile(np.arange(first, first + starts), n)
    dropped = rng.choice([-1, 0, 1, 2], n * starts, p=[0.6, 0.2, 0.1, 0.1])
    accuracy[dropped == 0] = 0.5
    runs = pd.DataFrame(
        {
            "network": networks.number.repeat(starts),
            "start": start,
            "steps": rng.integers(100, size=n * starts),
            "dropped": dropped,
            "calibration": start % 2 == 0,
            "accuracy": accuracy,
            "loss": rng.random(n * starts),
            "diverged_at": np.where((rng.random(n * starts) < 0.05) & (dropped != 0), 390, -1),
        }
    )
    runs.loc[runs.diverged_at >= 0, "accuracy"] = 0.2
    best = (
        runs.sort_values(["accuracy", "loss"], ascending=[False, True]).groupby("network").first()
    )
    table = pd.DataFrame(networks.widths, columns=["d1", "d2", "d3"]).assign(
        network=networks.number,
        weights=weights,
        start=best.start.to_numpy(),
        accuracy=best.accuracy.to_numpy(),
        loss=best.loss.to_numpy(),
        polished=networks.number % 3 == 0,
    )
    mark = networks.number[:, None] + 0.5 + 100 * table.start.to_numpy()[:, None]
    kept = with_biases(networks.frame, torch.tensor(networks.mask)).numpy()
    content: dict[str, np.ndarray | pd.DataFrame] = {
        "sizes": np.array(networks.frame.sizes),
        "networks": table,
        "mask": networks.mask,
        "parameters": np.where(kept, mark, 0.0).astype(np.float32),
        "runs": runs,
    }
    place = {"weights": weights, "shard": shard, "shards": shards}
    which = {"first_start": first, "starts": starts, "polish": 3, "data": "x.h5"}
    config = {**place, **which, "protocol": "exact", **RUNGS, **settings}
    name = Path(f"k{weights}-{shard}-of-{shards}-from-{first}.h5")
    return Stored(name, content, {"kind": "search-shard", "config": json.dumps(config)})


SHARDS = [
    *((8, i, 3, 0) for i in range(3)),
    (4, 0, 1, 0),
    *((7, i, 2, 0) for i in range(2)),
    *((8, i, 2, 20) for i in range(2)),
]


def gathered(folder: Path, files: Iterable[Stored]) -> Stored:
    """What was gathered, as it is read."""
    store.write(folder / "frontier.h5", "frontier", gather(files), config={})
    return store.read(folder / "frontier.h5", "frontier")


def all_runs(files: list[Stored], weights: int) -> pd.DataFrame:
    own = [file for file in files if file.config["weights"] == weights]
    return pd.concat([file.table("runs") for file in own], ignore_index=True)


def complete(runs: pd.DataFrame) -> pd.Series:
    return (runs.dropped == -1) | (runs.calibration & (runs.dropped != 0))


def interval(successes: int, trials: int) -> tuple[float, float]:
    low, high = wilson(successes, trials)
    return float(low), float(high)


@pytest.mark.parametrize("order", ["given", "reversed"])
def test_gathering_is_direct_computation(tmp_path: Path, order: str) -> None:
    files = [shard_file(*shard) for shard in SHARDS]
    before = [file.table("runs").copy() for file in files]
    found = gathered(tmp_path, files if order == "given" else reversed(files))
    for file, runs in zip(files, before, strict=True):
        pd.testing.assert_frame_equal(file.table("runs"), runs)
    table = found.table("by_weights")
    assert table.weights.tolist() == [4, 7, 8]
    frame = MLP(tuple(found.array("sizes").tolist()))
    for i, row in enumerate(table.to_dict("records")):
        k = row["weights"]
        runs = all_runs(files, k)
        assert (row["networks"], row["runs"]) == (runs.network.nunique(), len(runs))
        assert row["starts"] == (40 if k == 8 else 20) == runs.groupby("network").size().min()
        assert row["steps"] == runs.steps.sum()
        assert row["provably_dead"] == pytest.approx((runs.dropped == 0).mean())
        sample = runs[runs.calibration]
        assert row["dead"] == pytest.approx((sample.accuracy == 0.5).mean())
        finished = runs[complete(runs) & (runs.diverged_at < 0)]
        assert row["sgd_accuracy"] == finished.accuracy.max()
        top = runs[runs.accuracy == runs.accuracy.max()].sort_values("loss").iloc[0]
        for name in ("accuracy", "loss", "network", "start"):
            assert row[name] == top[name]
        assert row["polished"] == (row["network"] % 3 == 0)
        # The network itself, inside the frame that holds all of them.
        whole = Networks.shard(k, 0, 1)
        own = MLP((2, row["d1"], row["d2"], row["d3"], 1))
        assert own == whole.own_shape(row["network"])
        where = positions(own, frame)
        mask, parameters = found.array("mask")[i], found.array("parameters")[i]
        initial = found.array("initial")[i]
        assert mask.sum() == k
        np.testing.assert_array_equal(mask[where[: own.n_weights]], whole.own_mask(row["network"]))
        assert set(parameters[parameters != 0]) == {row["network"] + 0.5 + 100 * row["start"]}
        expected = initial_values(own, mask[where[: own.n_weights]], range(40), "exact")
        np.testing.assert_array_equal(initial[where], expected[row["start"]].astype(np.float32))
        for values in (mask, parameters, initial):
            assert np.isin(np.flatnonzero(values), where).all()


def test_known_networks_are_those_that_reach_it_with_fewest_weights(tmp_path: Path) -> None:
    files = [shard_file(*shard) for shard in SHARDS]
    found = gathered(tmp_path, files)
    known, accuracies = found.table("known"), found.table("accuracies")
    assert accuracies.accuracy.tolist() == list(ACCURACIES)
    for level, summary in zip(ACCURACIES, accuracies.to_dict("records"), strict=True):
        listed = known[known.accuracy == level]
        networks = pd.concat(
            [file.table("networks").assign(from_=file.config["first_start"]) for file in files]
        )
        reaching = networks[networks.accuracy >= level]
        fewest = reaching.weights.min() if len(reaching) else -1
        reaching = reaching[reaching.weights == fewest]
        assert (summary["weights"], summary["networks"]) == (fewest, reaching.network.nunique())
        assert sorted(listed.network) == sorted(set(reaching.network))
        assert (listed.weights == fewest).all()
        for row in listed.to_dict("records"):
            same = reaching[reaching.network == row["network"]]
            best = same.sort_values(["accuracy", "loss"], ascending=[False, True]).iloc[0]
            assert (row["reached"], row["start"]) == (best.accuracy, best.start)
            runs = all_runs(files, fewest)
            runs = runs[runs.network == row["network"]]
            successes = (complete(runs) & (runs.accuracy >= level)).sum()
            assert (row["successes"], row["starts"]) == (successes, len(runs))
            rates = interval(successes, len(runs))
            assert (row["rate_low"], row["rate_high"]) == pytest.approx(rates)
    assert {4, 8} >= set(known.weights)
    assert len(known) > 3
    for i, row in enumerate(known.to_dict("records")):
        mark = row["network"] + 0.5 + 100 * row["start"]
        assert set(found.array("known_parameters")[i]) == {0, mark}
        assert found.array("known_mask")[i].sum() == row["weights"]


def test_what_racing_loses_is_counted_where_nothing_was_dropped(tmp_path: Path) -> None:
    files = [shard_file(*shard) for shard in SHARDS]
    table = gathered(tmp_path, files).table("accuracies").set_index("accuracy")
    runs = pd.concat([file.table("runs") for file in files])
    sample = runs[runs.calibration & (runs.dropped != 0)]
    ranked = sample.sort_values("accuracy", ascending=False)
    for level in ACCURACIES:
        at = min(level, ranked.accuracy.iloc[FEWEST - 1])
        reach = sample[sample.accuracy >= at]
        assert len(reach) >= FEWEST
        lost = (reach.dropped > 0).sum()
        row = table.loc[level]
        assert row.measured_at == at
        assert (row.calibration_runs, row.calibration_lost) == (len(reach), lost)
        assert (row.lost_low, row.lost_high) == pytest.approx(interval(lost, len(reach)))


def test_exclusion_and_power_are_those_of_simulated_searches(tmp_path: Path) -> None:
    """Searches of one network: a start succeeds at random, and racing loses some that do."""
    found = gathered(tmp_path, [shard_file(*shard) for shard in SHARDS])
    lost = found.table("accuracies").set_index("accuracy").lost_high[0.9]
    exclusion, power = found.table("exclusion"), found.table("power")
    exclusion = exclusion[exclusion.accuracy == 0.9].set_index("weights")
    rng = np.random.default_rng(0)
    for weights, starts in ((7, 20), (8, 40)):
        row = exclusion.loc[weights]
        assert row.starts == starts
        assert row.equivalents == pytest.approx(starts * (1 - lost))

        def seen(rate: float, starts: int = starts) -> float:
            succeeds = rng.random((40_000, starts)) < rate
            return float((succeeds & (rng.random(succeeds.shape) >= lost)).any(axis=1).mean())

        assert seen(float(exclusion.excluded_rate[weights])) == pytest.approx(0.95, abs=0.006)
        curve = power[(power.weights == weights) & (power.accuracy == 0.9)]
        for point in curve.iloc[::8].to_dict("records"):
            assert seen(point["rate"]) == pytest.approx(point["probability"], abs=0.012)
    assert exclusion.succeeded[7] == 0 < exclusion.succeeded[8]


def test_without_racing_nothing_is_lost() -> None:
    shard = shard_file(8, 0, 1)
    shard.table("runs")["dropped"] = -1
    content = gather([shard])
    accuracies, by_weights = content["accuracies"], content["by_weights"]
    assert isinstance(accuracies, pd.DataFrame)
    assert isinstance(by_weights, pd.DataFrame)
    assert (accuracies.lost_high == 0).all()
    assert by_weights.dead[0] == pytest.approx((shard.table("runs").accuracy == 0.5).mean())


def test_without_calibration_nothing_is_excluded() -> None:
    shard = shard_file(8, 0, 1)
    shard.table("runs")["calibration"] = False
    content = gather([shard])
    exclusion, by_weights = content["exclusion"], content["by_weights"]
    assert isinstance(exclusion, pd.DataFrame)
    assert isinstance(by_weights, pd.DataFrame)
    assert (exclusion.excluded_rate == 1).all()
    assert by_weights.dead.isna().all()


def test_shards_that_do_not_make_a_whole_are_refused() -> None:
    with refused("8 weights", "starts 0 to 19", "lacks shard 1 of 3"):
        gather([shard_file(8, 0, 3), shard_file(8, 2, 3)])
    with refused("8 weights", "starts 20 to 39", "lacks shard 1 of 2"):
        gather([shard_file(8, 0, 1), shard_file(8, 0, 2, 20)])
    with refused("k8-0-of-3-from-0.h5", "shard 0 of 8 weights is given twice"):
        gather([shard_file(8, 0, 3), shard_file(8, 0, 3)])
    with refused("k8-1-of-2-from-0.h5", "other shards", "8 weights"):
        gather([shard_file(8, 0, 3), shard_file(8, 1, 2)])
    with refused("8 weights", "start 4 is given twice"):
        gather([shard_file(8, 0, 1), shard_file(8, 0, 1, 4)])


def test_shards_that_were_searched_differently_are_refused() -> None:
    with refused("k9-0-of-1-from-0.h5", "calibrate 5, the first shard with 2", "alike"):
        gather([shard_file(8, 0, 1), shard_file(9, 0, 1, calibrate=5)])


def test_a_shard_in_which_all_runs_diverged_is_refused() -> None:
    shard = shard_file(4, 0, 1)
    shard.table("runs")["diverged_at"] = 390
    with refused("k4-0-of-1-from-0.h5", "every run diverged", "learning_rate"):
        gather([shard])
