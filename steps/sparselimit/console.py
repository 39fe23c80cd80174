"""What a step says while it runs: plain log lines, and a progress bar where somebody watches."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm


def setup_logging() -> None:
    """Log lines to stderr with the time; a Snakemake log file or a terminal gets the same."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )


def duration(seconds: float) -> str:
    """A time in short, to two figures or more."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Progress(Protocol):
    """What both kinds of progress report can do."""

    def update(self, n: int) -> object: ...


@contextmanager
def progress_bar(label: str, total: int, unit: str) -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a log line now and then, without control characters."""
    if sys.stderr.isatty():
        with tqdm(desc=label, total=total, unit=unit, unit_scale=True, smoothing=0) as bar:
            yield bar
    else:
        lines = _ProgressLines(label, total, unit)
        yield lines
        lines.report()


class _ProgressLines:
    """A line to the log every 20 seconds."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self.started = self.reported = time.monotonic()

    def update(self, n: int) -> None:
        self.done += n
        if time.monotonic() - self.reported > 20:
            self.report()

    def report(self) -> None:
        self.reported = time.monotonic()
        seconds = max(self.reported - self.started, 1e-9)
        logging.info(
            "%s: %d of %d %ss, %.0f s, %.3g %ss/s",
            *(self.label, self.done, self.total, self.unit, seconds),
            *(self.done / seconds, self.unit),
        )
