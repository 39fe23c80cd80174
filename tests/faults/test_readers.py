"""Damaged and forged result files: each is read as what it was or refused in one line.

Never a traceback of another kind, never a crash of the process, never a hang.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import h5py
import numpy as np
import pandas as pd
import pytest

from sparselimit import store
from sparselimit.kinds import KINDS, Array, Table
from sparselimit.store import StoreError
from tests.unit.forgery import forged

DAMAGED, FORGED = 4_500, 1_500
SECONDS = 120  # after which it counts as a hang: it takes less than ten

Rng = np.random.Generator


@contextmanager
def no_hang() -> Iterator[None]:
    """The body must end within a time in which it ends many times over."""

    def hangs(_signal: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no end after {SECONDS} s, in {frame}")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def content(kind: str, rng: Rng) -> store.Content:
    """Something that a file of the kind may hold."""
    sizes: dict[str, int] = {}

    def values(letter: str, shape: tuple[int, ...]) -> np.ndarray:
        if letter == "U":
            return np.array([f"text {i}" for i in range(int(np.prod(shape)))], dtype=object)
        drawn = rng.normal(0, 9, shape)
        return drawn.astype({"f": np.float64, "i": np.int64, "b": bool}[letter])

    def part(declared: Array | Table) -> np.ndarray | pd.DataFrame:
        if isinstance(declared, Array):
            named = (s if isinstance(s, int) else size(s) for s in declared.shape)
            return values(declared.type[0], tuple(named))
        rows = size(declared.rows)
        return pd.DataFrame(
            {name: values(letter[0], (rows,)) for name, letter in declared.columns.items()}
        )

    def size(name: str) -> int:
        return sizes.setdefault(name, int(rng.integers(1, 9)))

    return {name: part(declared) for name, declared in KINDS[kind].parts.items()}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A valid file of every kind."""
    path, rng = tmp_path_factory.mktemp("valid") / "file.h5", np.random.default_rng(0)
    found = {}
    for kind in KINDS:
        store.write(path, kind, content(kind, rng), config={"seed": 3})
        store.read(path, kind)
        found[kind] = path.read_bytes()
    return found


# --- Damage --------------------------------------------------------------------------------------


def flip_bits(file: bytearray, rng: Rng) -> None:
    for place in rng.integers(0, len(file), rng.choice([1, 2, 40])):
        file[place] ^= 1 << rng.integers(8)


def overwrite(file: bytearray, rng: Rng) -> None:
    start, length = rng.integers(0, len(file)), rng.choice([1, 8, 512, 4096])
    end = min(start + length, len(file))
    file[start:end] = bytes([255 * rng.integers(2)]) * (end - start)


def cut(file: bytearray, rng: Rng) -> None:
    del file[rng.integers(0, len(file)) :]


def remove(file: bytearray, rng: Rng) -> None:
    start = rng.integers(0, len(file))
    del file[start : start + rng.choice([1, 8, 512, 4096])]


def insert(file: bytearray, rng: Rng) -> None:
    place = [0, len(file), int(rng.integers(0, len(file)))][rng.integers(3)]
    file[place:place] = rng.bytes(rng.choice([1, 8, 512]))


