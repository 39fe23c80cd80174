"""What each kind of result file holds: the contract between its writers and readers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

# Type letters as in numpy: f float, i integer, b boolean (stored as packed bits), U text.
_TYPES = {"f": "f", "i": "iu", "b": "b", "U": "OUT"}
_NUMPY = {"f": "float64", "i": "int64", "b": "bool", "U": "object"}


@dataclass(frozen=True)
class Array:
    """An array: its type letter, or one of several; its shape, in numbers or names of sizes.

    Sizes of one name agree within a file.
    """

    type: str
    shape: tuple[int | str, ...]
    finite: bool = True

    def problem(self, value: object, sizes: dict[str, int]) -> str | None:
        """What is wrong with the value, in words, or None; named sizes are noted in `sizes`."""
        if not isinstance(value, np.ndarray):
            return "is not an array"
        if value.dtype.kind not in [kind for letter in self.type for kind in _TYPES[letter]]:
            return f"has type {value.dtype}, expected {self.type}"
        expected = tuple(sizes.get(s, s) if isinstance(s, str) else s for s in self.shape)
        fits = value.ndim == len(expected) and all(
            isinstance(want, str) or want == have
            for want, have in zip(expected, value.shape, strict=True)
        )
        if not fits:
            return f"has shape {value.shape}, expected {expected}"
        sizes.update(
            {s: n for s, n in zip(self.shape, value.shape, strict=True) if isinstance(s, str)}
        )
        if "f" in self.type and self.finite and not np.isfinite(value).all():
            return "contains NaN or infinity"
        return None


@dataclass(frozen=True)
class Table:
    """A data frame: its columns with their type letters; `?` after a letter allows NaN."""

    columns: dict[str, str]
    rows: str = "rows"

    def frame(self, rows: Sequence[dict[str, object]]) -> pd.DataFrame:
        """Rows as such a table, which has its types even if there are none."""
        types = {name: _NUMPY[letter[0]] for name, letter in self.columns.items()}
        return pd.DataFrame(rows, columns=list(types)).astype(types)

    def problem(self, value: object, sizes: dict[str, int]) -> str | None:
        if not isinstance(value, pd.DataFrame):
            return "is not a table"
        if set(value.columns) != set(self.columns):
            different = sorted(set(value.columns) ^ set(self.columns))
            return f"has or lacks the columns {', '.join(different)}"
        for name, letter in self.columns.items():
            column = Array(letter[0], (self.rows,), finite=not letter.endswith("?"))
            problem = column.problem(value[name].to_numpy(), sizes)
            if problem:
                return f"column {name} {problem}"
        return None


@dataclass(frozen=True)
class Kind:
    """Layout of a file; the version goes up when the layout or the meaning of a part changes."""

    version: int
    parts: dict[str, Array | Table] = field(default_factory=dict)

    def table(self, part: str) -> Table:
        """The declaration of a part that is a table."""
        declared = self.parts[part]
        assert isinstance(declared, Table)
        return declared


# Identity of a training run on the spiral, and what came of it.
RUN = {
    "learning_rate": "f",
    "schedule": "U",
    "seed": "i",
    "steps": "i",
    "weights": "i",
    "effective_weights": "i",
    "paths": "f",
    "accuracy": "f",
    "loss": "f?",
    "diverged_at": "i",
}

WIDTHS = {"d1": "i", "d2": "i", "d3": "i"}

# How a limit is predicted from a spectrum (`limits.prediction`), and for which tolerance.
READING = {
    "operator": "U",
    "negative": "U",
    "formula": "U",
    "direction": "U",
    "rule": "U",
    "epsilon": "f",
}

# What came of it; see `limits.bounds`.
LIMIT = {
    "prunable": "i",
    "resolution": "f",
    "removed_lower": "i",
    "removed_upper": "i",
    "pruning_ratio": "f?",
    "density": "f?",
    "radius": "f?",
    "tau": "f?",
    "sensitivity": "f?",
    "reason": "U",
}

KINDS: dict[str, Kind] = {
    # `split` indexes datasets.SPLITS. Networks see x as it is, but images as (x - mean) / std, with
    # one number for each channel or one for all; images that come as bytes stay bytes.
    "points": Kind(
        1,
        {
            "x": Array("f", ("points", "features")),
            "y": Array("i", ("points",)),
            "split": Array("i", ("points",)),
        },
    ),
    "images": Kind(
        2,
        {
            "x": Array("fi", ("points", "channels", "height", "width")),
            "y": Array("i", ("points",)),
            "split": Array("i", ("points",)),
            "mean": Array("f", ("moments",)),
            "std": Array("f", ("moments",)),
        },
    ),
    # Networks 2-d1-d2-d3-1 trained on the spiral, dense or pruned by one method; masks (over
    # weights) and parameters lie one after another, in the order of the runs. `layers` says how
    # each mask is connected, before training (`when` is start) and after it (end).
    "spiral-runs": Kind(
        2,
        {
            "runs": Table(
                {"method": "U", "network": "U", "target": "i", **WIDTHS, **RUN}, rows="runs"
            ),
            "layers": Table(
                {
                    "run": "i",
                    "when": "U",
                    "layer": "i",
                    "weights": "i",
                    "effective_weights": "i",
                    "active": "i",
                    "constant": "i",
                    "dead": "i",
                    "unused": "i",
                },
                rows="layers",
            ),
            "mask": Array("b", ("all weights",)),
            "parameters": Array("f", ("all parameters",), finite=False),
        },
    ),
    # One shard of the search over all networks with k weights. `network` is the place in the
    # enumeration; `start`, `accuracy`, `loss` and the parameters are those of its best run (of
    # those that ended, if any did), perhaps polished. Of every run: -1 in `dropped` if it ran to
    # its end, else the rung at which it fell behind, 0 if it was dead from the start; `calibration`
    # runs go on in any case.
    "search-shard": Kind(
        2,
        {
            "sizes": Array("i", ("layers",)),
            "networks": Table(
                {
                    "network": "i",
                    "weights": "i",
                    **WIDTHS,
                    "start": "i",
                    "accuracy": "f",
                    "loss": "f?",
                    "polished": "b",
                },
                rows="networks",
            ),
            "mask": Array("b", ("networks", "weights")),
            "parameters": Array("f", ("networks", "parameters"), finite=False),
            "runs": Table(
                {
                    "network": "i",
                    "start": "i",
                    "steps": "i",
                    "dropped": "i",
                    "calibration": "b",
                    "accuracy": "f",
                    "loss": "f?",
                    "diverged_at": "i",
                },
                rows="runs",
            ),
        },
    ),
    # One shard of a search of blocks 2-d1-d2-d3-1, held in the first neurons of a common shape:
    # `network` is the place in the search's list; the parameters are those of each best run.
    "block-runs": Kind(
        1,
        {
            "sizes": Array("i", ("layers",)),
            "networks": Table({"network": "i", "weights": "i", **WIDTHS}, rows="networks"),
            "mask": Array("b", ("networks", "weights")),
            "parameters": Array("f", ("networks", "parameters"), finite=False),
            "runs": Table(
                {
                    "network": "i",
                    "learning_rate": "f",
                    "schedule": "U",
                    "seed": "i",
                    "steps": "i",
                    "accuracy": "f",
                    "loss": "f?",
                    "diverged_at": "i",
                },
                rows="runs",
            ),
        },
    ),
    # A trained classifier: what it is built from (networks.network.Design), and its parameters and
    # buffers (statistics of batch normalisation), each in its own order, flattened and joined.
    "network": Kind(
        2,
        {
            "architecture": Array("U", (1,)),
            "widths": Array("i", ("layers",)),
            "shape": Array("i", ("dimensions",)),
            "classes": Array("i", ()),
            "mean": Array("f", ("moments",)),
            "std": Array("f", ("moments",)),
            "parameters": Array("f", ("parameters",)),
            "prunable": Array("b", ("parameters",)),
            "buffers": Array("f", ("buffers",)),
            "history": Table(
                {"epoch": "i", "fit_loss": "f", "fit_accuracy": "f", "validation_accuracy": "f"},
                rows="epochs",
            ),
        },
    ),
    # What a pruning method made of it: networks one after another, each with its mask over the
    # prunable weights; the parameters that are left of each and its buffers, joined. `asked` is the
    # density that was asked for, if one was; `epochs` is the cost beyond the network before it;
    # `one_shot_weights` are left when of it, too, the smallest weights go at once.
    "pruned-networks": Kind(
        2,
        {
            "runs": Table(
                {
                    "round": "i",
                    "asked": "f?",
                    "weights": "i",
                    "density": "f",
                    "epochs": "f",
                    "one_shot_weights": "i",
                    "fit_loss": "f",
                    "fit_accuracy": "f",
                    "validation_loss": "f",
                    "validation_accuracy": "f",
                    "test_loss": "f",
                    "test_accuracy": "f",
                },
                rows="runs",
            ),
            "layers": Table({"run": "i", "layer": "i", "weights": "i", "kept": "i"}, rows="layers"),
            "mask": Array("b", ("runs", "prunable")),
            "parameters": Array("f", ("all parameters",)),
            "buffers": Array("f", ("all buffers",)),
        },
    ),
    # What one-shot magnitude pruning does to it; losses without penalty, accuracies as fractions.
    # `reoptimised_rise` is how far the loss of the Gauss-Newton model rises once the kept weights
    # are re-optimised.
    "sweep": Kind(
        2,
        {
            "sweep": Table(
                {
                    "removed": "i",
                    "pruning_ratio": "f",
                    "radius": "f",
                    "reoptimised_rise": "f?",
                    "fit_loss": "f",
                    "fit_accuracy": "f",
                    "validation_loss": "f",
                    "validation_accuracy": "f",
                    "test_loss": "f",
                    "test_accuracy": "f",
                },
            ),
        },
    ),
    # Lanczos runs on its curvature: Jacobi matrices, of which `steps` rows count. Those of random
    # probes give the spectrum; those from pruned points (`offset_`, after removing so many weights)
    # how the spectrum looks along the way to them. The matrix's diagonal, Euclidean row norms and
    # trace are estimates from random probes; the trace's standard error is 0 if they are exact.
    "spectrum": Kind(
        2,
        {
            "alpha": Array("f", ("probes", "steps")),
            "beta": Array("f", ("probes", "steps")),
            "steps": Array("i", ("probes",)),
            "offset_alpha": Array("f", ("offsets", "offset_steps")),
            "offset_beta": Array("f", ("offsets", "offset_steps")),
            "offset_steps": Array("i", ("offsets",)),
            "offset_removed": Array("i", ("offsets",)),
            "diagonal": Array("f", ("parameters",)),
            "row_norm": Array("f", ("parameters",)),
            "trace": Array("f", ()),
            "trace_error": Array("f", (), finite=False),
            "gradient_norm": Array("f", ()),
            "loss": Array("f", ()),
            "batch_losses": Array("f", ("batches",)),
        },
    ),
    # Limits predicted for networks pruned in rounds: counts and ratios are of the weights that each
    # has left (`prunable`), among its parameters.
    "round-limits": Kind(
        1,
        {
            "limits": Table(
                {
                    "method": "U",
                    "round": "i",
                    **READING,
                    "parameters": "i",
                    **LIMIT,
                }
            )
        },
    ),
    # Predicted limits beside measured thresholds; `removed` is -1 where nothing could be told. And
    # how they move with the tolerance, and with the scale of the weights at the same curvature.
    "bounds": Kind(
        2,
        {
            "bounds": Table(
                {
                    **READING,
                    **LIMIT,
                    "one_shot_ratio": "f",
                    "reoptimised_ratio": "f?",
                    "one_shot_ratio_by_accuracy": "f",
                }
            ),
            "sensitivity": Table(
                {
                    **READING,
                    "varied": "U",
                    "scale": "f",
                    "pruning_ratio": "f?",
                    "sensitivity": "f?",
                    "reason": "U",
                    "one_shot_ratio": "f?",
                    "reoptimised_ratio": "f?",
                },
                rows="sensitivities",
            ),
        },
    ),
    # Limits predicted for dense networks on the spiral, at the minimum that they were brought to.
    # `known`: for each accuracy the fewest weights known to reach it (-1: none are), and the least
    # loss with so many. `place` counts the networks; `kept` is -1 where a prediction is refused.
    # Parameters and eigenvalues (ascending) lie one network after another.
    "spiral-limits": Kind(
        1,
        {
            "known": Table(
                {"accuracy": "f", "weights": "i", "loss": "f?", "source": "U"}, rows="accuracies"
            ),
            "networks": Table(
                {
                    "network": "U",
                    "seed": "i",
                    "learning_rate": "f",
                    "schedule": "U",
                    **WIDTHS,
                    "weights": "i",
                    "parameters": "i",
                    "trained_accuracy": "f",
                    "trained_loss": "f",
                    "accuracy": "f",
                    "loss": "f",
                    "gradient": "f",
                    "decayed_gradient": "f",
                    "lowest_curvature": "f",
                    "highest_curvature": "f",
                },
                rows="networks",
            ),
            "limits": Table(
                {
                    "place": "i",
                    "accuracy": "f",
                    "budget": "f?",
                    "operator": "U",
                    "negative": "U",
                    "formula": "U",
                    "kept": "i",
                    "radius": "f?",
                    "tau": "f?",
                    "sensitivity": "f?",
                    "refused": "U",
                },
                rows="limits",
            ),
            "parameters": Array("f", ("all parameters",)),
            "hessian": Array("f", ("all parameters",)),
            "ggn": Array("f", ("all parameters",)),
        },
    ),
    # Monte Carlo check of the width formulas: shares of the dimensions removed. And the sublevel
    # set of one spectrum seen from several distances: how often random subspaces of each dimension
    # 0, 1, ... meet it (`met`), and the statistical dimension of its cone as a share of all.
    "geometry": Kind(
        2,
        {
            "geometry": Table(
                {
                    "spectrum": "U",
                    "model": "U",
                    "epsilon": "f",
                    "published": "f",
                    "corrected": "f",
                    "measured": "f",
                    "measured_low": "f",
                    "measured_high": "f",
                }
            ),
            "cone": Table(
                {
                    "distance": "f",
                    "published": "f",
                    "corrected": "f",
                    "measured": "f",
                    "measured_error": "f",
                },
                rows="distances",
            ),
            "met": Array("f", ("distances", "subspaces")),
        },
    ),
    # The search as a whole. For each number of weights its extent and its best network; for each
    # accuracy the fewest weights that reach it and every network known to do so with these; what is
    # excluded of the others. All networks lie in one shape; `initial` is dense at their own widths.
    "frontier": Kind(
        2,
        {
            "sizes": Array("i", ("layers",)),
            "by_weights": Table(
                {
                    "weights": "i",
                    "networks": "i",
                    "starts": "i",
                    "runs": "i",
                    "steps": "f",
                    "dead": "f?",
                    "provably_dead": "f",
                    "network": "i",
                    **WIDTHS,
                    "start": "i",
                    "accuracy": "f",
                    "loss": "f?",
                    "polished": "b",
                    "sgd_accuracy": "f?",
                },
                rows="counts",
            ),
            "mask": Array("b", ("counts", "weights")),
            "parameters": Array("f", ("counts", "parameters")),
            "initial": Array("f", ("counts", "parameters")),
            "accuracies": Table(
                {
                    "accuracy": "f",
                    "weights": "i",
                    "networks": "i",
                    "measured_at": "f",
                    "calibration_runs": "i",
                    "calibration_lost": "i",
                    "lost_low": "f",
                    "lost_high": "f",
                },
                rows="accuracies",
            ),
            "exclusion": Table(
                {
                    "weights": "i",
                    "accuracy": "f",
                    "networks": "i",
                    "succeeded": "i",
                    "starts": "i",
                    "equivalents": "f",
                    "excluded_rate": "f",
                },
                rows="exclusions",
            ),
            "power": Table(
                {"weights": "i", "accuracy": "f", "rate": "f", "probability": "f"}, rows="powers"
            ),
            "known": Table(
                {
                    "accuracy": "f",
                    "weights": "i",
                    "network": "i",
                    **WIDTHS,
                    "start": "i",
                    "reached": "f",
                    "loss": "f",
                    "polished": "b",
                    "successes": "i",
                    "starts": "i",
                    "rate_low": "f",
                    "rate_high": "f",
                },
                rows="known",
            ),
            "known_mask": Array("b", ("known", "weights")),
            "known_parameters": Array("f", ("known", "parameters")),
            "known_initial": Array("f", ("known", "parameters")),
            "settings": Table({"name": "U", "value": "U"}, rows="settings"),
        },
    ),
    # Beam search from above: the best network that was found of each number of weights, and what it
    # was trained from (`start` -1: the values it had as part of a network of more weights, or as a
    # given one). `ancestor` counts the given networks.
    "beam": Kind(
        1,
        {
            "sizes": Array("i", ("layers",)),
            "by_weights": Table(
                {
                    "weights": "i",
                    "networks": "i",
                    "runs": "i",
                    "steps": "f",
                    **WIDTHS,
                    "ancestor": "i",
                    "start": "i",
                    "accuracy": "f",
                    "loss": "f",
                    "polished": "b",
                    "sgd_accuracy": "f",
                },
                rows="counts",
            ),
            "mask": Array("b", ("counts", "weights")),
            "parameters": Array("f", ("counts", "parameters")),
            "initial": Array("f", ("counts", "parameters")),
            "ancestors": Table(
                {"file": "U", "row": "i", "weights": "i", "accuracy": "f"}, rows="ancestors"
            ),
        },
    ),
}
