"""The rungs of a race: after how many epochs which share of a network's starts goes on.

Apart from the race itself, so that a study can be checked without torch.
"""

from collections.abc import Sequence
from itertools import pairwise

from sparselimit.errors import InputError


def check_rungs(rungs: Sequence[int], keep: Sequence[float]) -> None:
    """Raises InputError when rungs do not ascend from 1, or shares to keep do not descend to 0."""
    if len(rungs) != len(keep):
        raise InputError(f"{len(rungs)} rungs, {len(keep)} shares to keep: give both")
    if any(a >= b for a, b in pairwise((0, *rungs))):
        raise InputError(f"rungs {rungs}: give epochs from 1, in ascending order")
    if not all(a >= b > 0 for a, b in pairwise((1.0, *keep))):
        raise InputError(f"keep {keep}: give shares of all starts, 1 to 0, descending")
