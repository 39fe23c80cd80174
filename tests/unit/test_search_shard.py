"""A shard of the search: its file, its checkpoint, and polish."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sparselimit import store
from sparselimit.datasets import cubist_spiral
from sparselimit.ensemble import batched
from sparselimit.ensemble.checkpoint import Stopped
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.train import Engine
from sparselimit.networks.forward import logits, losses
from sparselimit.networks.mlp import MLP
from sparselimit.search import shard as searching
from sparselimit.search.exhaustive import Networks
from sparselimit.search.polish import minimum, polished, quality
from sparselimit.search.racing import Race, race
from sparselimit.search.shard import search_shard
from sparselimit.sparsity.masks import with_biases
from tests.unit.refusals import refused

HOW = Race(range(2, 12), 0.1, epochs=6, batch_size=64, rungs=(1, 3), keep=(0.5, 0.2), calibrate=5)


def spiral(every: int = 50) -> Points:
    data = cubist_spiral()
    return Points(torch.tensor(data.x[::every]), torch.tensor(data.y[::every]).float())


def assert_equal(one: store.Content, other: store.Content) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        theirs = other[name]
        if isinstance(value, pd.DataFrame):
            assert isinstance(theirs, pd.DataFrame)
            pd.testing.assert_frame_equal(value, theirs)
        else:
            np.testing.assert_array_equal(value, theirs)


# --- The file ------------------------------------------------------------------------------------


def test_a_shard_holds_its_networks_and_all_their_runs(tmp_path: Path) -> None:
    networks, points = Networks.shard(8, 1, 4), spiral()
    content = search_shard(networks, HOW, points, 0, backend="batched")
    store.write(tmp_path / "k8.h5", "search-shard", content, config={})
    file = store.read(tmp_path / "k8.h5", "search-shard")
    table, runs = file.table("networks"), file.table("runs")
    assert table.network.tolist() == list(range(1, 24, 4))[: len(networks)]
    assert (table.weights == 8).all()
    assert table[["d1", "d2", "d3"]].to_numpy().tolist() == networks.widths.tolist()
    assert not table.polished.any()
    assert runs.network.tolist() == table.network.repeat(10).tolist()
    assert runs.start.tolist() == [*range(2, 12)] * len(networks)
    assert (runs.calibration == runs.start.isin([5, 10])).all()
    # The best run of each, by the accuracy of the parameters that are stored.
    best = runs.set_index(["network", "start"]).loc[
        list(zip(table.network, table.start, strict=True))
    ]
    assert table.accuracy.tolist() == pytest.approx(best.accuracy.tolist(), abs=1.5 / len(points.x))
    assert best.accuracy.tolist() == runs.groupby("network").accuracy.max().tolist()
    frame = MLP(tuple(file.array("sizes").tolist()))
    parameters = torch.tensor(file.array("parameters"))
    exact = Points(points.x.double(), points.y.double())
    accuracy, loss = batched.evaluate(frame, parameters.double(), exact)
    assert table.accuracy.tolist() == accuracy.tolist()
    assert table.loss.tolist() == loss.tolist()
    assert not parameters[~with_biases(frame, torch.tensor(file.array("mask")))].any()


def test_batches_are_of_no_consequence(monkeypatch: pytest.MonkeyPatch) -> None:
    networks, points = Networks.shard(7, 0, 1), spiral()
    whole = search_shard(networks, HOW, points, 0, backend="batched")
    monkeypatch.setitem(searching.RUNS_AT_ONCE, "cpu", 30)
    monkeypatch.setattr(searching, "COMPILATION", 0.0)
    batches = searching._batches(networks, HOW, points, "cpu")
    assert len(batches) > len(networks) / 3
    in_parts = search_shard(networks, HOW, points, 0, backend="batched")
    for name in ("runs", "networks"):
        ours, theirs = in_parts[name], whole[name]
        assert isinstance(ours, pd.DataFrame)
        assert isinstance(theirs, pd.DataFrame)
        pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4)
    np.testing.assert_allclose(in_parts["parameters"], whole["parameters"], rtol=1e-3, atol=1e-5)


def test_a_search_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked to stop in the second leg of the second batch, it saves that and stops there."""
    networks, points = Networks.shard(6, 0, 1), spiral()
    monkeypatch.setitem(searching.RUNS_AT_ONCE, "cpu", 30)
    expected = search_shard(networks, HOW, points, 0, backend="batched")
    epochs: list[int] = []
    advance = batched.advance

    def stopping(*arguments: Any) -> None:
        epochs.append(len(arguments[2]))
        if len(epochs) == 6 + 2:
            os.kill(os.getpid(), signal.SIGTERM)
        advance(*arguments)

    monkeypatch.setattr(batched, "advance", stopping)
    engine: Engine = {"backend": "batched", "checkpoint": tmp_path / "k6.checkpoint"}
    with pytest.raises(Stopped):
        search_shard(networks, HOW, points, 0, **engine)
    assert_equal(search_shard(networks, HOW, points, 0, **engine), expected)
    assert len(epochs) == 6 * len(searching._batches(networks, HOW, points, "cpu"))
    # All that is left is under the names that a step clears away once its result is written.
    assert all(path.name.startswith("k6.checkpoint-") for path in tmp_path.iterdir())
    with refused("k6.checkpoint-batch-1-leg-1", "another run"):
        search_shard(networks, replace(HOW, learning_rate=0.2), points, 0, **engine)


