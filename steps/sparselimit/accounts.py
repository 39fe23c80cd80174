"""Accounts of a study for its report: on what data, how much was done, what became of every run."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from sparselimit.datasets import SPLITS
from sparselimit.errors import InputError
from sparselimit.search.outcomes import given_up
from sparselimit.statistics import ACCURACIES, CHANCE
from sparselimit.store import Stored

_LOWEST = f"{100 * ACCURACIES[0]:g} %"
# What can become of a run; the first that holds counts.
OUTCOMES = (
    "diverged",  # to numbers that are not finite
    "empty layer",  # some layer keeps no weight
    "no path",  # all layers keep weights, but none leads from an input to an output
    "constant output",  # the network died
    "given up",  # by racing, for its loss
    f"below {_LOWEST}",
    f"{_LOWEST} or more",
)


def study_of(file: Stored) -> str:
    """The study that runs belong to, which is the name of their folder; `dense` if not pruned."""
    return file.path.parent.name if "method" in file.config else "dense"


def baseline_of(file: Stored) -> tuple[str, str]:
    """Network and method of a file results/baselines/NETWORK/METHOD/PART.h5."""
    return file.path.parent.parent.name, str(file.config["name"] or file.config["method"])


def outcomes(files: Sequence[Stored]) -> pd.DataFrame:
    """From `spiral-runs` and `search-shard` and all other kinds of runs: what became of them.

    A row counts the runs of one stage, study, source (a method, or the search), network and target
    that came to one of `OUTCOMES`, with their share of all; of those, `off_target` ended with other
    than the number of weights that was asked for. Of limits, the runs are predictions: made, or
    unresolved where the quadrature is too coarse; of pruned classifiers it is told only if a layer
    is empty.
    """
    keys = ["stage", "study", "source", "network", "target"]
    counts = []
    for file in files:
        runs = _RUNS.get(str(file.attributes["kind"]), _of_spiral)(file)
        groups = runs.groupby([*keys, "outcome"], sort=False)
        counts.append(groups.off_target.agg(runs="size", off_target="sum"))
    table = pd.concat(counts).groupby(level=[*keys, "outcome"], sort=False).sum().reset_index()
    return table.assign(share=table.runs / table.groupby(keys).runs.transform("sum"))


def _of_spiral(file: Stored) -> pd.DataFrame:
    """Runs of dense networks and of pruning methods."""
    runs, layers = file.table("runs"), file.table("layers")
    kept = layers[layers.when == "end"].groupby("run").weights.min()
    counted = "effective_weights" if file.config.get("count") == "effective" else "weights"
    study = study_of(file)
    return runs[["network", "target"]].assign(
        stage="train" if study == "dense" else "prune",
        study=study,
        source=runs.method,
        outcome=_outcome(
            runs,
            empty=kept.reindex(runs.index).to_numpy() == 0,
            unconnected=(runs.paths == 0).to_numpy(),
        ),
        off_target=(runs[counted] != runs.target) & ~runs.method.str.startswith("random_"),
    )


def _of_search(file: Stored) -> pd.DataFrame:
    """Starts of the search; those dropped as dead count as died, whatever their accuracy was."""
    runs = file.table("runs")
    return pd.DataFrame(
        {
            "stage": "search",
            "study": "search",
            "source": "search",
            "network": "all",
            "target": int(file.config["weights"]),
            "outcome": _outcome(
                runs,
                died=(runs.dropped == 0).to_numpy(),
                dropped=given_up(runs.dropped, runs.calibration).to_numpy(),
            ),
            "off_target": False,
        }
    )


def _of_blocks(file: Stored) -> pd.DataFrame:
    """Runs of the search as published."""
    runs, networks = file.table("runs"), file.table("networks").set_index("network")
    return pd.DataFrame(
        {
            "stage": "search",
            "study": file.path.parent.name,
            "source": "blocks",
            "network": "all",
            "target": networks.weights[runs.network].to_numpy(),
            "outcome": _outcome(runs),
            "off_target": False,
        }
    )


def _of_limits(file: Stored) -> pd.DataFrame:
    """Predictions for one trained network."""
    rows = file.table("bounds")
    return pd.DataFrame(
        {
            "stage": "limits",
            "study": "limits",
            "source": rows.formula + ", " + rows.operator + " " + rows.negative,
            "network": file.path.stem,
            "target": rows.prunable,
            "outcome": np.where(rows.reason == "", "predicted", "unresolved"),
            "off_target": False,
        }
    )


def _of_classifiers(file: Stored) -> pd.DataFrame:
    """What a pruning method made of one trained network."""
    runs, layers = file.table("runs"), file.table("layers")
    network, method = baseline_of(file)
    empty = layers.groupby("run").kept.min().reindex(runs.index) == 0
    return pd.DataFrame(
        {
            "stage": "baselines",
            "study": "baselines",
            "source": method,
            "network": network,
            "target": runs.weights,
            "outcome": np.where(empty, "empty layer", "trained"),
            "off_target": False,
        }
    )


_RUNS: dict[str, Callable[[Stored], pd.DataFrame]] = {
    "spiral-runs": _of_spiral,
    "search-shard": _of_search,
    "block-runs": _of_blocks,
    "bounds": _of_limits,
    "pruned-networks": _of_classifiers,
}


def _outcome(
    runs: pd.DataFrame,
    *,
    empty: np.ndarray | bool = False,
    unconnected: np.ndarray | bool = False,
    died: np.ndarray | bool = False,
    dropped: np.ndarray | bool = False,
) -> np.ndarray:
    """Which of `OUTCOMES` each run came to."""
    constant = np.isclose(runs.accuracy, CHANCE, rtol=0, atol=1e-6)
    below = (runs.accuracy < ACCURACIES[0]).to_numpy()
    holds = [(runs.diverged_at >= 0).to_numpy(), empty, unconnected, constant | died, dropped]
    return np.select(np.broadcast_arrays(*holds, below), OUTCOMES[:-1], OUTCOMES[-1])


def extent(files: Sequence[Stored]) -> pd.DataFrame:
    """From `spiral-runs` and `search-shard` and all other kinds: how much the study did.

    By kind of file: `files`, one for each job; the networks that were trained in them and the SGD
    steps that took, counted on the spiral only; seconds of all jobs, and their devices.
    """
    rows = []
    for file in files:
        kind = str(file.attributes["kind"])
        networks, steps = _trained(file, kind)
        device, seconds = str(file.attributes["device"]), float(str(file.attributes["seconds"]))
        rows.append((kind, networks, steps, seconds, device))
    if not rows:
        raise InputError("no result file is given: there is nothing to count")
    table = pd.DataFrame(rows, columns=["kind", "networks", "steps", "seconds", "device"])
    return (
        table.groupby("kind", sort=False)
        .agg(
            files=("networks", "size"),
            networks=("networks", "sum"),
            steps=("steps", "sum"),
            seconds=("seconds", "sum"),
            devices=("device", lambda names: " ".join(sorted(set(names)))),
        )
        .reset_index()
    )


def _trained(file: Stored, kind: str) -> tuple[int, int]:
    """How many networks a job has trained, and in how many SGD steps if it counts them."""
    if kind == "network":
        return int(file.config["state_dict"] is None), 0
    if kind == "pruned-networks":
        return int((file.table("runs").epochs > 0).sum()), 0
    if kind == "beam":
        levels = file.table("by_weights")
        return int(levels.runs.sum()), int(levels.steps.sum())
    if kind in ("spiral-runs", "search-shard", "block-runs"):
        runs = file.table("runs")
        return len(runs), int(runs.steps.sum())
    return 0, 0


def splits(files: Sequence[Stored]) -> pd.DataFrame:
    """From `points` and `images`: points of each split of each data set, and of their classes."""
    rows = []
    for file in files:
        labels, split = file.array("y"), file.array("split")
        x = file.array("x")
        for number in np.unique(split):
            counts = np.bincount(labels[split == number], minlength=int(labels.max()) + 1)
            shape = " x ".join(map(str, x.shape[1:]))
            name = SPLITS[int(number)]
            rows.append(
                (file.path.stem, name, counts.sum(), shape, len(counts), counts.min(), counts.max())
            )
    columns = ["data", "split", "points", "shape", "classes", "smallest_class", "largest_class"]
    return pd.DataFrame(rows, columns=columns)
