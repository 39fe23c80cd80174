"""Fully connected ReLU networks as flat parameter vectors.

Thousands of small networks are trained together, so a network is a row of a matrix and this module
says which entry of the row is which parameter: the weight matrices first, layer by layer, each
row-major as [out, in]; then the biases, layer by layer. The position of a weight in this order is
its index wherever ties are broken by index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sparselimit.errors import InputError

if TYPE_CHECKING:  # the layout itself needs no torch, and who only counts weights does not load it
    import torch

ArrayOrTensor = TypeVar("ArrayOrTensor", "np.ndarray", "torch.Tensor")

# Above this many weights (between widths 64 and 128) an ensemble is trained by matrix products of a
# whole batch, which then beat one network per SIMD lane.
MOST_FUSED_WEIGHTS = 10_000


@dataclass(frozen=True)
class MLP:
    """A fully connected network: ReLU after every layer but the last, biases everywhere.

    `sizes` are the numbers of neurons from input to output, for example (2, 16, 16, 16, 1).
    """

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise InputError(
                f"network sizes {self.sizes}: give at least an input and an output, all positive"
            )

    @classmethod
    def spiral(cls, width: int) -> "MLP":
        """The network of the Cubist Spiral study: 2 inputs, three hidden layers, one logit."""
        return cls((2, width, width, width, 1))

    @classmethod
    def nearest(cls, weights: int) -> "MLP":
        """The shape 2-d1-d2-d3-1 whose number of weights is nearest to the one given.

        Of equals the one of most even widths, then the one that is widest first.
        """
        if weights < 1:
            raise InputError(f"a network of {weights} weights: give at least 1")
        widths = range(1, int(weights**0.5) + 2)
        return min(
            (cls((2, *hidden, 1)) for hidden in product(widths, widths, widths)),
            key=lambda network: (
                abs(network.n_weights - weights),
                max(network.sizes[1:-1]) - min(network.sizes[1:-1]),
                tuple(-size for size in network.sizes),
            ),
        )

    @property
    def n_layers(self) -> int:
        return len(self.sizes) - 1

    @cached_property
    def weight_shapes(self) -> tuple[tuple[int, int], ...]:
        return tuple((n_out, n_in) for n_in, n_out in pairwise(self.sizes))

    @cached_property
    def n_weights(self) -> int:
        return sum(n_out * n_in for n_out, n_in in self.weight_shapes)

    @cached_property
    def n_biases(self) -> int:
        return sum(self.sizes[1:])

    @property
    def n_parameters(self) -> int:
        return self.n_weights + self.n_biases

    @cached_property
    def weight_slices(self) -> tuple[slice, ...]:
        """Where the weight matrix of each layer lies in the flat vector."""
        return _consecutive(0, [n_out * n_in for n_out, n_in in self.weight_shapes])

    @cached_property
    def bias_slices(self) -> tuple[slice, ...]:
        """Where the bias vector of each layer lies in the flat vector."""
        return _consecutive(self.n_weights, self.sizes[1:])

    def weights(self, flat: ArrayOrTensor) -> list[ArrayOrTensor]:
        """The weight matrices [..., out, in] as views of flat vectors [..., >= n_weights]."""
        return [
            flat[..., where].reshape(*flat.shape[:-1], *shape)
            for where, shape in zip(self.weight_slices, self.weight_shapes, strict=True)
        ]

    def biases(self, flat: ArrayOrTensor) -> list[ArrayOrTensor]:
        """The bias vectors [..., out] as views of flat vectors [..., n_parameters]."""
        return [flat[..., where] for where in self.bias_slices]

    @cached_property
    def fan_in(self) -> np.ndarray:
        """Number of inputs of the neuron that each parameter belongs to, int64 [n_parameters]."""
        per_weight = [np.full(n_out * n_in, n_in) for n_out, n_in in self.weight_shapes]
        per_bias = [np.full(n_out, n_in) for n_out, n_in in self.weight_shapes]
        return np.concatenate(per_weight + per_bias)


def _consecutive(start: int, lengths: Sequence[int]) -> tuple[slice, ...]:
    ends = start + np.cumsum(lengths)
    return tuple(slice(int(end) - n, int(end)) for end, n in zip(ends, lengths, strict=True))


def initial_parameters(network: MLP, rng: np.random.Generator) -> np.ndarray:
    """Torch's default initialisation: weights and biases uniform in +-1/sqrt(fan_in).

    Returns float64 [n_parameters]; the draw is made in double precision so that single- and
    double-precision runs start from the same network.
    """
    return rng.uniform(-1.0, 1.0, network.n_parameters) / np.sqrt(network.fan_in)


def xavier_normal_weights(network: MLP, rng: np.random.Generator) -> np.ndarray:
    """Xavier-normal weights, std sqrt(2 / (fan_in + fan_out)); float64 [n_weights]."""
    std = [np.full(o * i, np.sqrt(2.0 / (o + i))) for o, i in network.weight_shapes]
    return rng.standard_normal(network.n_weights) * np.concatenate(std)


def cropped(network: MLP, neurons: Sequence[np.ndarray]) -> tuple[MLP, np.ndarray]:
    """The network of some of a network's neurons: its shape, and where its parameters come from.

    `neurons` are, layer by layer from input to output, the numbers of those that it has, in the
    order in which it has them. The places are int64 [n_parameters of the shape], indices into the
    flat vector of `network`.
    """
    index = np.arange(network.n_parameters)
    blocks = [
        layer[np.ix_(rows, columns)].ravel()
        for layer, (columns, rows) in zip(network.weights(index), pairwise(neurons), strict=True)
    ]
    ends = [bias[rows] for bias, rows in zip(network.biases(index), neurons[1:], strict=True)]
    return MLP(tuple(map(len, neurons))), np.concatenate(blocks + ends)


def positions(small: MLP, large: MLP) -> np.ndarray:
    """Where the parameters of a network lie in a wider one that holds it in its first neurons.

    Returns int64 [small.n_parameters], indices into the flat vector of `large`.
    """
    return cropped(large, [np.arange(size) for size in small.sizes])[1]