def exchange(file: bytearray, rng: Rng) -> None:
    """Blocks of the disk in the wrong order."""
    first, second = (512 * i for i in rng.choice(len(file) // 512, 2, replace=False))
    a, b = file[first : first + 512], file[second : second + 512]
    file[first : first + len(b)], file[second : second + len(a)] = b, a


DAMAGES: list[Callable[[bytearray, Rng], None]] = [
    *(flip_bits, overwrite, cut, remove, insert, exchange)
]


def test_damaged_files_are_refused(images: dict[str, bytes], tmp_path: Path) -> None:
    path, rng, kinds = tmp_path / "file.h5", np.random.default_rng(1), list(KINDS)
    refused = 0
    with no_hang():
        for number in range(DAMAGED):
            kind = kinds[number % len(kinds)]
            file = bytearray(images[kind])
            DAMAGES[rng.integers(len(DAMAGES))](file, rng)
            path.write_bytes(file)
            if file != images[kind]:
                assert_refused(path, kind)
                refused += 1
    assert refused > 0.9 * DAMAGED


def assert_refused(path: Path, kind: str) -> None:
    with pytest.raises(StoreError) as caught:
        store.read(path, kind)
    assert_one_line(caught.value, path)


def assert_one_line(error: StoreError, path: Path) -> None:
    message = str(error)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < 1100


# --- Forgery -------------------------------------------------------------------------------------


def members(file: h5py.File) -> list[str]:
    """The names of all groups and arrays."""
    names: list[str] = []
    file.visit(names.append)
    return names


def replaced(file: h5py.File, rng: Rng, value: object) -> None:
    name = rng.choice(members(file))
    del file[name]
    file[name] = value


def other_array(file: h5py.File, rng: Rng) -> None:
    shape = tuple(rng.integers(0, 9, rng.integers(0, 4)).tolist())
    types = ["f2", "f4", "f8", ">f8", "i1", "u8", ">i4", "?", "c16", "S3", "V7", "i4,f8"]
    values = np.zeros(shape, dtype=str(rng.choice(types)))
    if values.dtype.kind == "f":
        values[...] = rng.choice([np.nan, np.inf, -0.0, 6e4])
    replaced(file, rng, values)


def other_text(file: h5py.File, rng: Rng) -> None:
    odd = [b"\xff\xfe", b"", b"\n\r\t\x1b[31m", "\u202e".encode(), b"../../x", b"x" * 70_000]
    replaced(file, rng, [bytes(odd[i]) for i in rng.integers(0, len(odd), rng.integers(1, 9))])


def lost(file: h5py.File, rng: Rng) -> None:
    del file[rng.choice(members(file))]


def renamed(file: h5py.File, rng: Rng) -> None:
    name = str(rng.choice(members(file)))
    file.move(name, str(rng.choice(["\n", name + " ", "\N{SNOWMAN}"])))


def linked(file: h5py.File, rng: Rng) -> None:
    name = str(rng.choice(members(file)))
    targets = [
        *(h5py.SoftLink("/" + name), h5py.SoftLink("/"), h5py.SoftLink("/nowhere")),
        *(h5py.ExternalLink("/dev/stdin", "/"), h5py.ExternalLink(file.filename, "/")),
    ]
    replaced(file, rng, targets[rng.integers(len(targets))])


def in_another_file(file: h5py.File, rng: Rng) -> None:
    name = str(rng.choice(members(file)))
    del file[name]
    file.create_dataset(name, (4,), "u1", external=[("/dev/zero", 0, 4)])


def claims_more(file: h5py.File, rng: Rng) -> None:
    """Terabytes in a small file, which reading would fill with zeros."""
    name = str(rng.choice(members(file)))
    del file[name]
    shape = (10 ** int(rng.integers(9, 15)),) * int(rng.integers(1, 3))
    file.create_dataset(name, shape, "f8", chunks=tuple(min(n, 1000) for n in shape))


def wrong_bits(file: h5py.File, rng: Rng) -> None:
    file[rng.choice(members(file))].attrs["bits"] = rng.choice([-1, 0, 3, 10**15, np.nan])


def wrong_attribute(file: h5py.File, rng: Rng) -> None:
    name = str(rng.choice(list(file.attrs)))
    odd = ["", "points", "\n", "{}", "[" * 10_000, -1, 2**63 - 1, np.nan, np.arange(3), b"\xff"]
    if rng.random() < 0.1:
        del file.attrs[name]
    else:
        file.attrs[name] = odd[rng.integers(len(odd))]


FORGERIES: list[Callable[[h5py.File, Rng], None]] = [
    *(other_array, other_text, lost, renamed, linked, in_another_file),
    *(claims_more, wrong_bits, wrong_attribute),
]


def test_forged_files_are_read_or_refused(images: dict[str, bytes], tmp_path: Path) -> None:
    """What somebody made who knows how to seal a file; and what is read fits its kind."""
    path, rng, kinds = tmp_path / "file.h5", np.random.default_rng(2), list(KINDS)
    refused = 0
    with no_hang():
        for number in range(FORGED):
            kind = kinds[number % len(kinds)]
            path.write_bytes(images[kind])
            with forged(path) as file:
                FORGERIES[rng.integers(len(FORGERIES))](file, rng)
            try:
                found = store.read(path, kind)
            except StoreError as error:
                assert_one_line(error, path)
                refused += 1
            else:
                assert isinstance(found.config, dict)
                store._check(path, KINDS[kind], found.content)
    assert FORGED / 2 < refused < FORGED


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "points.h5"
    with h5py.File(path, "w") as file:  # all that the kind asks for, by another program
        file.attrs.update({"kind": "points", "version": KINDS["points"].version, "config": "{}"})
        file["x"], file["y"], file["split"] = np.zeros((3, 2)), [0, 1, 0], [0, 0, 0]
    assert_refused(path, "points")
    for other in (b"", b"\x89PNG", b"PK\x03\x04", b"sparselimit", bytes(10_000)):
        path.write_bytes(other)
        assert_refused(path, "points")
