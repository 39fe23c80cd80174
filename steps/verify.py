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
from sparselimit.search import verification


def main(arguments: Namespace) -> None:
    frontier = store.read(arguments.frontier, "frontier")
    points = spiral.read_points(arguments.data)
    lines, failures = verification.verify(frontier, points)
    if arguments.beam:
        from_above = verification.verify_beam(store.read(arguments.beam, "beam"), points)
        lines, failures = lines + from_above[0], failures + from_above[1]
    if arguments.rerun:
        claim = verification.choose(frontier, *arguments.rerun)
        settings = verification.settings(frontier)
        engine = spiral.engine(arguments) | {"checkpoint": None}
        again = verification.rerun(claim, settings, points, **engine)
        found = verification.accuracy(claim.shape, again, points)
        same = "the same weights" if np.array_equal(again, claim.parameters) else "other weights"
        lines.append(f"{claim.name}: trained again, {same}, accuracy {found:.6f}")
    print("\n".join(lines))
    if arguments.output:
        store.write_text(arguments.output, "\n".join(lines) + "\n")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    parser = cli.Parser(__doc__, prints=True)
    parser.add_argument("frontier", type=Path, help="the search as it was gathered (HDF5)")
    parser.add_argument("--beam", type=Path, help="the search from above (HDF5), to check as well")
    parser.add_argument("--data", type=Path, help="the spiral's points (HDF5); else made anew")
    parser.add_argument(
        "--rerun", type=int, nargs="+", metavar=("WEIGHTS", "NETWORK"),
        help="train the best network of so many weights again, or the listed one of this number",
    )  # fmt: skip
    spiral.add_engine_arguments(parser)
    cli.run(main, parser)
