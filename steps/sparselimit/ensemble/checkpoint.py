"""Checkpoints: what a training run saves of itself, so that it can be stopped and go on."""

import contextlib
import hashlib
import io
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sparselimit import files, sources
from sparselimit.errors import InputError

T = TypeVar("T")

CHECKPOINT_SECONDS = 300.0  # between two of a run
_ASKING = (signal.SIGTERM, signal.SIGINT)  # the latter is Ctrl-C
_SEALED = "checkpoint"  # what the seal says that follows it


class Stopped(SystemExit):
    """The run was asked to stop (SIGTERM, Ctrl-C) and has saved its checkpoint. Exit code 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Checkpoint:
    """A file that holds the state of one run, and tells that run from others.

    identity: the tensors and values that decide the run's result. The code of the step that runs,
        which decides it too, need not be among them.
    """

    def __init__(self, path: Path, identity: Sequence[object], interval: float) -> None:
        self.path, self.interval = path, interval
        self.identity, self.code = _digest(identity), sources.running_code()
        self.saved = time.monotonic()
        self.asked_to_stop = False

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None if there is no checkpoint.

        Raises InputError for a file that is damaged, of another run, or made by other code.
        """
        if not self.path.exists():
            return None
        try:
            with self.path.open("rb") as file:
                files.check_seal(_SEALED, file)
                file.seek(files.SEAL_BYTES)
                image = io.BytesIO(file.read())
            saved = torch.load(image, weights_only=True, map_location="cpu")
            identity, code, state = (saved[name] for name in ("identity", "code", "state"))
        except Exception as error:  # torch raises many types for damaged files
            raise InputError(
                f"{self.path}: not a readable checkpoint ({type(error).__name__}); delete it to "
                "start from the beginning"
            ) from error
        if identity != self.identity:
            raise InputError(
                f"{self.path}: a checkpoint of another run; delete it to start from the beginning"
            )
        if code != self.code:
            raise InputError(
                f"{self.path}: a checkpoint made before the code was changed; delete it to start "
                "from the beginning, or go back to the code as it was"
            )
        return state

    def due(self) -> bool:
        """Whether the state should be saved now: asked to stop, or the interval is over."""
        return self.asked_to_stop or time.monotonic() - self.saved > self.interval

    def save(self, state: dict[str, Any], first: Callable[[], None] = lambda: None) -> None:
        """Replace the file, durably and all at once; then stop, if that was asked for.

        first: writes what belongs to the state in files of its own.

        Where nothing can be written (a full disk) the last checkpoint stays as it was and the run
        goes on, with a warning; only if it was asked to stop, InputError is raised.
        """
        try:
            first()
            self._write(state)
        except OSError as error:
            problem = f"{self.path}: the checkpoint cannot be written ({error.strerror or error})"
            if self.asked_to_stop:
                raise InputError(f"{problem}; work since the last one is lost") from error
            logging.warning("%s; going on without", problem)
        self.saved = time.monotonic()
        if self.asked_to_stop:
            raise Stopped

    def _write(self, state: dict[str, Any]) -> None:
        # Made in memory: torch does not survive a disk that fills up while it writes.
        image = io.BytesIO()
        torch.save({"identity": self.identity, "code": self.code, "state": state}, image)
        image.seek(0)
        with files.replacing(self.path) as file:
            file.write(files.seal(_SEALED, image))
            file.write(image.getbuffer())

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While in here, SIGTERM and Ctrl-C ask to stop instead of ending the process.

        A second Ctrl-C ends it. What a process ignores, as in the background, it goes on to ignore.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = ((number, signal.getsignal(number)) for number in _ASKING)
        heard = {number: before for number, before in handlers if before is not signal.SIG_IGN}
        for number in heard:
            signal.signal(number, self._ask_to_stop)
        try:
            yield
        finally:
            for number, before in heard.items():
                signal.signal(number, before)

    def _ask_to_stop(self, number: int, _: object) -> None:
        self.asked_to_stop = True
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)


def in_turn(
    work: Callable[[int], T], n: int, path: Path | None, identity: Sequence[object]
) -> list[T]:
    """What `work` returns for 0, 1, ..., n - 1, each of which takes some seconds.

    With a checkpoint path, what is done is saved there now and then, on a signal (which then ends
    the run by `Stopped`) and at the end, be it an error; the same call goes on from it. To remove
    it is for the caller.

    work: its results depend on the number alone; they are tensors, numbers, texts, or lists and
        dicts of these.
    identity: what decides the results.

    Raises InputError for a checkpoint that is damaged or of another run.
    """
    if path is None:
        return [work(i) for i in range(n)]
    keeper = Checkpoint(path, [*identity, n], CHECKPOINT_SECONDS)
    saved = keeper.load()
    done = saved["done"] if saved else []
    with keeper.listening():
        try:
            for i in range(len(done), n):
                done.append(work(i))
                if keeper.due():
                    keeper.save({"done": done})
        finally:
            keeper.save({"done": done})
    return done


def identity_of(module: nn.Module) -> list[object]:
    """What a module computes by: its layers as it prints them, all its parameters and buffers."""
    tensors = (*module.parameters(), *module.buffers())
    return [str(module), *(tensor.detach() for tensor in tensors)]


def _digest(identity: Sequence[object]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in identity:
        if isinstance(part, Tensor):
            digest.update(str((tuple(part.shape), part.dtype)).encode())
            digest.update(part.cpu().contiguous().numpy().tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()
