"""What all scripts in steps/ share: common arguments, logging, exit codes.

Exit codes: 0 done; 2 bad input, told in one line; 1 anything else.
"""

import argparse
import glob
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from sparselimit import files, store
from sparselimit.console import setup_logging
from sparselimit.errors import InputError, in_one_line


class Parser(argparse.ArgumentParser):
    """Arguments of every step: `--output` and `--device`; `--threads` where it computes with torch.

    All steps take the same `--device`, so that a caller need not know which have work for a GPU.
    One whose purpose is to print can do without an output.
    """

    def __init__(
        self, description: str | None, *, computes: bool = True, prints: bool = False
    ) -> None:
        super().__init__(
            description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        self.add_argument("--output", type=Path, required=not prints, help="file to write")
        where = "where to compute" if computes else "no matter here: there is no work for a GPU"
        self.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help=where)
        if computes:
            self.add_argument("--threads", type=positive, default=1, help="CPU threads")

    def error(self, message: str) -> NoReturn:
        """Wrong arguments are bad input like any other."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def positive(text: str) -> int:
    """A whole number of at least 1, as an argument type."""
    value = whole(text)
    if value == 0:
        raise ValueError
    return value


def whole(text: str) -> int:
    """A whole number of at least 0, as an argument type."""
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def number(text: str) -> float:
    """A finite number of at least 0, as an argument type."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def positive_number(text: str) -> float:
    """A finite number above 0, as an argument type."""
    value = number(text)
    if value == 0:
        raise ValueError
    return value


def json_object(text: str) -> dict:
    """An object in JSON, as an argument type."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text} is not a JSON object")
    return value


def run(step: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the arguments, set up the machine, run the step and exit with its code."""
    arguments = parser.parse_args()
    setup_logging()
    try:
        _check_output(arguments.output)
        arguments.device = (
            _choose_device(arguments.device, arguments.threads) if "threads" in arguments else "cpu"
        )
        step(arguments)
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        # Torch's by their names, for a step that only draws imports no torch.
        of_torch = ("OutOfMemoryError", "DefaultCPUAllocator")
        if not (isinstance(error, MemoryError) or any(name in repr(error) for name in of_torch)):
            raise
        print(f"{parser.prog}: out of memory ({in_one_line(error)})", file=sys.stderr)
        sys.exit(1)


def _check_output(output: Path | None) -> None:
    """Before hours of work: can it be written where it is to go?"""
    obstacle = files.obstacle(output) if output else None
    if obstacle:
        raise InputError(f"{output}: cannot be written: {obstacle}")


def _choose_device(asked: str, threads: int) -> str:
    # Imported here: a step that only draws needs no torch.
    import torch

    torch.set_num_threads(threads)
    if asked == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA GPU here; use --device cpu or auto")
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return asked


def settings(arguments: argparse.Namespace) -> dict[str, object]:
    """The arguments that decide the result."""
    leave_out = {"output", "device", "threads"}
    return {name: value for name, value in vars(arguments).items() if name not in leave_out}


def checkpoint(arguments: argparse.Namespace) -> Path:
    """Where a step keeps its state while it computes: beside the output, until that is written."""
    output: Path = arguments.output
    return output.with_name(output.name + ".checkpoint")


def write(arguments: argparse.Namespace, kind: str, content: store.Content) -> None:
    """Write what a step made to its `--output`, with the arguments that decided it."""
    store.write(
        arguments.output, kind, content, config=settings(arguments), device=arguments.device
    )
    kept = checkpoint(arguments)
    for part in kept.parent.glob(glob.escape(kept.name) + "*"):
        part.unlink()
