"""Writers that are killed, run out of disk or meet one another: a file is whole, old or new."""

import errno
import logging
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from sparselimit import cli, files, store
from sparselimit.ensemble.checkpoint import Checkpoint, Stopped
from sparselimit.errors import InputError
from tests.faults.programs import output_of
from tests.unit.refusals import refused

# Defines `write(path, n)` and `n_of(path)`, the n with which the file was written.
WRITER = """
    import io, os, signal, sys
    from pathlib import Path
    import numpy as np
    from sparselimit import store

    def write(path, n):
        x, y = np.random.default_rng(n).random((n, 2)), np.zeros(n, dtype=int)
        store.write(path, "points", {"x": x, "y": y, "split": y}, config={"n": n})

    def n_of(path):
        found = store.read(path, "points")
        assert len(found.array("x")) == found.config["n"]
        return found.config["n"]

    path = Path(sys.argv[1])
"""


# --- kill -9 -------------------------------------------------------------------------------------


def test_a_writer_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    """Before and after each call of a function of the system, from the first to the last.

    The file is then as it was, missing or old, or the new one. What else lies there does not look
    like a result, and the next writer takes it away.
    """
    told = output_of(
        WRITER
        + """
    def killed(moment):
        '''Write in a process that is killed; whether it lived to that moment.'''
        child = os.fork()
        if child == 0:
            state = {"writing": False, "passed": 0}

            def count(frame, event, call):
                state["writing"] |= frame.f_code.co_name == "_replace"
                if state["writing"] and event.startswith("c_"):
                    of_file = isinstance(getattr(call, "__self__", None), io.IOBase)
                    state["passed"] += of_file or call.__module__ in ("posix", "fcntl")
                    if state["passed"] == moment:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.setprofile(count)
            write(path, 300)
            os._exit(0)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])

    store.code_version()  # asked of git once
    for old in (None, 7):
        moment, left, found = 1, 0, []
        if old:
            write(path, old)
        while killed(moment):
            found.append(n_of(path) if path.exists() else None)
            beside = [file for file in path.parent.iterdir() if file != path]
            assert all(file.name.startswith(".") and file.suffix == ".tmp" for file in beside)
            assert len(beside) <= 1  # what earlier ones left was taken away
            left += len(beside) > 0
            if found[-1] == 300:
                path.unlink()
                if old:
                    write(path, old)
            moment += 1
        assert set(found) == {old, 300}, found
        write(path, 5)
        assert list(path.parent.iterdir()) == [path]
        print(moment, left)
        path.unlink()
    """,
        tmp_path / "result.h5",
    )
    for line in told:
        moments, left = map(int, line.split())
        assert moments > 30
        assert left > 5


def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    """At the flush or the renaming of some checkpoint; the same numbers come out."""
    told = output_of(
        """
    import os, signal, sys
    from pathlib import Path
    import numpy as np, torch
    from sparselimit.ensemble import train as engine
    from sparselimit.ensemble.members import Members, Plan, Points
    from sparselimit.networks.mlp import MLP

    engine.CHECKPOINT_SECONDS = 0.0
    folder = Path(sys.argv[1])
    fsync, replace = os.fsync, os.replace

    def in_a_process(result, killed_at=None):
        child = os.fork()
        if child:
            return os.waitpid(child, 0)[1]
        calls = 0

        def counted(function):
            def call(*arguments, **options):
                nonlocal calls
                calls += 1
                if calls == killed_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)
            return call

        os.fsync, os.replace = counted(fsync), counted(replace)
        network = MLP((2, 3, 3, 1))
        rng = np.random.default_rng(0)
        drawn = lambda *shape: torch.tensor(rng.normal(size=shape), dtype=torch.float32)
        x = drawn(64, 2)
        trained = engine.train(
            Members.of(network, drawn(6, network.n_parameters), learning_rate=0.1,
                       order_seed=[0, 0, 0, 1, 1, 1]),
            Points(x, (x[:, 0] > 0).float()), Plan.of(["cosine"], 4, 16),
            backend="batched", checkpoint=folder / "run.checkpoint")
        np.save(result, trained.parameters.numpy())
        os._exit(0)

    assert in_a_process(folder / "whole.npy") == 0
    whole = np.load(folder / "whole.npy")
    for moment in (1, 2, 3, 8, 11, 16, 17, 18):
        (folder / "run.checkpoint").unlink(missing_ok=True)
        assert in_a_process(folder / "never.npy", moment) == signal.SIGKILL
        assert not (folder / "never.npy").exists()
        assert in_a_process(folder / "again.npy") == 0
        np.testing.assert_array_equal(np.load(folder / "again.npy"), whole)
        print(moment, sorted(file.name for file in folder.iterdir()))
    """,
        tmp_path,
    )
    assert len(told) == 8
    assert {line.split(" ", 1)[1] for line in told} == {
        "['again.npy', 'run.checkpoint', 'whole.npy']"
    }