# --- Polish --------------------------------------------------------------------------------------


def trained(points: Points) -> tuple[Networks, torch.Tensor, torch.Tensor]:
    networks = Networks.shard(8, 0, 6)
    outcome = race(networks, HOW, points, backend="batched")
    return networks, outcome.parameters, with_biases(networks.frame, torch.tensor(networks.mask))


def test_polish_ends_where_the_loss_is_stationary() -> None:
    networks, parameters, mask = trained(points := spiral())
    best = int(quality(networks.frame, parameters, points)[0].argmax())
    after = minimum(networks.frame, parameters[best], mask[best], points)[mask[best]]

    def loss_of(values: torch.Tensor) -> torch.Tensor:
        whole = torch.zeros(1, len(mask[best]), dtype=torch.float64)
        whole[0, mask[best]] = values
        return losses(logits(networks.frame, whole, points.x.double()), points.y.double())[0]

    step = 1e-6 * torch.eye(len(after), dtype=torch.float64)
    slope = torch.stack([(loss_of(after + d) - loss_of(after - d)) / 2e-6 for d in step])
    assert abs(slope).max() < 1e-3
    assert loss_of(after) < loss_of(parameters[best][mask[best]].double()) - 1e-3


def test_polish_never_makes_a_network_worse() -> None:
    networks, parameters, mask = trained(points := spiral())
    frame = networks.frame
    before = quality(frame, parameters, points)[0]
    after = torch.stack(
        [polished(frame, *member, points) for member in zip(parameters, mask, strict=True)]
    )
    gained = quality(frame, after, points)[0] - before
    assert (gained >= 0).all()
    assert (gained > 0.001).any()
    assert after.dtype == torch.float32
    assert not after[~mask].any()
    assert torch.equal(after[gained == 0], parameters[gained == 0])


def test_the_most_accurate_networks_are_polished() -> None:
    networks, points = Networks.shard(8, 0, 6), spiral()
    plain = search_shard(networks, HOW, points, 0, backend="batched")["networks"]
    table = search_shard(networks, HOW, points, 2, backend="batched")["networks"]
    assert isinstance(plain, pd.DataFrame)
    assert isinstance(table, pd.DataFrame)
    best = plain.accuracy.sort_values(ascending=False, kind="stable").index[:2]
    assert table.polished.any()
    assert set(table.index[table.polished]) <= set(best)
    assert (table.accuracy[table.polished] > plain.accuracy[table.polished]).all()
    assert (table.start == plain.start).all()


def test_networks_that_diverged_from_every_start_are_left_alone(tmp_path: Path) -> None:
    networks, points = Networks.shard(6, 0, 1), spiral()
    how = replace(HOW, learning_rate=1e12)
    content = search_shard(networks, how, points, 99, backend="batched")
    store.write(tmp_path / "k6.h5", "search-shard", content, config={})
    table = store.read(tmp_path / "k6.h5", "search-shard").table("networks")
    assert not table.polished.any()
    assert (table.accuracy == 0).all()
    assert table.loss.isna().all()
