"""The enumeration against brute force, Burnside's lemma and the known numbers of networks."""

from functools import cache
from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparselimit.errors import InputError
from sparselimit.search.counting import count_networks, shapes
from sparselimit.search.enumeration import (
    block_networks,
    canonical_form,
    sparse_networks,
    split_layers,
)
from sparselimit.search.published import published_masks

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Widths = tuple[int, ...]

# Networks 2 - d1 - d2 - d3 - 1 with 4, 5, .., 20 weights.
KNOWN = [2, 1, 7, 9, 24, 42, 110, 227, 543, 1_245, 3_052, 7_429, 18_814, 48_140]
KNOWN_BEYOND = [126_660, 338_783, 926_669]


@cache
def enumerated(
    weights: int, inputs: int = 2, outputs: int = 1, hidden_layers: int = 3
) -> dict[Widths, BoolArray]:
    """All networks by widths, in the order in which they come."""
    blocks: dict[Widths, list[BoolArray]] = {}
    for widths, masks in sparse_networks(
        weights, inputs=inputs, outputs=outputs, hidden_layers=hidden_layers
    ):
        blocks.setdefault(widths, []).append(masks)
    return {widths: np.concatenate(masks) for widths, masks in blocks.items()}


def all_masks(widths: Widths, inputs: int, outputs: int) -> BoolArray:
    entries = sum(a * b for a, b in pairwise((inputs, *widths, outputs)))
    return (np.arange(1 << entries)[:, None] >> np.arange(entries) & 1).astype(bool)


def relabellings(widths: Widths, inputs: int, outputs: int) -> IntArray:
    """For every permutation of the hidden neurons, the old index of each new entry."""
    entries = sum(a * b for a, b in pairwise((inputs, *widths, outputs)))
    layers = split_layers(np.arange(entries), widths, inputs=inputs, outputs=outputs)
    hidden = product(*(permutations(range(width)) for width in widths))
    orders = [(tuple(range(inputs)), *order, tuple(range(outputs))) for order in hidden]
    return np.array(
        [
            np.concatenate(
                [
                    layer[np.ix_(rows, columns)].ravel()
                    for layer, (columns, rows) in zip(layers, pairwise(order), strict=True)
                ]
            )
            for order in orders
        ]
    )


def bit_strings(masks: BoolArray, widths: Widths, inputs: int, outputs: int) -> IntArray:
    """The bit string that the representative minimises, as a number."""
    *matrices, last, out = split_layers(masks, widths, inputs=inputs, outputs=outputs)
    neurons = np.concatenate([last, out.swapaxes(1, 2)], axis=2)
    bits = np.concatenate([m.reshape(len(masks), -1) for m in (*matrices, neurons)], axis=1)
    return bits @ (1 << np.arange(bits.shape[1])[::-1])


def least_strings(masks: BoolArray, widths: Widths, inputs: int, outputs: int) -> IntArray:
    """The least bit string of each mask's class, by trying all permutations."""
    strings = [
        bit_strings(masks[:, order], widths, inputs, outputs)
        for order in relabellings(widths, inputs, outputs)
    ]
    return np.min(strings, axis=0)


def order_in_enumeration(mask: BoolArray, widths: Widths, inputs: int, outputs: int) -> list[int]:
    *matrices, last, out = split_layers(mask, widths, inputs=inputs, outputs=outputs)
    matrices.append(np.hstack([last, out.T]))
    return [x for m in matrices for x in (int(m.sum()), *m.ravel().tolist())]


TINY = [
    ((1, 1, 1), 2, 1),
    ((2, 2, 2), 2, 1),
    ((1, 3, 2), 2, 1),
    ((3, 1, 3), 2, 1),
    ((3, 2), 2, 1),
    ((2, 3), 2, 1),
    ((3, 3), 1, 1),
    ((2, 2), 3, 1),
    ((2, 2), 2, 2),
    ((3,), 2, 2),
    ((2,), 3, 3),
    ((2, 2, 2, 1), 1, 1),
]


def representatives(widths: Widths, inputs: int, outputs: int) -> BoolArray:
    """The networks of one shape, found among all its masks."""
    masks = all_masks(widths, inputs, outputs)
    layers = split_layers(masks, widths, inputs=inputs, outputs=outputs)
    dead = [~layer.any(axis=2) for layer in layers] + [~layer.any(axis=1) for layer in layers[1:]]
    masks = masks[~np.concatenate(dead, axis=1).any(axis=1)]
    strings = bit_strings(masks, widths, inputs, outputs)
    return masks[strings == least_strings(masks, widths, inputs, outputs)]


