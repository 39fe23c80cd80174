"""What each kind of result file holds: the contract between the step that writes and those that read."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

# Type letters as in numpy: f float, i integer, b boolean (stored as packed bits), U text.
_TYPES = {"f": "f", "i": "iu", "b": "b", "U": "OUT"}


@dataclass(frozen=True)
class Array:
    """An array: its type letter and its shape, in numbers or names of sizes that agree in a file."""

    type: str
    shape: tuple[int | str, ...]
    finite: bool = True

    def problem(self, value: object, sizes: dict[str, int]) -> str | None:
        """What is wrong with the value, in words, or None; named sizes are noted in `sizes`."""
        if not isinstance(value, np.ndarray):
            return "is not an array"
        if value.dtype.kind not in _TYPES[self.type]:
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
        if self.type == "f" and self.finite and not np.isfinite(value).all():
            return "contains NaN or infinity"
        return None


@dataclass(frozen=True)
class Table:
    """A data frame: its columns with their type letters; `?` after a letter allows NaN."""

    columns: dict[str, str]
    rows: str = "rows"

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


# Identity of a training run on the spiral, and what came of it.
RUN = {
    "learning_rate": "f",
    "schedule": "U",
    "seed": "i",
    "epochs": "i",
    "weights": "i",
    "effective_weights": "i",
    "paths": "f",
    "accuracy": "f",
    "loss": "f?",
    "diverged_at": "i",
}

KINDS: dict[str, Kind] = {
    # x is as the networks see it; images stay bytes. `split` indexes datasets.SPLITS.
    "points": Kind(
        1,
        {
            "x": Array("f", ("points", "features")),
            "y": Array("i", ("points",)),
            "split": Array("i", ("points",)),
        },
    ),
    "images": Kind(
        1,
        {
            "x": Array("i", ("points", "channels", "height", "width")),
            "y": Array("i", ("points",)),
            "split": Array("i", ("points",)),
        },
    ),
    # Networks of one shape trained on the spiral: dense, or pruned by one method.
    "spiral-runs": Kind(
        1,
        {
            "sizes": Array("i", ("layers",)),
            "runs": Table({"method": "U", "target": "i", **RUN}, rows="runs"),
            "mask": Array("b", ("runs", "weights")),
            "parameters": Array("f", ("runs", "parameters"), finite=False),
        },
    ),
    # One shard of the search over all networks with k weights: every start, and for each network
    # the parameters of its best one. `edges` are indices into the weights of the network's own
    # shape (its `widths`), in the order of `values`; `biases` are padded with zeros.
    "search-shard": Kind(
        1,
        {
            "networks": Table({"network": "i", "starts": "i"}, rows="networks"),
            "widths": Array("i", ("networks", "hidden_layers")),
            "edges": Array("i", ("networks", "weights")),
            "values": Array("f", ("networks", "weights")),
            "biases": Array("f", ("networks", "biases")),
            "runs": Table(
                {
                    "network": "i",
                    "start": "i",
                    "learning_rate": "f",
                    "accuracy": "f",
                    "loss": "f?",
                    "diverged_at": "i",
                },
                rows="runs",
            ),
        },
    ),
}
