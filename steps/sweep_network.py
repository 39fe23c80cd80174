"""Prune a trained classifier once, by magnitude, at many ratios; measure loss and accuracy."""

from argparse import Namespace

import numpy as np

from sparselimit import cli
from sparselimit.limits.sweep import one_shot_sweep, reoptimised_sweep
from sparselimit.networks import classifier


def main(arguments: Namespace) -> None:
    module, data = classifier.read_trained(
        arguments.network, arguments.data, arguments.device, arguments.code
    )
    samples = {
        split: classifier.sample(data, split, arguments.device)
        for split in ("fit", "validation", "test")
    }
    sweep = one_shot_sweep(module, samples, arguments.ratios, cli.checkpoint(arguments))
    rise = np.full(len(sweep), np.nan)
    if sum(p.numel() for p in module.parameters()) <= arguments.exact:
        objective = classifier.sample(data, arguments.split, arguments.device)
        rise = reoptimised_sweep(module, objective).losses[sweep.removed]
    cli.write(arguments, "sweep", {"sweep": sweep.assign(reoptimised_rise=rise)})


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    classifier.add_arguments(parser)
    parser.add_argument("--ratios", type=cli.positive, default=200, help="equally spaced from 0")
    parser.add_argument(
        "--exact",
        type=cli.whole,
        default=2500,
        help="parameters up to which the kept weights are re-optimised too, in the quadratic model",
    )
    parser.add_argument(
        "--split", choices=("fit", "calibration"), default="fit", help="images of that model"
    )
    cli.run(main, parser)