# --- A full disk ---------------------------------------------------------------------------------


def _no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_run_goes_on_where_its_checkpoint_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last one stays; only a run that is asked to stop has to say that it loses its work."""
    path = tmp_path / "run.checkpoint"
    keeper = Checkpoint(path, ["run"], 300.0)
    keeper.save({"step": 1})
    monkeypatch.setattr("os.fsync", _no_space)
    with caplog.at_level(logging.WARNING):
        keeper.save({"step": 2})
    assert str(path) in caplog.text
    assert os.strerror(errno.ENOSPC) in caplog.text
    keeper.asked_to_stop = True
    with refused(str(path), "cannot be written", os.strerror(errno.ENOSPC), "lost"):
        keeper.save({"step": 3})
    monkeypatch.undo()
    assert keeper.load() == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(Stopped):
        keeper.save({"step": 4})
    assert keeper.load() == {"step": 4}


def test_what_a_checkpoint_needs_beside_it_is_written_first(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    keeper = Checkpoint(path, ["run"], 300.0)
    keeper.save({"step": 1}, lambda: (tmp_path / "basis").touch())
    assert (tmp_path / "basis").exists()
    keeper.save({"step": 2}, _no_space)
    assert keeper.load() == {"step": 1}


def test_a_checkpoint_that_outgrows_the_disk_for_real(tmp_path: Path) -> None:
    """In a process that may write no longer files, at several lengths."""
    told = output_of(
        """
    import logging, resource, sys
    from pathlib import Path
    import torch
    from sparselimit.ensemble.checkpoint import Checkpoint

    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    path = Path(sys.argv[1])
    keeper = Checkpoint(path, [], 0.0)
    keeper.save({"step": 0})
    for most in (0, 511, 512, 3000, 90_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        keeper.save({"step": 1, "state": torch.zeros(30_000)})
    assert keeper.load() == {"step": 0}
    assert list(path.parent.iterdir()) == [path]
    """,
        tmp_path / "run.checkpoint",
    )
    assert len(told) == 5
    assert all("File too large" in line and "going on without" in line for line in told)


def test_a_result_that_cannot_be_written_leaves_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = cli.Parser("test", computes=False).parse_args(["--output", str(tmp_path / "a.h5")])
    cli.checkpoint(arguments).touch()
    y = np.arange(3)
    content = {"x": np.zeros((3, 2)), "y": y, "split": 0 * y}
    for reason in (errno.ENOSPC, errno.EROFS, errno.EIO):

        def fail(*_: object, number: int = reason, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("tempfile.NamedTemporaryFile", fail)
        with refused("a.h5", "cannot be written", os.strerror(reason)):
            cli.write(arguments, "points", content)
        assert list(tmp_path.iterdir()) == [cli.checkpoint(arguments)]
    monkeypatch.undo()
    cli.write(arguments, "points", content)
    assert list(tmp_path.iterdir()) == [arguments.output]


# --- Places that cannot be written to ------------------------------------------------------------


def test_where_nothing_can_be_written_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(_: object) -> None:
        raise AssertionError("work was done")

    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    for output, access, words in (
        (file / "a.h5", True, "is not a folder"),
        (folder, True, "it is a folder"),
        (folder / "new" / "a.h5", False, "may not be written to"),
    ):
        monkeypatch.setattr("sys.argv", ["step.py", "--output", str(output)])
        monkeypatch.setattr("os.access", lambda *_, access=access: access)
        with pytest.raises(SystemExit) as end:
            cli.run(step, cli.Parser("test", computes=False))
        assert end.value.code == 2
        told = capsys.readouterr().err
        assert told.startswith(f"step.py: {output}: cannot be written: ")
        assert words in told
        assert told.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == [file, folder]
    monkeypatch.undo()
    assert files.obstacle(folder / "new" / "a.h5") is None


# --- Two writers ---------------------------------------------------------------------------------


def test_two_writers_of_a_file_leave_one_of_their_results(tmp_path: Path) -> None:
    """A reader meanwhile finds one or the other, whole; neither takes the other's work away."""
    (told,) = output_of(
        WRITER
        + """
    write(path, 1)
    store.code_version()
    children = []
    for n in (200, 400):
        child = os.fork()
        if child == 0:
            for _ in range(25):
                write(path, n)
            os._exit(0)
        children.append(child)
    seen, ended = set(), []
    while children:
        seen.add(n_of(path))
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            children.remove(child)
            ended.append(status)
    print(ended, seen <= {1, 200, 400}, n_of(path) in (200, 400), os.listdir(path.parent))
    """,
        tmp_path / "result.h5",
    )
    assert told == "[0, 0] True True ['result.h5']"


# --- A clock that jumps --------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_intervals_do_not_follow_the_clock_on_the_wall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    keeper = Checkpoint(tmp_path / "run.checkpoint", [], 300.0)
    now, ticks = time.time(), time.monotonic()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    assert not keeper.due()
    monkeypatch.setattr(time, "monotonic", lambda: ticks + 301)
    assert keeper.due()


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_a_wrong_clock_spoils_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Clock":
            return cls(year, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(store, "datetime", Clock)
    path, y = tmp_path / "points.h5", np.arange(3)
    store.write(path, "points", {"x": np.zeros((3, 2)), "y": y, "split": 0 * y}, config={})
    os.utime(path, (0, 2**33))
    assert str(store.read(path, "points").attributes["created"]).startswith(f"{year:04d}-01-01")


# --- Damaged checkpoints -------------------------------------------------------------------------


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    """Any bit of them: numbers that are a little off would go on to a wrong result."""
    path = tmp_path / "run.checkpoint"
    keeper = Checkpoint(path, ["run"], 300.0)
    keeper.save({"state": torch.arange(500.0), "history": [{"epoch": 1}]})
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(400):
        file = bytearray(whole)
        if rng.random() < 0.3:
            del file[rng.integers(len(file)) :]
        else:
            file[rng.integers(len(file))] ^= 1 << rng.integers(8)
        path.write_bytes(file)
        with refused(str(path), "not a readable checkpoint", "delete it"):
            keeper.load()
    path.write_bytes(whole)
    loaded = keeper.load()
    assert loaded is not None
    assert torch.equal(loaded["state"], torch.arange(500.0))


def test_sigterm_while_a_checkpoint_is_written_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    keeper = Checkpoint(path, ["run"], 300.0)
    with keeper.listening(), pytest.raises(Stopped):
        keeper.save({"step": 1}, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert keeper.load() == {"step": 1}


def test_a_checkpoint_of_another_run_is_no_input(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "run.checkpoint", ["one"], 300.0).save({"step": 1})
    with pytest.raises(InputError, match="another run"):
        Checkpoint(tmp_path / "run.checkpoint", ["other"], 300.0).load()
