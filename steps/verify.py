"""Check every network of a certificate from its stored weights, without training.

Says what they score, a line for each number of weights and each accuracy, and exits with 1 if one
does not do what is claimed. With --rerun, a network is also trained once more from its start: on
the same kind of machine and backend to the same weights, elsewhere to others whose accuracy can be
compared.
"""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np

from sparselimit import cli, spiral, store
from sparselimit.ensemble.members import Points
from sparselimit.errors import InputError
from sparselimit.search import verification

CHECKS = {"frontier": verification.verify, "beam": verification.verify_beam}


def main(arguments: Namespace) -> None:
    if arguments.rerun and len(arguments.rerun) > 2:
        raise InputError(f"--rerun {' '.join(map(str, arguments.rerun))}: give one network")
    files = [store.read(path, *CHECKS) for path in arguments.files]
    searches = [file for file in files if file.attributes["kind"] == "frontier"]
    if arguments.rerun and len(searches) != 1:
        raise InputError(f"--rerun needs one search, gathered; {len(searches)} are given")
    points = spiral.read_points(arguments.data)
    lines: list[str] = []
    failures = 0
    for file in files:
        said, failed = CHECKS[str(file.attributes["kind"])](file, points)
        lines, failures = lines + said, failures + failed
    if arguments.rerun:
        lines.append(rerun(searches[0], points, arguments))
    print("\n".join(lines))
    if arguments.output:
        store.write_text(arguments.output, "\n".join(lines) + "\n")
    if failures:
        sys.exit(1)


def rerun(frontier: store.Stored, points: Points, arguments: Namespace) -> str:
    claim = verification.choose(frontier, *arguments.rerun)
    engine = spiral.engine(arguments) | {"checkpoint": None}
    again = verification.rerun(claim, verification.settings(frontier), points, **engine)
    found = verification.accuracy(claim.shape, again, points)
    same = "the same weights" if np.array_equal(again, claim.parameters) else "other weights"
    return f"{claim.name}: trained again, {same}, accuracy {found:.6f}"


if __name__ == "__main__":
    parser = cli.Parser(__doc__, prints=True)
    parser.add_argument(
        "files", type=Path, nargs="+",
        help="a search as it was gathered, a search from above, or several of them (HDF5)",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, help="the spiral's points (HDF5); else made anew")
    parser.add_argument(
        "--rerun", type=cli.whole, nargs="+", metavar=("WEIGHTS", "NETWORK"),
        help="train the best network of so many weights again, or the listed one of this number",
    )  # fmt: skip
    spiral.add_engine_arguments(parser)
    cli.run(main, parser)
