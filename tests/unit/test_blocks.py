"""The published search: which blocks it tries, and that each is trained as the network it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from sparselimit.ensemble import batched
from sparselimit.ensemble.members import Members, Points
from sparselimit.ensemble.state import State
from sparselimit.ensemble.train import train
from sparselimit.networks.initial import Fixed, drawn
from sparselimit.networks.mlp import MLP, positions
from sparselimit.search.block_runs import initial_values, train_blocks
from sparselimit.search.blocks import Blocks
from sparselimit.search.enumeration import canonical_form
from sparselimit.search.exhaustive import Networks
from sparselimit.search.published import published_masks
from sparselimit.sparsity.masks import with_biases
from sparselimit.spiral import Grid
from tests.unit import ensembles
from tests.unit.refusals import refused

WHOLE = MLP.spiral(16)
Widths = tuple[int, ...]

FEW = Blocks(most_parameters=17)  # ten shapes
CLASSES = Blocks((3, 2, 2), classes=True)
GRID = Grid([], [0.05, 0.1], ["cosine", "constant"], seeds=2, epochs=2, batch_size=16)
SETTINGS = [(0.05, "cosine", 0), (0.05, "cosine", 1), (0.1, "cosine", 0), (0.05, "step", 0)]


def points() -> Points:
    return ensembles.points(64, 2, torch.float32)


def fixed() -> Fixed:
    return Fixed(WHOLE, drawn(WHOLE, [0])[0].double().numpy())


def train_all(
    networks: Networks, initial: Fixed | None = None, grid: Grid = GRID, **engine: object
) -> tuple[pd.DataFrame, Tensor]:
    return train_blocks(networks, grid, points(), initial, backend="batched", **engine)  # type: ignore[arg-type]


# --- Which blocks --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "count"),
    [
        (Blocks(), 16**3),
        (Blocks(most_parameters=36), 93),
        (Blocks(most_parameters=60), 339),
        (Blocks((3, 2, 2)), 416),
        (Blocks((3, 3, 3)), 25_992),
        (Blocks((6, 3, 2), most_weights=30, second_layer_masks=6), 23_528),
        (Blocks((7, 3, 3), most_weights=32, second_layer_masks=3), 63_208),
    ],
    ids=str,
)
def test_as_many_as_were_published(blocks: Blocks, count: int) -> None:
    assert blocks.count == count


@pytest.mark.parametrize(
    ("widths", "most_weights", "count"),
    [
        ((3, 2, 2), None, 273),
        ((3, 3, 3), None, 12_400),
        ((6, 3, 2), None, 492_566),
        ((6, 3, 2), 30, 491_826),
        ((7, 3, 3), None, 8_338_343),
        ((7, 3, 3), 32, 8_090_204),
        ((7, 3, 3), 99, 8_338_343),
    ],
)
def test_known_numbers_of_classes(widths: Widths, most_weights: int | None, count: int) -> None:
    """They are counted, not listed."""
    blocks = Blocks(widths, most_weights=most_weights, classes=True)
    assert blocks.count == count
    assert blocks.least_shards == -(-count // 600_000)


def test_dense_blocks_are_all_of_so_few_parameters() -> None:
    found = dict(Blocks(most_parameters=60))
    for d1, d2, d3 in np.ndindex(16, 16, 16):
        a, b, c = d1 + 1, d2 + 1, d3 + 1
        weights = 2 * a + a * b + b * c + c
        assert ((a, b, c) in found) == (weights + a + b + c + 1 <= 60)
        if (a, b, c) in found:
            assert found[a, b, c].shape == (1, weights)
            assert found[a, b, c].all()


def test_masks_of_a_block_are_the_published_list() -> None:
    bounds: dict[str, Any] = {"most_weights": 11, "second_layer_masks": 2}
    found = list(Blocks((3, 2, 2), **bounds))
    assert {widths for widths, _ in found} == {(3, 2, 2)}
    expected = np.concatenate(list(published_masks((3, 2, 2), **bounds)))
    np.testing.assert_array_equal(np.concatenate([masks for _, masks in found]), expected)


def test_classes_are_the_masks_without_their_permuted_copies() -> None:
    """The bound of weights leaves out the output layer in both."""
    listed = Blocks((3, 2, 2), most_weights=10)
    classes = Blocks((3, 2, 2), most_weights=10, classes=True)
    forms = {
        canonical_form(mask, widths)[1].tobytes() for widths, masks in listed for mask in masks
    }
    found = [(widths, mask.tobytes()) for widths, masks in classes for mask in masks]
    assert len(found) == classes.count == len(forms) < listed.count
    assert set(found) == {((3, 2, 2), form) for form in forms}


@pytest.mark.parametrize(
    "blocks", [FEW, Blocks((3, 2, 2)), CLASSES], ids=["dense", "masks", "classes"]
)
@pytest.mark.parametrize("shards", [1, 3, 5])
def test_shards_deal_the_list_out_in_turn(blocks: Blocks, shards: int) -> None:
    listed = [(widths, mask.tobytes()) for widths, masks in blocks for mask in masks]
    for shard in range(shards):
        part = blocks.shard(shard, shards)
        assert part.number.tolist() == list(range(shard, len(listed), shards))
        found = [
            (tuple(part.widths[i].tolist()), part.own_mask(i).tobytes()) for i in range(len(part))
        ]
        assert found == listed[shard::shards]
        assert part.frame.sizes[1:-1] == tuple(part.widths.max(axis=0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"most_weights": 9}, ["most_weights", "give widths"]),
        ({"second_layer_masks": 9}, ["second_layer_masks", "give widths"]),
        ({"widths": (3, 2, 2), "most_parameters": 30}, ["most_parameters", "give no widths"]),
        ({"widths": (3, 2)}, ["widths (3, 2)", "give three from 1 to 16"]),
        ({"widths": (3, 2, 17)}, ["widths (3, 2, 17)", "give three from 1 to 16"]),
        ({"widths": (3, 0, 2)}, ["widths (3, 0, 2)", "give three from 1 to 16"]),
        ({"most_parameters": 8}, ["most_parameters 8", "no block", "allow more"]),
        ({"widths": (3, 2, 2), "most_weights": 7}, ["most_weights 7", "no block", "allow more"]),
        ({"widths": (16, 3, 3)}, ["widths (16, 3, 3)", "too many masks"]),
        ({"widths": (7, 3, 3)}, ["widths (7, 3, 3)", "bound them by most_weights", "classes"]),
        ({"classes": True}, ["classes", "give widths"]),
        (
            {"widths": (3, 2, 2), "classes": True, "second_layer_masks": 3},
            ["second_layer_masks", "the published list", "most_weights"],
        ),
        (
            {"widths": (3, 2, 2), "classes": True, "most_weights": 6},
            ["most_weights 6", "no block", "allow more"],
        ),
        ({"widths": (10, 2, 2), "classes": True}, ["widths (10, 2, 2)", "more than 9 neurons"]),
        ({"widths": (6, 4, 4), "classes": True}, ["1,456,789,256 classes", "most_weights"]),
    ],
)
def test_what_cannot_be_listed_is_refused(options: dict, words: list[str]) -> None:
    with refused(*words):
        Blocks(**options)


@pytest.mark.parametrize(("shard", "shards"), [(-1, 2), (2, 2), (416, 500)])
def test_a_shard_without_networks_is_refused(shard: int, shards: int) -> None:
    with refused(f"shard {shard} of {shards}", "none of 416 networks"):
        Blocks((3, 2, 2)).shard(shard, shards)


def test_more_networks_than_memory_holds_are_for_more_shards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Blocks, "most_at_once", 100)
    assert CLASSES.least_shards == 3
    with refused("shards=2", "more than 100 networks", "3 or more"):
        CLASSES.shard(0, 2)
    assert [len(CLASSES.shard(shard, 3)) for shard in range(3)] == [91, 91, 91]


# --- Where they start ----------------------------------------------------------------------------


def test_every_run_draws_its_own_initial_values() -> None:
    """They depend on block, mask and settings: what else is tried changes nothing."""
    block = MLP((2, 3, 2, 2, 1))
    mask = np.ones(block.n_weights, dtype=bool)
    values = initial_values(block, mask, SETTINGS, "exact")
    assert len(np.unique(values)) == len(SETTINGS) * block.n_parameters
    np.testing.assert_array_equal(initial_values(block, mask, SETTINGS[2:], "exact"), values[2:])
    other = mask.copy()
    other[0] = False
    assert not np.isin(initial_values(block, other, SETTINGS, "exact"), values).any()


def test_values_are_drawn_at_the_widths_of_the_protocol() -> None:
    """Uniform in +-1/sqrt(fan_in), so that the largest of many is close to that."""
    block = MLP((2, 7, 3, 3, 1))
    mask = np.ones(block.n_weights, dtype=bool)
    many = [(0.05, "cosine", seed) for seed in range(200)]
    for protocol, fan_in in (("exact", [2, 7, 3, 3]), ("published", [2, 16, 16, 16])):
        values = initial_values(block, mask, many, protocol)
        for part in (block.weights(values), block.biases(values)):
            largest = [float(abs(layer).max()) for layer in part]
            assert largest == pytest.approx(1 / np.sqrt(fan_in), rel=0.02)
            assert all(a <= b for a, b in zip(largest, 1 / np.sqrt(fan_in), strict=True))


# --- How they are trained ------------------------------------------------------------------------


def trained_inside(widths: Sequence[int], mask: np.ndarray, start: Fixed) -> Tensor:
    """A block trained as the published search does: as a mask of the 16-wide network.

    Parameters of the block at each of the settings of GRID, [8, n_parameters].
    """
    block = MLP((2, *map(int, widths), 1))
    place = positions(block, WHOLE)
    inside = torch.zeros(1, WHOLE.n_weights, dtype=torch.bool)
    inside[0, place[: block.n_weights]] = torch.tensor(mask)
    members = Members.of(
        WHOLE,
        start(WHOLE, [0] * 8),
        with_biases(WHOLE, inside).repeat(8, 1),
        learning_rate=[0.05] * 4 + [0.1] * 4,
        schedule=[0, 0, 1, 1] * 2,
        order_seed=[0, 1] * 4,
    )
    trained = train(members, points(), GRID.plan, backend="batched")
    return trained.parameters[:, place]


@pytest.mark.parametrize("blocks", [FEW, Blocks((2, 2, 1))], ids=["dense", "masks"])
def test_a_block_is_the_masked_network_around_it(blocks: Blocks) -> None:
    """Held in whatever shape, it ends with the values that it has inside the 16-wide network."""
    networks = blocks.shard(0, 1)
    runs, best = train_all(networks, fixed())
    assert runs.network.tolist() == [i for i in range(len(networks)) for _ in range(8)]
    assert runs.learning_rate.tolist() == ([0.05] * 4 + [0.1] * 4) * len(networks)
    assert runs.schedule.tolist() == ["cosine", "cosine", "constant", "constant"] * (
        2 * len(networks)
    )
    assert runs.seed.tolist() == [0, 1] * (4 * len(networks))
    assert (runs.steps == 2 * 4).all()
    for i, widths in enumerate(networks.widths):
        expected = trained_inside(widths, networks.own_mask(i), fixed())
        own = networks.own_shape(i)
        accuracy, loss = batched.evaluate(own, expected, points())
        mine = runs[runs.network == i].reset_index()
        assert mine.loss.to_numpy() == pytest.approx(loss.numpy(), rel=1e-5)
        winner = max(range(8), key=lambda run: (accuracy[run], -loss[run]))
        found = best[i, positions(own, networks.frame)]
        torch.testing.assert_close(found, expected[winner], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("protocol", ["exact", "published"])
def test_a_run_is_the_same_in_every_shard(protocol: str) -> None:
    whole, best = train_all(FEW.shard(0, 1), protocol=protocol)
    assert whole.loss.nunique() > 0.9 * len(whole)
    for shard in range(3):
        networks = FEW.shard(shard, 3)
        runs, own_best = train_all(networks, protocol=protocol)
        expected = whole[whole.network % 3 == shard]
        assert networks.number[runs.network].tolist() == expected.network.tolist()
        assert runs.loss.to_numpy() == pytest.approx(expected.loss.to_numpy(), rel=1e-5)
        place = positions(networks.frame, FEW.shard(0, 1).frame)
        torch.testing.assert_close(own_best, best[shard::3][:, place], rtol=1e-4, atol=1e-5)


def test_a_diverged_run_is_best_only_where_all_diverged() -> None:
    networks = Blocks((2, 1, 1)).shard(0, 4)
    both = Grid([], [1e30, 0.05], ["constant"], seeds=1, epochs=2, batch_size=16)
    runs, best = train_all(networks, fixed(), both)
    assert (runs.diverged_at >= 0).tolist() == [True, False] * len(networks)
    assert best.isfinite().all()
    alone = Grid([], [1e30], ["constant"], seeds=1, epochs=2, batch_size=16)
    _, best = train_all(networks, fixed(), alone)
    assert best.isnan().any(dim=1).all()


def test_a_second_call_goes_on_from_the_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shape has its own: those that were finished are not trained again."""
    monkeypatch.setattr("sparselimit.search.block_runs.COMPILATION", 0.0)
    checkpoint = tmp_path / "blocks.h5.checkpoint"
    runs, best = train_all(FEW.shard(0, 1), checkpoint=checkpoint)
    shapes = {f"{checkpoint.name}-{a}-{b}-{c}" for (a, b, c), _ in FEW}
    assert {path.name for path in tmp_path.iterdir()} == shapes

    (checkpoint.with_name(f"{checkpoint.name}-1-2-1")).unlink()
    trained = []
    advance = batched.advance

    def noted(state: State, *work: Any) -> None:
        trained.append(state.network)
        advance(state, *work)

    monkeypatch.setattr(batched, "advance", noted)
    again, again_best = train_all(FEW.shard(0, 1), checkpoint=checkpoint)
    assert set(trained) == {MLP((2, 1, 2, 1, 1))}
    pd.testing.assert_frame_equal(again, runs)
    assert torch.equal(again_best, best)
