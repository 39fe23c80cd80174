"""Files that appear under their name complete, or not at all; and that tell if they were damaged.

A file is written under a hidden name beside its target, flushed to disk and renamed. A writer that
is killed leaves the hidden file behind, without the lock that a living writer holds on it: by that
the next writer of the same target knows it and takes it away. Where a file system has no locks,
nothing is taken away.

A seal is a line of text before a file's content, with a checksum of all that follows. It tells
damage; it does not tell who made a file.
"""

import fcntl
import glob
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

SEAL_BYTES = 512  # the smallest room that HDF5 leaves before a file's content


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes the place of `path`, durably, if the body succeeds.

    Raises OSError when it cannot be written; what stands under the name is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    file = _locked(path)
    temporary = Path(file.name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # mkstemp makes private files; a result is as readable as any other file of the user.
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _locked(path: Path) -> IO[bytes]:
    """A new hidden file beside the target, locked where the file system has locks."""
    while True:
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115 (the caller closes it)
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        )
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # taken for abandoned and removed, before it was locked


def obstacle(path: Path) -> str | None:
    """Why a file cannot be written there, as far as can be told without writing; None if it can."""
    if path.is_dir():
        return "it is a folder"
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        return f"{folder} is not a folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} may not be written to"
    return None


def seal(what: str, file: BinaryIO) -> bytes:
    """The seal of what a file holds from where it stands, and of what kind that is."""
    digest = hashlib.blake2b(digest_size=32)
    while block := file.read(1 << 20):
        digest.update(block)
    line = _first_words(what) + f"BLAKE2b {digest.hexdigest()}\n".encode()
    return line.ljust(SEAL_BYTES, b"\0")


def check_seal(what: str, file: BinaryIO) -> None:
    """Check a file from its beginning.

    Raises ValueError when it has no seal of this kind, or was damaged since it was sealed.
    """
    found = file.read(SEAL_BYTES)
    if not found.startswith(_first_words(what)):
        raise ValueError("it does not begin like one")
    if found != seal(what, file):
        raise ValueError("damaged: its checksum is wrong")


def _first_words(what: str) -> bytes:
    return f"sparselimit {what}, from byte {SEAL_BYTES} on, of ".encode()


def _remove_abandoned(path: Path) -> None:
    """Remove what killed writers of the file have left beside it: what nobody holds a lock on."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError), left.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
