"""What a pruning method is given: an ensemble before training, and what is asked of each member."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sparselimit.ensemble.batched import gradients
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.train import batch_order
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP
from sparselimit.sparsity.masks import keep_effective, keep_largest

PROTOCOLS = ("exact", "published")

# Memory for the members that are scored together, in bytes. Less makes small networks slow, of
# which a call then serves few; more gains little.
CHUNK_BYTES = 256 << 20


def require_positive(method: str, **options: float) -> None:
    """Raises InputError for an option of a method that is not above zero."""
    for name, value in options.items():
        if not value > 0:
            raise InputError(f"{method}: {name} is {value} (it must be above zero)")


def require(method: str, objection: str | None) -> None:
    """Raises InputError for what a method objects to, see `registry`."""
    if objection is not None:
        raise InputError(f"{method}: {objection}")


def magnitudes(values: Tensor) -> Tensor:
    """Absolute values by which to rank, with those that were lost (NaN) as infinite ones."""
    return values.abs().nan_to_num(nan=torch.inf, posinf=torch.inf)


@dataclass(frozen=True)
class Problem:
    """E networks of one shape, each to be pruned to its own target.

    parameters  float [E, n_parameters], the values before training
    target      int64 [E], weights to keep
    seed        int64 [E], the seed of a member's initialisation and batches
    learning_rate  float64 [E], at which a member will be trained
    points      the training set
    batch_size  points of a batch
    steps       SGD steps of a training run
    protocol    `exact`, or `published`: the slips of the published code included, so that its
                numbers can be compared (Zhang & Papyan 2024)
    count       what a target counts: `weights`, or `effective` weights, those on some path from an
                input to an output
    given       whether the values before training are those of a given network, which no method
                draws anew
    """

    network: MLP
    parameters: Tensor
    target: Tensor
    seed: Tensor
    learning_rate: Tensor
    points: Points
    batch_size: int
    steps: int
    protocol: str = "exact"
    count: str = "weights"
    given: bool = False

    def __post_init__(self) -> None:
        if self.count == "effective" and self.protocol == "published":
            raise InputError("count effective: the published protocol counts weights; use exact")

    def keep(
        self,
        scores: Tensor,
        k: Tensor,
        *,
        published: Callable[[Tensor, Tensor], Tensor],
        within: Tensor | None = None,
    ) -> Tensor:
        """The mask of each member's k largest scores, by this problem's way of counting.

        scores     [E, n_weights]
        k          int64 [E]
        published  how the method's published code compares (scores, k); see `published`
        within     bool [E, n_weights], weights that may be kept, for methods that never bring one
                   back; the published rules rely on scores alone
        """
        if self.protocol == "published":
            return published(scores, k)
        if self.count == "effective":
            everything = torch.ones_like(scores, dtype=torch.bool)
            return keep_effective(self.network, scores, k, everything if within is None else within)
        return keep_largest(
            scores if within is None else torch.where(within, scores, -torch.inf), k
        )

    def batches(self, seed: int, n: int) -> Tensor:
        """`n` batches drawn before training, int64 [n, batch]: of the epochs -1, -2 and so on."""
        n_points = len(self.points.x)
        epochs = math.ceil(n / (n_points // self.batch_size))
        orders = [batch_order(n_points, self.batch_size, seed, -1 - i) for i in range(epochs)]
        return torch.as_tensor(np.concatenate(orders)[:n], device=self.points.x.device)

    def score_by_seed(self, score: Callable[..., Tensor], *columns: Tensor) -> Tensor:
        """Scores [E, n_weights], made for as many members at a time as memory allows.

        score    function of (parameters of some members, their seed, *columns), where the columns
                 [E, ...] are cut to these members as the parameters are
        """
        scores = self.parameters.new_empty(len(self.parameters), self.network.n_weights)
        # What a member takes at most, measured: three steps of SGD that are differentiated through.
        activations = self.batch_size * sum(self.network.sizes)
        size = self.parameters.element_size() * 20 * (self.network.n_parameters + activations)
        for seed in self.seed.unique():
            for members in (self.seed == seed).nonzero()[:, 0].split(max(1, CHUNK_BYTES // size)):
                parts = [column[members] for column in columns]
                scores[members] = score(self.parameters[members], int(seed), *parts)
        return scores

    def slopes(self, first: int, n: int = 1) -> Tensor:
        """Gradient of the loss by the weights on `n` batches drawn before training, from the
        `first` on; float [E, n_weights]."""

        def slope(parameters: Tensor, seed: int) -> Tensor:
            batch = self.batches(seed, first + n)[first:].flatten()
            x, y = self.points.x[batch], self.points.y[batch]
            return gradients(self.network, parameters, x, y)[:, : self.network.n_weights]

        return self.score_by_seed(slope)

    def geometric(self, fraction: float) -> Tensor:
        """Weights left after a fraction of a pruning that falls geometrically, int64 [E].

        From all to the target: N (t / N)^fraction, rounded.
        """
        n = self.network.n_weights
        return (n * (self.target.double() / n) ** fraction).round().long()

    def with_parameters(self, parameters: Tensor) -> "Problem":
        """The same problem from other initial values."""
        return replace(self, parameters=parameters)

    def masked(self, mask: Tensor) -> "Problem":
        """The same problem with zero weights outside a mask bool [E, n_weights]; biases stay."""
        weights = torch.where(mask, self.weights, 0.0)
        biases = self.parameters[:, self.network.n_weights :]
        return self.with_parameters(torch.cat([weights, biases], dim=1))

    @property
    def weights(self) -> Tensor:
        """The parameters that can be pruned, a view [E, n_weights]."""
        return self.parameters[:, : self.network.n_weights]

    @property
    def dense(self) -> Tensor:
        """The mask that keeps every weight, bool [E, n_weights]."""
        return torch.ones_like(self.weights, dtype=torch.bool)
