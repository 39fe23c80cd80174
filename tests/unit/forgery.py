"""Result files that were changed and sealed again: what lies behind the seal is tested by them."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from sparselimit import files, store


@contextmanager
def forged(path: Path) -> Iterator[h5py.File]:
    """The body changes the file, which is sealed again afterwards."""
    with h5py.File(path, "r+") as file:
        yield file
    body = path.read_bytes()[files.SEAL_BYTES :]
    path.write_bytes(files.seal(store._SEALED, io.BytesIO(body)) + body)
