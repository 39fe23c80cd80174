"""Shards of the search, read one after another, and what is kept of them."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd

from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, positions
from sparselimit.search.outcomes import complete
from sparselimit.statistics import ACCURACIES
from sparselimit.store import Stored

DEAD = 1e-9  # a constant output scores one half exactly: both classes have as many points
# What may differ between shards of one search.
OWN = ("weights", "shard", "shards", "first_start", "starts", "polish", "data", "backend")


@dataclass(frozen=True)
class Found:
    """A network that the search has found: its row in the table of its shard, in its own shape."""

    row: dict
    shape: MLP
    mask: np.ndarray
    parameters: np.ndarray

    @classmethod
    def of(cls, shard: Stored, place: int) -> "Found":
        row = shard.table("networks").iloc[place].to_dict()
        shape = MLP((2, int(row["d1"]), int(row["d2"]), int(row["d3"]), 1))
        where = positions(shape, MLP(tuple(map(int, shard.array("sizes")))))
        mask = shard.array("mask")[place, where[: shape.n_weights]]
        return cls(row, shape, mask, shard.array("parameters")[place, where])

    def better_than(self, other: "Found | None") -> bool:
        """More accurate; of equals, of less loss."""
        if other is None:
            return True
        mine, its = self.row, other.row
        return (mine["accuracy"], -mine["loss"]) > (its["accuracy"], -its["loss"])


@dataclass
class Count:
    """What is known of all networks with one number of weights.

    best      the best of them
    totals    sums over the runs of a shard, one row per shard
    networks  starts of each network and how many of them reached each accuracy, a table per shard
    shards    the shards read, and into how many the networks were cut, by first and last start
    """

    best: Found | None = None
    totals: list[dict[str, float]] = field(default_factory=list)
    networks: list[pd.DataFrame] = field(default_factory=list)
    shards: dict[tuple[int, int], tuple[set[int], int]] = field(default_factory=dict)

    def tally(self) -> pd.DataFrame:
        """By network: `starts`, and for each accuracy how many starts reached it."""
        return pd.concat(self.networks).groupby("network").sum()


class Gathering:
    """Takes in shards and keeps what a certificate needs of them.

    settings     how all of them were searched
    counts       by number of weights
    known        for each accuracy the fewest weights with which a network reaches it, and all of
                 those networks by their number
    calibration  of the runs whose end is known whatever it is, `accuracy` and whether racing would
                 have `lost` them, a table per shard
    raced        whether any start was dropped for its loss
    """

    def __init__(self) -> None:
        self.settings: dict[str, object] = {}
        self.counts: dict[int, Count] = {}
        self.known: dict[float, tuple[int, dict[int, Found]]] = {}
        self.calibration: list[pd.DataFrame] = []
        self.raced = False

    def add(self, shard: Stored) -> None:
        """Take in one shard.

        Raises InputError when it was given before, when it was searched by other settings than the
        others or its networks cut otherwise, or when no run of it kept finite.
        """
        self._check_settings(shard)
        count = self._enter(shard)
        runs, networks = shard.table("runs"), shard.table("networks")
        if (runs.diverged_at >= 0).all():
            raise InputError(f"{shard.path}: every run diverged; lower search.learning_rate")
        behind = runs.dropped > 0
        runs = runs.assign(complete=complete(runs.dropped, runs.calibration))
        # Starts whose end is known whatever it is: a fair sample of the full training.
        sample = runs[runs.calibration] if behind.any() else runs
        trained = sample[sample.complete]
        self.raced |= bool(behind.any())
        self.calibration.append(trained[["accuracy"]].assign(lost=trained.dropped > 0))
        count.totals.append(_totals(runs, sample))
        reached = {str(a): runs.complete & (runs.accuracy >= a) for a in ACCURACIES}
        success = pd.DataFrame({"network": runs.network, "starts": 1, **reached})
        count.networks.append(success.groupby("network", as_index=False).sum())

        ranked = networks.sort_values(["accuracy", "loss"], ascending=[False, True])
        found = Found.of(shard, int(ranked.index[0]))
        if found.better_than(count.best):
            count.best = found
        for accuracy in ACCURACIES:
            self._note(accuracy, shard, np.flatnonzero(networks.accuracy >= accuracy).tolist())

    def _check_settings(self, shard: Stored) -> None:
        """All shards must have been searched alike; the first one says how."""
        found = {name: value for name, value in shard.config.items() if name not in OWN}
        for name, value in (self.settings or found).items():
            if found.get(name) != value:
                raise InputError(
                    f"{shard.path}: searched with {name} {found.get(name)}, the first shard with "
                    f"{value}; search them alike"
                )
        self.settings = found

    def _enter(self, shard: Stored) -> Count:
        """Note which shard this is."""
        config = shard.config
        k, number, cut = (int(config[name]) for name in ("weights", "shard", "shards"))
        first = int(config["first_start"])
        count = self.counts.setdefault(k, Count())
        seen, others = count.shards.setdefault(
            (first, first + int(config["starts"]) - 1), (set(), cut)
        )
        if number in seen:
            raise InputError(f"{shard.path}: shard {number} of {k} weights is given twice")
        if cut != others:
            raise InputError(f"{shard.path}: cut into other shards than the rest of {k} weights")
        seen.add(number)
        return count

    def _note(self, accuracy: float, shard: Stored, places: list[int]) -> None:
        """Note the networks of a shard that reach an accuracy, unless fewer weights do."""
        k = int(shard.config["weights"])
        fewest, known = self.known.get(accuracy, (k, {}))
        if not places or k > fewest:
            return
        if k < fewest:
            known = {}
        for place in places:
            found = Found.of(shard, place)
            number = int(found.row["network"])
            if found.better_than(known.get(number)):
                known[number] = found
        self.known[accuracy] = k, known

    def check_complete(self) -> None:
        """Raises InputError when a shard is missing, or a start is in more than one search."""
        for k, count in self.counts.items():
            for (first, last), (seen, cut) in count.shards.items():
                missing = sorted(set(range(cut)) - seen)
                if missing:
                    raise InputError(
                        f"search of {k} weights, starts {first} to {last}, lacks shard "
                        f"{missing[0]} of {cut}"
                    )
            for (_, last), (first, _) in pairwise(sorted(count.shards)):
                if first <= last:
                    raise InputError(f"search of {k} weights: start {first} is given twice")


def _totals(runs: pd.DataFrame, sample: pd.DataFrame) -> dict[str, float]:
    """Sums over the runs of a shard; `sample` are those whose end is known whatever it is."""
    dead = (sample.dropped == 0) | (abs(sample.accuracy - 0.5) < DEAD)
    finished = runs[runs.complete & (runs.diverged_at < 0)]
    return {
        "runs": len(runs),
        "steps": float(runs.steps.sum()),
        "provably_dead": int((runs.dropped == 0).sum()),
        "sample": len(sample),
        "sample_dead": int(dead.sum()),
        "sgd_accuracy": float(finished.accuracy.max()),
    }
