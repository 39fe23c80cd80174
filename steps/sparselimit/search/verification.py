"""Checks of a certificate that need no training: what the stored networks score, once more.

Independent of the engine: a forward pass in numpy, double precision, on the spiral made from its
formula.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch

from sparselimit.ensemble.members import Points
from sparselimit.ensemble.train import Engine
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, positions
from sparselimit.search.exhaustive import Networks, initial_values
from sparselimit.search.polish import polished
from sparselimit.search.racing import Race, race
from sparselimit.sparsity.masks import with_biases
from sparselimit.store import Stored


@dataclass(frozen=True)
class Claim:
    """A network of a certificate in its own shape, and what is said of it.

    row      its row of the table
    least    the accuracy that it is listed for
    stated   its own accuracy
    initial  its initial values, without a mask
    """

    row: dict[str, Any]
    least: float
    stated: float
    shape: MLP
    mask: np.ndarray
    parameters: np.ndarray
    initial: np.ndarray

    @property
    def name(self) -> str:
        sizes = "-".join(map(str, self.shape.sizes))
        row = self.row
        return f"{row['weights']} weights: {sizes}, network {row['network']}, start {row['start']}"


def claims(frontier: Stored) -> tuple[list[Claim], list[Claim]]:
    """The best network of each number of weights; and all that are known to reach an accuracy."""
    best, known = frontier.table("by_weights"), frontier.table("known")
    return (
        _claims(frontier, best.assign(reached=best.accuracy), ""),
        _claims(frontier, known, "known_"),
    )


def beam_claims(beam: Stored) -> list[Claim]:
    """The best network of each number of weights that was found from above."""
    table = beam.table("by_weights")
    return _claims(beam, table.assign(reached=table.accuracy, network=-1), "")


def _claims(frontier: Stored, table: pd.DataFrame, part: str) -> list[Claim]:
    frame = MLP(tuple(map(int, frontier.array("sizes"))))
    arrays = [frontier.array(part + name) for name in ("mask", "parameters", "initial")]
    found = []
    for row, mask, *values in zip(table.to_dict("records"), *arrays, strict=True):
        shape = MLP((2, row["d1"], row["d2"], row["d3"], 1))
        where = positions(shape, frame)
        own = (value[where] for value in values)
        accuracy = row["accuracy"], row["reached"]
        found.append(Claim(row, *accuracy, shape, mask[where[: shape.n_weights]], *own))
    return found


def accuracy(network: MLP, parameters: np.ndarray, points: Points) -> float:
    """Share of the points that a network classifies correctly; a logit above 0 means class 1."""
    signal = points.x.numpy().T.astype(np.float64)
    values = parameters.astype(np.float64)
    for weight, bias in zip(network.weights(values), network.biases(values), strict=True):
        outputs = weight @ signal + bias[:, None]
        signal = outputs.clip(min=0)
    return float(((outputs[0] > 0) == (points.y.numpy() > 0)).mean())


def problem(claim: Claim, points: Points, protocol: str) -> str | None:
    """What is wrong with a claim, in words, or None."""
    wrong = _wrong_network(claim, points)
    if wrong:
        return wrong
    start = int(claim.row["start"])
    drawn = initial_values(claim.shape, claim.mask, range(start, start + 1), protocol)[0]
    if not np.array_equal(drawn.astype(np.float32), claim.initial):
        return "its initial values are not those of its start"
    return None


def _wrong_network(claim: Claim, points: Points) -> str | None:
    """What is wrong with the stored network itself."""
    if claim.mask.sum() != claim.row["weights"]:
        return f"its mask keeps {claim.mask.sum()} weights"
    outside = claim.parameters[: claim.shape.n_weights][~claim.mask]
    if outside.any():
        return f"{np.count_nonzero(outside)} weights outside of its mask are not zero"
    found = accuracy(claim.shape, claim.parameters, points)
    if found < claim.least or abs(found - claim.stated) > 0.5 / len(points.y):
        return f"its accuracy is {found:.6f}, not {claim.stated:.6f}"
    return None


def verify_beam(beam: Stored, points: Points) -> tuple[list[str], int]:
    """Check the networks found from above: a line for each, and how many are not as stated."""
    lines, failures = [], 0
    for claim in beam_claims(beam):
        wrong = _wrong_network(claim, points)
        sizes = "-".join(map(str, claim.shape.sizes))
        said = wrong or f"accuracy {claim.stated:.6f} holds"
        lines.append(f"{claim.row['weights']} weights: {sizes}, from above: {said}")
        failures += wrong is not None
    return lines, failures


def verify(frontier: Stored, points: Points) -> tuple[list[str], int]:
    """Check all claims of a certificate: a line for each number of weights and for each accuracy,
    one more for each other network of which a claim does not hold, and how many do not."""
    protocol = settings(frontier)["protocol"]
    best, known = claims(frontier)
    lines, failures = [], 0
    for claim in best:
        wrong = problem(claim, points, protocol)
        lines.append(f"{claim.name}: {wrong or f'accuracy {claim.stated:.6f} holds'}")
        failures += wrong is not None
    table = frontier.table("accuracies")
    for least, weights, networks in zip(table.accuracy, table.weights, table.networks, strict=True):
        listed = [claim for claim in known if claim.least == least]
        broken = [
            f"{claim.name}: {wrong}"
            for claim in listed
            if (wrong := problem(claim, points, protocol)) is not None
        ]
        if [claim.row["weights"] for claim in listed] != [weights] * networks:
            broken.append(f"{networks} networks of {weights} weights should be listed")
        said = f"{networks} networks of {weights} weights" if listed else "no network is known"
        lines += [f"accuracy {least}: {said}", *broken]
        failures += len(broken)
    return lines, failures


def settings(frontier: Stored) -> dict[str, Any]:
    """How the search was done: the arguments of its shards that all of them share."""
    table = frontier.table("settings")
    return {name: json.loads(value) for name, value in zip(table.name, table.value, strict=True)}


def rerun(
    claim: Claim, settings: Mapping[str, Any], points: Points, **engine: Unpack[Engine]
) -> np.ndarray:
    """Train a network once more as it was found, from its start; parameters float32.

    A start that races alone runs to the end.
    """
    start = int(claim.row["start"])
    options = {field.name: settings[field.name] for field in fields(Race) if field.name in settings}
    how = Race(range(start, start + 1), **options)
    network = Networks(
        claim.shape,
        np.array([claim.row["network"]]),
        np.array([claim.shape.sizes[1:-1]]),
        claim.mask[None],
    )
    parameters = race(network, how, points, **engine).parameters[0]
    if claim.row["polished"]:
        mask = with_biases(claim.shape, torch.tensor(network.mask))[0]
        parameters = polished(claim.shape, parameters, mask, points)
    return parameters.numpy()


def choose(frontier: Stored, weights: int, network: int | None = None) -> Claim:
    """The best network of so many weights, or the one of a number. Raises InputError for none."""
    for claim in [claim for part in claims(frontier) for claim in part]:
        if claim.row["weights"] == weights and network in (None, claim.row["network"]):
            return claim
    which = "" if network is None else f" and number {network}"
    raise InputError(f"{frontier.path}: no network of {weights} weights{which} is stored")
