"""Measure what a unit of each kind of work takes on this machine, to tell what a study will cost.

Those not measured, or for another device, stay as in the table that comes with the project.
Takes some minutes on one core. A study uses them with `rates: PATH` in its configuration.
"""

from argparse import Namespace

import pandas as pd

from sparselimit import cli, store
from sparselimit.cost import MEASURED
from sparselimit.measuring import KINDS, measured


def main(arguments: Namespace) -> None:
    new, known = measured(arguments.device, arguments.kinds), pd.read_csv(MEASURED)
    keys = ["rate", "size", "device"]
    both = pd.concat([new, known]).drop_duplicates(keys).sort_values(keys, ignore_index=True)
    store.write_text(arguments.output, both.to_csv(index=False))


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=list(KINDS), help="to measure")
    cli.run(main, parser)
