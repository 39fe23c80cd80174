"""What a pruning method is given: an ensemble before training, and what is asked of each member."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparselimit.ensemble.members import Points
from sparselimit.ensemble.train import batch_order
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP
from sparselimit.sparsity.masks import keep_effective, keep_largest

PROTOCOLS = ("exact", "published")
COUNTS = ("weights", "effective")


@dataclass(frozen=True)
class Problem:
    """E networks of one shape, each to be pruned to its own target.

    parameters  float [E, n_parameters], the values before training
    target      int64 [E], weights to keep
    seed        int64 [E], the seed of a member's initialisation and batches
    points      the training set
    batch_size  points of a batch
    steps       SGD steps of a training run
    protocol    `exact`, or `published`: the slips of the published code included, so that its
                numbers can be compared (Zhang & Papyan 2024)
    count       what a target counts: `weights`, or `effective` weights, those on some path from an
                input to an output
    """

    network: MLP
    parameters: Tensor
    target: Tensor
    seed: Tensor
    points: Points
    batch_size: int
    steps: int
    protocol: str = "exact"
    count: str = "weights"

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
            return keep_effective(
                self.network, scores, k, everything if within is None else within
            )
        return keep_largest(
            scores if within is None else torch.where(within, scores, -torch.inf), k
        )

    def batches(self, seed: int, n: int) -> Tensor:
        """`n` batches drawn before training, int64 [n, batch]: of the epoch before the first."""
        order = batch_order(len(self.points.x), self.batch_size, seed, -1)[:n]
        return torch.as_tensor(order, device=self.points.x.device)

    def score_by_seed(self, score: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Scores [E, n_weights] from a function of (parameters of some members, their seed)."""
        scores = self.parameters.new_empty(len(self.parameters), self.network.n_weights)
        for seed in self.seed.unique():
            members = self.seed == seed
            scores[members] = score(self.parameters[members], int(seed))
        return scores

    def with_parameters(self, parameters: Tensor) -> "Problem":
        """The same problem from other initial values."""
        return replace(self, parameters=parameters)

    @property
    def dense(self) -> Tensor:
        """The mask that keeps every weight, bool [E, n_weights]."""
        return torch.ones_like(self.parameters[:, : self.network.n_weights], dtype=torch.bool)
