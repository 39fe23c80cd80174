"""The blocks that the published search tries: dense ones of many widths, or all masks of one.

S. Zhang and V. Papyan, "Sparsest Models Elude Pruning" (ICML 2024, arXiv 2407.04075). A block
2 - d1 - d2 - d3 - 1 lies in the first neurons of a 16-wide network. The search looks for the
smallest dense block that solves the task (first phase), then for the sparsest mask of that block
(second phase). What lies outside a block is masked, so a block is a network by itself.

The published list of masks has permuted copies of one network, and is cut short where it gets long:
63,208 of the 266,004,066 masks of 2-7-3-3-1. Listed once for all orders of its hidden neurons, the
same block has 8,338,343 networks (`classes`), which can all be tried.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import comb
from typing import ClassVar

import numpy as np

from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP
from sparselimit.search.counting import count_networks
from sparselimit.search.enumeration import block_networks
from sparselimit.search.exhaustive import PUBLISHED_WIDTH, Dealt
from sparselimit.search.labelled import Labelled
from sparselimit.search.published import BoolArray, published_masks

Widths = tuple[int, ...]

EACH_WIDTH = range(1, PUBLISHED_WIDTH + 1)

# Beyond the largest published block, 2-7-3-3-1 with 349,504 masks of its second layer and 63,208
# networks tried, by a factor of ten; what memory holds at once is not much more.
MOST_LAYER_MASKS = 4_000_000
MOST_NETWORKS = 600_000

# Likewise beyond 2-7-3-3-1, all of whose networks are 8,338,343 classes.
MOST_CLASSES = 100_000_000


def tried(
    widths: Widths | None,
    most_parameters: int | None = None,
    most_weights: int | None = None,
    second_layer_masks: int | None = None,
    *,
    classes: bool = False,
    labelled: bool = False,
    given: bool = False,
) -> "Blocks | Labelled":
    """The networks that a search tries: `Blocks`, or all masks of one block if `labelled`.

    given  whether all of them start from one initial network, of which they are masks

    Raises InputError for what does not go together, and as `Blocks` and `Labelled` do.
    """
    if classes and given:
        raise InputError(
            "classes: permuted masks of a given initial network are different experiments; "
            "use initial: random, or the published list"
        )
    if not labelled:
        return Blocks(widths, most_parameters, most_weights, second_layer_masks, classes)
    if not given or any((classes, most_parameters, most_weights, second_layer_masks)):
        raise InputError(
            "labelled: it tries all masks of one block in one given initial network (use "
            "initial: searched or a file, and no bounds)"
        )
    return Labelled(widths or ())


@dataclass(frozen=True)
class Blocks(Dealt):
    """The blocks that one search tries; iterating gives them as (widths, masks bool [n, weights]).

    widths           of the one block whose masks are tried, in the published order; none: dense
                     blocks of all widths up to 16, the last width running fastest
    most_parameters  of a dense block, weights and biases
    most_weights, second_layer_masks  of masks, as in `published_masks`
    classes          try each network of the block once, not each mask of the published list: of the
                     masks that differ by a permutation of hidden neurons the one that
                     `enumeration.block_networks` yields, in its order

    Raises InputError for a bound of the other phase, for a block that does not fit, and when no
    network is left or there are too many to list.
    """

    most_at_once: ClassVar[int] = MOST_NETWORKS

    widths: Widths | None = None
    most_parameters: int | None = None
    most_weights: int | None = None
    second_layer_masks: int | None = None
    classes: bool = False

    def __post_init__(self) -> None:
        if self.widths is None:
            if self.most_weights is not None or self.second_layer_masks is not None or self.classes:
                raise InputError(
                    "most_weights, second_layer_masks, classes: they choose among the masks of one "
                    "block (give widths; most_parameters bounds dense blocks)"
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
        if self.classes and self.second_layer_masks is not None:
            raise InputError(
                "second_layer_masks: it cuts the published list short (most_weights bounds classes)"
            )
        if self.count == 0:
            bound = "most_parameters" if self.widths is None else "most_weights"
            raise InputError(f"{bound} {getattr(self, bound)}: no block has so few, allow more")

    def __iter__(self) -> Iterator[tuple[Widths, BoolArray]]:
        return self._dealt(0, 1)

    def _dealt(self, shard: int, shards: int) -> Iterator[tuple[Widths, BoolArray]]:
        """Networks `shard`, `shard + shards`, ... of the list."""
        if self.widths is not None and self.classes:
            most = _most(self.widths, self.most_weights)
            for masks in block_networks(self.widths, most, shard=shard, shards=shards):
                yield self.widths, masks
            return
        first = 0
        for widths, masks in self._listed():
            yield widths, masks[(shard - first) % shards :: shards]
            first += len(masks)

    def _listed(self) -> Iterator[tuple[Widths, BoolArray]]:
        """The blocks as the published search lists them."""
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
        if self.widths is not None and self.classes:
            return _count_classes(self.widths, self.most_weights)
        count = 0
        for _, masks in self:
            count += len(masks)
            if count > MOST_NETWORKS:
                raise InputError(
                    f"widths {self.widths}: more than {MOST_NETWORKS:,} masks; bound them by "
                    "most_weights or second_layer_masks, or try classes"
                )
        return count


def _count_classes(widths: Widths, most_weights: int | None) -> int:
    """Number of networks of a block that are told apart by more than the order of their neurons."""
    most = _most(widths, most_weights)
    block_networks(widths, most)  # refuses at once what it could not enumerate later
    count = sum(count_networks(widths, most, all_inputs=True))
    if count > MOST_CLASSES:
        raise InputError(
            f"widths {widths}: {count:,} classes, more than {MOST_CLASSES:,}; bound them by "
            "most_weights"
        )
    return count


def _most(widths: Widths, most_weights: int | None) -> int:
    """The most weights of a network, with its output layer, which `most_weights` leaves out."""
    entries = MLP((2, *widths, 1)).n_weights
    return entries if most_weights is None else min(entries, most_weights + widths[-1])


def _layer_masks(widths: Widths) -> int:
    """The masks, up to the order of their rows, of the layer that has most of them.

    Multisets of non-zero rows: a little more than there are without a zero column.
    """
    return max(
        comb(2**columns - 2 + rows, rows)
        for rows, columns in zip(widths, (2, *widths), strict=False)
    )
