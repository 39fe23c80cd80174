"""Every sparse network with a given number of weights, one of each class.

A network here is a layered mask `inputs - d_1 - ... - d_L - outputs` of boolean matrices
`W_1 .. W_{L+1}`, `W_l[out, in]`. Its weights are the entries that are set; biases do not count. It
is enumerated when

* every hidden neuron has an incoming and an outgoing weight and every output an incoming one
  (inputs may be unused), and
* it is the representative of its class under permutation of the hidden neurons of each layer: the
  member whose bit string is least. The string is `W_1` row by row, then `W_2`, ..., and at the end,
  neuron by neuron, each last hidden neuron's incoming row followed by its outgoing column. (With
  one output this is the order of the flattened masks.)

Classes are built layer by layer. Of the layers so far one thing matters for the next matrix: which
permutations of their last neurons leave them as they are. That group together with the permutations
of the matrix's own rows divides the possible matrices into orbits, and each orbit is one extension.
Groups are few and networks many, so the orbits are found once per group, and a network costs a
table look-up. (Orderly generation: R. C. Read, Annals of Discrete Mathematics 2 (1978) 107-120.)
"""

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import count, groupby, pairwise, permutations
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from sparselimit.errors import InputError

Scalar = TypeVar("Scalar", bound=np.generic)
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
CodeArray = NDArray[np.uint16]  # matrix rows as binary numbers, first column most significant

CODE_BITS = 16
MOST_REORDERED = 9  # neurons of a layer whose orders are gone through one by one
IMAGES_AT_ONCE = 1 << 22  # bounds the memory that the search for stabilisers takes


def sparse_networks(
    weights: int,
    *,
    inputs: int = 2,
    outputs: int = 1,
    hidden_layers: int = 3,
    shard: int = 0,
    shards: int = 1,
    block: int = 1 << 16,
) -> Iterator[tuple[tuple[int, ...], BoolArray]]:
    """Yield all networks with exactly `weights` weights, of every width, in blocks of one shape.

    Each item is `(widths, masks)`: the hidden widths `(d_1, .., d_L)` and masks [n, entries],
    1 <= n <= `block`, whose rows are `W_1 .. W_{L+1}`, each flattened row-major, one after another
    (`split_layers` takes them apart). The order is fixed: widths lexicographically, then the number
    of weights of `W_1`, the bits of `W_1`, the number of weights of `W_2`, and so on.

    Shard i of n holds the networks i, i + n, i + 2n, ... of that order. So shards are disjoint,
    together complete, of equal size to within one network and alike in their widths.

    Held in memory: the tables of orbits, the first L - 1 layers at one choice of widths, a block.
    With the defaults there are 926,669 networks of 20 weights, and 2.8 times as many at each more.

    Raises InputError if an argument is out of range.
    """
    if min(weights, inputs, outputs, hidden_layers) < 1:
        raise InputError(
            f"weights={weights}, inputs={inputs}, outputs={outputs}, "
            f"hidden_layers={hidden_layers}: each must be at least 1"
        )
    _check_dealing(shard, shards, block)
    widest = (weights - outputs - hidden_layers + 2) // 2 if hidden_layers > 1 else 0
    if max(inputs, widest) + outputs > CODE_BITS:
        raise InputError(
            f"{weights} weights, {inputs} inputs and {outputs} outputs are too many to enumerate: "
            f"a row of a matrix would exceed {CODE_BITS} bits"
        )
    return _Enumeration(weights, inputs, outputs, hidden_layers).blocks(shard, shards, block)


