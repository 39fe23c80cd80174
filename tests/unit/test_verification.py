"""Verification: true claims hold, false ones are caught, and a network can be trained again."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparselimit import store
from sparselimit.datasets import cubist_spiral
from sparselimit.ensemble import batched
from sparselimit.ensemble.members import Points
from sparselimit.networks.mlp import MLP
from sparselimit.search.certificate import gather
from sparselimit.search.exhaustive import Networks
from sparselimit.search.racing import Race
from sparselimit.search.shard import search_shard
from sparselimit.search.verification import accuracy, choose, rerun, settings, verify
from sparselimit.store import Stored
from tests.unit.refusals import refused

STEP = Path(__file__).parents[2] / "steps" / "verify.py"
RACE: dict[str, Any] = {
    "learning_rate": 0.1,
    "schedule": "cosine",
    "epochs": 30,
    "batch_size": 8,
    "protocol": "exact",
    "rungs": [1, 3],
    "keep": [0.5, 0.2],
    "calibrate": 5,
}


def halves(n: int = 64) -> Points:
    """An easy task: which side of a line. One path from the right input solves it."""
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return Points(x, (x[:, 1] > 0).float())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small search, its certificate, and the points it is about."""
    folder = tmp_path_factory.mktemp("verify")
    points = halves()
    shards = []
    for weights in (4, 5):
        content = search_shard(
            Networks.shard(weights, 0, 1), Race(range(12), **RACE), points, 1, backend="batched"
        )
        place = {"weights": weights, "shard": 0, "shards": 1, "first_start": 0, "starts": 12}
        shards.append(folder / f"k{weights}.h5")
        store.write(shards[-1], "search-shard", content, config={**place, **RACE})
    content = gather(store.read(path, "search-shard") for path in shards)
    store.write(folder / "frontier.h5", "frontier", content, config={})
    data = {"x": points.x.numpy(), "y": points.y.long().numpy(), "split": np.zeros(64, int)}
    store.write(folder / "points.h5", "points", data, config={})
    return folder


def read(folder: Path) -> Stored:
    return store.read(folder / "frontier.h5", "frontier")


def test_accuracy_is_the_engines() -> None:
    network = MLP((2, 3, 4, 2, 1))
    data = cubist_spiral()
    points = Points(torch.tensor(data.x[::10]), torch.tensor(data.y[::10]))
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(20, network.n_parameters, generator=generator)
    expected = batched.evaluate(
        network, parameters.double(), Points(points.x.double(), points.y.double())
    )[0]
    found = [accuracy(network, member.numpy(), points) for member in parameters]
    assert found == expected.tolist()
    assert len(set(found)) > 3


def test_true_claims_hold(folder: Path) -> None:
    frontier = read(folder)
    lines, failures = verify(frontier, halves())
    assert failures == 0
    best = frontier.table("by_weights").accuracy
    assert lines[0].startswith("4 weights: 2-1-1-1-1, network 0, start ")
    assert lines[0].endswith(f"accuracy {best[0]:.6f} holds")
    assert lines[1].startswith("5 weights: ")
    known = frontier.table("accuracies").networks[0]
    assert known > 0
    assert lines[2] == f"accuracy 0.8: {known} networks of 4 weights"
    assert len(lines) == 2 + 5


def break_weight(frontier: Stored) -> str:
    parameters, mask = frontier.array("parameters"), frontier.array("mask")
    parameters[0, np.flatnonzero(mask[0])[0]] *= -1
    return "its accuracy is"


def break_mask(frontier: Stored) -> str:
    frontier.array("mask")[0, np.flatnonzero(frontier.array("mask")[0])[0]] = False
    return "its mask keeps 3 weights"


def break_zero(frontier: Stored) -> str:
    frontier.array("parameters")[0, np.flatnonzero(~frontier.array("mask")[0])[0]] = 1e-3
    return "1 weights outside of its mask"


def break_statement(frontier: Stored) -> str:
    frontier.table("by_weights")["accuracy"] += 1 / 64
    return "its accuracy is"


def break_start(frontier: Stored) -> str:
    frontier.table("by_weights")["start"] += 1
    return "initial values"


def break_known(frontier: Stored) -> str:
    frontier.array("known_parameters")[0] = 0
    return "its accuracy is 0."


def break_level(frontier: Stored) -> str:
    frontier.table("known").loc[0, "accuracy"] = 0.9
    return "networks of 4 weights should be listed"


def break_count(frontier: Stored) -> str:
    frontier.table("accuracies").loc[0, "weights"] = 3
    return "networks of 3 weights should be listed"


@pytest.mark.parametrize(
    "damage",
    [
        break_weight,
        break_mask,
        break_zero,
        break_statement,
        break_start,
        break_known,
        break_level,
        break_count,
    ],
)
def test_false_claims_are_caught(folder: Path, damage: Callable[[Stored], str]) -> None:
    frontier = read(folder)
    complaint = damage(frontier)
    lines, failures = verify(frontier, halves())
    assert failures >= 1
    assert sum(complaint in line for line in lines) >= 1


def test_a_network_is_trained_again_from_its_start(folder: Path) -> None:
    frontier = read(folder)
    row = frontier.table("by_weights").iloc[1]
    for claim in (choose(frontier, 5), choose(frontier, 5, int(row.network))):
        assert (claim.row["network"], claim.row["start"]) == (row.network, row.start)
    again = rerun(claim, settings(frontier), halves(), backend="batched")
    np.testing.assert_allclose(again, claim.parameters, rtol=1e-3, atol=1e-4)
    with refused("frontier.h5", "6 weights"):
        choose(frontier, 6)
    with refused("frontier.h5", "5 weights", "number 77"):
        choose(frontier, 5, 77)


def run_step(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, STEP, *arguments, "--data", folder / "points.h5", "--backend", "batched"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_step_says_what_holds_and_exits_accordingly(folder: Path) -> None:
    frontier = folder / "frontier.h5"
    good = run_step(folder, str(frontier), "--rerun", "4", "--output", str(folder / "said.txt"))
    assert good.returncode == 0, good.stderr
    *checks, again = good.stdout.splitlines()
    assert checks == verify(read(folder), halves())[0]
    assert "trained again" in again
    assert (folder / "said.txt").read_text() == good.stdout
    damaged = read(folder)
    break_weight(damaged)
    store.write(folder / "damaged.h5", "frontier", damaged.content, config={})
    bad = run_step(folder, str(folder / "damaged.h5"))
    assert bad.returncode == 1
    assert "its accuracy is" in bad.stdout
    assert sorted(path.name for path in folder.iterdir()) == [
        "damaged.h5", "frontier.h5", "k4.h5", "k5.h5", "points.h5", "said.txt",
    ]  # fmt: skip


def test_only_a_search_can_be_trained_again(folder: Path) -> None:
    frontier = str(folder / "frontier.h5")
    refusal = run_step(folder, frontier, frontier, "--rerun", "4")
    assert refusal.returncode == 2
    assert "--rerun needs one search" in refusal.stderr


@pytest.mark.parametrize("name", ["beam.h5", "frontier.h5"])
def test_the_largest_runs_so_far_hold(name: str) -> None:
    """Every network of the committed results does what is claimed, on the points made anew."""
    path = Path(__file__).parents[2] / "docs" / "results" / name
    said = subprocess.run([sys.executable, STEP, path], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert len(said.stdout.splitlines()) > 5
