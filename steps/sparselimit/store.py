"""Results on disk: HDF5 files with a kind, a version and their provenance, written all or nothing.

This is the only module that opens an HDF5 file. What a file of each kind holds is declared once, in
`sparselimit.kinds`; writing and reading check against that declaration, so a reader never has to
ask whether an array has the shape or the type it expects.

A damaged HDF5 file can crash the library that reads it, or keep it busy for ever. So a result
begins with a seal (see `sparselimit.files`) in the room that the format leaves for such, its user
block, and no file is opened before its seal is found right.
"""

import io
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

import h5py
import numpy as np
import pandas as pd

from sparselimit import files
from sparselimit.errors import InputError
from sparselimit.kinds import KINDS, Array, Kind, Table

Content: TypeAlias = Mapping[str, np.ndarray | pd.DataFrame]

LIBRARIES = ("torch", "numpy", "scipy", "pandas", "h5py")
_STARTED = time.perf_counter()
_MOST_COMPRESSED = 1100  # bytes that one byte may stand for: gzip reaches 1032
_SEALED = "result, HDF5"  # what the seal says that follows it


class StoreError(InputError):
    """A file that cannot be used: which one, what is wrong and what to do."""


@dataclass(frozen=True)
class Stored:
    """What a file holds: arrays and tables by name, and the attributes of its provenance."""

    path: Path
    content: Content
    attributes: dict[str, object]

    def array(self, name: str) -> np.ndarray:
        """An array by name. Raises StoreError if files of this kind have none of that name."""
        value = self.content.get(name)
        if not isinstance(value, np.ndarray):
            raise StoreError(f"{self.path}: kind '{self.attributes['kind']}' has no array {name}")
        return value

    def table(self, name: str) -> pd.DataFrame:
        """A table by name. Raises StoreError if files of this kind have none of that name."""
        value = self.content.get(name)
        if not isinstance(value, pd.DataFrame):
            raise StoreError(f"{self.path}: kind '{self.attributes['kind']}' has no table {name}")
        return value

    @property
    def config(self) -> dict:
        """The options that the step was run with."""
        return json.loads(str(self.attributes["config"]))


def write(
    path: Path | str,
    kind: str,
    content: Content,
    *,
    config: Mapping[str, object],
    device: str = "cpu",
) -> None:
    """Write a result file: complete under its name, or not there at all.

    `content` must be what the kind declares; `config` is what the step was asked to do. The file is
    written under a temporary name beside the target, flushed to disk and renamed.

    Raises StoreError if the content does not fit the kind, or the file cannot be written.
    """
    path = Path(path)
    declared = _kind(kind)
    _check(path, declared, content)
    attributes = {
        "kind": kind,
        "version": declared.version,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "code": code_version(),
        "config": json.dumps(config, sort_keys=True, default=str),
        "device": device,
        "seconds": time.perf_counter() - _STARTED,
        "libraries": json.dumps(_libraries()),
    }
    # Made in memory: HDF5 does not survive a disk that fills up while a file is open.
    image = io.BytesIO()
    with h5py.File(image, "w", userblock_size=files.SEAL_BYTES) as file:
        file.attrs.update(attributes)
        for part, value in content.items():
            _write_part(file, part, value)
    image.seek(files.SEAL_BYTES)
    image.getbuffer()[: files.SEAL_BYTES] = files.seal(_SEALED, image)
    _replace(path, image.getbuffer())


def write_text(path: Path | str, text: str) -> None:
    """Write a text file (CSV, HTML, SVG): complete under its name, or not there at all.

    Raises StoreError if it cannot be written.
    """
    _replace(Path(path), text.encode())


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a table as the steps write them (CSV). Raises StoreError if it cannot be read."""
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise StoreError(
            f"{path}: not a readable table ({reason}); run the step that makes it"
        ) from error


def read(path: Path | str, *kinds: str) -> Stored:
    """Read a result file of one of the given kinds, whole.

    Raises StoreError, naming the file and the remedy, when it is missing, damaged, of another kind
    or version, or holds something else than the kind declares.
    """
    path = Path(path)
    with _opened(path) as file:
        attributes, declared = _identify(path, kinds, file)
        content = {
            name: _read_part(_member(file, name), part) for name, part in declared.parts.items()
        }
    _check(path, declared, content)
    return Stored(path, content, attributes)


def browse(path: Path | str, *kinds: str) -> Stored:
    """A result file of one of the given kinds, whose parts are read when asked for, and not kept.

    For what is made from many files: only the parts that are used are read, and one is in memory at
    a time. Raises StoreError as `read` does, for a part that does not fit when it is asked for.
    """
    path = Path(path)
    with _opened(path) as file:
        attributes, declared = _identify(path, kinds, file)
    return Stored(path, _Parts(path, declared), attributes)


class _Parts(Mapping[str, np.ndarray | pd.DataFrame]):
    """The parts of a file, each read anew whenever it is asked for."""

    def __init__(self, path: Path, declared: Kind) -> None:
        self.path, self.declared = path, declared

    def __getitem__(self, name: str) -> np.ndarray | pd.DataFrame:
        part = self.declared.parts[name]
        with _opened(self.path, checked=True) as file:
            value = _read_part(_member(file, name), part)
        if problem := part.problem(value, {}):
            raise StoreError(f"{self.path}: {name} {problem}")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.declared.parts)

    def __len__(self) -> int:
        return len(self.declared.parts)


@contextmanager
def _opened(path: Path, *, checked: bool = False) -> Iterator[h5py.File]:
    """The file, open for reading; StoreError for whatever goes wrong while it is.

    checked: its seal was found right before.
    """
    if not path.is_file():
        raise StoreError(f"{path}: no such file (run the step that makes it)")
    try:
        if not checked:
            with path.open("rb") as sealed:
                files.check_seal(_SEALED, sealed)
        # Without locks, which some file systems lack: a file is replaced, never changed.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except StoreError:
        raise
    except Exception as error:  # h5py raises many types for damaged files
        reason = " ".join(str(error).split())[:200]
        raise StoreError(
            f"{path}: not a readable result file ({reason}); delete it and run its step again"
        ) from error


@cache
def code_version() -> str:
    """The git commit of the code, `+changes` behind it if the tree differs; else `unknown`."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _libraries() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise StoreError(f"kind '{name}' is unknown: use one of {_names(KINDS)}")
    return KINDS[name]


