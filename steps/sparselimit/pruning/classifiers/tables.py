"""The tables about pruned classifiers, from their files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sparselimit.accounts import baseline_of
from sparselimit.limits.tables import by_name
from sparselimit.statistics import keeps_accuracy
from sparselimit.store import Stored

_SPLITS = ("fit", "validation", "test")


def baselines(files: Sequence[Stored]) -> pd.DataFrame:
    """From `pruned-networks` and `sweep`: what each method makes of each network.

    A row is one pruned network; `dense` is the network that all are compared with, `one_shot` the
    same with its smallest weights removed and nothing trained again, at the densities asked for.
    """
    pruned = [_pruned_runs(file) for file in _pruned(files)]
    made = pd.concat(pruned) if pruned else pd.DataFrame({"network": []})
    own = dict(iter(made.groupby("network")))
    swept = [
        _one_shot(file, own[name]) for name, file in by_name(files, "sweep").items() if name in own
    ]
    columns = ["network", "method", "round", "asked", "weights", "density", "pruning_ratio"]
    columns += [
        "epochs",
        "one_shot_density",
        *(f"{split}_{w}" for split in _SPLITS for w in ("loss", "accuracy")),
    ]
    if not swept:
        return pd.DataFrame(columns=columns)
    table = pd.concat([*swept, made], ignore_index=True)[columns]
    return table.sort_values(columns[:3], kind="stable", ignore_index=True)


def _pruned(files: Sequence[Stored]) -> list[Stored]:
    return [file for file in files if file.attributes["kind"] == "pruned-networks"]


def _pruned_runs(file: Stored) -> pd.DataFrame:
    """The runs of a `pruned-networks` file, with their network and what their method is called.

    `prunable` is the number of weights of which densities are shares.
    """
    runs = file.table("runs")
    network, method = baseline_of(file)
    prunable = int(file.table("layers").drop_duplicates("layer").weights.sum())
    return runs.assign(
        network=network,
        method=method,
        prunable=prunable,
        pruning_ratio=1 - runs.density,
        one_shot_density=runs.one_shot_weights / prunable,
    )


def _one_shot(sweep: Stored, made: pd.DataFrame) -> pd.DataFrame:
    """The dense network, and it pruned once to the nearest of the ratios of its sweep.

    made: its pruned networks, whose densities are looked for.
    """
    rows = sweep.table("sweep").sort_values("removed", ignore_index=True)
    densities = sorted(made.asked.dropna().unique())
    nearest = [int((1 - d - rows.pruning_ratio).abs().argmin()) for d in densities]
    chosen = rows.iloc[[0, *nearest]].drop(columns=["radius", "removed"])
    return chosen.assign(
        network=sweep.path.stem,
        method=["dense"] + ["one_shot"] * len(densities),
        round=[0, *range(len(densities))],
        asked=[np.nan, *densities],
        weights=made.prunable.iloc[0] - rows.removed.iloc[[0, *nearest]],
        density=1 - chosen.pruning_ratio,
        epochs=0.0,
    )


def rounds(files: Sequence[Stored]) -> pd.DataFrame:
    """From `pruned-networks` and `round-limits`: each round of a method, and how far it could go.

    A row is a network and a formula: measured and predicted densities at which this network, pruned
    at once and not trained again, would be at its limit. All are of the weights of the dense one.
    """
    columns = ["network", "method", "round", "weights", "density", "one_shot_density"]
    columns += ["operator", "negative", "formula", "direction", "epsilon", "predicted_density"]
    by_name(files, "pruned-networks")  # which there must be
    made = pd.concat([_pruned_runs(file) for file in _pruned(files)])
    limits = [
        file.table("limits").rename(columns={"density": "share"}).assign(network=file.path.stem)
        for file in files
        if file.attributes["kind"] == "round-limits"
    ]
    if not limits:
        return pd.DataFrame(columns=[*columns, "reason"])
    table = pd.concat(limits).merge(made, on=["network", "method", "round"])
    table["predicted_density"] = table.share * table.density
    return table[[*columns, "reason"]].sort_values(columns[:3], kind="stable", ignore_index=True)


def reached(files: Sequence[Stored]) -> pd.DataFrame:
    """From `bounds` and `sweep` and `pruned-networks`: how far each network can be pruned.

    `predicted` are the limits for a tolerated loss of the spread between batches. `measured` is the
    least density of a method up to which validation accuracy stays within the tolerance of that of
    the dense network; accuracies are those of the network there.
    """
    bounds, sweeps = by_name(files, "bounds"), by_name(files, "sweep")
    parts = []
    for name, file in bounds.items():
        parts.append(_predicted(file.table("bounds")).assign(network=name))
        own = [_pruned_runs(part) for part in _pruned(files) if baseline_of(part)[0] == name]
        sweep = sweeps[name].table("sweep").assign(method="one_shot")
        measured = _thresholds(pd.concat([sweep, *own]), float(file.config["accuracy_tolerance"]))
        parts.append(measured.assign(network=name))
    table = pd.concat(parts, ignore_index=True)
    columns = ["network", "source", "method", "density", "pruning_ratio"]
    columns += ["validation_accuracy", "test_accuracy"]
    return table.assign(density=1 - table.pruning_ratio)[columns]


def _predicted(bounds: pd.DataFrame) -> pd.DataFrame:
    """The limits for the published tolerance, by what tells the formulas apart."""
    limits = bounds[bounds.rule == "batch_std"]
    names = limits[["formula", "operator", "negative", "direction"]].agg(" ".join, axis=1)
    return limits[["pruning_ratio"]].assign(source="predicted", method=names)


def _thresholds(runs: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """The last run of each method up to which it keeps the accuracy of the least pruned one."""
    runs = runs.sort_values("pruning_ratio", kind="stable", ignore_index=True)
    accuracy = runs.validation_accuracy
    enough = pd.Series(keeps_accuracy(accuracy, accuracy[0], tolerance))
    within = runs[enough.groupby(runs.method).cummin()]
    last = within.groupby("method").last().reindex(sorted(set(runs.method)))
    return last.reset_index().assign(source="measured")


def hyperparameters(files: Sequence[Stored]) -> pd.DataFrame:
    """From `network` and `pruned-networks`: how each network was trained, and each method told.

    A row without a method is the dense network. What is not known of a network that was given, and
    what is the same as in the dense network's row, is missing.
    """
    rows = []
    for file in by_name(files, "network").values():
        trained = file.config["state_dict"] is None
        recipe = {name: _plainly(file.config[name]) for name in _RECIPE if trained}
        data = Path(file.config["data"]).stem
        rows.append({"network": file.path.stem, "method": "", "data": data, **recipe})
    seen = set()
    for file in _pruned(files):
        network, method = baseline_of(file)
        if (network, method) not in seen:
            seen.add((network, method))
            told = {"protocol": file.config["pruning_protocol"], **file.config["options"]}
            options = ", ".join(f"{name} {_plainly(value)}" for name, value in told.items())
            rows.append({"network": network, "method": method, "options": options})
    columns = ["network", "method", "data", *_RECIPE, "options"]
    table = pd.DataFrame(rows, columns=columns)
    whole = dict.fromkeys(("epochs", "batch_size", "warmup", "seed"), "Int64")
    return table.astype(whole).sort_values(columns[:2], kind="stable", ignore_index=True)


_RECIPE = [
    *("epochs", "batch_size", "optimizer", "learning_rate", "momentum", "weight_decay", "l1"),
    *("schedule", "milestones", "factor", "warmup", "protocol", "augment", "seed"),
]


def _plainly(value: object) -> object:
    """A setting as a table shows it: a list as its entries with spaces between."""
    return " ".join(map(str, value)) if isinstance(value, list) else value