@pytest.mark.parametrize(("widths", "inputs", "outputs"), TINY)
def test_brute_force_over_all_labelled_masks(widths: Widths, inputs: int, outputs: int) -> None:
    masks = representatives(widths, inputs, outputs)
    weights = masks.sum(axis=1)
    most = masks.shape[1]
    assert (
        count_networks(widths, most, inputs=inputs, outputs=outputs)
        == np.bincount(weights, minlength=most + 1).tolist()
    )
    for k in range(1, most + 1):
        expected = sorted(
            masks[weights == k],
            key=lambda mask: order_in_enumeration(mask, widths, inputs, outputs),
        )
        found = enumerated(k, inputs, outputs, len(widths)).get(widths, masks[:0])
        np.testing.assert_array_equal(found, np.reshape(expected, (-1, most)))


@pytest.mark.parametrize(("widths", "inputs", "outputs"), TINY)
def test_brute_force_over_all_masks_of_a_block(widths: Widths, inputs: int, outputs: int) -> None:
    masks = representatives(widths, inputs, outputs)
    first = split_layers(masks, widths, inputs=inputs, outputs=outputs)[0]
    masks = masks[np.all(first.any(axis=1), axis=1)]
    weights = masks.sum(axis=1)
    entries = masks.shape[1]
    assert (
        count_networks(widths, entries, inputs=inputs, outputs=outputs, all_inputs=True)
        == np.bincount(weights, minlength=entries + 1).tolist()
    )
    for most in (0, entries // 2, entries - 2, entries):
        expected = sorted(
            masks[weights <= most],
            key=lambda mask: order_in_enumeration(mask, widths, inputs, outputs),
        )
        found = list(block_networks(widths, most, inputs=inputs, outputs=outputs))
        np.testing.assert_array_equal(
            np.concatenate([masks[:0], *found]), np.reshape(expected, (-1, entries))
        )


@pytest.mark.parametrize(
    ("most", "inputs", "outputs", "hidden_layers"),
    [(15, 2, 1, 3), (12, 1, 1, 3), (11, 2, 3, 2), (13, 2, 1, 4), (10, 3, 1, 2), (9, 3, 2, 1)],
)
def test_every_shape_and_size_agrees_with_burnside(
    most: int, inputs: int, outputs: int, hidden_layers: int
) -> None:
    counts = {
        widths: count_networks(widths, most, inputs=inputs, outputs=outputs)
        for widths in shapes(most, outputs=outputs, hidden_layers=hidden_layers)
    }
    for k in range(1, most + 1):
        found = enumerated(k, inputs, outputs, hidden_layers)
        assert list(found) == sorted(found)
        assert {widths: len(masks) for widths, masks in found.items()} == {
            widths: count[k] for widths, count in counts.items() if count[k]
        }
        assert all((masks.sum(axis=1) == k).all() for masks in found.values())
    assert all(any(count) for count in counts.values())


def test_known_numbers_of_networks() -> None:
    counts = np.sum([count_networks(widths, 20) for widths in shapes(20)], axis=0)
    assert counts.tolist() == [0] * 4 + KNOWN + KNOWN_BEYOND
    assert sum(KNOWN) == 79_645
    found = [sum(map(len, enumerated(k).values())) for k in range(4, 16)]
    assert found == KNOWN[:12]


@pytest.mark.parametrize(
    ("widths", "most", "number"),
    [
        ((3, 2, 2), 18, 273),
        ((3, 3, 3), 27, 12_400),
        ((6, 3, 2), 32, 491_826),
        ((6, 3, 2), 38, 492_566),
    ],
)
def test_known_numbers_of_networks_of_a_block(widths: Widths, most: int, number: int) -> None:
    """And as many of each number of weights as Burnside's lemma says."""
    counts = count_networks(widths, most, all_inputs=True)
    weights = [masks.sum(axis=1) for masks in block_networks(widths, most)]
    assert np.bincount(np.concatenate(weights), minlength=most + 1).tolist() == counts
    assert sum(counts) == number


@pytest.mark.parametrize("widths", [(3, 2, 2), (3, 3, 3)])
def test_a_block_is_the_published_list_up_to_permutation(widths: tuple[int, int, int]) -> None:
    published = np.concatenate(list(published_masks(widths)))
    found = np.concatenate(list(block_networks(widths, published.shape[1])))
    forms = {canonical_form(mask, widths)[1].tobytes() for mask in published}
    assert len(found) == len(forms)
    assert {mask.tobytes() for mask in found} == forms


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_shards_deal_the_networks_out(shards: int) -> None:
    whole = [(widths, mask.tobytes()) for widths, masks in enumerated(12).items() for mask in masks]
    for shard in range(shards):
        blocks = list(sparse_networks(12, shard=shard, shards=shards, block=4))
        assert all(1 <= len(masks) <= 4 for _, masks in blocks)
        dealt = [(widths, mask.tobytes()) for widths, masks in blocks for mask in masks]
        assert dealt == whole[shard::shards]


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_shards_deal_the_networks_of_a_block_out(shards: int) -> None:
    whole = np.concatenate(list(block_networks((3, 2, 2), 18)))
    for shard in range(shards):
        blocks = list(block_networks((3, 2, 2), 18, shard=shard, shards=shards, block=4))
        assert all(1 <= len(masks) <= 4 for masks in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), whole[shard::shards])


