"""One shard of the search: its networks raced in batches, the best of them polished."""

from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sparselimit.ensemble.checkpoint import in_turn
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.train import Engine
from sparselimit.networks.mlp import positions
from sparselimit.search.exhaustive import COMPILATION, Networks
from sparselimit.search.polish import polished, quality
from sparselimit.search.racing import RUN_COLUMNS, Outcome, Race, race
from sparselimit.sparsity.masks import with_biases

# Runs of a batch, which is raced to its end before the next begins. The few that are left on the
# last leg still have to fill the device.
RUNS_AT_ONCE = {"cpu": 1 << 15, "cuda": 1 << 18}
# What share of training all starts in full a race costs.
COST_OF_RACE = 0.2


def search_shard(
    networks: Networks, how: Race, points: Points, polish: int, **engine: Unpack[Engine]
) -> dict[str, np.ndarray | pd.DataFrame]:
    """Race the starts of every network and polish the `polish` best networks.

    Returns the content of a `search-shard` file. A checkpoint path in `engine` is where the names
    of several begin, one for each leg of a batch.
    """
    outcome = Outcome.empty(len(networks), len(how.starts), networks.frame.n_parameters)
    batches = _batches(networks, how, points, engine.get("device", "cpu"))
    path = engine.get("checkpoint")
    for number, batch in enumerate(batches, start=1):
        part = networks.take(batch.numpy())
        if path:
            engine["checkpoint"] = path.with_name(f"{path.name}-batch-{number}")
        found = race(part, how, points, label=f"batch {number} of {len(batches)}", **engine)
        outcome.put(batch, torch.tensor(positions(part.frame, networks.frame)), found)
    where = path and path.with_name(f"{path.name}-polish")
    parameters = _polish(networks, outcome, polish, points, where)
    return _content(networks, how, outcome, parameters, points)


def _batches(networks: Networks, how: Race, points: Points, device: str) -> list[Tensor]:
    """Networks (indices) that race together: in few common shapes, no more than fit."""
    starts = len(how.starts)
    worth = COMPILATION / (COST_OF_RACE * how.steps(how.epochs, points) * starts)
    size = max(1, RUNS_AT_ONCE[device] // starts)
    groups = networks.in_few_frames(worth)
    return [part for group in groups for part in torch.tensor(group).split(size)]


def _polish(
    networks: Networks, outcome: Outcome, n: int, points: Points, checkpoint: Path | None
) -> Tensor:
    """Parameters of every network, those of the n most accurate ones polished.

    Each in its own shape, for sums depend on the shape.
    """
    sound = (outcome.diverged_at[outcome.best] < 0).nonzero()[:, 0]
    accuracy = outcome.accuracy[outcome.best[sound]]
    chosen = sound[accuracy.argsort(descending=True, stable=True)[:n]].tolist()
    parameters = outcome.parameters.clone()

    def better(place: int) -> Tensor:
        i = chosen[place]
        own = networks.own_shape(i)
        mask = with_biases(own, torch.tensor(networks.own_mask(i))[None])[0]
        return polished(own, parameters[i, positions(own, networks.frame)], mask, points)

    identity = [parameters, torch.tensor(networks.mask), points.x, points.y]
    after = in_turn(better, len(chosen), checkpoint, identity)
    for i, values in zip(chosen, after, strict=True):
        parameters[i, positions(networks.own_shape(i), networks.frame)] = values
    return parameters


def _content(
    networks: Networks, how: Race, outcome: Outcome, parameters: Tensor, points: Points
) -> dict[str, np.ndarray | pd.DataFrame]:
    n, starts = len(networks), np.array(how.starts)
    accuracy, loss = quality(networks.frame, parameters, points)
    columns = {name: getattr(outcome, name).numpy() for name in RUN_COLUMNS}
    runs = pd.DataFrame(
        {"network": networks.number.repeat(len(starts)), "start": np.tile(starts, n), **columns}
    )
    table = pd.DataFrame(networks.widths, columns=["d1", "d2", "d3"]).assign(
        network=networks.number,
        weights=networks.mask.sum(axis=1),
        start=runs.start.to_numpy()[outcome.best],
        accuracy=accuracy.numpy(),
        loss=loss.numpy(),
        polished=(parameters.nan_to_num() != outcome.parameters.nan_to_num()).any(dim=1).numpy(),
    )
    return {
        "sizes": np.array(networks.frame.sizes),
        "networks": table,
        "mask": networks.mask,
        "parameters": parameters.numpy(),
        "runs": runs,
    }
