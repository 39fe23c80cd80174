"""All masks of a block where neurons are told apart: how many there are, and that all are tried."""

import runpy
import sys
from itertools import pairwise, permutations, product
from math import factorial, prod
from pathlib import Path

import numpy as np
import pytest
import torch

from sparselimit import store
from sparselimit.networks.mlp import MLP
from sparselimit.search.counting import count_networks
from sparselimit.search.enumeration import canonical_form, split_layers
from sparselimit.search.labelled import Labelled, covered_count, covered_masks
from sparselimit.search.published import published_masks
from tests.unit.refusals import refused

STEP = Path(__file__).parents[2] / "steps" / "search_blocks.py"


def all_masks(widths: tuple[int, ...]) -> np.ndarray:
    block = Labelled(widths)
    return block.masks(np.arange(block.count))


def orbits(widths: tuple[int, int, int]) -> int:
    """The classes under permutation of hidden neurons, by Burnside's lemma.

    The count with no condition on the inputs, less those that leave one input unused.
    """
    most = MLP((2, *widths, 1)).n_weights
    both, one = (sum(count_networks(widths, most, inputs=n)) for n in (2, 1))
    return both - 2 * one


# --- How many ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("widths", "count"),
    [((3, 2, 2), 4_375), ((3, 3, 3), 1_755_625), ((6, 3, 2), 2_098_576_375)],
)
def test_as_many_as_are_known(widths: tuple[int, int, int], count: int) -> None:
    assert Labelled(widths).count == count


def test_counts_need_no_list() -> None:
    sizes = (2, 7, 3, 3)
    assert prod(covered_count(rows, columns) for columns, rows in pairwise(sizes)) == (
        473_054_739_625
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 1), (2, 2), (3, 2), (2, 4), (3, 3)])
def test_masks_of_a_layer_by_brute_force(shape: tuple[int, int]) -> None:
    rows, columns = shape
    expected = [
        bits
        for bits in product([False, True], repeat=rows * columns)
        if all(any(bits[i * columns : (i + 1) * columns]) for i in range(rows))
        and all(any(bits[j::columns]) for j in range(columns))
    ]
    found = covered_masks(rows, columns)
    assert found.shape == (covered_count(rows, columns), rows, columns)
    assert [tuple(mask.ravel().tolist()) for mask in found] == expected


# --- Which ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(1, 1, 1), (2, 1, 2), (2, 2, 1), (1, 2, 2), (3, 1, 1)])
def test_masks_of_a_block_by_brute_force(widths: tuple[int, int, int]) -> None:
    """In ascending order as binary numbers."""
    n = MLP((2, *widths, 1)).n_weights
    expected = []
    for bits in product([False, True], repeat=n):
        layers = split_layers(np.array(bits), widths)
        if layers[-1].all() and all(w.any(axis=0).all() and w.any(axis=1).all() for w in layers):
            expected.append(bits)
    assert [tuple(mask.tolist()) for mask in all_masks(widths)] == expected


