"""The figures by name, and what each is drawn from.

A figure is a function in a module of this folder. Its keyword arguments name what it is drawn from:
tables (data frames with at least the columns of `COLUMNS`) and arrays.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from sparselimit.errors import InputError

if TYPE_CHECKING:  # the workflow reads the names below, and should not wait for libraries
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

# Where the function of each figure is.
MODULES = {
    "answer": "sparselimit.figures.answer",
    "spiral": "sparselimit.figures.networks",
    "frontier": "sparselimit.figures.search",
    "gap": "sparselimit.figures.search",
    "sparsest": "sparselimit.figures.networks",
    "search": "sparselimit.figures.search",
    "search_success": "sparselimit.figures.search",
    "certificate": "sparselimit.figures.search",
    "widths": "sparselimit.figures.methods",
    "overparameterisation": "sparselimit.figures.methods",
    "success": "sparselimit.figures.methods",
    "connectivity": "sparselimit.figures.methods",
    "repair": "sparselimit.figures.methods",
    "stuck": "sparselimit.figures.outcomes",
    "outcomes": "sparselimit.figures.outcomes",
    "spectra": "sparselimit.figures.limits",
    "limits": "sparselimit.figures.limits",
    "predictions": "sparselimit.figures.limits",
    "meeting": "sparselimit.figures.limits",
    "gaps": "sparselimit.figures.sensitivity",
    "sensitivity": "sparselimit.figures.sensitivity",
    "penalties": "sparselimit.figures.sensitivity",
    "weights": "sparselimit.figures.trained",
    "variation": "sparselimit.figures.trained",
    "cone": "sparselimit.figures.geometry",
    "geometry": "sparselimit.figures.geometry",
    "baselines": "sparselimit.figures.baselines",
    "rounds": "sparselimit.figures.baselines",
}

# Accuracies and shares are fractions; a row of `methods` whose method is `dense` is not pruned.
COLUMNS = {
    "answers": [
        *("accuracy", "searched_from", "searched_below", "known_weights", "method_weights"),
        *("predicted_weights", "predicted_low", "predicted_high"),
    ],
    "methods": [
        *("study", "method", "network", "target", "runs", "weights", "connected"),
        *("accuracy_median", "accuracy_p10", "accuracy_p90", "accuracy_high"),
    ],
    "equal_budget": [
        *("study", "method", "network", "target", "runs", "steps", "method_best", "method_median"),
        *("search_expected", "search_low", "search_high", "search_full"),
    ],
    "success": [
        *("study", "method", "network", "target", "runs"),
        *("accuracy", "rate", "rate_low", "rate_high"),
    ],
    "connectivity": [
        *("study", "method", "network", "target", "when", "layer"),
        *("weights", "effective_weights", "active", "constant", "dead"),
    ],
    "outcomes": [
        *("stage", "study", "source", "network", "target", "outcome", "runs", "share"),
    ],
    "frontier": ["weights", "networks", "runs", "dead", "accuracy", "d1", "d2", "d3"],
    "from_above": ["study", "given_start", "weights", "runs", "accuracy"],
    "exclusion": ["weights", "accuracy", "excluded_rate"],
    "power": ["weights", "accuracy", "rate", "probability"],
    "search_runs": ["weights", "q50", "q90", "q99", "best"],
    "search_success": [
        *("weights", "accuracy", "networks", "networks_succeeded", "successes"),
        *("rate", "rate_low", "rate_high"),
    ],
    "sweeps": ["network", "pruning_ratio", "fit_loss", "validation_accuracy", "test_accuracy"],
    "baselines": [
        *("network", "method", "round", "asked", "density", "one_shot_density", "test_accuracy"),
    ],
    "rounds": [
        *("network", "method", "round", "density", "one_shot_density"),
        *("operator", "negative", "formula", "direction", "predicted_density"),
    ],
    "bounds": [
        *("network", "operator", "negative", "formula", "direction", "rule", "epsilon"),
        *("prunable", "pruning_ratio", "one_shot_ratio", "reoptimised_ratio"),
    ],
    "sensitivity": [
        *("network", "operator", "negative", "formula", "direction", "varied", "rule", "epsilon"),
        *("scale", "pruning_ratio", "one_shot_ratio", "reoptimised_ratio"),
    ],
    "gaps": [
        *("network", "operator", "negative", "formula", "direction", "rule", "epsilon"),
        *("bracket", "above_reoptimised", "above_one_shot", "above_one_shot_by_accuracy"),
    ],
    "penalties": [
        *("network", "architecture", "l1", "weight_decay", "validation_accuracy", "rule"),
        *("published", "corrected", "reoptimised", "one_shot"),
    ],
    "rows": [
        *("network", "operator", "magnitude_low", "magnitude_high", "weights", "share"),
        *("row_norm_p10", "row_norm_median", "row_norm_p90"),
    ],
    "variation": ["of", "differ", "distance", "chance"],
    "cone": ["distance", "published", "corrected", "measured", "measured_error"],
    "spectra": ["network", "operator", "eigenvalue", "density"],
    "meeting": [
        *("accuracy", "network", "width", "weights_dense", "networks"),
        *("operator", "negative", "formula"),
        *("predicted", "predicted_weights", "predicted_low", "predicted_high"),
        *("known_weights", "searched_from", "searched_below", "best_method", "best_method_weights"),
    ],
    "geometry": [
        *("spectrum", "model", "published", "corrected"),
        *("measured", "measured_low", "measured_high"),
    ],
    "verdict": ["model", "formula", "rms_error", "largest_error", "allowed"],
}


def parts(name: str) -> list[str]:
    """The tables and arrays that a figure is drawn from. Raises InputError for one there is not."""
    return list(inspect.signature(_function(name)).parameters)


def draw(name: str, **given: pd.DataFrame | np.ndarray) -> Figure:
    """Draw a figure from its tables and arrays, given by their names.

    The module is imported only here: most figures need no torch. Raises InputError for a figure
    that does not exist, something that is not given, or a table that lacks a column.
    """
    needed = parts(name)
    if given.keys() != set(needed):
        has = ", ".join(given) or "nothing"
        raise InputError(f"figure {name} is drawn from {', '.join(needed)}; given is {has}")
    for part, value in given.items():
        lacking = [column for column in COLUMNS.get(part, []) if column not in value]
        if lacking:
            raise InputError(f"figure {name}: table {part} lacks {', '.join(lacking)}")
    return _function(name)(**given)


def _function(name: str) -> Callable[..., Figure]:
    if name not in MODULES:
        raise InputError(f"figure '{name}' is unknown: use one of {', '.join(MODULES)}")
    function: Callable[..., Figure] = getattr(importlib.import_module(MODULES[name]), name)
    return function