def test_too_few_weights_make_no_network() -> None:
    assert list(sparse_networks(3)) == []


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ({"weights": 0}, "weights=0"),
        ({"weights": 8, "inputs": 0}, "inputs=0"),
        ({"weights": 8, "hidden_layers": 0}, "hidden_layers=0"),
        ({"weights": 8, "shard": 2, "shards": 2}, "no shard 2 of 2"),
        ({"weights": 8, "block": 0}, "block=0"),
        ({"weights": 40}, "40 weights"),
        ({"weights": 8, "inputs": 16}, "16 inputs"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments: dict[str, int], culprit: str) -> None:
    with pytest.raises(InputError, match=culprit):
        sparse_networks(**arguments)


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ({"widths": ()}, "at least one hidden layer"),
        ({"widths": (3, 0, 2)}, r"widths \(3, 0, 2\).*at least 1 neuron"),
        ({"widths": (3, 2, 2), "outputs": 0}, "0 outputs"),
        ({"widths": (10, 2, 2)}, r"widths \(10, 2, 2\).*more than 9 neurons"),
        ({"widths": (2, 16, 2)}, r"widths \(2, 16, 2\).*16 bits"),
        ({"widths": (2, 2), "inputs": 17}, "17 inputs.*16 bits"),
        ({"widths": (3, 2, 2), "shard": 2, "shards": 2}, "no shard 2 of 2"),
        ({"widths": (3, 2, 2), "block": 0}, "block=0"),
    ],
)
def test_blocks_that_cannot_be_enumerated_are_refused(arguments: dict, culprit: str) -> None:
    with pytest.raises(InputError, match=culprit):
        block_networks(most=20, **arguments)


@pytest.mark.parametrize(
    ("widths", "inputs", "outputs"), [((2, 2, 2), 1, 1), ((3, 2), 1, 2), ((4,), 2, 1)]
)
def test_form_tells_classes_apart_on_all_masks(widths: Widths, inputs: int, outputs: int) -> None:
    masks = all_masks(widths, inputs, outputs)
    classes = least_strings(masks, widths, inputs, outputs).tolist()
    forms = [
        (form[0], form[1].tobytes())
        for form in (canonical_form(m, widths, inputs=inputs, outputs=outputs) for m in masks)
    ]
    assert len(set(zip(classes, forms, strict=True))) == len(set(classes)) == len(set(forms))


@given(data=st.data())
def test_form_finds_a_network_hidden_in_a_wider_one(data: st.DataObject) -> None:
    widths, masks = data.draw(st.sampled_from(list(enumerated(15).items())))
    mask = masks[data.draw(st.integers(0, len(masks) - 1))]
    places = [data.draw(st.permutations(range(9)))[:width] for width in widths]
    neurons = [[0, 1], *places, [0]]
    wide = np.zeros(2 * 9 + 9 * 9 + 9 * 9 + 9, bool)
    for part, layer, (columns, rows) in zip(
        split_layers(wide, (9, 9, 9)), split_layers(mask, widths), pairwise(neurons), strict=True
    ):
        part[np.ix_(rows, columns)] = layer
    form_widths, form = canonical_form(wide, (9, 9, 9))
    assert form_widths == widths
    np.testing.assert_array_equal(form, mask)


def test_form_of_a_mask_without_weights_is_empty() -> None:
    widths, form = canonical_form(np.zeros(14, bool), (2, 2, 2))
    assert widths == (0, 0, 0)
    assert form.shape == (0,)


def test_mask_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(InputError, match="2-2-2-2-1 network has 14 entries, the mask has 13"):
        canonical_form(np.zeros(13, bool), (2, 2, 2))


def test_count_refuses_a_layer_without_neurons() -> None:
    with pytest.raises(InputError, match=r"widths \(2, 0, 1\)"):
        count_networks((2, 0, 1), 10)
    with pytest.raises(InputError, match="at most -1 weights"):
        count_networks((1, 1, 1), -1)
