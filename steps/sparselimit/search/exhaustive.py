"""Exhaustive search: train every sparse network of k weights from many starts."""

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
import torch

from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.train import Engine, Trained, train
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, initial_parameters, positions
from sparselimit.search.enumeration import sparse_networks
from sparselimit.seeds import generator
from sparselimit.sparsity.masks import with_biases

PUBLISHED_WIDTH = 16


@dataclass(frozen=True)
class Networks:
    """Sparse networks held in the first neurons of one common shape.

    widths  int64 [n, hidden layers], each network's own
    mask    bool  [n, frame.n_weights]
    """

    frame: MLP
    widths: np.ndarray
    mask: np.ndarray

    @classmethod
    def shard(cls, weights: int, shard: int, shards: int) -> "Networks":
        """The networks of k weights that fall to one shard, in the order of the enumeration.

        Raises InputError when there are none.
        """
        blocks = list(sparse_networks(weights, shard=shard, shards=shards))
        if not blocks:
            raise InputError(f"shard {shard} of {shards} holds no network of {weights} weights")
        widest = np.max([widths for widths, _ in blocks], axis=0)
        frame = MLP((2, *map(int, widest), 1))
        return cls(
            frame,
            np.concatenate([np.tile(widths, (len(masks), 1)) for widths, masks in blocks]),
            np.concatenate([_embed(masks, widths, frame) for widths, masks in blocks]),
        )

    def own_shape(self, i: int) -> MLP:
        return MLP((2, *map(int, self.widths[i]), 1))


def _embed(masks: np.ndarray, widths: tuple[int, ...], frame: MLP) -> np.ndarray:
    own = MLP((2, *widths, 1))
    wide = np.zeros((len(masks), frame.n_weights), dtype=bool)
    wide[:, positions(own, frame)[: own.n_weights]] = masks
    return wide


def start_values(networks: Networks, i: int, start: int, protocol: str) -> np.ndarray:
    """Initial values of one start, float64 [frame.n_parameters].

    Drawn at the network's own widths; by protocol `published`, as a crop of a 16-wide network,
    whose values are smaller. They depend on the network and the start alone.
    """
    own, frame = networks.own_shape(i), networks.frame
    where = positions(own, frame)
    identity = networks.mask[i][where[: own.n_weights]].tobytes().hex()
    rng = generator("search", own.sizes, identity, start)
    values = np.zeros(frame.n_parameters)
    if protocol == "published":
        wide = MLP.spiral(PUBLISHED_WIDTH)
        values[where] = initial_parameters(wide, rng)[positions(own, wide)]
    else:
        values[where] = initial_parameters(own, rng)
    return values


def train_all(
    networks: Networks,
    starts: int,
    points: Points,
    plan: Plan,
    learning_rate: float,
    *,
    protocol: str = "exact",
    **engine: Unpack[Engine],
) -> tuple[pd.DataFrame, np.ndarray]:
    """Train every network from every start.

    Returns the table of runs (network, start, steps, accuracy, loss, diverged_at; `network` counts
    within `networks`) and the parameters of each network's best start, float32
    [n, frame.n_parameters].
    """
    n = len(networks.mask)
    runs = pd.DataFrame(
        {"network": np.repeat(np.arange(n), starts), "start": np.tile(np.arange(starts), n)}
    )
    values = [start_values(networks, i, s, protocol) for i, s in runs.itertuples(index=False)]
    mask = torch.tensor(networks.mask[runs.network])
    members = Members.of(
        networks.frame,
        torch.tensor(np.stack(values), dtype=torch.float32),
        with_biases(networks.frame, mask),
        learning_rate=learning_rate,
    )
    trained = train(members, points, plan, label="search", **engine)
    runs = runs.assign(
        steps=plan.epochs * plan.steps_per_epoch(len(points.x)),
        accuracy=trained.accuracy.numpy(),
        loss=trained.loss.numpy(),
        diverged_at=trained.diverged_at.numpy(),
    )
    return runs, best_starts(runs, trained)


def best_starts(runs: pd.DataFrame, trained: Trained) -> np.ndarray:
    """Parameters of the most accurate start of each network; of equals, the one of least loss.

    A start that diverged is taken only where all did.
    """
    ranked = runs.assign(diverged=runs.diverged_at >= 0).sort_values(
        ["network", "diverged", "accuracy", "loss"], ascending=[True, True, False, True]
    )
    best = ranked.drop_duplicates("network").index.to_numpy()
    return trained.parameters.numpy()[best]
