"""Draw one figure of the report from tables (CSV) and result files (HDF5)."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd

from sparselimit import cli, store
from sparselimit.figures import registry
from sparselimit.figures.style import save

# What figures draw of a result file, by its kind.
PARTS = {
    "points": ("x", "y"),
    "frontier": ("sizes", "mask", "parameters"),
    "geometry": ("cone", "met"),
}


def loaded(path: Path) -> dict[str, pd.DataFrame | np.ndarray]:
    """What a figure is given of a file: a table by its name, or parts of a result file."""
    if path.suffix == ".csv":
        return {path.stem: store.read_table(path)}
    stored = store.read(path, *PARTS)
    return {name: stored.content[name] for name in PARTS[str(stored.attributes["kind"])]}


def main(arguments: Namespace) -> None:
    inputs = {name: value for path in arguments.files for name, value in loaded(path).items()}
    save(registry.draw(arguments.name, **inputs), arguments.output)


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument("--name", choices=registry.MODULES, required=True)
    parser.add_argument("files", type=Path, nargs="+", help="tables and result files")
    cli.run(main, parser)
