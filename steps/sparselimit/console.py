"""What a step says while it runs: plain log lines, and a progress bar where somebody watches."""

import logging
import sys

from tqdm import tqdm


def setup_logging() -> None:
    """Log lines to stderr with the time; a Snakemake log file or a terminal gets the same."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )


def progress_bar(label: str, total: int, unit: str) -> tqdm:
    """A bar on a terminal; in a log file, a plain line now and then instead of control characters."""
    if sys.stderr.isatty():
        return tqdm(desc=label, total=total, unit=unit, unit_scale=True, smoothing=0)
    return _LoggedProgress(desc=label, total=total, unit=unit, unit_scale=True, mininterval=20)


class _LoggedProgress(tqdm):
    """tqdm whose refreshes are lines of their own."""

    @staticmethod
    def status_printer(file: object) -> object:
        def print_line(status: str) -> None:
            if status:
                sys.stderr.write(status + "\n")
                sys.stderr.flush()

        return print_line