def block_networks(
    widths: Sequence[int],
    most: int,
    *,
    inputs: int = 2,
    outputs: int = 1,
    shard: int = 0,
    shards: int = 1,
    block: int = 1 << 16,
) -> Iterator[BoolArray]:
    """Yield all networks of one shape that use every input, with at most `most` weights, in blocks.

    Each item holds masks [n, entries], 1 <= n <= `block`, of hidden widths (d_1, .., d_L), as
    `sparse_networks` gives them and dealt out to shards as there. The order is by number of weights
    of `W_1`, then by bits of `W_1`, number of weights of `W_2`, and so on, whatever the sum.

    Held in memory: the tables of orbits, the first L - 1 layers of all networks, a block.
    2-7-3-3-1 has 8,338,343 networks.

    Raises InputError if an argument is out of range.
    """
    if not widths or min(inputs, outputs, *widths) < 1:
        raise InputError(
            f"{inputs} inputs, widths {tuple(widths)}, {outputs} outputs: give at least one hidden "
            "layer, and every layer at least 1 neuron"
        )
    _check_dealing(shard, shards, block)
    if max(widths[:-2], default=0) > MOST_REORDERED:
        raise InputError(
            f"widths {tuple(widths)}: too wide to enumerate; only the last two hidden layers may "
            f"have more than {MOST_REORDERED} neurons"
        )
    if max(inputs, (inputs, *widths)[-2] + outputs) > CODE_BITS:
        raise InputError(
            f"{inputs} inputs, widths {tuple(widths)}, {outputs} outputs: too wide to enumerate; "
            f"a row of a matrix would exceed {CODE_BITS} bits"
        )
    enumeration = _Enumeration(most, inputs, outputs, len(widths), tuple(widths))
    return (masks for _, masks in enumeration.blocks(shard, shards, block))


def _check_dealing(shard: int, shards: int, block: int) -> None:
    if not 0 <= shard < shards:
        raise InputError(f"there is no shard {shard} of {shards}: give 0 <= shard < shards")
    if block < 1:
        raise InputError(f"block={block}: a block holds at least 1 network")


def split_layers(
    masks: NDArray[Scalar], widths: Sequence[int], *, inputs: int = 2, outputs: int = 1
) -> list[NDArray[Scalar]]:
    """The matrices `W_l` [..., out, in] of flattened masks (or weights) [..., entries], as views.

    Raises InputError if the number of entries does not fit the widths.
    """
    sizes = (inputs, *widths, outputs)
    shapes = [(rows, columns) for columns, rows in pairwise(sizes)]
    ends = np.cumsum([rows * columns for rows, columns in shapes])
    if masks.shape[-1] != ends[-1]:
        raise InputError(
            f"a {'-'.join(map(str, sizes))} network has {ends[-1]} entries, the mask has "
            f"{masks.shape[-1]}: check widths, inputs and outputs"
        )
    parts = np.split(masks, ends[:-1], axis=-1)
    return [p.reshape(*p.shape[:-1], *shape) for p, shape in zip(parts, shapes, strict=True)]


def canonical_form(
    mask: BoolArray, widths: Sequence[int], *, inputs: int = 2, outputs: int = 1
) -> tuple[tuple[int, ...], BoolArray]:
    """The representative of the class of one flattened mask [entries], as `(widths, mask)`.

    Hidden neurons without any weight are left out. Two masks that keep no such neuron differ by a
    permutation of hidden neurons exactly when their forms are equal. An enumerated network is its
    own form; a pruned one is found among them once it is reduced to its effective weights.

    Goes through the matrices and keeps all orderings of the neurons that give the least bits so
    far. Neurons that nothing tells apart yet share a cell of the ordering and need no trying. The
    time grows with the number of symmetries that exchange unequal neurons: 0.3 ms at 20 weights,
    but n! for n separate chains.

    Raises InputError if the number of entries does not fit the widths.
    """
    layers = split_layers(mask, widths, inputs=inputs, outputs=outputs)
    used = [incoming.any(axis=1) | outgoing.any(axis=0) for incoming, outgoing in pairwise(layers)]
    used = [np.ones(inputs, bool), *used, np.ones(outputs, bool)]
    *matrices, last, out = (
        layer[rows][:, columns]
        for layer, (columns, rows) in zip(layers, pairwise(used), strict=True)
    )
    orderings = {tuple(1 << i for i in range(inputs))}
    least = []
    for matrix in matrices:
        codes, orderings = _least_rows(matrix, orderings)
        least.append(_digits(codes, matrix.shape[1]))
    columns = last.shape[1] + outputs
    fixed = tuple(1 << i for i in range(last.shape[1], columns))
    codes, _ = _least_rows(np.hstack([last, out.T]), {cells + fixed for cells in orderings})
    least.append(_digits(codes, columns))
    return tuple(len(matrix) for matrix in least), _flatten(least, outputs)


