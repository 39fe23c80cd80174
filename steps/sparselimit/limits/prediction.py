"""All predictions of one network's pruning limit in one table, beside the measured thresholds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sparselimit.curvature.quadrature import Bracket, NegativeRule, Tridiagonal
from sparselimit.limits.bounds import (
    Direction,
    Limit,
    Unresolved,
    interpolated_direction,
    last_within,
    pruning_limit,
    tolerance,
)
from sparselimit.limits.width import FormulaName
from sparselimit.store import Stored

# The published formula as its authors use it and on two readings of the negative eigenvalues; the
# corrected formula, aware of the direction to the pruned point, on the positive matrix.
VARIANTS: dict[str, list[tuple[NegativeRule, FormulaName]]] = {
    "hessian": [("abs", "published"), ("clip", "published")],
    "ggn": [("psd", "published"), ("psd", "B")],
}


def lanczos_runs(spectrum: Stored, prefix: str = "") -> list[Tridiagonal]:
    """The Lanczos runs that a `spectrum` file holds: of its probes, or with prefix `offset_`."""
    columns = (spectrum.array(prefix + name) for name in ("alpha", "beta", "steps"))
    return [Tridiagonal(alpha[:n], beta[:n]) for alpha, beta, n in zip(*columns, strict=True)]


def _direction(spectrum: Stored) -> Direction | None:
    """The spectrum along the way to a pruned point, if the file has what tells it."""
    removed = spectrum.array("offset_removed").tolist()
    brackets = [Bracket.psd([run]) for run in lanczos_runs(spectrum, "offset_")]
    return interpolated_direction(removed, brackets) if removed else None


def _bracket(runs: Sequence[Tridiagonal], negative: NegativeRule) -> Bracket:
    return Bracket.psd(runs) if negative == "psd" else Bracket.signed(runs, negative)


def predictions(
    network: Stored,
    spectra: Sequence[Stored],
    sweep: Stored,
    tolerances: Sequence[float],
    accuracy_tolerance: float = 0.01,
) -> pd.DataFrame:
    """One row per operator, formula and tolerance; the content of a `bounds` file.

    The tolerance on the loss is the published rule (`batch_std`, the spread of the loss between
    batches) and each of the fixed `tolerances`. Beside the threshold that one-shot pruning reaches
    within it stands another, by validation accuracy, which may fall by `accuracy_tolerance`.
    """
    parameters, prunable = network.array("parameters"), network.array("prunable")
    measured = sweep.table("sweep")
    damage = (measured.fit_loss - measured.fit_loss.iloc[0]).to_numpy()
    accuracy = measured.validation_accuracy
    by_accuracy = last_within(
        measured.removed.to_numpy(), (accuracy.iloc[0] - accuracy).to_numpy(), accuracy_tolerance
    )
    rows = []
    for spectrum in spectra:
        operator, runs = str(spectrum.config["operator"]), lanczos_runs(spectrum)
        variants = [
            (
                negative,
                formula,
                _bracket(runs, negative),
                _direction(spectrum) if formula == "B" else None,
            )
            for negative, formula in VARIANTS[operator]
        ]
        spread = tolerance("batch_std", spectrum.array("batch_losses"))
        for rule, epsilon in [("batch_std", spread), *(("fixed", value) for value in tolerances)]:
            threshold = last_within(measured.removed.to_numpy(), damage, epsilon)
            for negative, formula, bracket, direction in variants:
                found = pruning_limit(
                    bracket,
                    parameters[prunable],
                    len(parameters),
                    epsilon,
                    formula,
                    direction,
                )
                rows.append(
                    {
                        "operator": operator,
                        "negative": negative,
                        "formula": formula,
                        "rule": rule,
                        "epsilon": epsilon,
                        "prunable": int(prunable.sum()),
                        **_columns(found),
                        "one_shot_removed": threshold,
                        "one_shot_ratio": threshold / int(prunable.sum()),
                        "one_shot_ratio_by_accuracy": by_accuracy / int(prunable.sum()),
                    }
                )
    return pd.DataFrame(rows)


def _columns(found: Limit | Unresolved) -> dict[str, object]:
    if isinstance(found, Limit):
        return {
            "removed_lower": found.lower,
            "removed_upper": found.upper,
            "pruning_ratio": found.pruning_ratio,
            "density": found.density,
            "radius": found.radius,
            "tau": found.tau,
            "sensitivity": found.sensitivity,
            "reason": "",
        }
    unknown = dict.fromkeys(("pruning_ratio", "density", "radius", "tau", "sensitivity"), np.nan)
    return {
        "removed_lower": -1,
        "removed_upper": -1,
        **unknown,
        "reason": found.reason,
    }
