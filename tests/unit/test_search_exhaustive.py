"""Exhaustive search: what is trained, from where, and how its shards come together."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sparselimit import store
from sparselimit.ensemble import batched
from sparselimit.ensemble.members import Plan, Points
from sparselimit.ensemble.train import Trained
from sparselimit.networks.mlp import MLP, positions
from sparselimit.search.counting import totals
from sparselimit.search.exhaustive import Networks, best_starts, start_values, train_all
from sparselimit.search.frontier import gather
from sparselimit.sparsity.connectivity import effective_mask
from sparselimit.sparsity.masks import with_biases
from sparselimit.store import Stored
from tests.unit.refusals import refused


def halves(n: int = 64) -> Points:
    """An easy task: which side of a line. One path from the right input solves it."""
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return Points(x, (x[:, 1] > 0).float())


def keys(networks: Networks) -> list[tuple[tuple[int, ...], bytes]]:
    """Each network by its own shape and mask, whatever frame holds it."""
    found = []
    for i, mask in enumerate(networks.mask):
        own = networks.own_shape(i)
        where = positions(own, networks.frame)[: own.n_weights]
        found.append((own.sizes, mask[where].tobytes()))
    return found


# --- Which networks ------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize("weights", [6, 9])
def test_shards_cover_the_enumeration(weights: int, shards: int) -> None:
    """Dealt out in turn; each network has its weights, all of them effective, inside its frame."""
    whole = Networks.shard(weights, 0, 1)
    assert len(whole.mask) == totals(weights)[weights] == len(set(keys(whole)))
    for shard in range(shards):
        part = Networks.shard(weights, shard, shards)
        assert keys(part) == keys(whole)[shard::shards]
        assert (part.mask.sum(axis=1) == weights).all()
        assert (effective_mask(part.frame, torch.tensor(part.mask)).numpy() == part.mask).all()
        assert part.frame.sizes[1:-1] == tuple(part.widths.max(axis=0))


def test_a_shard_without_networks_is_refused() -> None:
    with refused("shard 3 of 4", "no network of 4 weights"):
        Networks.shard(4, 3, 4)
    with refused("no network of 3 weights"):
        Networks.shard(3, 0, 1)


# --- Where they start ----------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["exact", "published"])
def test_start_values_do_not_depend_on_the_shard(protocol: str) -> None:
    whole = Networks.shard(8, 0, 1)
    drawn = set()
    for shard in range(3):
        part = Networks.shard(8, shard, 3)
        for i in range(0, len(part.mask), 5):
            own, there = part.own_shape(i), shard + 3 * i
            values = start_values(part, i, 1, protocol)
            same = start_values(whole, there, 1, protocol)
            own_values = values[positions(own, part.frame)]
            np.testing.assert_array_equal(own_values, same[positions(own, whole.frame)])
            assert np.count_nonzero(values) == own.n_parameters
            drawn |= {own_values[0], start_values(part, i, 2, protocol)[0]}
    assert len(drawn) == 12


def test_start_values_have_the_range_of_their_protocol() -> None:
    """At the network's own width, or as a crop of a network 16 wide."""
    networks = Networks.shard(12, 0, 40)
    for protocol in ("exact", "published"):
        scaled = []
        for i in range(len(networks.mask)):
            own = networks.own_shape(i)
            fan_in = own.fan_in
            if protocol == "published":
                fan_in = MLP.spiral(16).fan_in[positions(own, MLP.spiral(16))]
            values = start_values(networks, i, 0, protocol)[positions(own, networks.frame)]
            scaled.append(values * np.sqrt(fan_in))
        joined = np.concatenate(scaled)
        assert 0.98 < abs(joined).max() <= 1
        assert abs(joined.var() - 1 / 3) < 4 * np.sqrt(4 / 45 / joined.size)


# --- Training them -------------------------------------------------------------------------------


def test_an_easy_task_is_solved_by_the_sparsest_network() -> None:
    """There are two of four weights, a path from either input: the right one solves it."""
    networks, points = Networks.shard(4, 0, 1), halves()
    plan = Plan.of(["cosine"], 40, batch_size=8)
    runs, parameters = train_all(networks, 12, points, plan, 0.1)
    assert networks.mask[:, :2].tolist() == [[False, True], [True, False]]
    assert runs.network.tolist() == [0] * 12 + [1] * 12
    assert runs.start.tolist() == 2 * list(range(12))
    assert (runs.steps == 40 * 8).all()
    best = runs.groupby("network").accuracy.max()
    assert best[0] > 0.95
    assert best[1] < 0.7
    # What is kept of each is the network of its best run.
    accuracy, loss = batched.evaluate(networks.frame, torch.tensor(parameters), points)
    assert accuracy.tolist() == pytest.approx(best.tolist())
    least = runs[runs.accuracy == best[runs.network].to_numpy()].groupby("network").loss.min()
    assert loss.tolist() == pytest.approx(least.tolist(), rel=1e-4)


def test_a_network_computes_the_same_inside_its_frame() -> None:
    """Trained parameters cut out of the frame have the accuracy that was recorded."""
    networks, points = Networks.shard(8, 1, 4), halves()
    runs, parameters = train_all(networks, 2, points, Plan.of(["cosine"], 3, batch_size=8), 0.1)
    assert parameters.shape == (len(networks.mask), networks.frame.n_parameters)
    best = runs.groupby("network").accuracy.max()
    kept = with_biases(networks.frame, torch.tensor(networks.mask)).numpy()
    assert (parameters[~kept] == 0).all()
    for i in range(len(networks.mask)):
        own = networks.own_shape(i)
        cut = torch.tensor(parameters[i, positions(own, networks.frame)])
        assert batched.evaluate(own, cut[None], points)[0].item() == pytest.approx(best[i])


