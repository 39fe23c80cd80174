"""Scoring a mask from outside: what is read, what is refused, what is said."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sparselimit.ensemble.members import Points
from sparselimit.networks.initial import Fixed, drawn
from sparselimit.networks.mlp import MLP
from sparselimit.scoring import (
    BestKnown,
    Candidate,
    Score,
    read_best_known,
    read_candidate,
    report,
    score,
)
from sparselimit.sources import ROOT, STEPS
from sparselimit.spiral import Grid, Runs
from tests.unit.refusals import refused

NETWORK = MLP((2, 4, 3, 2, 1))
BEST_KNOWN = BestKnown(np.array([8, 14, 11]), np.array([0.7, 0.97, 0.9]))

Arrays = dict[str, np.ndarray]


def candidate_arrays(*, initial: bool = False) -> Arrays:
    """A mask of NETWORK that is kept in part, and values for all of it."""
    rng = np.random.default_rng(0)
    arrays: Arrays = {f"mask_{i}": rng.random(s) < 0.7 for i, s in enumerate(NETWORK.weight_shapes)}
    if initial:
        for i, (n_out, n_in) in enumerate(NETWORK.weight_shapes):
            arrays[f"weight_{i}"] = rng.normal(size=(n_out, n_in))
            arrays[f"bias_{i}"] = rng.normal(size=n_out)
    return arrays


def saved(folder: Path, arrays: Arrays) -> Path:
    path = folder / "mine.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


# --- Reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float16, np.float64])
def test_what_is_not_zero_is_kept(tmp_path: Path, dtype: type) -> None:
    arrays = candidate_arrays()
    path = saved(tmp_path, {name: mask.astype(dtype) * dtype(1) for name, mask in arrays.items()})
    candidate = read_candidate(path)
    assert (candidate.name, candidate.network) == ("mine", NETWORK)
    assert candidate.initial is drawn
    assert candidate.weights == sum(int(mask.sum()) for mask in arrays.values())
    for layer, kept in enumerate(NETWORK.weights(candidate.mask)):
        np.testing.assert_array_equal(kept.numpy(), arrays[f"mask_{layer}"])


def test_small_and_negative_numbers_are_not_zero(tmp_path: Path) -> None:
    arrays = candidate_arrays() | {"mask_3": np.array([[-1e-30, 0.0]])}
    assert read_candidate(saved(tmp_path, arrays)).mask[-2:].tolist() == [True, False]


def test_given_values_are_what_training_starts_from(tmp_path: Path) -> None:
    arrays = candidate_arrays(initial=True)
    initial = read_candidate(saved(tmp_path, arrays)).initial(NETWORK, [3, 5])
    assert torch.equal(initial[0], initial[1])
    for i, (weight, bias) in enumerate(
        zip(NETWORK.weights(initial[0]), NETWORK.biases(initial[0]), strict=True)
    ):
        np.testing.assert_array_equal(weight, arrays[f"weight_{i}"].astype(np.float32))
        np.testing.assert_array_equal(bias, arrays[f"bias_{i}"].astype(np.float32))


def without(*names: str) -> Callable[[Arrays], object]:
    return lambda arrays: [arrays.pop(name) for name in names]


def with_array(name: str, value: object) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.update({name: np.asarray(value)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("mask_0", "mask_1", "mask_2", "mask_3"), ["lacks mask_0", "mask_0 to mask_3"]),
        (without("mask_2"), ["lacks mask_2"]),
        (with_array("mask_4", np.ones((1, 1))), ["unknown array 'mask_4'"]),
        (with_array("mask", np.ones((1, 1))), ["unknown array 'mask'"]),
        (without("bias_1"), ["lacks bias_1", "bias_0 to bias_3"]),
        (with_array("mask_1", np.ones((4, 3))), ["mask_1", "(4, 3)", "(out, 4)", "[out, in]"]),
        (with_array("mask_0", np.ones((4, 3))), ["mask_0", "(4, 3)", "(out, 2)", "2 inputs"]),
        (with_array("mask_3", np.ones((2, 2))), ["mask_3", "(2, 2)", "(1, 2)", "1 output"]),
        (with_array("mask_0", np.ones(8)), ["mask_0", "(8,)", "(out, 2)"]),
        (with_array("mask_0", np.ones((0, 2))), ["mask_0", "(0, 2)"]),
        (with_array("mask_2", np.full((2, 3), np.nan)), ["mask_2", "NaN"]),
        (with_array("mask_2", np.full((2, 3), "x")), ["mask_2", "real numbers"]),
        (with_array("mask_2", np.full((2, 3), 1j)), ["mask_2", "real numbers"]),
        (with_array("mask_2", np.full((2, 3), None)), ["allow_pickle=False", "np.savez"]),
        (with_array("weight_1", np.ones((4, 3))), ["weight_1", "(4, 3)", "expected (3, 4)"]),
        (with_array("bias_1", np.ones((3, 1))), ["bias_1", "(3, 1)", "expected (3,)"]),
        (with_array("bias_0", [0, 0, np.inf, 0]), ["bias_0", "infinity"]),
        (with_array("bias_0", [0, 0, 1e39, 0]), ["bias_0", "single precision"]),
    ],
)
def test_arrays_that_are_no_mask_are_refused(
    tmp_path: Path, change: Callable[[Arrays], object], words: list[str]
) -> None:
    arrays = candidate_arrays(initial=True)
    change(arrays)
    with refused("mine.npz", *words):
        read_candidate(saved(tmp_path, arrays))


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    empty = {name: np.zeros_like(mask) for name, mask in candidate_arrays().items()}
    with refused("mine.npz", "every mask is zero", "at least one weight"):
        read_candidate(saved(tmp_path, empty))


def test_files_that_hold_no_arrays_are_refused(tmp_path: Path) -> None:
    with refused("none.npz", "no such file", "np.savez"):
        read_candidate(tmp_path / "none.npz")
    with refused(str(tmp_path), "no such file"):
        read_candidate(tmp_path)
    single = tmp_path / "mask.npy"
    np.save(single, np.ones((4, 2)))
    with refused("mask.npy", "not an npz file", "np.savez"):
        read_candidate(single)
    damaged = saved(tmp_path, candidate_arrays())
    content = bytearray(damaged.read_bytes())
    content[0] ^= 255  # where the first array begins
    damaged.write_bytes(content)
    with refused("mine.npz", "cannot be read", "np.savez"):
        read_candidate(damaged)


# --- Distance ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accuracy", "fewest"), [(0.5, 8), (0.7, 8), (0.71, 11), (0.9, 11), (0.97, 14), (0.98, None)]
)
def test_fewest_weights_of_a_known_network(accuracy: float, fewest: int | None) -> None:
    assert BEST_KNOWN.fewest_weights(accuracy) == fewest


@pytest.mark.parametrize(
    ("weights", "accuracy"), [(7, None), (8, 0.7), (10, 0.7), (11, 0.9), (99, 0.97)]
)
def test_best_accuracy_of_a_known_network(weights: int, accuracy: float | None) -> None:
    assert BEST_KNOWN.best_accuracy(weights) == accuracy


def test_a_network_that_brings_no_progress_changes_nothing() -> None:
    """More weights and no more accuracy than another one."""
    known = BestKnown(np.append(BEST_KNOWN.weights, 12), np.append(BEST_KNOWN.accuracy, 0.8))
    assert known.fewest_weights(0.75) == 11
    assert known.best_accuracy(13) == 0.9


def test_an_accuracy_rounded_in_its_table_is_still_reached() -> None:
    exact = 40028 / 49982
    assert BestKnown(np.array([11]), np.array([round(exact, 6)])).fewest_weights(exact) == 11
    assert BestKnown(np.array([11]), np.array([40027 / 49982])).fewest_weights(exact) is None


def test_the_best_known_networks_of_the_project() -> None:
    """Every one of them is more accurate than all sparser ones."""
    known = read_best_known(ROOT / "docs" / "results" / "best_known.csv")
    assert len(known.weights) > 0
    assert (np.diff(known.weights) > 0).all()
    assert (np.diff(known.accuracy) > 0).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["No columns"]),
        ("weights,accuracy\n", ["is empty"]),
        ("weights,loss\n8,0.7\n", ["accuracy"]),
        ("weights,accuracy\n8,high\n", ["high"]),
        ("weights,accuracy\n8,0.7\n9,70\n", ["row 2"]),
        ("weights,accuracy\n8.5,0.7\n", ["row 1"]),
        ("weights,accuracy\n0,0.7\n", ["row 1"]),
        ("weights,accuracy\n8,\n", ["row 1"]),
        ("weights,accuracy\ninf,0.7\n", ["row 1"]),
    ],
)
def test_a_table_that_is_none_of_networks_is_refused(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "known.csv"
    path.write_text(text)
    with refused("known.csv", "columns weights and accuracy", *words):
        read_best_known(path)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with refused("none.csv", "No such file"):
        read_best_known(tmp_path / "none.csv")


# --- Training and the report ---------------------------------------------------------------------


def test_what_is_scored_is_the_masked_network(tmp_path: Path, spiral: Points) -> None:
    """At learning rate 0 the given values are scored as they are; torch agrees on the loss."""
    arrays = candidate_arrays(initial=True)
    candidate = read_candidate(saved(tmp_path, arrays))
    grid = Grid([candidate.weights], [0.0], ["constant"], seeds=2, epochs=1, batch_size=1024)
    found = score(candidate, grid, spiral, BEST_KNOWN, backend="batched")

    layers: list[nn.Module] = []
    reads = [np.ones(1), *(arrays[f"mask_{i}"].any(axis=0) for i in (1, 2, 3))]
    for i, (n_out, n_in) in enumerate(NETWORK.weight_shapes):
        layer = nn.Linear(n_in, n_out)
        bias_kept = reads[i + 1] if i < 3 else 1
        layer.weight.data = torch.tensor(arrays[f"weight_{i}"] * arrays[f"mask_{i}"]).float()
        layer.bias.data = torch.tensor(arrays[f"bias_{i}"] * bias_kept).float()
        layers += [layer, nn.ReLU()]
    with torch.no_grad():
        logits = nn.Sequential(*layers[:-1])(spiral.x)[:, 0]
    loss = nn.functional.binary_cross_entropy_with_logits(logits, spiral.y).item()
    accuracy = ((logits > 0) == (spiral.y > 0)).double().mean().item()
    assert found.runs.table.loss.tolist() == pytest.approx([loss] * 2, rel=1e-5)
    assert found.runs.table.accuracy.tolist() == pytest.approx([accuracy] * 2, abs=1e-4)
    assert torch.equal(found.runs.mask, candidate.mask.repeat(2, 1))


def made_up(candidate: Candidate, accuracy: list[float], diverged_at: list[int]) -> Score:
    """The score of runs that never were."""
    grid = Grid([candidate.weights], [0.05, 0.1], ["cosine"], len(accuracy) // 2, 50, 128)
    table = pd.DataFrame({"accuracy": accuracy, "diverged_at": diverged_at})
    nothing = torch.empty(0)
    runs = Runs(candidate.network, table, candidate.mask[None], candidate.mask[None], nothing)
    return Score(candidate, grid, runs, BEST_KNOWN)


def hand_made(last: list[int]) -> Candidate:
    """Neurons of every class before the last layer, whose mask is given."""
    layers = [
        [[1, 1], [0, 0], [1, 0], [0, 0]],
        [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]],
        [[1, 0, 0], [0, 1, 0]],
        [last],
    ]
    mask = np.concatenate([np.ravel(layer) for layer in layers])
    return Candidate("hand", NETWORK, torch.tensor(mask, dtype=torch.bool), drawn)


def test_the_report_in_full() -> None:
    accuracy = [0.5, 0.96, 0.9, 0.5, 0.5, 0.98, 0.5, 0.5, 0.5, 0.5]
    lines = report(made_up(hand_made([1, 0]), accuracy, [-1] * 9 + [390]))
    assert lines == [
        "hand, a mask of network 2-4-3-2-1",
        "weights: 9 of 28 kept (density 32.14%, pruning ratio 67.86%)",
        "connectivity: 2 paths from an input to the output, 5 effective weights; "
        "hidden neurons: 3 active, 1 constant, 3 dead, 2 unused",
        "  layer 1, 2 to 4: 3 weights, 2 effective; neurons: "
        "1 active, 1 constant, 1 dead, 1 unused",
        "  layer 2, 4 to 3: 3 weights, 1 effective; neurons: 1 active, 1 dead, 1 unused",
        "  layer 3, 3 to 2: 2 weights, 1 effective; neurons: 1 active, 1 dead",
        "  layer 4, 2 to 1: 1 weight, 1 effective",
        "training: 10 runs of 50 epochs from 5 random initial networks; "
        "learning rates 0.05, 0.1; schedules cosine",
        "accuracy: best 98.000%, median 50.000%, middle 80% of runs 50.000% to 96.200%",
        "  1 run diverged",
        # Intervals as scipy.stats.binomtest(x, 10).proportion_ci(method="wilson") has them.
        "  80.0% reached by 3 of 10: success rate 30.0% (95% interval 10.8% to 60.3%)",
        "  90.0% reached by 3 of 10: success rate 30.0% (95% interval 10.8% to 60.3%)",
        "  95.0% reached by 2 of 10: success rate 20.0% (95% interval 5.7% to 51.0%)",
        "  99.0% reached by 0 of 10: success rate 0.0% (95% interval 0.0% to 27.8%)",
        "  99.5% reached by 0 of 10: success rate 0.0% (95% interval 0.0% to 27.8%)",
        "no known network is as accurate",
        "most accurate known network of no more weights: 70.000%; "
        "this mask reaches 98.000% (+28.000 points)",
    ]


def test_a_mask_without_a_path_is_told() -> None:
    lines = report(made_up(hand_made([0, 0]), [0.5, 0.5], [-1, -1]))
    assert lines[2].startswith("connectivity: 0 paths")
    assert lines[3] == "  without a path the output is the same for every point"
    assert lines[-2:] == [
        "sparsest known network at least as accurate: 8 weights; this mask has 8 (+0)",
        "most accurate known network of no more weights: 70.000%; "
        "this mask reaches 50.000% (-20.000 points)",
    ]


def test_a_mask_sparser_than_all_known_is_told() -> None:
    candidate = hand_made([1, 0])
    sparse = candidate.mask & (torch.arange(NETWORK.n_weights) < 8)
    few = Candidate("few", NETWORK, sparse, Fixed(NETWORK, np.zeros(NETWORK.n_parameters)))
    lines = report(made_up(few, [0.6, 0.7], [-1, -1]))
    assert "from the given initial values by 1 batch order;" in " ".join(lines)
    assert lines[-2:] == [
        "sparsest known network at least as accurate: 8 weights; this mask has 3 (-5)",
        "no known network is as sparse",
    ]


# --- The script ----------------------------------------------------------------------------------


def in_a_process(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, STEPS / "score.py", *arguments]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd="/"
    )


def test_a_mask_is_scored_from_its_file_alone(tmp_path: Path) -> None:
    """No study, no data file, no output file."""
    path = saved(tmp_path, candidate_arrays())
    short = ("--epochs", 1, "--seeds", 2, "--batch-size", 4096, "--backend", "batched")
    done = in_a_process("--mask", path, *short)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "mine, a mask of network 2-4-3-2-1"
    assert "training: 4 runs of 1 epoch from 2 random initial networks" in done.stdout
    assert lines[-1].startswith("most accurate known network of no more weights: ")
    assert list(tmp_path.iterdir()) == [path]


def test_bad_input_is_told_in_one_line_and_exit_code_2(tmp_path: Path) -> None:
    arrays = candidate_arrays()
    arrays["mask_1"] = arrays["mask_1"].T
    done = in_a_process("--mask", saved(tmp_path, arrays))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("score.py: ")
    assert "mine.npz: mask_1 has shape (4, 3), expected (out, 4)" in done.stderr
