"""Predict a network's pruning limit from its spectra, beside what one-shot pruning reaches."""

import logging
from argparse import Namespace
from pathlib import Path

import numpy as np

from sparselimit import cli, store
from sparselimit.limits.prediction import predictions, readings, sensitivities


def main(arguments: Namespace) -> None:
    network = store.read(arguments.network, "network")
    sweep = store.read(arguments.sweep, "sweep")
    spectra = readings([store.read(path, "spectrum") for path in arguments.spectra])
    tolerances, (low, high) = arguments.tolerances, arguments.epsilon_range
    bounds = predictions(network, spectra, sweep, tolerances, arguments.accuracy_tolerance)
    for row in bounds[bounds.reason != ""].itertuples():
        logging.warning(
            "%s (%s), %s, epsilon %.3g: %s",
            *(row.operator, row.negative, row.formula, row.epsilon, row.reason),
        )
    epsilons = np.geomspace(low, high, arguments.epsilon_points).tolist()
    curves = sensitivities(network, spectra, sweep, tolerances, epsilons, arguments.scales)
    cli.write(arguments, "bounds", {"bounds": bounds, "sensitivity": curves})


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
    parser.add_argument(
        "--epsilon-range",
        type=float,
        nargs=2,
        default=[1e-4, 1.0],
        help="least and largest rise in loss over which the limit is followed",
    )
    parser.add_argument(
        "--epsilon-points", type=cli.positive, default=17, help="of them, geometrically spaced"
    )
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        default=[1.0, 2.0, 3.0, 4.0, 5.0],
        help="factors by which the weights are made larger at the same curvature",
    )
    cli.run(main, parser)
