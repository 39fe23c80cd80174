"""Result files: what is written is read back, and what cannot be used is refused in one line."""

import errno
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from sparselimit import store
from sparselimit.kinds import KINDS, Array, Kind, Table
from sparselimit.store import StoreError
from tests.unit.forgery import forged
from tests.unit.refusals import refused

Content = dict[str, Any]

EVERYTHING = Kind(
    3,
    {
        "numbers": Array("f", ("rows", "columns")),
        "gaps": Array("f", ("rows",), finite=False),
        "counts": Array("i", ("rows",)),
        "mask": Array("b", ("rows", "bits")),
        "names": Array("U", ("rows",)),
        "scalar": Array("f", ()),
        "flag": Array("b", ()),
        "grid": Array("i", (2, 3)),
        "table": Table({"name": "U", "value": "f?", "count": "i", "kept": "b"}, rows="entries"),
    },
)

# The one table alone, without what else such a file holds.
TABLE_ALONE = Kind(1, {"geometry": KINDS["geometry"].parts["geometry"]})


@pytest.fixture(scope="module", autouse=True)
def _kinds_of_these_tests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "everything", EVERYTHING)
        patch.setitem(KINDS, "geometry", TABLE_ALONE)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A valid file of the kind `points`, alone in its folder."""
    path = tmp_path / "results" / "points.h5"
    store.write(path, "points", points(), config={"seed": 3})
    return path


def points(n: int = 5) -> Content:
    return {
        "x": np.arange(2.0 * n, dtype=np.float32).reshape(n, 2),
        "y": np.arange(n) % 2,
        "split": np.zeros(n, dtype=np.int64),
    }


def geometry() -> Content:
    row = {
        name: "text" if letter == "U" else 1.0
        for name, letter in KINDS["geometry"].parts["geometry"].columns.items()  # type: ignore[union-attr]
    }
    return {"geometry": pd.DataFrame([row, row])}


# --- Round trips ---------------------------------------------------------------------------------


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """Content of the kind with every part, of any sizes, empty ones and odd lengths included."""
    rows, columns, bits, entries = (draw(st.integers(0, n)) for n in (4, 3, 19, 3))
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
    finite = {"allow_nan": False, "allow_infinity": False}

    def texts(n: int) -> np.ndarray:
        return np.array(draw(st.lists(text, min_size=n, max_size=n)), dtype=object)

    def array(dtype: str, *shape: int, elements: dict[str, bool] | None = None) -> np.ndarray:
        return draw(nps.arrays(dtype, shape, elements=elements))

    return {
        "numbers": array(draw(st.sampled_from(["f4", "f8"])), rows, columns, elements=finite),
        "gaps": array("f8", rows),
        "counts": array(draw(st.sampled_from(["u1", "i4", "i8"])), rows),
        "mask": array("?", rows, bits),
        "names": texts(rows),
        "scalar": array("f8", elements=finite),
        "flag": array("?"),
        "grid": array("i8", 2, 3),
        "table": pd.DataFrame(
            {
                "name": texts(entries),
                "value": array("f8", entries),
                "count": array("i8", entries),
                "kept": array("?", entries),
            }
        ),
    }


@settings(deadline=None, max_examples=60)
@given(content=contents())
def test_what_is_written_is_read_back(folder: Path, content: Content) -> None:
    path = folder / "everything.h5"
    store.write(path, "everything", content, config={})
    for found in (store.read(path, "everything"), store.browse(path, "everything")):
        _assert_same_content(found, content)


def _assert_same_content(found: store.Stored, content: Content) -> None:
    assert found.content.keys() == content.keys()
    for name in content:
        if name == "table":
            table = found.table(name)
            assert list(table.columns) == list(content[name].columns)
            for column in table.columns:
                _assert_same(table[column].to_numpy(), content[name][column].to_numpy())
        else:
            _assert_same(found.array(name), content[name])


def _assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    if expected.dtype == object:
        assert found.tolist() == expected.tolist()
    else:
        np.testing.assert_array_equal(found, expected, strict=True)


def test_masks_are_packed_and_large_arrays_compressed(folder: Path) -> None:
    path = folder / "large.h5"
    content = points(10_000)
    content["x"] = np.ones_like(content["x"])
    store.write(path, "points", content, config={})
    assert path.stat().st_size < content["x"].nbytes / 4

    mask = np.random.default_rng(0).random((30, 1001)) < 0.5
    everything: Content = {
        "numbers": np.zeros((30, 1)),
        "gaps": np.zeros(30),
        "counts": np.zeros(30, dtype=np.int64),
        "mask": mask,
        "names": np.array(["a"] * 30, dtype=object),
        "scalar": np.array(0.0),
        "flag": np.array(True),
        "grid": np.zeros((2, 3), dtype=np.int64),
        "table": pd.DataFrame({"name": ["a"], "value": [np.nan], "count": [1], "kept": [True]}),
    }
    store.write(path, "everything", everything, config={})
    with h5py.File(path) as file:
        assert file["mask"].shape == (30, 126)
        assert file["mask"].dtype == np.uint8
    np.testing.assert_array_equal(store.read(path, "everything").array("mask"), mask)


def test_provenance(path: Path) -> None:
    before = datetime.now().astimezone()
    config = {"width": 3, "data": Path("a/b.h5"), "rates": [0.1]}
    store.write(path, "points", points(), config=config, device="cuda")
    found = store.read(path, "images", "points")
    attributes = found.attributes
    assert (attributes["kind"], attributes["version"]) == ("points", KINDS["points"].version)
    created = datetime.fromisoformat(str(attributes["created"]))
    assert abs((created - before).total_seconds()) < 60
    assert str(attributes["command"]).startswith("python ")
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|unknown", str(attributes["code"]))
    assert found.config == {"width": 3, "data": "a/b.h5", "rates": [0.1]}
    assert attributes["device"] == "cuda"
    assert float(str(attributes["seconds"])) > 0
    libraries = json.loads(str(attributes["libraries"]))
    assert libraries["h5py"] == h5py.__version__
    assert libraries["numpy"] == np.__version__


def test_code_is_unknown_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_git(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "git")

    monkeypatch.setattr(subprocess, "run", no_git)
    store.code_version.cache_clear()
    try:
        assert store.code_version() == "unknown"
    finally:
        store.code_version.cache_clear()


# --- Content that does not fit its kind ----------------------------------------------------------


def without(content: Content, part: str) -> Content:
    return {name: value for name, value in content.items() if name != part}


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("point", points(), ["kind 'point' is unknown", "points"]),
        ("points", without(points(), "y"), ["lacks y"]),
        ("points", points() | {"z": np.zeros(5)}, ["has or lacks z"]),
        ("points", points() | {"x": [[0.0, 0.0]]}, ["x is not an array"]),
        ("points", points() | {"x": np.zeros((5, 2), np.int64)}, ["x has type int64, expected f"]),
        ("points", points() | {"x": np.zeros(5)}, ["x has shape (5,)", "'features'"]),
        ("points", points() | {"y": np.zeros(4, np.int64)}, ["y has shape (4,), expected (5,)"]),
        ("points", points() | {"x": np.full((5, 2), np.nan)}, ["x contains NaN or infinity"]),
        ("points", points() | {"x": np.full((5, 2), -np.inf)}, ["x contains NaN or infinity"]),
        ("geometry", {"geometry": np.zeros(3)}, ["geometry is not a table"]),
        (
            "geometry",
            {"geometry": geometry()["geometry"].drop(columns="model")},
            ["geometry has or lacks the columns model"],
        ),
        (
            "geometry",
            {"geometry": geometry()["geometry"].assign(extra=1)},
            ["geometry has or lacks the columns extra"],
        ),
        (
            "geometry",
            {"geometry": geometry()["geometry"].assign(epsilon=np.nan)},
            ["geometry column epsilon contains NaN"],
        ),
        (
            "geometry",
            {"geometry": geometry()["geometry"].assign(model=1)},
            ["geometry column model has type int64, expected U"],
        ),
    ],
)
def test_content_that_does_not_fit_is_not_written(
    tmp_path: Path, kind: str, content: Content, words: list[str]
) -> None:
    with refused(*words, error=StoreError):
        store.write(tmp_path / "new" / "file.h5", kind, content, config={})
    assert not (tmp_path / "new").exists()


def _change(name: str, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


def _change_to_group(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_group(name)

    return change


def _delete(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def _attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def _no_attribute(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__delitem__(name)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_no_attribute("kind"), ["not a result file of this project"]),
        (_attribute("kind", "images"), ["of kind 'images', expected kind 'points'"]),
        (_attribute("kind", np.arange(3)), []),
        (_attribute("version", 99), ["version 99", "reads version 1", "run its step again"]),
        (_attribute("version", np.arange(2)), []),
        (_no_attribute("version"), ["version None"]),
        (_delete("y"), ["lacks y", "run its step again"]),
        (_change("x", np.zeros((5, 2), np.int64)), ["x has type int64"]),
        (_change("x", np.zeros((2, 5, 2))), ["x has shape (2, 5, 2)"]),
        (_change("x", np.full((5, 2), np.nan)), ["x contains NaN"]),
        (_change("x", "text"), ["x"]),
        (_change("y", np.zeros(4, np.int64)), ["y has shape (4,), expected (5,)"]),
        (_change_to_group("y"), []),
        (lambda file: file["y"].attrs.__setitem__("bits", 5), []),
        (lambda file: file["y"].attrs.__setitem__("bits", 10**12), ["bytes of /y"]),
        (_no_attribute("config"), []),
        (_attribute("config", "[1]"), ["config"]),
        (_attribute("config", "{"), []),
    ],
)
def test_damaged_arrays_are_refused(
    path: Path, damage: Callable[[h5py.File], None], words: list[str]
) -> None:
    with forged(path) as file:
        damage(file)
    with refused(str(path), *words, error=StoreError):
        store.read(path, "points")


@pytest.mark.parametrize(
    "damage",
    [
        _delete("geometry/model"),
        _change("geometry/model", np.zeros(2)),
        _change("geometry/epsilon", np.zeros(3)),
        _change("geometry/epsilon", np.zeros((2, 2))),
        _change("geometry/epsilon", np.full(2, np.nan)),
        _change("geometry/model", [b"\xff", b"\xfe"]),
        _change("geometry", np.zeros(3)),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, damage: Callable[[h5py.File], None]) -> None:
    path = tmp_path / "geometry.h5"
    store.write(path, "geometry", geometry(), config={})
    with forged(path) as file:
        damage(file)
    with refused(str(path), error=StoreError):
        store.read(path, "geometry")
    with refused(str(path), error=StoreError):
        store.browse(path, "geometry").table("geometry")


def test_what_is_no_whole_hdf5_file_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    lengths = [*range(0, len(whole), max(1, len(whole) // 40)), 7, 8, len(whole) - 1]
    for length in lengths:
        path.write_bytes(whole[:length])
        for look in (store.read, store.browse):
            with refused(str(path), "run its step again", error=StoreError):
                look(path, "points")
    path.write_text("x,y\n1,2\n")
    with refused(str(path), "not a readable result file", error=StoreError):
        store.read(path, "points")


def test_missing_files_and_folders_are_refused(path: Path) -> None:
    for missing in (path.parent, path.with_name("other.h5"), path / "below"):
        for look in (store.read, store.browse):
            with refused(str(missing), "no such file", error=StoreError):
                look(missing, "points")


def test_parts_are_read_only_when_they_are_asked_for(path: Path) -> None:
    with forged(path) as file:
        file["x"][0, 0] = np.nan
    found = store.browse(path, "points")
    assert found.config == {"seed": 3}
    assert found.array("y").tolist() == [0, 1, 0, 1, 0]
    with refused(str(path), "x contains NaN", error=StoreError):
        found.array("x")
    path.unlink()
    with refused(str(path), "no such file", error=StoreError):
        found.array("y")


def test_a_part_that_the_kind_does_not_have_is_refused(path: Path) -> None:
    found = store.read(path, "points")
    for ask in (found.table, found.array):
        with refused(str(path), "'points'", "runs", error=StoreError):
            ask("runs")
    with refused(str(path), "x", error=StoreError):
        found.table("x")


# --- Writing is all or nothing -------------------------------------------------------------------


def assert_untouched(path: Path) -> None:
    """The file is as it was and nothing else is in its folder."""
    assert store.read(path, "points").config == {"seed": 3}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    write_part = store._write_part

    def interrupted(file: h5py.File, name: str, value: np.ndarray) -> None:
        if name == "split":
            raise interruption
        write_part(file, name, value)

    monkeypatch.setattr(store, "_write_part", interrupted)
    with pytest.raises(interruption):
        store.write(path, "points", points(), config={})
    assert_untouched(path)


@pytest.mark.parametrize("function", ["os.fsync", "os.replace", "tempfile.NamedTemporaryFile"])
def test_a_failing_disk_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(function, fail)
    for write in (
        lambda: store.write(path, "points", points(), config={}),
        lambda: store.write_text(path, "text"),
    ):
        with refused(str(path), os.strerror(errno.ENOSPC), error=StoreError):
            write()
        assert_untouched(path)


def test_a_full_disk_leaves_the_old_file(path: Path) -> None:
    """For real, in a process that may write no longer files, at several lengths."""
    program = """
        import resource, sys
        import numpy as np
        from sparselimit import store

        x = np.random.default_rng(0).random((20_000, 2))
        n = np.zeros(len(x), dtype=int)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        for most in (0, 100, 1_000, 5_000, 50_000, 200_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
            try:
                store.write(sys.argv[1], "points", {"x": x, "y": n, "split": n}, config={})
            except store.StoreError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        env=os.environ | {"PYTHONPATH": str(Path(store.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    too_large = f"{path}: cannot be written ({os.strerror(errno.EFBIG)})"
    assert done.stdout.splitlines() == [too_large] * 6
    assert_untouched(path)


def test_what_stands_in_the_way_is_named(path: Path, tmp_path: Path) -> None:
    below_a_file, folder = path / "new.h5", tmp_path / "folder.h5"
    (folder / "inside").mkdir(parents=True)
    for target in (below_a_file, folder):
        with refused(str(target), "cannot be written", error=StoreError):
            store.write(target, "points", points(), config={})
    assert_untouched(path)


def test_result_files_are_as_readable_as_any_other(path: Path) -> None:
    before = os.umask(0o027)
    try:
        store.write(path, "points", points(), config={})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_text_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    store.write_text(path, "a,ä\n")
    store.write_text(path, "b,ß\n")
    assert path.read_text(encoding="utf-8") == "b,ß\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n"1,2\n', b"a\n1,2\n3,4,5\n"])
def test_damaged_csv_tables_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "methods.csv"
    path.write_bytes(content)
    with refused("methods.csv", "not a readable table", "run the step"):
        store.read_table(path)


def test_a_csv_table_is_what_was_written(tmp_path: Path) -> None:
    table = pd.DataFrame({"name": ["a", "b"], "value": [0.1, np.nan]})
    store.write_text(tmp_path / "t.csv", table.to_csv(index=False))
    pd.testing.assert_frame_equal(store.read_table(tmp_path / "t.csv"), table)
