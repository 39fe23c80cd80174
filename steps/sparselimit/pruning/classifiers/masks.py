"""Masks over the prunable weights of a classifier."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparselimit.seeds import generator
from sparselimit.sparsity.masks import keep_largest


def largest(scores: Tensor, k: int) -> Tensor:
    """Keep exactly k of the scores [N], the largest, ties by index; bool [N]."""
    return keep_largest(scores[None], torch.tensor([k]))[0]


def largest_of_layers(scores: Tensor, sizes: Sequence[int], counts: Sequence[int]) -> Tensor:
    """Keep so many of the largest scores in each layer, ties by index; bool [N]."""
    parts = zip(scores.split(list(sizes)), counts, strict=True)
    return torch.cat([largest(part, k) for part, k in parts])


def random(sizes: Sequence[int], counts: Sequence[int], purpose: str, seed: int) -> Tensor:
    """So many weights of each layer at random; bool [N].

    Of two masks of one purpose and seed the one with more weights in a layer has those of the
    other there.
    """
    drawn = torch.from_numpy(generator(purpose, tuple(sizes), seed).random(sum(sizes)))
    return largest_of_layers(drawn, sizes, counts)


def counts_of_layers(mask: Tensor, sizes: Sequence[int]) -> list[int]:
    """How many weights a mask [N] keeps in each layer."""
    return [int(part.sum()) for part in mask.split(list(sizes))]
