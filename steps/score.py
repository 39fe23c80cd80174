"""Score a mask of your own on the Cubist Spiral: connectivity, accuracy, distance to the best.

The mask comes as an npz file with the arrays mask_0 to mask_3, [out, in] from the 2 inputs to the 1
output; what is not zero is kept. It is trained by the study's protocol, from random initial
networks, or from weight_0 to weight_3 and bias_0 to bias_3 if the file holds them. What is found is
printed; the runs are stored if an output is given.
"""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli, scoring, spiral

BEST_KNOWN = Path(__file__).resolve().parents[1] / "docs" / "results" / "best_known.csv"


def main(arguments: Namespace) -> None:
    candidate = scoring.read_candidate(arguments.mask)
    score = scoring.score(
        candidate,
        spiral.Grid.of(arguments, [candidate.weights]),
        spiral.read_points(arguments.data),
        scoring.read_best_known(arguments.best_known),
        **spiral.engine(arguments),
    )
    print("\n".join(scoring.report(score)))
    if arguments.output:
        cli.write(arguments, "spiral-runs", spiral.content([score.runs]))


if __name__ == "__main__":
    parser = cli.Parser(__doc__, prints=True)
    parser.add_argument("--mask", type=Path, required=True, help="the mask (npz)")
    parser.add_argument(
        "--best-known", type=Path, default=BEST_KNOWN, help="to compare with: weights,accuracy"
    )
    spiral.add_arguments(parser)
    parser.set_defaults(learning_rates=[0.05, 0.1], seeds=16)
    cli.run(main, parser)
