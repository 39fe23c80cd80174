"""The sparsest network that the search knows for an accuracy, as a start for other studies."""

import logging

import numpy as np

from sparselimit.networks.initial import Fixed
from sparselimit.networks.mlp import MLP, positions
from sparselimit.store import Stored


def sparsest_start(frontier: Stored, accuracy: float) -> Fixed:
    """The initial values, at its own widths and dense, of the sparsest network of an accuracy.

    They are those from which the searched mask reached it. Where no network did, those of the most
    accurate one.
    """
    best = frontier.table("by_weights").sort_values("weights").reset_index()
    reached = best[best.accuracy >= accuracy]
    if reached.empty:
        row = best.loc[best.accuracy.idxmax()]
        logging.warning(
            "%s: no network reaches %.4g; taking the best (%d weights, accuracy %.4f)",
            frontier.path,
            accuracy,
            row.weights,
            row.accuracy,
        )
    else:
        row = reached.iloc[0]
    own = MLP((2, int(row.d1), int(row.d2), int(row.d3), 1))
    frame = MLP(tuple(map(int, frontier.array("sizes"))))
    place = positions(own, frame)
    return Fixed(own, frontier.array("initial")[int(row["index"])][place].astype(np.float64))
