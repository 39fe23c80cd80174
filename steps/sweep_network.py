"""Prune a trained classifier once, by magnitude, at many ratios; measure loss and accuracy."""

from argparse import Namespace

from sparselimit import cli
from sparselimit.limits.sweep import one_shot_sweep
from sparselimit.networks import classifier


def main(arguments: Namespace) -> None:
    module, data = classifier.read_trained(
        arguments.network, arguments.data, arguments.device, arguments.code
    )
    samples = {
        split: classifier.sample(data, split, arguments.device)
        for split in ("fit", "validation", "test")
    }
    table = one_shot_sweep(module, samples, arguments.ratios, cli.checkpoint(arguments))
    cli.write(arguments, "sweep", {"sweep": table})


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    classifier.add_arguments(parser)
    parser.add_argument("--ratios", type=cli.positive, default=200, help="equally spaced from 0")
    cli.run(main, parser)
