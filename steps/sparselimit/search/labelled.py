"""All masks of a small block, where neurons are told apart.

Inside a given initial network, masks that differ by a permutation of hidden neurons start from
different values: they are different experiments. The published search (Zhang & Papyan 2024) tries
one for all orders of the rows, 416 of the 4,375 masks of 2-3-2-2-1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from math import comb, prod
from typing import ClassVar

import numpy as np

from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP
from sparselimit.search.exhaustive import PUBLISHED_WIDTH, Block, Dealt
from sparselimit.search.published import BoolArray

# The masks of each layer are listed; of 4 x 5 entries there are 693,601.
MOST_ENTRIES = 20
# Networks of a shard, which memory has to hold with all their runs.
MOST_NETWORKS = 100_000


@dataclass(frozen=True)
class Labelled(Dealt):
    """All masks of a block 2 - d1 - d2 - d3 - 1 that are dense in the last layer.

    None has a zero row or column. They are numbered in ascending order of the flattened mask as a
    binary number, so that each can be had by its number: only the masks of single layers are held.

    Raises InputError for widths that are not three, or of a block too large.
    """

    most_at_once: ClassVar[int] = MOST_NETWORKS

    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        sizes = (2, *self.widths)
        if len(self.widths) != 3 or min(self.widths) < 1 or max(self.widths) > PUBLISHED_WIDTH:
            raise InputError(f"widths {self.widths}: give three from 1 to {PUBLISHED_WIDTH}")
        largest = max(rows * columns for columns, rows in pairwise(sizes))
        if largest > MOST_ENTRIES:
            raise InputError(
                f"widths {self.widths}: a layer of {largest} weights has too many masks to list "
                f"(give at most {MOST_ENTRIES})"
            )

    @cached_property
    def block(self) -> MLP:
        return MLP((2, *self.widths, 1))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Numbers of masks of each hidden layer."""
        return tuple(covered_count(*shape) for shape in self.block.weight_shapes[:-1])

    @property
    def count(self) -> int:
        return prod(self.counts)

    def masks(self, numbers: np.ndarray) -> BoolArray:
        """The masks of these numbers, [n, weights]."""
        places = np.unravel_index(numbers, self.counts)
        layers = [
            covered_masks(*shape)[place].reshape(len(numbers), -1)
            for shape, place in zip(self.block.weight_shapes[:-1], places, strict=True)
        ]
        return np.hstack([*layers, np.ones((len(numbers), self.widths[-1]), dtype=bool)])

    def _dealt(self, shard: int, shards: int) -> Iterator[Block]:
        yield self.widths, self.masks(np.arange(shard, self.count, shards))


def covered_count(rows: int, columns: int) -> int:
    """The number of 0/1 matrices without a zero row or column, by inclusion and exclusion."""
    return sum(
        (-1) ** (columns - used) * comb(columns, used) * (2**used - 1) ** rows
        for used in range(columns + 1)
    )


@cache
def covered_masks(rows: int, columns: int) -> BoolArray:
    """These matrices [n, rows, columns], ascending as binary numbers of their entries in order."""
    entries = np.arange(rows * columns)[::-1]
    bits = (np.arange(1 << rows * columns)[:, None] >> entries & 1).astype(bool)
    matrices = bits.reshape(-1, rows, columns)
    covered = [np.any(matrices, axis=axis).all(axis=1) for axis in (1, 2)]
    return matrices[covered[0] & covered[1]]
