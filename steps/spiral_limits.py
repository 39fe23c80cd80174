"""Predict pruning limits of dense networks on the Cubist Spiral, where the truth is known.

The rise in loss that is tolerated is that of networks known to reach an accuracy, found by the
search or from above.
"""

from argparse import Namespace
from pathlib import Path
from typing import get_args

from sparselimit import cli, spiral, store
from sparselimit.limits import meeting


def main(arguments: Namespace) -> None:
    dense = meeting.dense_networks(
        store.read(arguments.networks, "spiral-runs"), arguments.seeds, arguments.most_parameters
    )
    points = meeting.sample(spiral.read_points(arguments.data), arguments.points)
    known = meeting.sparsest_known(
        store.read(arguments.frontier, "frontier"),
        store.read(arguments.beam, "beam"),
        points,
        arguments.budget,
    )
    how = (arguments.weight_decay, arguments.iterations, cli.checkpoint(arguments))
    cli.write(arguments, "spiral-limits", meeting.content(dense, known, points, *how))


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument("--networks", type=Path, required=True, help="dense networks (HDF5)")
    parser.add_argument("--frontier", type=Path, required=True, help="the search (HDF5)")
    parser.add_argument("--beam", type=Path, required=True, help="the search from above (HDF5)")
    parser.add_argument("--data", type=Path, help="the spiral's points (HDF5); else made anew")
    parser.add_argument(
        "--budget",
        choices=get_args(meeting.Budget),
        default="sparsest",
        help="loss that an accuracy is given: the least of the sparsest networks known to reach "
        "it, or of all that the exhaustive search found to reach it",
    )
    parser.add_argument(
        "--seeds", type=cli.positive, default=2, help="networks of each width, the best run of each"
    )
    parser.add_argument(
        "--most-parameters", type=cli.positive, default=700, help="wider networks are left out"
    )
    parser.add_argument(
        "--points", type=cli.positive, help="random points of the loss and its curvature; else all"
    )
    parser.add_argument(
        "--weight-decay", type=float, default=5e-4, help="of the loss that is brought to a minimum"
    )
    parser.add_argument(
        "--iterations", type=cli.positive, default=300, help="of L-BFGS, at most, on the way there"
    )
    cli.run(main, parser)
