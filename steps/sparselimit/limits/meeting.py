"""Where limit meets truth: limits predicted for dense networks whose sparsest relatives are known.

On the Cubist Spiral it is known how few weights an accuracy takes. The theory, which looks at one
dense network only, is given what it asks for, a rise in loss that is tolerated (the budget): the
loss of the sparsest network known to reach the accuracy, less that of the dense one. How many
weights it then says must stay can be held against how many do.

The theory assumes a minimum. Dense networks separate the two classes of the spiral, and their loss
alone falls to 0 at infinity: they are brought to the minimum of the loss with the weight decay that
they were trained with. Loss, gradient and curvature are those of the loss without it, all on the
same points, in double precision; spectra are exact, so that no quadrature stands in between.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sparselimit import spiral
from sparselimit.curvature.products import Objective, Operator
from sparselimit.curvature.quadrature import Bracket, Floats, NegativeRule, Spectrum
from sparselimit.ensemble.checkpoint import in_turn
from sparselimit.ensemble.members import Points
from sparselimit.errors import InputError
from sparselimit.limits.bounds import (
    Refusal,
    Unresolved,
    magnitude_offset,
    pruning_limit,
    radii,
    smallest_first,
)
from sparselimit.limits.subspace import reoptimised
from sparselimit.limits.width import FormulaName
from sparselimit.networks.forward import Member
from sparselimit.networks.mlp import MLP
from sparselimit.search.polish import minimum, quality
from sparselimit.search.verification import beam_claims, claims
from sparselimit.seeds import generator
from sparselimit.statistics import ACCURACIES
from sparselimit.store import Stored

# Beside the width formulas: the exact minimum of the quadratic model over the weights that
# magnitude pruning keeps.
Formula: TypeAlias = FormulaName | Literal["reoptimised"]
VARIANTS: list[tuple[Operator, NegativeRule, Formula]] = [
    ("hessian", "abs", "published"),
    ("hessian", "clip", "published"),
    ("hessian", "psd", "B"),
    ("ggn", "psd", "published"),
    ("ggn", "psd", "A"),
    ("ggn", "psd", "B"),
    ("ggn", "psd", "reoptimised"),
]

# Whose loss an accuracy is given: see `sparsest_known`.
Budget: TypeAlias = Literal["sparsest", "searched"]

_BATCH = 500  # points of a block of the exact Hessian (measured: larger ones leave the cache)


# --- Truth ---------------------------------------------------------------------------------------


def sample(points: Points, n: int | None) -> Points:
    """`n` of the points, drawn once and for all, in double precision; all if n is None."""
    if n is None or n >= len(points.x):
        chosen = torch.arange(len(points.x))
    else:
        drawn = generator("limit points", n).choice(len(points.x), n, replace=False)
        chosen = torch.tensor(np.sort(drawn))
    return Points(points.x[chosen].double(), points.y[chosen].double())


def sparsest_known(
    frontier: Stored, beam: Stored, points: Points, budget: Budget = "sparsest"
) -> pd.DataFrame:
    """For each accuracy the fewest weights known to reach it, and the loss that it is given.

    Of networks with more weights, known ones come closer to a loss of 0 whatever the accuracy asked
    for: `sparsest` takes the least loss of those with the fewest, which tell what it takes;
    `searched` takes the least of all that the exhaustive search found to reach it. Columns:
    accuracy, weights (-1: no network is known), source of the loss (search, beam, or empty), loss.
    """
    best, listed = claims(frontier)
    found = [(claim, "search") for claim in (*best, *listed)]
    found += [(claim, "beam") for claim in beam_claims(beam)]
    rows = []
    for level in ACCURACIES:
        reached = [(claim, source) for claim, source in found if claim.stated >= level]
        fewest = min((claim.row["weights"] for claim, _ in reached), default=-1)
        losses = [
            (quality(claim.shape, torch.tensor(claim.parameters)[None], points)[1].item(), source)
            for claim, source in reached
            if (source == "search" if budget == "searched" else claim.row["weights"] == fewest)
        ]
        rows.append((level, fewest, *min(losses, default=(np.nan, ""))))
    columns = ["accuracy", "weights", "loss", "source"]
    return pd.DataFrame(rows, columns=columns).astype({"loss": float})


# --- Dense networks ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dense:
    """A trained dense network: its run, and its parameters [n_parameters]."""

    run: Mapping[Hashable, Any]
    network: MLP
    parameters: Tensor


def dense_networks(file: Stored, seeds: int, most_parameters: int) -> list[Dense]:
    """Those of equal hidden widths in a `spiral-runs` file, up to a size.

    Of each width and of the first `seeds` seeds the run that ended at the least loss; diverged ones
    do not count. Raises InputError if none is left.
    """
    runs = file.table("runs").assign(place=range(len(file.table("runs"))))
    networks = list(spiral.stored_networks(file))
    sound = runs[(runs.diverged_at < 0) & (runs.seed < seeds) & (runs.d1 == runs.d2)]
    sound = sound[sound.d2 == sound.d3].sort_values("loss", kind="stable")
    best = sound.drop_duplicates(["network", "seed"]).sort_values(["d1", "seed"])
    found = [
        Dense(run, networks[run["place"]][0], torch.tensor(networks[run["place"]][2]).double())
        for run in best.to_dict("records")
    ]
    fit = [dense for dense in found if dense.network.n_parameters <= most_parameters]
    if not fit:
        raise InputError(
            f"{file.path}: no sound dense network 2-w-w-w-1 of at most {most_parameters} "
            "parameters; train a narrower one or raise the bound"
        )
    return fit


@dataclass(frozen=True, eq=False)
class Matrix:
    """A symmetric matrix [D, D], float64, with its exact spectrum."""

    values: Floats

    @cached_property
    def _eigh(self) -> tuple[Floats, Floats]:
        eigenvalues, vectors = np.linalg.eigh(self.values)
        return eigenvalues, vectors

    @property
    def eigenvalues(self) -> Floats:
        """[D], ascending."""
        return self._eigh[0]

    def spectrum(self) -> Spectrum:
        return Spectrum.of_eigenvalues(self.eigenvalues)

    def along(self, offset: Floats) -> Spectrum:
        """The measure of a direction [D]: its squared components on the eigenvectors."""
        squares = np.square(self._eigh[1].T @ offset)
        return Spectrum(self.eigenvalues, squares / squares.sum())


@dataclass(frozen=True, eq=False)
class Minimum:
    """A dense network at the minimum that it was brought to, and the curvature of its loss there.

    parameters: float64 [D], weights first.  loss, gradient: mean over the points, and its norm.
    decayed_gradient: norm of the gradient of the loss with weight decay, which is 0 at the minimum.
    """

    network: MLP
    parameters: Floats
    accuracy: float
    loss: float
    gradient: float
    decayed_gradient: float
    matrices: dict[Operator, Matrix]

    @classmethod
    def of(cls, dense: Dense, points: Points, weight_decay: float, iterations: int) -> Minimum:
        network, everything = dense.network, torch.ones(dense.network.n_parameters).bool()
        flat = minimum(
            *(network, dense.parameters, everything, points),
            weight_decay=weight_decay,
            iterations=iterations,
        )
        module = Member(network, flat)
        objective = Objective(
            module, binary_cross_entropy_with_logits, points.x, points.y, batch_size=_BATCH
        )
        gradient = objective.gradient()
        accuracy, loss = (part.item() for part in quality(network, flat[None], points))
        return cls(
            network,
            flat.numpy(),
            accuracy,
            loss,
            gradient.norm().item(),
            (gradient + weight_decay * flat).norm().item(),
            {
                "hessian": Matrix(objective.exact_hessian().numpy()),
                "ggn": Matrix(objective.exact_ggn().numpy()),
            },
        )

    @property
    def weights(self) -> Floats:
        """The prunable parameters."""
        return self.parameters[self.prunable]

    @property
    def prunable(self) -> np.ndarray:
        """Which of the parameters are weights, bool [D]."""
        return np.arange(len(self.parameters)) < self.network.n_weights

    @cached_property
    def reoptimised(self) -> Floats:
        """Loss increase of the Gauss-Newton model by weights removed, the others at their best."""
        order = smallest_first(self.parameters, self.prunable)
        return reoptimised(self.matrices["ggn"].values, self.parameters, order).losses


# --- Limits --------------------------------------------------------------------------------------


def predict(
    dense: Minimum, operator: Operator, negative: NegativeRule, formula: Formula, budget: float
) -> dict[str, object]:
    """How many weights have to stay, by one formula: `kept`, or -1 with what refused it.

    The width counts all parameters, biases included, since all take part in the quadratic model;
    only weights are removed and counted.
    """
    nothing = {"kept": -1, **dict.fromkeys(("radius", "tau", "sensitivity"), np.nan)}

    def refused(why: Refusal) -> dict[str, object]:
        return {**nothing, "refused": why}

    if np.isnan(budget):
        return refused("unknown")
    if budget <= 0:
        return refused("budget")
    prunable = len(dense.weights)
    if formula == "reoptimised":
        removed = int(np.searchsorted(dense.reoptimised, budget, side="right")) - 1
        radius = radii(dense.weights)[removed]
        return {**nothing, "kept": prunable - removed, "radius": radius, "refused": ""}
    matrix = dense.matrices[operator]
    try:
        whole = Bracket.exact(matrix.spectrum(), negative)
    except InputError:
        return refused("indefinite")

    def along(removed: int) -> Bracket:
        offset = magnitude_offset(dense.parameters, dense.prunable, removed)
        return Bracket.exact(matrix.along(offset), negative)

    found = pruning_limit(whole, dense.weights, len(dense.parameters), budget, formula, along)
    if isinstance(found, Unresolved):
        return refused("unresolved")
    return {
        "kept": prunable - found.removed,
        "radius": found.radius,
        "tau": found.tau,
        "sensitivity": found.sensitivity,
        "refused": "",
    }


def predictions(dense: Minimum, known: pd.DataFrame) -> Iterator[dict[str, object]]:
    """All predictions for one dense network: for each accuracy by each of the VARIANTS."""
    for accuracy, loss in zip(known.accuracy, known.loss, strict=True):
        budget = loss - dense.loss
        for operator, negative, formula in VARIANTS:
            yield {
                "accuracy": accuracy,
                "budget": budget,
                "operator": operator,
                "negative": negative,
                "formula": formula,
                **predict(dense, operator, negative, formula, budget),
            }


def content(
    given: Sequence[Dense],
    known: pd.DataFrame,
    points: Points,
    weight_decay: float,
    iterations: int,
    checkpoint: Path | None = None,
) -> dict[str, np.ndarray | pd.DataFrame]:
    """The content of a `spiral-limits` file. With a checkpoint path, finished networks are kept."""
    identity = [points.x, points.y, known.to_csv(), weight_decay, iterations]
    identity += [dense.parameters for dense in given]

    def result(i: int) -> dict[str, Any]:
        return _result(given[i], known, points, weight_decay, iterations)

    done = in_turn(result, len(given), checkpoint, identity)
    arrays = {
        name: torch.cat([result[name] for result in done]).numpy()
        for name in ("parameters", "hessian", "ggn")
    }
    limits = [{"place": i, **row} for i, result in enumerate(done) for row in result["limits"]]
    return {
        "known": known,
        "networks": pd.DataFrame([result["network"] for result in done]),
        "limits": pd.DataFrame(limits),
        **arrays,
    }


def _result(
    dense: Dense, known: pd.DataFrame, points: Points, weight_decay: float, iterations: int
) -> dict[str, Any]:
    """What is kept of one network, as plain values and tensors."""
    run, start = dense.run, quality(dense.network, dense.parameters[None], points)
    found = Minimum.of(dense, points, weight_decay, iterations)
    names = ("network", "seed", "learning_rate", "schedule", "d1", "d2", "d3")
    return {
        "network": {
            **{name: run[name] for name in names},
            "weights": found.network.n_weights,
            "parameters": found.network.n_parameters,
            "trained_accuracy": start[0].item(),
            "trained_loss": start[1].item(),
            "accuracy": found.accuracy,
            "loss": found.loss,
            "gradient": found.gradient,
            "decayed_gradient": found.decayed_gradient,
            "lowest_curvature": float(found.matrices["hessian"].eigenvalues[0]),
            "highest_curvature": float(found.matrices["hessian"].eigenvalues[-1]),
        },
        "limits": [_plain(row) for row in predictions(found, known)],
        "parameters": torch.tensor(found.parameters),
        "hessian": torch.tensor(found.matrices["hessian"].eigenvalues),
        "ggn": torch.tensor(found.matrices["ggn"].eigenvalues),
    }


def _plain(row: Mapping[str, object]) -> dict[str, object]:
    """Numbers as Python's own, which a checkpoint takes."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