def _identify(path: Path, kinds: Sequence[str], file: h5py.File) -> tuple[dict[str, object], Kind]:
    """The attributes of a file and what it declares itself to be, if asked for and whole."""
    attributes = {name: _plain(value) for name, value in file.attrs.items()}
    kind = attributes.get("kind")
    if kind not in kinds:
        what = f"of kind '{kind}'" if kind else "not a result file of this project"
        raise StoreError(f"{path}: {what}, expected kind {' or '.join(map(repr, kinds))}")
    declared = _kind(str(kind))
    if attributes.get("version") != declared.version:
        raise StoreError(
            f"{path}: version {attributes.get('version')} of kind '{kind}', this code reads "
            f"version {declared.version}; delete it and run its step again"
        )
    missing = declared.parts.keys() - file.keys()
    if missing:
        raise StoreError(f"{path}: lacks {_names(missing)}; delete it and run its step again")
    if not isinstance(json.loads(str(attributes.get("config"))), dict):
        raise ValueError("its attribute config is no JSON object")
    return attributes, declared


def _check(path: Path, declared: Kind, content: Mapping[str, object]) -> None:
    """Check types, shapes (symbolic sizes must agree across the file) and finiteness."""
    if content.keys() != declared.parts.keys():
        different = content.keys() ^ declared.parts.keys()
        raise StoreError(f"{path}: has or lacks {_names(different)} against its kind")
    sizes: dict[str, int] = {}
    for name, part in declared.parts.items():
        value = content[name]
        problem = part.problem(value, sizes)
        if problem:
            raise StoreError(f"{path}: {name} {problem}")


def _write_part(file: h5py.File, name: str, value: np.ndarray | pd.DataFrame) -> None:
    if isinstance(value, pd.DataFrame):
        group = file.create_group(name)
        for column in value.columns:
            _write_array(group, column, value[column].to_numpy())
    else:
        _write_array(file, name, value)


def _write_array(group: h5py.Group, name: str, value: np.ndarray) -> None:
    if value.dtype == bool and value.ndim:  # masks: packed bits along the last axis
        packed = np.packbits(value, axis=-1)
        dataset = group.create_dataset(name, data=packed, **_compression(packed))
        dataset.attrs["bits"] = value.shape[-1]
    elif value.dtype.kind in "OUT":
        text = np.array([str(entry) for entry in value], dtype=object)
        group.create_dataset(name, data=text, dtype=h5py.string_dtype())
    else:
        group.create_dataset(name, data=value, **_compression(value))


def _compression(value: np.ndarray) -> dict[str, object]:
    return {"compression": "gzip", "shuffle": True} if value.nbytes > 4096 else {}


def _read_part(node: h5py.Group | h5py.Dataset, part: Array | Table) -> np.ndarray | pd.DataFrame:
    if isinstance(part, Array):
        return _read_array(node)
    columns = {name: _read_array(_member(node, name)) for name in part.columns}
    return pd.DataFrame(columns)


def _member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """What a group holds by itself: links may lead to other files."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{group.name} has no {name} of its own")
    return group[name]


def _read_array(dataset: h5py.Dataset) -> np.ndarray:
    stored = dataset.id.get_storage_size()
    if dataset.external or dataset.nbytes > _MOST_COMPRESSED * stored:
        raise ValueError(f"{dataset.name} claims {dataset.nbytes} bytes, and {stored} are stored")
    if h5py.check_string_dtype(dataset.dtype):
        return dataset.asstr()[()]
    value = np.asarray(dataset[()])
    if "bits" in dataset.attrs:
        bits = int(dataset.attrs["bits"])
        if value.shape[-1] != -(-bits // 8):
            raise ValueError(f"{value.shape[-1]} bytes of {dataset.name} for {bits} bits")
        return np.unpackbits(value, axis=-1, count=bits).astype(bool)
    return value


def _replace(path: Path, content: bytes | memoryview) -> None:
    try:
        with files.replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def _names(names: object) -> str:
    return ", ".join(sorted(map(str, names)))  # type: ignore[call-overload]
