"""How many sparse networks there are, without making a single one (Burnside's lemma).

Counts the classes that `enumeration` lists, by other means. Under permutation of the hidden neurons
of each layer, the number of classes is the mean number of masks that a permutation fixes. Of a
permutation only the cycle lengths in each layer matter, partitions of d_1, .., d_L, and the masks
that it fixes factor into one matrix per layer: a row cycle of length a and a column cycle of length
b move their a * b entries in gcd(a, b) cycles of length lcm(a, b), each all set or all clear.
(F. Harary and E. M. Palmer, Graphical Enumeration, 1973, chapter 4.)

Numbers of masks by number of weights are polynomials: coefficient k counts the masks of k weights.
They are arrays of Python integers, so all arithmetic is exact.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise, product
from math import comb, factorial, gcd, lcm, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparselimit.errors import InputError

# Fewer weights make no path through three hidden layers: the output is constant.
LEAST_WEIGHTS = 4

Partition = tuple[int, ...]
Polynomial = NDArray[Any]  # dtype object: Python integers


def count_networks(
    widths: Sequence[int],
    most: int,
    *,
    inputs: int = 2,
    outputs: int = 1,
    all_inputs: bool = False,
) -> list[int]:
    """Numbers of networks of hidden widths (d_1, .., d_L) with exactly 0, 1, .., `most` weights.

    Counted up to permutation of the hidden neurons of each layer. Each hidden neuron has an
    incoming and an outgoing weight and each output an incoming one. Inputs may be unused, unless
    `all_inputs` asks that each has an outgoing weight.

    Raises InputError if a layer has no neuron or `most` is negative.
    """
    if min(inputs, outputs, *widths) < 1 or most < 0:
        raise InputError(
            f"{inputs} inputs, widths {tuple(widths)}, {outputs} outputs, at most {most} weights: "
            "give every layer at least 1 neuron, and no negative number of weights"
        )
    # For each cycle type of the latest layer: the masks so far that are fixed, summed over the
    # permutations of that type and all permutations of the layers before.
    fixed = {(1,) * inputs: _polynomial({0: 1}, most)}
    for layer, width in enumerate((*widths, outputs), start=1):
        types = _partitions(width) if layer <= len(widths) else [(1,) * outputs]
        fixed = {
            rows: sum(
                (
                    _permutations_of(rows)
                    * _times(masks, _fixed_matrices(rows, columns, layer > 1 or all_inputs, most))
                    for columns, masks in fixed.items()
                ),
                start=_polynomial({}, most),
            )
            for rows in types
        }
    (total,) = fixed.values()
    return [number // prod(map(factorial, widths)) for number in total]


def shapes(most: int, *, outputs: int = 1, hidden_layers: int = 3) -> Iterator[tuple[int, ...]]:
    """All hidden widths at which some network has at most `most` weights, lexicographically."""
    for widths in product(range(1, most // 2 + 1), repeat=hidden_layers):
        if widths[0] + sum(max(pair) for pair in pairwise((*widths, outputs))) <= most:
            yield widths


@cache
def totals(most: int) -> list[int]:
    """Numbers of networks of any widths, three hidden layers, with 0, 1, .., `most` weights."""
    counts = [count_networks(widths, most) for widths in shapes(most)]
    return [sum(column) for column in zip(*counts, strict=True)]


@cache
def _fixed_matrices(rows: Partition, columns: Partition, covered: bool, most: int) -> Polynomial:
    """Matrices without a zero row that permutations of these cycle types fix.

    If `covered`, without a zero column either, by inclusion and exclusion over the column cycles
    that are left clear.
    """
    cycles = Counter(columns)
    total = _polynomial({}, most)
    for used in product(*(range(n + 1) if covered else [n] for n in cycles.values())):
        sign = (-1) ** (len(columns) - sum(used))
        choices = prod(comb(n, m) for n, m in zip(cycles.values(), used, strict=True))
        kept = tuple(Counter(dict(zip(cycles, used, strict=True))).elements())
        matrices = _polynomial({0: 1}, most)
        for row in rows:
            matrices = _times(matrices, _row_cycle(row, kept, most))
        total = total + sign * choices * matrices
    return total


@cache
def _row_cycle(row: int, columns: Partition, most: int) -> Polynomial:
    """The ways to fill one cycle of rows, not all clear."""
    ways = _polynomial({0: 1}, most)
    for column in columns:
        cycles, length = gcd(row, column), lcm(row, column)
        ways = _times(
            ways, _polynomial({j * length: comb(cycles, j) for j in range(cycles + 1)}, most)
        )
    return ways - _polynomial({0: 1}, most)


def _partitions(n: int, largest: int | None = None) -> Iterator[Partition]:
    """The partitions of n, parts descending."""
    if n == 0:
        yield ()
    for part in range(min(n, largest or n), 0, -1):
        for rest in _partitions(n - part, part):
            yield (part, *rest)


def _permutations_of(cycle_type: Partition) -> int:
    """Number of permutations with these cycle lengths."""
    repeats = prod(factorial(n) for n in Counter(cycle_type).values())
    return factorial(sum(cycle_type)) // (prod(cycle_type) * repeats)


def _polynomial(coefficients: dict[int, int], most: int) -> Polynomial:
    """A polynomial of degree `most`; higher powers are dropped."""
    return np.array([coefficients.get(k, 0) for k in range(most + 1)], object)


def _times(a: Polynomial, b: Polynomial) -> Polynomial:
    """The product, to the degree of the factors."""
    return np.convolve(a, b)[: len(a)]