def _least_rows(
    matrix: BoolArray, orderings: set[tuple[int, ...]]
) -> tuple[list[int], set[tuple[int, ...]]]:
    """The least rows that a matrix can have, in any order and under these orderings of columns.

    An ordering is a tuple of cells, in order; a cell is a bit set of neurons that may take any
    order. Returns the rows as numbers, and the orderings of the rows that attain them.
    """
    packed = np.packbits(matrix, axis=1, bitorder="little")
    rows = [int.from_bytes(row.tobytes(), "little") for row in packed]
    codes: list[int] = []
    states: set[tuple[tuple[int, ...], tuple[int, ...]]] = {(cells, ()) for cells in orderings}
    for _ in rows:
        # Of equal rows it does not matter which comes first: the dictionary keeps one.
        tries = [
            (_least_code(row, cells), row, (cells, (*taken, i)))
            for cells, taken in states
            for row, i in {row: i for i, row in enumerate(rows) if i not in taken}.items()
        ]
        codes.append(min(code for code, _, _ in tries))
        states = {
            (tuple(part for c in cells for part in (c & ~row, c & row) if part), taken)
            for code, row, (cells, taken) in tries
            if code == codes[-1]
        }
    # Rows with equal codes are equal, as the first of them split every cell that it met.
    runs = [list(run) for _, run in groupby(range(len(rows)), key=codes.__getitem__)]
    return codes, {
        tuple(sum(1 << taken[place] for place in run) for run in runs) for _, taken in states
    }


def _least_code(row: int, cells: tuple[int, ...]) -> int:
    """The row as a number, its columns in the order of their cells and, inside, zeros first."""
    code = 0
    for cell in cells:
        code = (code << cell.bit_count()) | ((1 << (row & cell).bit_count()) - 1)
    return code


def _digits(codes: Sequence[int], columns: int) -> BoolArray:
    """Binary digits [rows, columns] of numbers of any size."""
    digits = [[code >> i & 1 for i in reversed(range(columns))] for code in codes]
    return np.array(digits, bool).reshape(len(codes), columns)


def _flatten(layers: Sequence[BoolArray], outputs: int) -> BoolArray:
    """Flattened masks [..., entries] from matrices [..., out, in], the last [W_L | W_{L+1}^T]."""
    *matrices, last = layers
    matrices += [last[..., :-outputs], last[..., -outputs:].swapaxes(-1, -2)]
    return np.concatenate([m.reshape(*m.shape[:-2], -1) for m in matrices], axis=-1)


class _Group(NamedTuple):
    """Permutations of a layer's neurons: any order inside the cells, then one of `moves`.

    Cells are runs of neurons with equal incoming rows. Moves carry cells to cells of the same size
    and keep the order inside; they form a group. Permutation p takes neuron i to place p[i].
    """

    cells: tuple[int, ...]
    moves: tuple[tuple[int, ...], ...]

    def elements(self) -> IntArray:
        """All permutations of the group [order, neurons]."""
        inside = np.zeros((1, 0), int)
        for size in self.cells:
            orders = np.array(list(permutations(range(size)))) + inside.shape[1]
            inside = np.hstack(
                [inside.repeat(len(orders), axis=0), np.tile(orders, (len(inside), 1))]
            )
        return np.array(self.moves)[:, inside].reshape(-1, inside.shape[1])

    def generators(self) -> IntArray:
        """Permutations that generate the group [n, neurons]."""
        cell = np.repeat(np.arange(len(self.cells)), self.cells)
        identity = np.arange(len(cell))
        left = np.flatnonzero(cell[:-1] == cell[1:])
        swaps = np.tile(identity, (len(left), 1))
        swaps[np.arange(len(left)), left] += 1
        swaps[np.arange(len(left)), left + 1] -= 1
        # One move for each place that a neuron can go to while all before it stay: coset
        # representatives along the chain of stabilisers, which generate all moves.
        moves = np.array(self.moves)
        moves = moves[(moves != identity).any(axis=1)]
        first_moved = (moves != identity).argmax(axis=1)
        destination = moves[np.arange(len(moves)), first_moved]
        _, chosen = np.unique(first_moved * len(cell) + destination, return_index=True)
        return np.concatenate([swaps, moves[chosen]])


