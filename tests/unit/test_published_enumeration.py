"""The published lists of masks, against lists and numbers computed with the published code."""

from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from sparselimit.errors import InputError
from sparselimit.search.enumeration import canonical_form, split_layers
from sparselimit.search.published import published_layer_masks, published_masks

REFERENCE = Path(__file__).parents[1] / "reference" / "cubist.h5"


def test_lists_equal_the_published_ones_mask_by_mask() -> None:
    with h5py.File(REFERENCE) as file:
        lists = {name: masks[:] for name, masks in file["enumeration/lists"].items()}
    assert len(lists) == 25
    for name, masks in lists.items():
        weights = int(name.rpartition("nnz")[2])
        _, rows, columns = masks.shape
        np.testing.assert_array_equal(
            published_layer_masks(rows, columns, weights), masks, err_msg=name
        )


def test_lists_are_as_long_as_the_published_ones() -> None:
    with h5py.File(REFERENCE) as file:
        lengths = file["enumeration/num_of_supp"][:].tolist()
    assert len(lengths) == 170
    for columns, rows, weights, length in lengths:
        assert len(published_layer_masks(rows, columns, weights)) == length, (
            rows,
            columns,
            weights,
        )


@pytest.mark.parametrize(("rows", "columns"), [(4, 3), (3, 4), (2, 5), (5, 2)])
def test_lists_hold_each_mask_once_up_to_the_order_of_rows(rows: int, columns: int) -> None:
    for weights in range(max(rows, columns) - 1, rows * columns + 2):
        labelled = (
            mask
            for mask in product(range(1, 1 << columns), repeat=rows)
            if sum(map(int.bit_count, mask)) == weights
            and np.bitwise_or.reduce(mask) == (1 << columns) - 1
        )
        expected = {tuple(sorted(mask)) for mask in labelled}
        masks = published_layer_masks(rows, columns, weights)
        codes = masks @ (1 << np.arange(columns)[::-1])
        assert sorted(tuple(sorted(mask)) for mask in codes.tolist()) == sorted(expected)


def test_list_without_masks_is_empty() -> None:
    assert published_layer_masks(2, 3, 2).shape == (0, 2, 3)
    assert published_layer_masks(2, 3, 7).shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("widths", "most_weights", "second_layer_masks", "number", "networks"),
    [
        ((3, 2, 2), None, None, 416, 273),
        ((3, 3, 3), None, None, 25_992, 12_400),
        ((6, 3, 2), 30, 6, 23_528, None),
        ((7, 3, 3), 32, 3, 63_208, None),
    ],
)
def test_studies_have_the_published_numbers_of_masks(
    widths: tuple[int, int, int],
    most_weights: int | None,
    second_layer_masks: int | None,
    number: int,
    networks: int | None,
) -> None:
    masks = np.concatenate(
        list(
            published_masks(
                widths, most_weights=most_weights, second_layer_masks=second_layer_masks
            )
        )
    )
    assert len(np.unique(masks, axis=0)) == len(masks) == number
    assert masks[:, -widths[-1] :].all()
    if networks is not None:
        assert len({canonical_form(mask, widths)[1].tobytes() for mask in masks}) == networks


def test_order_is_by_weights_of_each_layer_then_by_place_in_its_list() -> None:
    widths = (4, 2, 2)
    places = published_places(widths, np.concatenate(list(published_masks(widths))))
    assert places == sorted(places)
    bounded = published_masks(widths, most_weights=12, second_layer_masks=3)
    assert published_places(widths, np.concatenate(list(bounded))) == [
        (*weights, w1, w2, w3) for *weights, w1, w2, w3 in places if sum(weights) <= 12 and w2 < 3
    ]


def published_places(
    widths: tuple[int, int, int], masks: NDArray[np.bool_]
) -> list[tuple[int, ...]]:
    """Weights of W1, W2 and W3 and their places in the lists of that many weights."""
    places = []
    for mask in masks:
        layers = split_layers(mask, widths)[:3]
        weights = [int(layer.sum()) for layer in layers]
        lists = [
            published_layer_masks(len(layer), len(layer[0]), n)
            for layer, n in zip(layers, weights, strict=True)
        ]
        place = [
            int((among == layer).all(axis=(1, 2)).argmax())
            for among, layer in zip(lists, layers, strict=True)
        ]
        places.append((*weights, *place))
    return places


def test_layer_without_neurons_is_refused() -> None:
    with pytest.raises(InputError, match="rows=0"):
        published_layer_masks(0, 2, 2)
    with pytest.raises(InputError, match=r"widths \(3, 0, 3\)"):
        published_masks((3, 0, 3))
