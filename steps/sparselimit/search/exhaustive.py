"""Every sparse network of k weights: in which common shapes they are held, where they start."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations, repeat
from math import ceil
from typing import ClassVar

import numpy as np

from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, initial_parameters, positions
from sparselimit.search.enumeration import sparse_networks
from sparselimit.seeds import generator

PUBLISHED_WIDTH = 16
WHOLE = MLP.spiral(PUBLISHED_WIDTH)

# What the compilation of a kernel for one more shape costs, in parameters times steps of training
# (measured: one second, at 4 ns).
COMPILATION = 2.5e8

Block = tuple[tuple[int, ...], np.ndarray]  # hidden widths, masks bool [n, weights of that shape]

# Asked for again with every network of a shape.
_positions = cache(positions)


@dataclass(frozen=True)
class Networks:
    """Sparse networks 2 - d1 - d2 - d3 - 1 held in the first neurons of one common shape.

    number  int64 [n], what each is called by: its place in the list that it was taken from, be that
            of all networks with as many weights, of blocks, of masks, or of a level of the beam
    widths  int64 [n, hidden layers], each network's own
    mask    bool  [n, frame.n_weights]
    """

    frame: MLP
    number: np.ndarray
    widths: np.ndarray
    mask: np.ndarray

    @classmethod
    def of(cls, blocks: Iterable[Block], number: np.ndarray) -> "Networks":
        """Networks given in their own shapes, some of each, in the least shape that holds them."""
        listed = [(widths, own) for widths, own in blocks if len(own)]
        frame = _frame(np.array([widths for widths, _ in listed]))
        masks = []
        for widths, own in listed:
            block = MLP((2, *widths, 1))
            wide = np.zeros((len(own), frame.n_weights), dtype=bool)
            wide[:, _positions(block, frame)[: block.n_weights]] = own
            masks.append(wide)
        each = [np.tile(widths, (len(own), 1)) for widths, own in listed]
        return cls(frame, number, np.concatenate(each), np.concatenate(masks))

    @classmethod
    def shard(cls, weights: int, shard: int, shards: int) -> "Networks":
        """The networks of k weights that fall to one shard, in the order of the enumeration.

        Raises InputError when there are none.
        """
        blocks = list(sparse_networks(weights, shard=shard, shards=shards))
        if not blocks:
            raise InputError(f"shard {shard} of {shards} holds no network of {weights} weights")
        n = sum(len(masks) for _, masks in blocks)
        return cls.of(blocks, shard + shards * np.arange(n))

    def __len__(self) -> int:
        return len(self.mask)

    def take(self, index: np.ndarray) -> "Networks":
        """Some of the networks, held in the least shape that holds them all."""
        frame = _frame(self.widths[index])
        where = positions(frame, self.frame)[: frame.n_weights]
        return Networks(
            frame, self.number[index], self.widths[index], self.mask[np.ix_(index, where)]
        )

    def own_shape(self, i: int) -> MLP:
        return _frame(self.widths[i : i + 1])

    def own_mask(self, i: int) -> np.ndarray:
        """The mask of one network in its own shape, bool [n_weights]."""
        own = self.own_shape(i)
        return self.mask[i, positions(own, self.frame)[: own.n_weights]]

    def initial(self, runs: int, drawn: Callable[[MLP, np.ndarray], np.ndarray]) -> np.ndarray:
        """Where `runs` runs of each network start, float32 [n * runs, frame.n_parameters].

        `drawn` makes those of one network, [runs, n_parameters], from its own shape and mask.
        """
        values = np.zeros((len(self), runs, self.frame.n_parameters), dtype=np.float32)
        for i in range(len(self)):
            own = self.own_shape(i)
            values[i][:, _positions(own, self.frame)] = drawn(own, self.own_mask(i))
        return values.reshape(-1, self.frame.n_parameters)

    def in_few_frames(self, worth: float) -> list[np.ndarray]:
        """The networks (indices) in groups to be held in a shape each, as narrow as pays.

        To train a network costs about as much as its frame has parameters, so groups should be
        narrow; each further shape costs a compilation. Groups are merged, the cheapest pair first,
        as long as that adds less than `worth`, in parameters summed over the networks.
        """
        shapes, group = np.unique(self.widths, axis=0, return_inverse=True)
        group = group.reshape(-1)  # of one more dimension in numpy 2.0
        sizes = np.bincount(group)
        while len(sizes) > 1:
            pairs = np.array(list(combinations(range(len(sizes)), 2)))
            joint = shapes[pairs].max(axis=1)
            apart = (sizes * _parameters(shapes))[pairs].sum(axis=1)
            added = sizes[pairs].sum(axis=1) * _parameters(joint) - apart
            cheapest = int(added.argmin())
            if added[cheapest] >= worth:
                break
            into, gone = pairs[cheapest]
            shapes[into] = joint[cheapest]
            sizes[into] += sizes[gone]
            group[group == gone] = into
            group[group > gone] -= 1
            shapes, sizes = np.delete(shapes, gone, axis=0), np.delete(sizes, gone)
        return [np.flatnonzero(group == g) for g in range(len(sizes))]


def _frame(widths: np.ndarray) -> MLP:
    """The least shape that holds networks of the given hidden widths [n, hidden layers]."""
    return MLP((2, *map(int, widths.max(axis=0)), 1))


def _parameters(widths: np.ndarray) -> np.ndarray:
    """Numbers of weights and biases of networks of hidden widths [n, hidden layers]."""
    sizes = np.pad(widths, [(0, 0), (1, 1)], constant_values=((0, 0), (2, 1)))
    return ((sizes[:, :-1] + 1) * sizes[:, 1:]).sum(axis=1)


class Dealt(ABC):
    """A list of networks that are dealt out to shards, each of which memory can hold."""

    most_at_once: ClassVar[int]

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of networks."""

    @abstractmethod
    def _dealt(self, shard: int, shards: int) -> Iterator[Block]:
        """Networks `shard`, `shard + shards`, ... of the list."""

    @property
    def least_shards(self) -> int:
        """The least number of shards of which each can be held in memory."""
        return ceil(self.count / self.most_at_once)

    def shard(self, shard: int, shards: int) -> Networks:
        """The networks that fall to one shard: `shard`, `shard + shards`, ... of the list.

        Raises InputError when there are none, or too many to hold.
        """
        if not 0 <= shard < min(shards, self.count):
            raise InputError(
                f"shard {shard} of {shards}: it holds none of {self.count:,} networks (shards "
                "count from 0)"
            )
        if shards < self.least_shards:
            raise InputError(
                f"shards={shards}: of {self.count:,} networks one would hold more than "
                f"{self.most_at_once:,} networks; deal them out to {self.least_shards:,} or more"
            )
        return Networks.of(self._dealt(shard, shards), np.arange(shard, self.count, shards))


def initial_values(own: MLP, mask: np.ndarray, starts: range, protocol: str) -> np.ndarray:
    """Initial values of some starts of one network, before masking; float64 [starts, n_parameters].

    `own` is the network's own shape, `mask` its mask in it. Drawn at the network's own widths; by
    protocol `published`, as a crop of a 16-wide network, whose values are smaller. Start s takes
    the s-th draw from a stream that belongs to the network, so the values depend on the network and
    the number of the start alone.
    """
    rng = generator("search", own.sizes, mask.astype(bool).tobytes().hex())
    return draws(own, repeat(rng, starts.stop), protocol)[starts.start :]


def draws(own: MLP, streams: Iterable[np.random.Generator], protocol: str) -> np.ndarray:
    """Initial values of a network, one draw of each stream; float64 [draws, n_parameters]."""
    drawn = WHOLE if protocol == "published" else own
    values = [initial_parameters(drawn, rng) for rng in streams]
    return np.stack(values)[:, _positions(own, drawn)]
