"""The frontier: the best accuracy that any network of k weights has reached, for each k."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, positions
from sparselimit.store import Stored

DEAD = 1e-9  # a constant output scores one half exactly: both classes have as many points


def gather(shards: Iterable[Stored]) -> dict[str, np.ndarray | pd.DataFrame]:
    """Combine search shards, read one after another, into the content of a `frontier` file.

    Raises InputError when a shard is missing or given twice, when shards were searched by different
    settings, or when no run of one kept finite.
    """
    rows: dict[int, dict] = {}
    best: dict[int, tuple[MLP, np.ndarray, np.ndarray]] = {}
    seen: dict[int, set[int]] = {}
    expected: dict[int, int] = {}
    settings: dict[str, object] = {}
    for shard in shards:
        _check_settings(shard, settings)
        k, number = int(shard.config["weights"]), int(shard.config["shard"])
        if number in seen.setdefault(k, set()):
            raise InputError(f"{shard.path}: shard {number} of {k} weights is given twice")
        seen[k].add(number)
        if expected.setdefault(k, int(shard.config["shards"])) != int(shard.config["shards"]):
            raise InputError(f"{shard.path}: cut into other shards than the rest of {k} weights")
        row, place = _summary(shard)
        if k in rows:
            row = _combined(rows[k], row)
        if k not in rows or row["network"] != rows[k]["network"]:
            frame = MLP(tuple(map(int, shard.array("sizes"))))
            best[k] = frame, shard.array("mask")[place], shard.array("parameters")[place]
        rows[k] = row
    for k, count in expected.items():
        missing = sorted(set(range(count)) - seen[k])
        if missing:
            raise InputError(f"search of {k} weights lacks shard {missing[0]} of {count}")
    return _as_content(rows, best)


def _check_settings(shard: Stored, settings: dict[str, object]) -> None:
    """All shards must have been searched alike; the first one says how."""
    own = ("weights", "shard", "shards", "data", "backend")
    found = {name: value for name, value in shard.config.items() if name not in own}
    for name, value in (settings or found).items():
        if found.get(name) != value:
            raise InputError(
                f"{shard.path}: searched with {name} {found.get(name)}, the first shard with "
                f"{value}; search them alike"
            )
    settings.update(found)


def _summary(shard: Stored) -> tuple[dict, int]:
    """Extent and best run of one shard, and the place of the best network in it."""
    runs, networks = shard.table("runs"), shard.table("networks")
    finite = runs[runs.diverged_at < 0]
    if finite.empty:
        raise InputError(f"{shard.path}: every run diverged; lower search.learning_rate")
    top = finite.sort_values(["accuracy", "loss"], ascending=[False, True]).iloc[0]
    place = int(np.flatnonzero(networks.network == top.network)[0])
    return {
        "weights": int(shard.config["weights"]),
        "networks": len(networks),
        "runs": len(runs),
        "steps": float(runs.steps.sum()),
        "dead": float((abs(runs.accuracy - 0.5) < DEAD).mean()),
        "network": int(top.network),
        **{d: int(networks[d].iloc[place]) for d in ("d1", "d2", "d3")},
        "accuracy": float(top.accuracy),
        "loss": float(top.loss),
    }, place


def _combined(one: dict, other: dict) -> dict:
    better = max(one, other, key=lambda row: (row["accuracy"], -row["loss"]))
    runs = one["runs"] + other["runs"]
    return {
        **better,
        **{name: one[name] + other[name] for name in ("networks", "runs", "steps")},
        "dead": (one["dead"] * one["runs"] + other["dead"] * other["runs"]) / runs,
    }


def _as_content(
    rows: dict[int, dict], best: dict[int, tuple[MLP, np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray | pd.DataFrame]:
    """Tables by number of weights, networks in one shape that holds them all."""
    counts = sorted(rows)
    frame = MLP(tuple(map(int, np.max([best[k][0].sizes for k in counts], axis=0))))
    mask = np.zeros((len(counts), frame.n_weights), dtype=bool)
    parameters = np.zeros((len(counts), frame.n_parameters), dtype=np.float32)
    for i, k in enumerate(counts):
        own, own_mask, own_parameters = best[k]
        where = positions(own, frame)
        mask[i, where[: own.n_weights]] = own_mask
        parameters[i, where] = own_parameters
    return {
        "sizes": np.array(frame.sizes),
        "by_weights": pd.DataFrame([rows[k] for k in counts]),
        "mask": mask,
        "parameters": parameters,
    }
