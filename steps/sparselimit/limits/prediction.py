"""All predictions of one network's pruning limit in tables, beside the measured thresholds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from sparselimit.curvature.quadrature import Bracket, Floats, NegativeRule, Spectrum, Tridiagonal
from sparselimit.limits.bounds import (
    Direction,
    Limit,
    Unresolved,
    batch_spread,
    interpolated_direction,
    last_within,
    pruning_limit,
)
from sparselimit.limits.width import FormulaName
from sparselimit.statistics import keeps_accuracy
from sparselimit.store import Stored

# How a variant takes the direction from the trained to the pruned point: as it is, as an isotropic
# one, or not at all.
Aware: TypeAlias = Literal["offset", "isotropic", "none"]

# The published formula as its authors use it and on two readings of the negative eigenvalues; the
# corrected formulas on the positive matrix; and what the trace alone would say of it.
VARIANTS: dict[str, list[tuple[NegativeRule, FormulaName | Literal["trace"], Aware]]] = {
    "hessian": [("abs", "published", "none"), ("clip", "published", "none")],
    "ggn": [
        ("psd", "trace", "none"),
        ("psd", "published", "none"),
        ("psd", "A", "offset"),
        ("psd", "B", "offset"),
        ("psd", "B", "isotropic"),
    ],
}


@dataclass(frozen=True)
class Reading:
    """A stored spectrum as one variant takes it.

    formula: `trace` is the published formula with all eigenvalues at their mean. By Jensen's
        inequality it is a lower bound of the share that the published formula finds removable, from
        one number that many have reported of a network.
    spread: standard deviation of the loss between batches, the published tolerance.
    """

    operator: str
    negative: NegativeRule
    formula: FormulaName | Literal["trace"]
    direction: Aware
    spectrum: Bracket
    along: Direction | None
    spread: float

    @property
    def names(self) -> dict[str, object]:
        """The columns that tell it from others."""
        names = ("operator", "negative", "formula", "direction")
        return {name: getattr(self, name) for name in names}

    def limit(self, network: Stored, epsilon: float, scale: float = 1.0) -> Limit | Unresolved:
        """The limit of a network, its weights multiplied by `scale` at the same curvature."""
        parameters, prunable = network.array("parameters"), network.array("prunable")
        weights = scale * parameters[prunable].astype(np.float64)
        return self.limit_of(weights, len(parameters), epsilon)

    def limit_of(self, weights: Floats, dimension: int, epsilon: float) -> Limit | Unresolved:
        """The limit for prunable weights [n], float64, among all parameters."""
        formula = "published" if self.formula == "trace" else self.formula
        return pruning_limit(self.spectrum, weights, dimension, epsilon, formula, self.along)


def readings(spectra: Sequence[Stored]) -> list[Reading]:
    """Every variant of every spectrum; those aware of the direction only where it was measured."""
    found = []
    for file in spectra:
        operator, runs = str(file.config["operator"]), lanczos_runs(file)
        spread = batch_spread(file.array("batch_losses"))
        rules, _, directions = zip(*VARIANTS[operator], strict=True)
        brackets = {rule: _bracket(runs, rule) for rule in set(rules)}
        offset = _direction(file) if "offset" in directions else None
        variants = dict.fromkeys(
            (negative, formula, "isotropic" if aware == "offset" and not offset else aware)
            for negative, formula, aware in VARIANTS[operator]
        )
        for negative, formula, aware in variants:
            bracket = brackets[negative]
            if formula == "trace":
                mean = float(file.array("trace")) / len(file.array("diagonal"))
                bracket = Bracket.exact(Spectrum.of_eigenvalues([mean]), negative)
            along = offset if aware == "offset" else None
            found.append(Reading(operator, negative, formula, aware, bracket, along, spread))
    return found


def lanczos_runs(spectrum: Stored, prefix: str = "") -> list[Tridiagonal]:
    """The Lanczos runs that a `spectrum` file holds: of its probes, or with prefix `offset_`."""
    parts = (spectrum.array(prefix + name) for name in ("alpha", "beta", "steps"))
    return [Tridiagonal(alpha[:n], beta[:n]) for alpha, beta, n in zip(*parts, strict=True)]


def _direction(spectrum: Stored) -> Direction | None:
    """The spectrum along the way to a pruned point, if the file has what tells it."""
    removed = spectrum.array("offset_removed").tolist()
    brackets = [Bracket.psd([run]) for run in lanczos_runs(spectrum, "offset_")]
    return interpolated_direction(removed, brackets) if removed else None


def _bracket(runs: Sequence[Tridiagonal], negative: NegativeRule) -> Bracket:
    return Bracket.psd(runs) if negative == "psd" else Bracket.signed(runs, negative)


class Measured:
    """What one-shot pruning reaches, as shares of the prunable weights, from a `sweep` file."""

    def __init__(self, sweep: Stored, prunable: int) -> None:
        self._table, self._prunable = sweep.table("sweep"), prunable

    def _last_within(self, within: np.ndarray) -> float:
        return last_within(self._table.removed.to_numpy(), within) / self._prunable

    def within(self, epsilon: float) -> dict[str, float]:
        """The largest ratio up to which the loss rises by no more.

        With the kept weights as they were trained; and by the quadratic model, once they are
        re-optimised (missing where the network is too large for that).
        """
        loss, reoptimised = (
            self._table[column].to_numpy() for column in ("fit_loss", "reoptimised_rise")
        )
        known = not np.isnan(reoptimised).any()
        return {
            "one_shot_ratio": self._last_within(loss - loss[0] <= epsilon),
            "reoptimised_ratio": self._last_within(reoptimised <= epsilon) if known else np.nan,
        }

    def by_accuracy(self, tolerance: float) -> float:
        """The largest ratio up to which validation accuracy falls by no more."""
        accuracy = self._table.validation_accuracy.to_numpy()
        return self._last_within(keeps_accuracy(accuracy, accuracy[0], tolerance))


def predictions(
    network: Stored,
    spectra: Sequence[Reading],
    sweep: Stored,
    tolerances: Sequence[float],
    accuracy_tolerance: float = 0.01,
) -> pd.DataFrame:
    """One row per reading of a spectrum and tolerance; the first table of a `bounds` file.

    The tolerance on the loss is the published rule (`batch_std`, the spread of the loss between
    batches) and each of the fixed `tolerances`. Beside the thresholds that one-shot pruning reaches
    within it stands another, by validation accuracy, which may fall by `accuracy_tolerance`.
    """
    prunable = int(network.array("prunable").sum())
    measured = Measured(sweep, prunable)
    rows = [
        {
            **reading.names,
            "rule": rule,
            "epsilon": epsilon,
            "prunable": prunable,
            "resolution": reading.spectrum.resolution,
            **columns(reading.limit(network, epsilon)),
            **measured.within(epsilon),
            "one_shot_ratio_by_accuracy": measured.by_accuracy(accuracy_tolerance),
        }
        for reading in spectra
        for rule, epsilon in _rules(reading, tolerances)
    ]
    return pd.DataFrame(rows)


def sensitivities(
    network: Stored,
    spectra: Sequence[Reading],
    sweep: Stored,
    tolerances: Sequence[float],
    epsilons: Sequence[float],
    scales: Sequence[float],
) -> pd.DataFrame:
    """How predictions move with what they rest on; the second table of a `bounds` file.

    `varied` epsilon: the limit at each of the tolerances `epsilons`. `varied` scale: the limit at
    each rule of `predictions` if all weights were larger by a factor and the curvature the same.
    (Were the function the same instead, the curvature would fall with the square of the factor and
    the limit would not move.) What one-shot pruning reaches stands beside the former.
    """
    measured = Measured(sweep, int(network.array("prunable").sum()))
    unknown = dict.fromkeys(measured.within(1.0), np.nan)
    rows = []
    for reading in spectra:
        points = [("epsilon", "fixed", epsilon, 1.0) for epsilon in epsilons]
        points += [
            ("scale", rule, epsilon, float(scale))
            for rule, epsilon in _rules(reading, tolerances)
            for scale in scales
        ]
        for varied, rule, epsilon, scale in points:
            found = columns(reading.limit(network, epsilon, scale))
            rows.append(
                {
                    **reading.names,
                    "varied": varied,
                    "rule": rule,
                    "epsilon": epsilon,
                    "scale": scale,
                    **{name: found[name] for name in ("pruning_ratio", "sensitivity", "reason")},
                    **(measured.within(epsilon) if varied == "epsilon" else unknown),
                }
            )
    return pd.DataFrame(rows)


def _rules(reading: Reading, tolerances: Sequence[float]) -> Iterator[tuple[str, float]]:
    yield "batch_std", reading.spread
    yield from (("fixed", value) for value in tolerances)


def columns(found: Limit | Unresolved) -> dict[str, object]:
    """What a prediction is, in the columns of a table."""
    numbers = ("pruning_ratio", "density", "radius", "tau", "sensitivity")
    if isinstance(found, Unresolved):
        ends, known, reason = (-1, -1), dict.fromkeys(numbers, np.nan), found.reason
    else:
        ends, reason = (found.lower, found.upper), ""
        known = {name: getattr(found, name) for name in numbers}
    return {"removed_lower": ends[0], "removed_upper": ends[1], **known, "reason": reason}
