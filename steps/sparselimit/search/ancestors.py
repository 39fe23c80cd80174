"""Trained networks of files, as what a search goes down from."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from sparselimit import spiral
from sparselimit.errors import InputError
from sparselimit.networks.initial import Initial
from sparselimit.networks.mlp import MLP
from sparselimit.search.beam import Network
from sparselimit.store import Stored

FILE_KINDS = ("spiral-runs", "frontier", "beam")


def best_networks(
    files: Iterable[Stored],
    least_weights: int,
    most_weights: int,
    width: int,
    start: Initial | None = None,
) -> tuple[pd.DataFrame, list[Network]]:
    """The best `width` networks of each number of effective weights, from files of the FILE_KINDS.

    Returns the table of them (file, row of its table, weights, accuracy), most weights first, and
    the networks, whose `ancestor` is their row in it. With `start`, they are masks of the initial
    network that it gives, and have their part of it as `origin`.

    Raises InputError when the files hold no sound network of `least_weights` to `most_weights`.
    """
    tables, networks = [], list[tuple[MLP, np.ndarray, np.ndarray]]()
    for file in files:
        table, stored = _sound_networks(file)
        tables.append(table.assign(place=range(len(networks), len(networks) + len(stored))))
        networks += stored
    table = pd.concat(tables, ignore_index=True)
    fits = table.weights.between(least_weights, most_weights)
    if not fits.any():
        least, most = table.weights.min(), table.weights.max()
        has = f"they have {least} to {most}" if len(table) else "all runs diverged"
        raise InputError(
            f"no network of {least_weights} to {most_weights} effective weights in the files "
            f"({has}): give other files or bounds"
        )
    ranked = table[fits].sort_values(
        ["weights", "accuracy"], ascending=[False, False], kind="stable"
    )
    best = ranked.groupby("weights", sort=False).head(width).reset_index(drop=True)
    found = []
    for ancestor, place in enumerate(best.place):
        shape, mask, parameters = networks[place]
        origin = None if start is None else start(shape, [0])[0].numpy()
        network = Network(shape, mask, parameters, ancestor, origin=origin).cut_to(mask)
        assert network is not None  # it has effective weights
        found.append(network)
    return best.drop(columns="place"), found


def _sound_networks(
    file: Stored,
) -> tuple[pd.DataFrame, Sequence[tuple[MLP, np.ndarray, np.ndarray]]]:
    """Those of a file that did not diverge, and the table of them."""
    if file.attributes["kind"] == "spiral-runs":
        runs = file.table("runs")
        table = runs[["accuracy"]].assign(weights=runs.effective_weights)
        networks = list(spiral.stored_networks(file))
        sound = (runs.diverged_at < 0).to_numpy()
    else:
        table = file.table("by_weights")[["accuracy", "weights"]]
        frame = MLP(tuple(map(int, file.array("sizes"))))
        networks = [
            (frame, mask, parameters)
            for mask, parameters in zip(file.array("mask"), file.array("parameters"), strict=True)
        ]
        sound = np.ones(len(table), dtype=bool)
    table = table.assign(file=str(file.path), row=range(len(table)))[sound]
    kept = [network for network, keep in zip(networks, sound, strict=True) if keep]
    return table[["file", "row", "weights", "accuracy"]], kept
