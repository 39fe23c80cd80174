"""Train a classifier, with or without an L1 penalty, or take up one that is trained."""

from argparse import Namespace
from pathlib import Path

import pandas as pd
import torch

from sparselimit import cli, training
from sparselimit.networks import classifier
from sparselimit.networks.network import Design, Network


def main(arguments: Namespace) -> None:
    data = classifier.read_dataset(arguments.data)
    # A network of one's own may draw initial values as it is built.
    torch.manual_seed(arguments.seed)
    network = Network(Design.of(arguments.architecture, arguments.widths, data))
    fit, validation = (
        classifier.sample(data, split, arguments.device) for split in ("fit", "validation")
    )
    if arguments.state_dict:
        classifier.load_state(network, arguments.state_dict)
        network.to(arguments.device)
        history = pd.DataFrame([training.observed(network, fit, validation, epoch=0)])
    else:
        recipe = training.recipe_of(arguments)
        training.initialise(network, recipe.seed)
        network.to(arguments.device)
        history = training.train(network, fit, validation, recipe, cli.checkpoint(arguments))
    cli.write(arguments, "network", classifier.content(network, history))


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data set (HDF5)")
    parser.add_argument(
        "--architecture",
        required=True,
        help="a name, or FILE.PY:FUNCTION of your own, which is run to build the network",
    )
    parser.add_argument(
        "--widths",
        type=cli.positive,
        nargs="*",
        default=[],
        help="hidden widths of fc, channels of conv and resnet20",
    )
    parser.add_argument(
        "--state-dict", type=Path, help="trained parameters, saved by torch; nothing is trained"
    )
    training.add_arguments(parser)
    cli.run(main, parser)
