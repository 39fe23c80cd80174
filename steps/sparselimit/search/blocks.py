"""The blocks that the published search tries: dense ones of many widths, or all masks of one.

S. Zhang and V. Papyan, "Sparsest Models Elude Pruning" (ICML 2024, arXiv 2407.04075). A block
2 - d1 - d2 - d3 - 1 lies in the first neurons of a 16-wide network. The search looks for the
smallest dense block that solves the task (first phase), then for the sparsest mask of that block
(second phase). What lies outside a block is masked, so a block is a network by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import comb

import numpy as np

from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, positions
from sparselimit.search.exhaustive import PUBLISHED_WIDTH, Networks
from sparselimit.search.published import BoolArray, published_masks

Widths = tuple[int, ...]

EACH_WIDTH = range(1, PUBLISHED_WIDTH + 1)

# Beyond the largest published block, 2-7-3-3-1 with 349,504 masks of its second layer and 63,208
# networks tried, by a factor of ten; what memory holds is not much more.
MOST_LAYER_MASKS = 4_000_000
MOST_NETWORKS = 600_000


@dataclass(frozen=True)
class Blocks:
    """The blocks that one search tries; iterating gives them as (widths, masks bool [n, weights]).

    widths           of the one block whose masks are tried, in the published order; none: dense
                     blocks of all widths up to 16, the last width running fastest
    most_parameters  of a dense block, weights and biases
    most_weights, second_layer_masks  of masks, as in `published_masks`

    Raises InputError for a bound of the other phase, for a block that does not fit, and when no
    network is left or there are too many to list.
    """

    widths: Widths | None = None
    most_parameters: int | None = None
    most_weights: int | None = None
    second_layer_masks: int | None = None

    def __post_init__(self) -> None:
        if self.widths is None:
            if self.most_weights is not None or self.second_layer_masks is not None:
                raise InputError(
                    "most_weights, second_layer_masks: they bound the masks of one block (give "
                    "widths; most_parameters bounds dense blocks)"
                )
        elif self.most_parameters is not None:
            raise InputError(
                "most_parameters: it bounds dense blocks (give no widths; most_weights bounds the "
                "masks of one block)"
            )
        elif len(self.widths) != 3 or not set(self.widths) <= set(EACH_WIDTH):
            raise InputError(
                f"widths {self.widths}: give three from 1 to {PUBLISHED_WIDTH}, of a block in a "
                f"{PUBLISHED_WIDTH}-wide network"
            )
        if self.count == 0:
            bound = "most_parameters" if self.widths is None else "most_weights"
            raise InputError(f"{bound} {getattr(self, bound)}: no block has so few, allow more")

    def __iter__(self) -> Iterator[tuple[Widths, BoolArray]]:
        if self.widths is not None:
            d1, d2, d3 = self.widths
            for masks in published_masks(
                (d1, d2, d3),
                most_weights=self.most_weights,
                second_layer_masks=self.second_layer_masks,
            ):
                yield self.widths, masks
            return
        for widths in product(EACH_WIDTH, repeat=3):
            block = MLP((2, *widths, 1))
            if self.most_parameters is None or block.n_parameters <= self.most_parameters:
                yield widths, np.ones((1, block.n_weights), dtype=bool)

    @cached_property
    def count(self) -> int:
        """Number of networks. Raises InputError when there are too many to list."""
        if self.widths is not None and _layer_masks(self.widths) > MOST_LAYER_MASKS:
            raise InputError(f"widths {self.widths}: the block has too many masks; narrow it")
        count = 0
        for _, masks in self:
            count += len(masks)
            if count > MOST_NETWORKS:
                raise InputError(
                    f"widths {self.widths}: more than {MOST_NETWORKS:,} masks; bound them by "
                    "most_weights or second_layer_masks"
                )
        return count

    def shard(self, shard: int, shards: int) -> Networks:
        """The networks that fall to one shard: `shard`, `shard + shards`, ... of the list.

        Raises InputError when there are none.
        """
        if not 0 <= shard < min(shards, self.count):
            raise InputError(
                f"shard {shard} of {shards}: it holds none of {self.count} networks (shards count "
                "from 0)"
            )
        whole = MLP.spiral(PUBLISHED_WIDTH)
        first, widths, parts = 0, [], []
        for block_widths, masks in self:
            own = masks[(shard - first) % shards :: shards]
            first += len(masks)
            block = MLP((2, *block_widths, 1))
            wide = np.zeros((len(own), whole.n_weights), dtype=bool)
            wide[:, positions(block, whole)[: block.n_weights]] = own
            widths.append(np.tile(block_widths, (len(own), 1)))
            parts.append(wide)
        number = np.arange(shard, self.count, shards)
        networks = Networks(whole, number, np.concatenate(widths), np.concatenate(parts))
        return networks.take(np.arange(len(number)))


def _layer_masks(widths: Widths) -> int:
    """The masks, up to the order of their rows, of the layer that has most of them.

    Multisets of non-zero rows: a little more than there are without a zero column.
    """
    return max(
        comb(2**columns - 2 + rows, rows)
        for rows, columns in zip(widths, (2, *widths), strict=False)
    )
