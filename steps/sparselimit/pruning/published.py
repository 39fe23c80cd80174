"""Counting as the published code does it, slips included (`protocol: published`).

The rules compare scores with a threshold instead of counting: what ties with the threshold is kept
by one method and dropped by another, and float rounding of target / N * N decides some counts. They
are repeated to the letter, in Python floats, so that published masks can be reproduced.
"""

from torch import Tensor


def rounded_count(n_weights: int, target: Tensor) -> Tensor:
    """int(N * (t / N)): the targets, or one less where the division rounds down; int64 [E]."""
    return (n_weights * (target.double() / n_weights)).long()


def keep_at_least(scores: Tensor, k: Tensor) -> Tensor:
    """Keep scores >= the k-th largest of each member: ties are kept. [E, N] and [E] to bool [E, N].

    A row of NaN keeps nothing.
    """
    descending = scores.sort(dim=1, descending=True).values
    return scores >= descending.gather(1, (k - 1)[:, None])


def keep_above(scores: Tensor, k: Tensor) -> Tensor:
    """Keep scores > the k-th largest of each member: k - 1 survive, fewer with ties.

    With k >= N there is no threshold and everything is kept.
    """
    n = scores.shape[1]
    descending = scores.sort(dim=1, descending=True).values
    threshold = descending.gather(1, (k - 1).clamp(0, n - 1)[:, None])
    return (scores > threshold) | (k >= n)[:, None]
