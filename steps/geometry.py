"""Check the width formulas against exact minima over random subspaces (Monte Carlo)."""

from argparse import Namespace

import pandas as pd

from sparselimit import cli
from sparselimit.limits.montecarlo import compare, views


def main(arguments: Namespace) -> None:
    compared = compare(
        arguments.dimension, arguments.trials, arguments.seed, cli.checkpoint(arguments)
    )
    rows = [
        {
            "spectrum": row.spectrum,
            "model": row.model,
            "epsilon": row.epsilon,
            "published": row.published,
            "corrected": row.corrected,
            "measured": row.measured.median,
            "measured_low": row.measured.low,
            "measured_high": row.measured.high,
        }
        for row in compared
    ]
    cone, met = views(arguments.dimension, arguments.trials, arguments.seed)
    cli.write(
        arguments,
        "geometry",
        {"geometry": pd.DataFrame(rows), "cone": cone, "met": met},
    )


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument("--dimension", type=cli.positive, default=200, help="of the space")
    parser.add_argument("--trials", type=cli.positive, default=200, help="random subspaces of each")
    parser.add_argument("--seed", type=cli.whole, default=0)
    cli.run(main, parser)
