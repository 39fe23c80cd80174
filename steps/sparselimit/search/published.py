"""The masks that the published search tries, in the published order.

S. Zhang and V. Papyan, "Sparsest Models Elude Pruning" (ICML 2024, arXiv 2407.04075). The search
fixes the widths of a block inputs - d1 - d2 - d3 - 1, keeps its output layer dense and combines one
list of masks for each of W1, W2 and W3. A list holds the masks without a zero row or column, one
for all orders of the rows; orders of the columns are told apart. So permuted copies of a network
come up again: the 25,992 masks of 2-3-3-3-1 are 12,400 networks.
"""

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from sparselimit.errors import InputError

BoolArray = NDArray[np.bool_]


def published_layer_masks(rows: int, columns: int, weights: int) -> BoolArray:
    """The published list [n, rows, columns] of a layer's masks with this number of weights.

    Rows are outputs. They descend by number of weights and, where that is equal, by value as a
    binary number with the first column most significant. In the list, numbers of weights per row
    ascend lexicographically; where these are equal, the masks descend by the value of the last row,
    then of the row above it, and so on to the first.

    Raises InputError if there is no row or no column.
    """
    if min(rows, columns) < 1:
        raise InputError(f"rows={rows}, columns={columns}: a layer has at least 1 of each")
    full = (1 << columns) - 1
    values = np.arange(full, -1, -1)
    sizes = np.bitwise_count(values)
    lists = []
    for row_weights in _row_weights(weights, rows, columns):
        *upper, last = (values[sizes == size] for size in row_weights)
        codes = last[:, None]
        for above, (size, size_below) in zip(
            reversed(upper), reversed(list(pairwise(row_weights))), strict=True
        ):
            below = codes.repeat(len(above), axis=0)
            above = np.tile(above, len(codes))
            kept = above >= below[:, 0] if size == size_below else slice(None)
            codes = np.column_stack([above, below])[kept]
        lists.append(codes[np.bitwise_or.reduce(codes, axis=1) == full])
    codes = np.concatenate([np.empty((0, rows), int), *lists])
    return (codes[..., None] >> np.arange(columns)[::-1] & 1).astype(bool)


def published_masks(
    widths: tuple[int, int, int],
    *,
    inputs: int = 2,
    most_weights: int | None = None,
    second_layer_masks: int | None = None,
) -> Iterator[BoolArray]:
    """Yield the published search's masks of the block inputs - d1 - d2 - d3 - 1, in its order.

    An item [n, entries] holds all masks with one W1 and one number of weights in each of W2 and W3;
    its rows are W1, W2, W3 and the dense output layer, each flattened row-major. The order is by
    number of weights of W1, of W2, of W3, then by place of W1, of W2, of W3 in their lists.

    `most_weights` bounds the weights of W1, W2 and W3 together; `second_layer_masks` takes only so
    many masks from the head of each list for W2. None sets no bound. The published studies:

    ======== ====== ============ ================== ======
    widths   init   most_weights second_layer_masks masks
    ======== ====== ============ ================== ======
    3, 2, 2  fixed                                     416
    3, 3, 3  random                                 25,992
    6, 3, 2  fixed            30                  6 23,528
    7, 3, 3  random           32                  3 63,208
    ======== ====== ============ ================== ======

    Raises InputError if a layer has no neuron.
    """
    if min(inputs, *widths) < 1:
        raise InputError(f"{inputs} inputs, widths {widths}: a layer has at least 1 neuron")
    return _blocks(widths, inputs, most_weights, second_layer_masks)


def _blocks(
    widths: tuple[int, int, int],
    inputs: int,
    most_weights: int | None,
    second_layer_masks: int | None,
) -> Iterator[BoolArray]:
    layers = []
    for columns, rows in pairwise((inputs, *widths)):
        lists = {
            weights: published_layer_masks(rows, columns, weights).reshape(-1, rows * columns)
            for weights in range(max(rows, columns), rows * columns + 1)
        }
        layers.append(lists)
    first, second, third = layers
    for in_first, in_second, in_third in product(first, second, third):
        if most_weights is not None and in_first + in_second + in_third > most_weights:
            continue
        w2 = second[in_second][:second_layer_masks]
        w3 = third[in_third]
        later = np.hstack([w2.repeat(len(w3), axis=0), np.tile(w3, (len(w2), 1))])
        output = np.ones((len(later), widths[-1]), bool)
        for w1 in first[in_first]:
            yield np.hstack([np.broadcast_to(w1, (len(later), w1.size)), later, output])


def _row_weights(weights: int, rows: int, most: int) -> Iterator[tuple[int, ...]]:
    """The ways to give each row 1 to `most` weights, descending along the rows, in order."""
    if rows == 0:
        yield ()
        return
    for top in range(-(-weights // rows), min(most, weights - rows + 1) + 1):
        for rest in _row_weights(weights - top, rows - 1, top):
            yield (top, *rest)