@pytest.mark.parametrize("shards", [1, 4, 25, 625])
def test_shards_partition_the_masks(shards: int) -> None:
    block = Labelled((3, 2, 2))
    whole = all_masks((3, 2, 2))
    for shard in range(0, shards, max(1, shards // 30)):
        part = block.shard(shard, shards)
        assert part.number.tolist() == list(range(shard, block.count, shards))
        np.testing.assert_array_equal(part.mask, whole[shard::shards])
        assert part.frame == MLP((2, 3, 2, 2, 1))
        assert (part.widths == [3, 2, 2]).all()


def test_a_shard_of_a_large_block_holds_itself_alone() -> None:
    part = Labelled((6, 3, 2)).shard(123, 1_000_000)
    assert part.number.tolist() == list(range(123, 2_098_576_375, 1_000_000))
    assert len(np.unique(part.mask, axis=0)) == len(part) == 2_099


@pytest.mark.parametrize("widths", [(3, 2, 2), (2, 2, 2), (2, 3, 1)])
def test_permuted_masks_are_listed_as_well(widths: tuple[int, int, int]) -> None:
    """Whole orbits: as many as there are, each of a size that divides the group's."""
    masks = all_masks(widths)
    forms = [canonical_form(mask, widths)[1].tobytes() for mask in masks]
    _, sizes = np.unique(forms, return_counts=True)
    assert len(sizes) == orbits(widths)
    assert (prod(map(factorial, widths)) % sizes == 0).all()


def test_orbits_of_the_smallest_published_block() -> None:
    assert orbits((3, 2, 2)) == 273


def test_orbits_of_the_largest_published_block() -> None:
    """The least number in each orbit, from where the layers go under each permutation."""
    widths = (3, 3, 3)
    first, second, third = (covered_masks(*shape) for shape in [(3, 2), (3, 3), (3, 3)])

    def images(masks: np.ndarray, rows: tuple[int, ...], columns: tuple[int, ...]) -> np.ndarray:
        weigh = 1 << np.arange(masks[0].size)[::-1]
        permuted = masks[:, list(rows)][:, :, list(columns)].reshape(len(masks), -1) @ weigh
        return (masks.reshape(len(masks), -1) @ weigh).searchsorted(permuted)

    number = np.arange(Labelled(widths).count, dtype=np.int32).reshape(25, 265, 265)
    least = number.copy()
    orders = list(permutations(range(3)))
    for p1, p2, p3 in product(orders, repeat=3):
        i = images(first, p1, (0, 1)).astype(np.int32)
        j, k = images(second, p2, p1).astype(np.int32), images(third, p3, p2).astype(np.int32)
        np.minimum(least, (i[:, None, None] * 265 + j[:, None]) * 265 + k, out=least)
    assert (least == number).sum() == 12_400 == orbits(widths)


def test_the_published_masks_are_among_them() -> None:
    published = np.concatenate(list(published_masks((3, 2, 2))))
    listed = {mask.tobytes() for mask in all_masks((3, 2, 2))}
    assert len(published) == 416
    assert {mask.tobytes() for mask in published} < listed


# --- What cannot be tried ------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(3, 2), (3, 0, 2), (1, 17, 1), (3, 2, 2, 2)])
def test_widths_that_make_no_block_are_refused(widths: tuple[int, ...]) -> None:
    with refused(str(widths), "three from 1 to 16"):
        Labelled(widths)


def test_a_layer_with_too_many_masks_is_refused() -> None:
    with refused("(3, 7, 3)", "layer of 21 weights", "at most 20"):
        Labelled((3, 7, 3))


@pytest.mark.parametrize(("shard", "shards"), [(-1, 2), (2, 2), (4375, 5000)])
def test_a_shard_without_masks_is_refused(shard: int, shards: int) -> None:
    with refused(f"shard {shard} of {shards}", "none of 4,375 networks"):
        Labelled((3, 2, 2)).shard(shard, shards)


def test_a_shard_too_large_is_refused() -> None:
    with refused("shards=17", "1,755,625 networks", "18 or more"):
        Labelled((3, 3, 3)).shard(0, 17)


# --- The step ------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [STEP.name, *map(str, arguments)])
    try:
        runpy.run_path(str(STEP), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_permuted_masks_are_different_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They start from the same network, in which neurons differ, and end apart."""
    x = np.random.default_rng(0).standard_normal((64, 2)).astype(np.float32)
    points = {"x": x, "y": (x.prod(axis=1) > 0).astype(int), "split": np.zeros(64, dtype=int)}
    store.write(tmp_path / "points.h5", "points", points, config={})
    torch.manual_seed(0)
    layers = [torch.nn.Linear(i, o) for i, o in pairwise((2, 3, 3, 3, 1))]
    for layer in layers:
        torch.nn.init.ones_(layer.bias)  # so that no neuron is dead
    torch.save(torch.nn.Sequential(*layers).state_dict(), tmp_path / "start.pt")
    common = ("--data", tmp_path / "points.h5", "--labelled", "--widths", 2, 2, 1,
              "--backend", "batched",
              "--epochs", 2, "--batch-size", 16, "--seeds", 2)  # fmt: skip
    out = tmp_path / "runs.h5"
    start = ("--initial", tmp_path / "start.pt")
    assert run(monkeypatch, *common, *start, "--shard", 1, "--shards", 2, "--output", out) == 0
    found = store.read(out, "block-runs")
    networks, runs = found.table("networks"), found.table("runs")
    block = Labelled((2, 2, 1))
    assert networks.network.tolist() == list(range(1, block.count, 2))
    np.testing.assert_array_equal(found.array("mask"), block.masks(networks.network.to_numpy()))
    assert networks.weights.tolist() == found.array("mask").sum(axis=1).tolist()
    assert runs.network.tolist() == networks.network.repeat(2).tolist()
    forms = {canonical_form(mask, (2, 2, 1))[1].tobytes() for mask in found.array("mask")}
    assert len(forms) < len(networks)
    assert runs[runs.seed == 0].loss.nunique() == len(networks)

    assert run(monkeypatch, *common, "--initial", "random", "--output", out) == 2
