"""Exhaustive search: which networks, in which shapes, and where they start."""

import numpy as np
import pytest
import torch

from sparselimit.networks.mlp import MLP, positions
from sparselimit.search.counting import totals
from sparselimit.search.exhaustive import Networks, initial_values
from sparselimit.sparsity.connectivity import effective_mask
from tests.unit.refusals import refused


def keys(networks: Networks) -> list[tuple[tuple[int, ...], bytes]]:
    """Each network by its own shape and mask, whatever frame holds it."""
    return [
        (networks.own_shape(i).sizes, networks.own_mask(i).tobytes()) for i in range(len(networks))
    ]


# --- Which networks ------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize("weights", [6, 9])
def test_shards_cover_the_enumeration(weights: int, shards: int) -> None:
    """Dealt out in turn; each network has its weights, all of them effective, inside its frame."""
    whole = Networks.shard(weights, 0, 1)
    assert len(whole) == totals(weights)[weights] == len(set(keys(whole)))
    assert whole.number.tolist() == list(range(len(whole)))
    for shard in range(shards):
        part = Networks.shard(weights, shard, shards)
        assert keys(part) == keys(whole)[shard::shards]
        assert part.number.tolist() == list(range(shard, len(whole), shards))
        assert (part.mask.sum(axis=1) == weights).all()
        assert (effective_mask(part.frame, torch.tensor(part.mask)).numpy() == part.mask).all()
        assert part.frame.sizes[1:-1] == tuple(part.widths.max(axis=0))


def test_a_shard_without_networks_is_refused() -> None:
    with refused("shard 3 of 4", "no network of 4 weights"):
        Networks.shard(4, 3, 4)
    with refused("no network of 3 weights"):
        Networks.shard(3, 0, 1)


# --- In which shapes -----------------------------------------------------------------------------


def test_some_of_the_networks_are_the_same_networks() -> None:
    whole = Networks.shard(9, 0, 1)
    index = np.array([30, 2, 7])
    part = whole.take(index)
    assert keys(part) == [keys(whole)[i] for i in index]
    assert part.number.tolist() == index.tolist()
    assert part.frame.sizes[1:-1] == tuple(whole.widths[index].max(axis=0))


def cost(networks: Networks, groups: list[np.ndarray]) -> int:
    return sum(len(group) * networks.take(group).frame.n_parameters for group in groups)


def test_few_frames_hold_every_network_once() -> None:
    networks = Networks.shard(11, 0, 1)
    own_shapes = len(np.unique(networks.widths, axis=0))
    last = 0.0
    for worth, expected in ((0, own_shapes), (60, None), (600, None), (1e9, 1)):
        groups = networks.in_few_frames(worth)
        assert sorted(np.concatenate(groups).tolist()) == list(range(len(networks)))
        assert expected in (None, len(groups))
        # Each frame less was worth what it cost.
        added = cost(networks, groups) - cost(networks, networks.in_few_frames(0))
        assert last <= added <= worth * (own_shapes - len(groups))
        last = added
    assert last > 0


def test_frames_part_where_that_saves_most() -> None:
    """Many narrow networks, two wide ones alike: the wide ones share a frame of their own."""
    widths = np.array([[1, 1, 1]] * 20 + [[4, 4, 4], [4, 4, 3]])
    frame = MLP((2, 4, 4, 4, 1))
    mask = np.zeros((len(widths), frame.n_weights), dtype=bool)
    networks = Networks(frame, np.arange(len(widths)), widths, mask)
    groups = networks.in_few_frames(100)
    assert sorted(group.tolist() for group in groups) == [list(range(20)), [20, 21]]


# --- Where they start ----------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["exact", "published"])
def test_initial_values_depend_on_network_and_start_alone(protocol: str) -> None:
    whole = Networks.shard(8, 0, 1)
    drawn = set()
    for shard in range(3):
        part = Networks.shard(8, shard, 3)
        for i in range(0, len(part), 5):
            own, there = part.own_shape(i), shard + 3 * i
            few = initial_values(own, part.own_mask(i), range(2, 4), protocol)
            many = initial_values(whole.own_shape(there), whole.own_mask(there), range(7), protocol)
            np.testing.assert_array_equal(few, many[2:4])
            assert np.count_nonzero(few[0]) == own.n_parameters
            drawn |= set(few[:, 0])
    assert len(drawn) == 12


def test_initial_values_have_the_range_of_their_protocol() -> None:
    """At the network's own width, or as a crop of a network 16 wide."""
    networks = Networks.shard(12, 0, 40)
    for protocol in ("exact", "published"):
        scaled = []
        for i in range(len(networks)):
            own = networks.own_shape(i)
            fan_in = own.fan_in
            if protocol == "published":
                fan_in = MLP.spiral(16).fan_in[positions(own, MLP.spiral(16))]
            values = initial_values(own, networks.own_mask(i), range(1), protocol)[0]
            scaled.append(values * np.sqrt(fan_in))
        joined = np.concatenate(scaled)
        assert 0.98 < abs(joined).max() <= 1
        assert abs(joined.var() - 1 / 3) < 4 * np.sqrt(4 / 45 / joined.size)
