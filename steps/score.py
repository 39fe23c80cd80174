"""Score a mask of your own: count, connectivity, accuracy on the spiral, distance to the best.

The mask comes as an npz file with the arrays mask_0 to mask_3, [out, in] from the 2 inputs to the 1
output; what is not zero is kept. It is trained by the study's protocol, from random initial
networks, or from weight_0 to weight_3 and bias_0 to bias_3 if the file holds them.
"""

import argparse
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from sparselimit import cli, scoring, spiral
from sparselimit.datasets import cubist_spiral
from sparselimit.ensemble.members import Points

BEST_KNOWN = Path(__file__).resolve().parents[1] / "docs" / "results" / "best_known.csv"


class Parser(cli.Parser):
    """What the other steps cannot do without, this one can: it prints, and makes its own data."""

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        if names[0] == "--output":
            options |= {"required": False, "help": argparse.SUPPRESS}
        if names[0] == "--data":
            options |= {"required": False, "help": "the spiral's points (HDF5); else made anew"}
        return super().add_argument(*names, **options)


def read_points(path: Path | None) -> Points:
    """The spiral from its file, or made anew."""
    if path is not None:
        return spiral.read_points(path)
    data = cubist_spiral()
    return Points(torch.tensor(data.x), torch.tensor(data.y, dtype=torch.float32))


def main(arguments: Namespace) -> None:
    candidate = scoring.read_candidate(arguments.mask)
    score = scoring.score(
        candidate,
        spiral.Grid.of(arguments, [candidate.weights]),
        read_points(arguments.data),
        scoring.read_best_known(arguments.best_known),
        device=arguments.device,
        backend=arguments.backend,
    )
    print("\n".join(scoring.report(score)))


if __name__ == "__main__":
    parser = Parser(__doc__)
    parser.add_argument("--mask", type=Path, required=True, help="the mask (npz)")
    parser.add_argument(
        "--best-known", type=Path, default=BEST_KNOWN, help="to compare with: weights,accuracy"
    )
    spiral.add_arguments(parser)
    parser.set_defaults(learning_rates=[0.05, 0.1], seeds=16)
    cli.run(main, parser)
