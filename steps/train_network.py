"""Train a classifier, with or without an L1 penalty, or take up one that is trained."""

from argparse import Namespace
from dataclasses import fields
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
        recipe = training.Recipe(
            **{field.name: getattr(arguments, field.name) for field in fields(training.Recipe)}
        )
        training.initialise(network, recipe.seed)
        network.to(arguments.device)
        history = training.train(network, fit, validation, recipe, cli.checkpoint(arguments))
    cli.write(arguments, "network", classifier.content(network, history))


if __name__ == "__main__":
    default = training.Recipe(epochs=60)
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
    parser.add_argument("--epochs", type=cli.positive, default=default.epochs)
    parser.add_argument("--batch-size", type=cli.positive, default=default.batch_size)
    parser.add_argument("--learning-rate", type=float, default=default.learning_rate)
    parser.add_argument("--momentum", type=float, default=default.momentum)
    parser.add_argument("--weight-decay", type=float, default=default.weight_decay)
    parser.add_argument(
        "--l1", type=float, default=default.l1, help="penalty on absolute values of parameters"
    )
    parser.add_argument(
        "--schedule", choices=("constant", "cosine", "step"), default=default.schedule
    )
    parser.add_argument(
        "--milestones", type=cli.positive, nargs="*", default=[], help="of step, in epochs"
    )
    parser.add_argument(
        "--factor", type=float, default=default.factor, help="of the rate at each milestone"
    )
    parser.add_argument("--warmup", type=int, default=default.warmup, help="in epochs")
    parser.add_argument(
        "--protocol",
        choices=("exact", "published"),
        default=default.protocol,
        help="published: schedules count steps instead of epochs, as a published code does",
    )
    parser.add_argument("--augment", choices=("none", "crop_flip"), default=default.augment)
    parser.add_argument(
        "--seed", type=int, default=default.seed, help="of initial values, batches, augmentation"
    )
    cli.run(main, parser)
