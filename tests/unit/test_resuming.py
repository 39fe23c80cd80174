"""Every step that can take long: stopped again and again, it ends with the numbers of one go."""

import logging
import os
import re
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd
import pytest
import torch

from sparselimit import store
from sparselimit.ensemble.checkpoint import Checkpoint
from sparselimit.kinds import KINDS

STEPS = Path(__file__).parents[2] / "steps"

SPIRAL = "--data $disc --epochs 3 --batch-size 64"
NETWORK = "--data $disc --network $network"
# Script: its arguments, and one more that makes another run of it.
LONG = {
    "train_spiral": (f"{SPIRAL} --widths 3 4 --seeds 2", "--seeds 3"),
    "prune_spiral": (
        f'{SPIRAL} --method imp_lth --options {{"trainings":2}} --networks 3 --targets 9 --control',
        "--targets 13",
    ),
    "search_networks": (
        f"{SPIRAL} --weights 5 --starts 3 --rungs 1 --keep 0.5 --polish 3",
        "--starts 4",
    ),
    "search_blocks": (f"{SPIRAL} --widths 2 2 1 --seeds 2", "--learning-rates 0.1"),
    "beam_spiral": (
        f"$pruned {SPIRAL} --most-weights 8 --least-weights 6 --width 2 --polish",
        "--learning-rate 0.2",
    ),
    "score": (f"--mask $mask {SPIRAL} --seeds 3", "--seeds 2"),
    "train_network": (
        "--data $disc --architecture fc --widths 3 --epochs 2 --batch-size 16",
        "--seed 1",
    ),
    "sweep_network": (f"{NETWORK} --ratios 6", "--ratios 7"),
    "spectrum": (
        f"{NETWORK} --operator ggn --steps 4 --probes 2 --offsets 2 --row-probes 3 --batch-size 32",
        "--steps 5",
    ),
    "prune_network": (
        f"{NETWORK} --method imp --densities 0.5 0.25 --epochs 2 --batch-size 16",
        "--seed 1",
    ),
    "round_limits": (
        f"{NETWORK} --pruned $rounds --steps 4 --probes 2 --offsets 2 --batch-size 32",
        "--steps 5",
    ),
    "spiral_limits": (
        "--data $disc --networks $dense --frontier $frontier --beam $beam --iterations 5",
        "--iterations 6",
    ),
    "geometry": ("--dimension 20 --trials 2", "--trials 4"),
}
# What makes the files that some of them read.
MADE = {
    "network": (
        "train_network",
        "--data $disc --architecture fc --widths 3 --epochs 1 --batch-size 32",
    ),
    "pruned": (
        "prune_spiral",
        f"{SPIRAL} --method magnitude --count effective --networks 3 --targets 8",
    ),
    "rounds": (
        "prune_network",
        f"{NETWORK} --method imp --densities 0.4 --epochs 2 --batch-size 16",
    ),
    "dense": ("train_spiral", f"{SPIRAL} --widths 2 3 --seeds 2"),
    "shard": ("search_networks", f"{SPIRAL} --weights 4 --starts 1 --rungs 1 --keep 0.5"),
    "frontier": ("search_frontier", "$shard"),
    "beam": ("beam_spiral", f"$pruned {SPIRAL} --most-weights 8 --least-weights 7 --width 1"),
}
SHAPES = [(3, 2), (3, 3), (3, 3), (1, 3)]  # of the matrices of a mask
STOPPED = 128 + signal.SIGTERM


def test_all_steps_that_save_their_state_are_here() -> None:
    saving = re.compile(r"cli\.checkpoint\(|spiral\.engine\(")
    scripts = {path.stem for path in STEPS.glob("*.py") if saving.search(path.read_text())}
    assert scripts - {"verify"} == set(LONG)  # that has no use for it


Step = Callable[[str, str], int]


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    """Runs a script in this process and returns its exit code."""
    monkeypatch.setattr(logging.root, "handlers", [])
    threads = torch.get_num_threads()

    def run(script: str, arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments.split()])
        try:
            runpy.run_path(str(STEPS / f"{script}.py"), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def command(step: Step, tmp_path: Path) -> Callable[[str], str]:
    """Arguments with small files, made for them, in the place of $names."""
    files = {"disc": str(tmp_path / "disc.h5"), "mask": str(tmp_path / "mask.npz")}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 2)).astype(np.float32)
    y = (np.linalg.norm(x, axis=1) > 1).astype(np.int64)
    store.write(files["disc"], "points", {"x": x, "y": y, "split": np.arange(256) % 4}, config={})
    masks = [rng.random(shape) < 0.8 for shape in SHAPES]
    np.savez(files["mask"], mask_0=masks[0], mask_1=masks[1], mask_2=masks[2], mask_3=masks[3])

    def filled(arguments: str) -> str:
        for name in Template(arguments).get_identifiers():
            if name not in files:
                script, how = MADE[name]
                files[name] = str(tmp_path / f"{name}.h5")
                assert step(script, filled(f"{how} --output {files[name]}")) == 0
        return Template(arguments).substitute(files)

    return filled


def interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM comes whenever a step has looked twice whether its state is to be saved."""
    looks = 0
    due = Checkpoint.due

    def stop(keeper: Checkpoint) -> bool:
        nonlocal looks
        looks += 1
        if looks % 2 == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return due(keeper)

    monkeypatch.setattr(Checkpoint, "due", stop)


@pytest.mark.parametrize("script", LONG)
def test_a_step_that_is_stopped_goes_on_to_the_same_numbers(
    script: str,
    step: Step,
    command: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, other = command(LONG[script][0]), LONG[script][1]
    whole, pieces = tmp_path / "whole.h5", tmp_path / "pieces.h5"
    assert step(script, f"{arguments} --output {whole}") == 0

    interrupt(monkeypatch)
    stops = 0
    while (code := step(script, f"{arguments} --output {pieces}")) == STOPPED:
        stops += 1
        assert not pieces.exists()
        if stops == 1:
            capsys.readouterr()
            assert step(script, f"{arguments} {other} --output {pieces}") == 2
            assert "a checkpoint of another run; delete it" in capsys.readouterr().err
        assert stops < 100
    assert code == 0
    assert stops > 1
    assert_equal(store.read(pieces, *KINDS).content, store.read(whole, *KINDS).content)
    assert not list(tmp_path.glob("*.checkpoint*"))


def assert_equal(found: store.Content, expected: store.Content) -> None:
    """To the last bit."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        here = found[name]
        if isinstance(value, pd.DataFrame):
            assert isinstance(here, pd.DataFrame)
            pd.testing.assert_frame_equal(here, value, check_exact=True)
        else:
            np.testing.assert_array_equal(here, value)
