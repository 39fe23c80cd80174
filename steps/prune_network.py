"""Prune a classifier by one method, to each of several densities."""

from argparse import Namespace

from sparselimit import cli, training
from sparselimit.networks import classifier
from sparselimit.pruning.classifiers import registry
from sparselimit.pruning.classifiers.problem import Problem
from sparselimit.pruning.classifiers.results import content


def main(arguments: Namespace) -> None:
    trained, data = classifier.read_trained(
        arguments.network, arguments.data, arguments.device, arguments.code
    )
    problem = Problem(
        trained,
        {
            split: classifier.sample(data, split, arguments.device)
            for split in ("fit", "validation", "test")
        },
        training.recipe_of(arguments),
        tuple(sorted(arguments.densities, reverse=True)),
        arguments.pruning_protocol,
        arguments.accuracy_tolerance,
        cli.checkpoint(arguments),
    )
    name = arguments.name or arguments.method
    choice = registry.Choice.of(name, {"method": arguments.method, **arguments.options})
    cli.write(arguments, "pruned-networks", content(problem, registry.networks(choice, problem)))


def density(text: str) -> float:
    """A share of the weights, as an argument type."""
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError
    return value


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    classifier.add_arguments(parser)
    parser.add_argument("--method", choices=registry.methods().known(), required=True)
    parser.add_argument("--name", help="what to call it in tables and figures (the method)")
    parser.add_argument(
        "--options", type=cli.json_object, default={}, help="of the method, as a JSON object"
    )
    parser.add_argument(
        "--densities", type=density, nargs="+", required=True, help="shares of the weights to keep"
    )
    parser.add_argument(
        "--pruning-protocol",
        choices=("exact", "published"),
        default="exact",
        help="published: to the letter of the method's code, slips included",
    )
    parser.add_argument(
        "--accuracy-tolerance",
        type=float,
        default=0.01,
        help="loss of validation accuracy that counts as none",
    )
    training.add_arguments(parser)
    cli.run(main, parser)