def test_the_best_start_is_sound_most_accurate_and_of_least_loss() -> None:
    runs = pd.DataFrame(
        {
            "network": [0, 0, 0, 1, 1, 2, 2],
            "accuracy": [0.7, 0.9, 0.9, 0.5, 0.6, 0.2, 0.1],
            "loss": [0.1, 0.4, 0.3, 0.7, np.nan, np.nan, np.nan],
            "diverged_at": [-1, -1, -1, -1, 20, 10, 10],
        }
    )
    column = torch.zeros(len(runs))
    trained = Trained(torch.arange(7)[:, None], column, column, column, column)
    assert best_starts(runs, trained)[:, 0].tolist() == [2, 3, 5]


# --- Gathering shards ----------------------------------------------------------------------------


def shard_file(weights: int, shard: int, shards: int, starts_asked: int = 3) -> Stored:
    """A shard as it would be read, with invented results."""
    networks = Networks.shard(weights, shard, shards)
    n, starts = len(networks.mask), 3
    rng = np.random.default_rng([weights, shard, shards])
    number = shard + shards * np.arange(n)
    accuracy = rng.choice([0.5, 0.6, 0.75, 0.8], n * starts)
    runs = pd.DataFrame(
        {
            "network": number.repeat(starts),
            "start": np.tile(np.arange(starts), n),
            "steps": 390,
            "accuracy": accuracy,
            "loss": rng.random(n * starts),
            "diverged_at": np.where(accuracy == 0.8, 390, -1),
        }
    )
    table = pd.DataFrame(networks.widths, columns=["d1", "d2", "d3"])
    content: dict[str, np.ndarray | pd.DataFrame] = {
        "sizes": np.array(networks.frame.sizes),
        "networks": table.assign(network=number, weights=weights),
        "mask": networks.mask,
        "parameters": np.where(
            with_biases(networks.frame, torch.tensor(networks.mask)), number[:, None] + 0.5, 0.0
        ).astype(np.float32),
        "runs": runs,
    }
    config = json.dumps(
        {"weights": weights, "shard": shard, "shards": shards, "starts": starts_asked}
    )
    name = Path(f"k{weights}-{shard}-of-{shards}.h5")
    return Stored(name, content, {"kind": "search-shard", "config": config})


SHARDS = [*((8, i, 3) for i in range(3)), (4, 0, 1), *((7, i, 2) for i in range(2))]


@pytest.mark.parametrize("order", ["given", "reversed"])
def test_gathering_is_direct_computation(tmp_path: Path, order: str) -> None:
    files = [shard_file(*shard) for shard in SHARDS]
    gathered = gather(files if order == "given" else reversed(files))
    store.write(tmp_path / "frontier.h5", "frontier", gathered, config={})
    found = store.read(tmp_path / "frontier.h5", "frontier")
    table = found.table("by_weights")
    assert table.weights.tolist() == [4, 7, 8]
    frame = MLP(tuple(found.array("sizes").tolist()))
    for i, row in enumerate(table.to_dict("records")):
        runs = pd.concat([f.table("runs") for f in files if f.config["weights"] == row["weights"]])
        sound = runs[runs.diverged_at < 0]
        top = sound[sound.accuracy == sound.accuracy.max()].sort_values("loss").iloc[0]
        assert (row["accuracy"], row["loss"], row["network"]) == (
            top.accuracy,
            top.loss,
            top.network,
        )
        assert (row["networks"], row["runs"]) == (runs.network.nunique(), len(runs))
        assert row["steps"] == runs.steps.sum()
        assert row["dead"] == pytest.approx((runs.accuracy == 0.5).mean())
        # The network itself, inside the frame that holds all of them.
        whole = Networks.shard(row["weights"], 0, 1)
        own = MLP((2, row["d1"], row["d2"], row["d3"], 1))
        assert own == whole.own_shape(row["network"])
        where = positions(own, frame)
        mask, parameters = found.array("mask")[i], found.array("parameters")[i]
        assert mask.sum() == row["weights"]
        expected = whole.mask[row["network"], positions(own, whole.frame)[: own.n_weights]]
        np.testing.assert_array_equal(mask[where[: own.n_weights]], expected)
        assert set(parameters[parameters != 0]) == {row["network"] + 0.5}
        assert np.isin(np.flatnonzero(parameters), where).all()


def test_shards_that_do_not_make_a_whole_are_refused() -> None:
    with refused("8 weights", "lacks shard 1 of 3"):
        gather([shard_file(8, 0, 3), shard_file(8, 2, 3)])
    with refused("k8-0-of-3.h5", "shard 0 of 8 weights is given twice"):
        gather([shard_file(8, 0, 3), shard_file(8, 0, 3)])
    with refused("k8-1-of-2.h5", "other shards", "8 weights"):
        gather([shard_file(8, 0, 3), shard_file(8, 1, 2)])


def test_shards_that_were_searched_differently_are_refused() -> None:
    with refused("k9-0-of-1.h5", "starts 5, the first shard with 3", "alike"):
        gather([shard_file(8, 0, 1), shard_file(9, 0, 1, starts_asked=5)])


def test_a_shard_in_which_all_runs_diverged_is_refused() -> None:
    shard = shard_file(4, 0, 1)
    shard.table("runs")["diverged_at"] = 390
    with refused("k4-0-of-1.h5", "every run diverged", "learning_rate"):
        gather([shard])
