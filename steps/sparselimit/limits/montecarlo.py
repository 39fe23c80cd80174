"""Monte Carlo check of the width formulas in the ensemble that they describe.

The quadratic model with Hessian diag(lam) and a random offset c, |c| = 1, is minimised exactly
over random subspaces of every dimension k: through the pruned point (model A), or orthogonal to
the offset (model B). The smallest k that meets the tolerance is compared with each formula. `views`
looks at one sublevel set from several distances.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from sparselimit.curvature.quadrature import Floats, Spectrum
from sparselimit.ensemble.checkpoint import in_turn
from sparselimit.limits.cone import statistical_dimensions
from sparselimit.limits.subspace import nested_residuals
from sparselimit.limits.width import increasing_root, removable_share, width

Model = Literal["A", "B"]

PUBLISHED_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.97)

_VIEWS, _NEAREST, _FARTHEST = 20, 0.8, 0.05  # of `views`, by the share of the published formula
_OFFSETS = 8  # one in so many trials gives a cone ...
_POINTS = 20  # ... that so many points are projected onto


def reference_spectra(dimension: int) -> dict[str, Floats]:
    """Eigenvalues [dimension] of seven shapes, from flat to those of a trained network."""
    index = np.arange(1, dimension + 1)
    tenth, half = dimension // 10, dimension // 2
    return {
        "flat": np.ones(dimension),
        "power1": 1 / index,
        "power2": 1 / index**2,
        "spiked10": np.where(index <= tenth, 1.0, 1e-3),
        "half_zero": np.where(index <= half, 1.0, 0.0),
        "loguniform": np.logspace(0, -6, dimension),
        "netlike": np.concatenate(
            [np.logspace(1, -3, tenth), np.logspace(-6, -9, dimension - tenth)]
        ),
    }


@dataclass(frozen=True)
class Transition:
    """Share of parameters that can be removed in half of the trials, and in 90% and 10%."""

    median: float
    low: float
    high: float


def transitions(
    eigenvalues: Floats,
    epsilons: Sequence[float],
    model: Model,
    trials: int,
    seed: int,
    checkpoint: Path | None = None,
) -> list[Transition]:
    """The measured transition at each tolerance, all from the same trials.

    Trial t draws from `numpy.random.default_rng([seed, t])`: the offset, then the subspaces. With a
    `checkpoint` path they are saved there now and then, as by `in_turn`.
    """
    dimension = len(eigenvalues)

    def kept(trial: int) -> list[int]:
        residuals = _residuals(eigenvalues, model, np.random.default_rng([seed, trial]))
        # A flat spectrum starts on the tolerance itself: rounding must not decide.
        reached = residuals[:, None] <= 2 * np.asarray(epsilons) * (1 + 1e-12)
        least = np.where(reached.any(axis=0), reached.argmax(axis=0), dimension)
        return [int(k) for k in least]

    identity = [eigenvalues.tobytes(), list(map(float, epsilons)), model, seed]
    removed = 1 - np.array(in_turn(kept, trials, checkpoint, identity)) / dimension
    low, median, high = np.quantile(removed, [0.1, 0.5, 0.9], axis=0)
    return [
        Transition(float(m), float(lo), float(hi))
        for m, lo, hi in zip(median, low, high, strict=True)
    ]


def _residuals(eigenvalues: Floats, model: Model, rng: np.random.Generator) -> Floats:
    """min (v - c)^T H (v - c) over nested random subspaces of dimension 0, 1, ..."""
    dimension = len(eigenvalues)
    offset = rng.standard_normal(dimension)
    offset /= np.linalg.norm(offset)
    basis = rng.standard_normal((dimension, dimension - (model == "B")))
    if model == "B":
        basis -= np.outer(offset, offset @ basis)
    root = np.sqrt(eigenvalues)
    return nested_residuals(root[:, None] * basis, root * offset)


def _tau_at(spectrum: Spectrum, share: float) -> float:
    """The tau at which mu(tau) = share; mu >= 1 - (mean lam) / tau bounds it."""
    highest = spectrum.moment(1) / (1 - share)
    return increasing_root(lambda tau: width(spectrum, tau), share, highest)


@dataclass(frozen=True)
class Comparison:
    """One row of the check: the share removed by the published formula, by the formula of the
    model itself, and as measured."""

    spectrum: str
    model: Model
    epsilon: float
    published: float
    corrected: float
    measured: Transition


def compare(
    dimension: int, trials: int, seed: int, checkpoint: Path | None = None
) -> list[Comparison]:
    """Measure both models against the formulas where the published one gives `PUBLISHED_SHARES`.

    Dimension 200 with 200 trials takes some 5 s on one thread; more BLAS threads do not help. A
    `checkpoint` path is where the names of several begin, one for each spectrum and model.
    """
    rows: list[Comparison] = []
    for name, eigenvalues in reference_spectra(dimension).items():
        spectrum = Spectrum.of_eigenvalues(eigenvalues)
        epsilons = [
            _tau_at(spectrum, share) / 2 for share in PUBLISHED_SHARES if share > width(spectrum, 0)
        ]
        for model in ("A", "B"):
            path = checkpoint and checkpoint.with_name(f"{checkpoint.name}-{name}-{model}")
            measured = transitions(eigenvalues, epsilons, model, trials, seed, path)
            rows += [
                Comparison(
                    name,
                    model,
                    epsilon,
                    removable_share(spectrum, 1, epsilon),
                    removable_share(spectrum, 1, epsilon, model),
                    transition,
                )
                for epsilon, transition in zip(epsilons, measured, strict=True)
            ]
    return rows


def views(dimension: int, trials: int, seed: int) -> tuple[pd.DataFrame, Floats]:
    """One sublevel set, of semi-axes 1, sqrt(2), ..., sqrt(D), seen from growing distances.

    The pruned point lies in a random direction from the trained weights. Returns a table with a row
    per distance, the statistical dimension of the cone as a share of D: by both formulas and
    measured, with its standard error; and the share of random subspaces of dimension 0..D that
    meet the set: [distances, D + 1].
    """
    eigenvalues = reference_spectra(dimension)["power1"]
    spectrum, epsilon = Spectrum.of_eigenvalues(eigenvalues), 0.5
    nearest, farthest = (_tau_at(spectrum, share) ** -0.5 for share in (_NEAREST, _FARTHEST))
    distances = np.geomspace(nearest, farthest, _VIEWS)

    met = np.zeros((_VIEWS, dimension + 1))
    for trial in range(trials):
        residuals = _residuals(eigenvalues, "A", np.random.default_rng([seed, trial]))
        met += residuals * distances[:, None] ** 2 <= 2 * epsilon

    dimensions = np.empty((_VIEWS, max(2, trials // _OFFSETS)))
    for i in range(dimensions.shape[1]):
        rng = np.random.default_rng([seed, trials + i])
        offset, points = rng.standard_normal(dimension), rng.standard_normal((_POINTS, dimension))
        offset /= np.linalg.norm(offset)
        for j, distance in enumerate(distances):
            seen = statistical_dimensions(eigenvalues, distance * offset, epsilon, points)
            dimensions[j, i] = seen.mean() / dimension
    table = pd.DataFrame(
        {
            "distance": distances,
            "published": [removable_share(spectrum, r, epsilon) for r in distances],
            "corrected": [removable_share(spectrum, r, epsilon, "A") for r in distances],
            "measured": dimensions.mean(axis=1),
            "measured_error": dimensions.std(axis=1, ddof=1) / np.sqrt(dimensions.shape[1]),
        }
    )
    return table, met / trials