class _Matrices(NamedTuple):
    """Matrices of one shape in order of weights, then bits: rows [n, width], weights [n]."""

    rows: CodeArray
    weights: IntArray


class _Prefixes(NamedTuple):
    """The first layers of some networks of one shape.

    Rows per layer [n, d_l]; weights so far [n]; number of the group that fixes these layers, as it
    acts on their last neurons [n].
    """

    layers: tuple[CodeArray, ...]
    weights: IntArray
    group: IntArray


class _Enumeration:
    """One enumeration and its tables.

    The last hidden layer L and the output layer are one matrix `[W_L | W_{L+1}^T]`: outputs are not
    permuted, so an outgoing weight of a last hidden neuron is one more entry of its row.

    Without `widths`: networks of every shape with exactly so many weights. With them: those of this
    shape with at most so many, if they use all inputs.
    """

    def __init__(
        self,
        weights: int,
        inputs: int,
        outputs: int,
        hidden_layers: int,
        widths: tuple[int, ...] | None = None,
    ) -> None:
        self.weights = weights
        self.inputs = inputs
        self.outputs = outputs
        self.hidden_layers = hidden_layers
        self.widths = widths
        self.groups: list[_Group] = []
        self.numbers: dict[_Group, int] = {}
        # Cached per instance, so that the tables go when the enumeration does.
        self.candidates = cache(self._candidates)
        self.orbits = cache(self._orbits)
        self.inherited_groups = cache(self._inherited_groups)
        self.relabelling = cache(self._relabelling)

    def blocks(
        self, shard: int, shards: int, block: int
    ) -> Iterator[tuple[tuple[int, ...], BoolArray]]:
        inputs_fixed = self.number(_Group((1,) * self.inputs, (tuple(range(self.inputs)),)))
        root = _Prefixes((), np.zeros(1, int), np.array([inputs_fixed]))
        seen = 0
        for prefixes, width in self.shapes(root):
            table, first, choices = self.extensions(prefixes, width)
            ends = choices.cumsum()
            total = int(ends[-1])
            for start in range((shard - seen) % shards, total, shards * block):
                index = np.arange(start, min(total, start + shards * block), shards)
                prefix = ends.searchsorted(index, side="right")
                last = table.rows[first[prefix] + index - (ends - choices)[prefix]]
                layers = [*(rows[prefix] for rows in prefixes.layers), last]
                yield tuple(rows.shape[1] for rows in layers), self.masks(layers)
            seen += total

    def shapes(self, prefixes: _Prefixes) -> Iterator[tuple[_Prefixes, int]]:
        """The networks of each shape, short of their last matrix, with the last hidden width."""
        layer = len(prefixes.layers) + 1
        columns = prefixes.layers[-1].shape[1] if prefixes.layers else self.inputs
        for width in count(1) if self.widths is None else [self.widths[layer - 1]]:
            if not len(self.candidates(layer, columns, width).rows):
                return
            if layer == self.hidden_layers:
                yield prefixes, width
                continue
            extended = self.extended(prefixes, width)
            if not len(extended.weights):
                return
            yield from self.shapes(extended)

    def extended(self, prefixes: _Prefixes, width: int) -> _Prefixes:
        """Every prefix with every next layer of this width."""
        layer = len(prefixes.layers) + 1
        table, first, choices = self.extensions(prefixes, width)
        inherited = [
            self.inherited_groups(layer, g, width) for g in np.unique(prefixes.group).tolist()
        ]
        prefix = np.arange(len(first)).repeat(choices)
        chosen = _ranges(first, choices)
        return _Prefixes(
            (*(rows[prefix] for rows in prefixes.layers), table.rows[chosen]),
            prefixes.weights[prefix] + table.weights[chosen],
            np.concatenate(inherited)[chosen],
        )

    def extensions(self, prefixes: _Prefixes, width: int) -> tuple[_Matrices, IntArray, IntArray]:
        """A table of next matrices, and each prefix's part of it: first index [n] and number [n].

        The table goes by group, ascending. The last matrix uses up the weights, unless widths are
        given; one before leaves enough for those to come.
        """
        layer = len(prefixes.layers) + 1
        groups, which = np.unique(prefixes.group, return_inverse=True)
        tables = [self.orbits(layer, g, width) for g in groups.tolist()]
        table = _Matrices(*map(np.concatenate, zip(*tables, strict=True)))
        offset = np.cumsum([0, *(len(t.weights) for t in tables[:-1])])
        # first_with[g, m]: where in the table of group g the matrices of m weights or more begin.
        levels = np.arange(self.weights + 2)
        first_with = np.stack([t.weights.searchsorted(levels) for t in tables]) + offset[:, None]
        most = (self.weights - self.after(layer, width) - prefixes.weights).clip(min=0)
        uses_up = layer == self.hidden_layers and self.widths is None
        least = most if uses_up else np.zeros_like(most)
        first = first_with[which, least]
        return table, first, first_with[which, most + 1] - first

    def masks(self, layers: Sequence[CodeArray]) -> BoolArray:
        """Flattened masks [n, entries] from the rows of each layer [n, d_l]."""
        columns = [self.inputs, *(rows.shape[1] for rows in layers[:-1])]
        columns[-1] += self.outputs
        bits = [_bits(c)[rows] for c, rows in zip(columns, layers, strict=True)]
        return _flatten(bits, self.outputs)

    def before(self, layer: int, columns: int) -> int:
        """The least number of weights in the layers before this one."""
        return 0 if layer == 1 else layer - 2 + columns

    def after(self, layer: int, width: int) -> int:
        """The least number of weights in the matrices after this layer's."""
        if layer == self.hidden_layers:
            return 0
        return width + self.hidden_layers - layer - 1 + self.outputs

    def number(self, group: _Group) -> int:
        """The group's number; a group that is new gets one."""
        if group not in self.numbers:
            self.numbers[group] = len(self.groups)
            self.groups.append(group)
        return self.numbers[group]

    def _candidates(self, layer: int, columns: int, width: int) -> _Matrices:
        """The matrices that a layer may have, up to the order of rows."""
        outgoing = (1 << self.outputs) - 1 if layer == self.hidden_layers else 0
        incoming = ((1 << columns) - 1) << outgoing.bit_length()
        codes = np.arange(1 + (incoming | outgoing), dtype=np.uint16)
        live = (codes & incoming > 0) & ((codes & outgoing > 0) | (outgoing == 0))
        covered = outgoing if layer == 1 and self.widths is None else incoming | outgoing
        most = self.weights - self.before(layer, columns) - self.after(layer, width)
        return _row_multisets(codes[live], width, covered, most)

    def _orbits(self, layer: int, group: int, width: int) -> _Matrices:
        """The least candidate of each orbit under the group on columns and all orders of rows."""
        generators = self.groups[group].generators()
        candidates = self.candidates(layer, generators.shape[1], width)
        moves = [self.relabelling(layer, tuple(p), width) for p in generators.tolist()]
        identity = np.arange(len(candidates.rows))
        least, previous = identity, None
        while previous is None or (least != previous).any():
            previous = least
            for move in moves:
                least = np.minimum(least, least[move])
        return _Matrices(*(part[least == identity] for part in candidates))

    def _relabelling(self, layer: int, permutation: tuple[int, ...], width: int) -> IntArray:
        """The candidates as a permutation of columns rearranges them: which is where [n]."""
        candidates = self.candidates(layer, len(permutation), width)
        columns = len(permutation) + (self.outputs if layer == self.hidden_layers else 0)
        place = np.array([*permutation, *range(len(permutation), columns)])
        image = _bits(columns) @ (1 << (columns - 1 - place))
        rows = np.sort(image.astype(np.uint16)[candidates.rows], axis=1)
        # The images are the candidates in another order, and the candidates are sorted.
        return np.lexsort((*rows.T[::-1], candidates.weights))

    def _inherited_groups(self, layer: int, group: int, width: int) -> IntArray:
        """For each orbit's matrix, the group that fixes it and all before, on its rows [n]."""
        rows = self.orbits(layer, group, width).rows
        if width == 1:
            return np.full(len(rows), self.number(_Group((1,), ((0,),))))
        elements = self.groups[group].elements()
        columns = elements.shape[1]
        places = np.exp2(columns - 1 - elements).astype(np.float32)
        groups = []
        step = max(1, IMAGES_AT_ONCE // (len(elements) * width))
        for chunk in (rows[start : start + step] for start in range(0, len(rows), step)):
            images = np.moveaxis(_bits(columns)[chunk].astype(np.float32) @ places.T, 1, 2)
            matrix, element = (np.sort(images) == chunk[:, None]).all(axis=2).nonzero()
            # Equal rows keep their order in a stable sort, so these are moves of whole cells.
            order = images[matrix, element].argsort(axis=1, kind="stable")
            moves = np.unique(np.column_stack([matrix, order]), axis=0)
            parts = np.split(moves[:, 1:], np.flatnonzero(np.diff(moves[:, 0])) + 1)
            for codes, part in zip(chunk.tolist(), parts, strict=True):
                cells = tuple(len(list(run)) for _, run in groupby(codes))
                groups.append(self.number(_Group(cells, tuple(map(tuple, part.tolist())))))
        return np.array(groups)


def _row_multisets(letters: CodeArray, length: int, covered: int, most: int) -> _Matrices:
    """All ascending sequences of `length` letters with `most` bits in all or fewer, in order.

    `letters` ascend; every bit of `covered` is set in one letter of a sequence or more.
    """
    sizes = np.bitwise_count(letters).astype(int)
    rows = np.zeros((1, 0), np.uint16)
    last, weights, union = np.zeros((3, 1), int)
    for left in reversed(range(length)):
        choices = len(letters) - last
        parent = np.arange(len(rows)).repeat(choices)
        last = _ranges(last, choices)
        weights = weights[parent] + sizes[last]
        union = union[parent] | letters[last]
        missing = np.bitwise_count(covered & ~union)
        fits = weights + np.maximum(missing, left * sizes.min()) <= most
        if left == 0:
            fits &= missing == 0
        rows = np.column_stack([rows[parent[fits]], letters[last[fits]]])
        last, weights, union = last[fits], weights[fits], union[fits]
    order = weights.argsort(kind="stable")
    return _Matrices(rows[order], weights[order])


def _ranges(first: IntArray, number: IntArray) -> IntArray:
    """The ranges first[i], ..., first[i] + number[i] - 1, one after another."""
    ends = number.cumsum()
    return np.arange(ends[-1]) + (first - ends + number).repeat(number) if len(ends) else ends


@lru_cache
def _bits(columns: int) -> BoolArray:
    """Row r holds the binary digits of r [2**columns, columns]."""
    return (np.arange(1 << columns)[:, None] >> np.arange(columns)[::-1] & 1).astype(bool)
