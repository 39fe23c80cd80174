"""Predict a network's pruning limit from its spectra, beside what one-shot pruning reaches."""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli, store
from sparselimit.limits.prediction import predictions


def main(arguments: Namespace) -> None:
    table = predictions(
        store.read(arguments.network, "network"),
        [store.read(path, "spectrum") for path in arguments.spectra],
        store.read(arguments.sweep, "sweep"),
        arguments.tolerances,
        arguments.accuracy_tolerance,
    )
    cli.write(arguments, "bounds", {"bounds": table})


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument("--network", type=Path, required=True, help="trained network (HDF5)")
    parser.add_argument("--spectra", type=Path, nargs="+", required=True, help="its spectra (HDF5)")
    parser.add_argument("--sweep", type=Path, required=True, help="its one-shot sweep (HDF5)")
    parser.add_argument(
        "--tolerances",
        type=float,
        nargs="+",
        required=True,
        help="rises in loss that are tolerated",
    )
    parser.add_argument(
        "--accuracy-tolerance",
        type=float,
        default=0.01,
        help="loss of validation accuracy that counts as none",
    )
    cli.run(main, parser)
