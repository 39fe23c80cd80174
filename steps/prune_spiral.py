"""Prune networks of one width by one method and train them on the Cubist Spiral, all at once."""

import json
from argparse import ArgumentTypeError, Namespace

from sparselimit import cli, spiral
from sparselimit.networks.mlp import MLP
from sparselimit.pruning import registry
from sparselimit.pruning.problem import PROTOCOLS
from sparselimit.pruning.runs import prune_and_train


def json_object(text: str) -> dict:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ArgumentTypeError(f"{text} is not a JSON object")
    return value


def main(arguments: Namespace) -> None:
    options = registry.complete(arguments.method, arguments.options)
    content = prune_and_train(
        arguments.method,
        options,
        MLP.spiral(arguments.width),
        spiral.Grid.of(arguments, arguments.targets),
        spiral.read_points(arguments.data),
        protocol=arguments.protocol,
        **spiral.engine(arguments),
    )
    cli.write(arguments, "spiral-runs", content)


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument("--method", choices=registry.known(), required=True)
    parser.add_argument(
        "--options", type=json_object, default={}, help="of the method, as a JSON object"
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, default="exact")
    parser.add_argument("--targets", type=int, nargs="+", required=True, help="weights to keep")
    spiral.add_arguments(parser)
    cli.run(main, parser)
