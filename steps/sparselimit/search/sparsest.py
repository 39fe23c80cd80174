"""The sparsest network that the search knows for an accuracy, as a start for other studies."""

import logging
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from sparselimit import store
from sparselimit.errors import InputError
from sparselimit.networks import initial
from sparselimit.networks.initial import Fixed
from sparselimit.networks.mlp import MLP, positions
from sparselimit.store import Stored


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments that say from which initial values a script's networks start."""
    parser.add_argument(
        "--initial", default="random", help="initial values: random, searched, or a state dict"
    )
    parser.add_argument("--frontier", type=Path, help="the search (HDF5), if that is called for")
    parser.add_argument(
        "--accuracy", type=float, default=0.9, help="of the searched network: the sparsest with it"
    )


def given_start(arguments: Namespace) -> Fixed | None:
    """The initial network that the arguments name, None where each run draws its own."""
    if arguments.initial == "random":
        return None
    if arguments.initial == "searched":
        return searched(arguments)
    return initial.read(Path(arguments.initial))


def searched(arguments: Namespace) -> Fixed:
    """The start of the searched network that the arguments mean."""
    if arguments.frontier is None:
        raise InputError("searched: give the file of the search by --frontier")
    return sparsest_start(store.read(arguments.frontier, "frontier"), arguments.accuracy)


def sparsest_start(frontier: Stored, accuracy: float) -> Fixed:
    """The initial values, at its own widths and dense, of the sparsest network of an accuracy.

    It is the best network of the fewest weights with which training alone, before polish, reached
    the accuracy. From these values training, and polish if its row says so, brought its mask to the
    accuracy of the row; a training of other length or order may come to another. Where training did
    not reach the accuracy, the start is that of the best network where it came closest.
    """
    best = frontier.table("by_weights")
    trained = best.sgd_accuracy.fillna(0).to_numpy()
    reached = np.flatnonzero(trained >= accuracy)
    if len(reached):
        place = int(reached[best.weights.to_numpy()[reached].argmin()])
    else:
        place = int(trained.argmax())
        logging.warning(
            "%s: no network reaches %.4g by training alone; taking the best (%d weights, accuracy "
            "%.4f)",
            frontier.path,
            accuracy,
            best.weights[place],
            trained[place],
        )
    hidden = best[["d1", "d2", "d3"]].to_numpy()[place].tolist()
    own, frame = MLP((2, *hidden, 1)), MLP(tuple(frontier.array("sizes").tolist()))
    values = frontier.array("initial")[place][positions(own, frame)]
    return Fixed(own, values.astype(np.float64))
