"""What became of a start that raced, by the columns `dropped` and `calibration` of its shard.

`dropped` is -1 for a start that was never dropped, 0 for one that was provably dead and i for one
that fell behind at the i-th rung; those that calibrate were trained on whatever they did.
"""

from typing import Any


def given_up(dropped: Any, calibration: Any) -> Any:
    """Which starts were given up at a rung, so that their end is not known."""
    return (dropped > 0) & ~calibration


def complete(dropped: Any, calibration: Any) -> Any:
    """Which starts were trained to their end: all but those given up and the provably dead."""
    return (dropped != 0) & ~given_up(dropped, calibration)
