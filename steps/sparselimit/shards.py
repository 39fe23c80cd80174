"""Names of shards: the files `shard-003-of-016.h5` that a stage of a study is dealt out to."""

import re
from collections.abc import Iterable
from pathlib import Path

from sparselimit.errors import InputError

_NUMBER = re.compile(r"shard-\d+-of-")


def collapsed(paths: Iterable[str]) -> list[str]:
    """Paths with a `*` for the number of a shard, each once, in their order."""
    return list(dict.fromkeys(_NUMBER.sub("shard-*-of-", path) for path in paths))


def expanded(pattern: str) -> list[str]:
    """The files of a path that `collapsed` gave, sorted. Raises InputError if there are none."""
    if "*" not in pattern:
        return [pattern]
    place = Path(pattern)
    files = sorted(str(file) for file in place.parent.glob(place.name))
    if not files:
        raise InputError(f"{pattern}: no such files (run the steps that make them)")
    return files
