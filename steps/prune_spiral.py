"""Prune networks by one method and train them on the Cubist Spiral, all of a shape at once."""

from argparse import Namespace

from sparselimit import cli, spiral
from sparselimit.errors import InputError
from sparselimit.networks import initial
from sparselimit.networks.mlp import MLP
from sparselimit.pruning import registry
from sparselimit.pruning.problem import PROTOCOLS
from sparselimit.pruning.runs import possible_targets, prune_and_train
from sparselimit.search import sparsest


def networks(arguments: Namespace) -> dict[str, MLP]:
    """The shapes to prune, by name."""
    shapes = {}
    for name in arguments.networks:
        if name == "searched":
            shapes[name] = sparsest.searched(arguments).whole
        elif name.isdecimal() and int(name) > 0:
            shapes[f"w{name}"] = MLP.spiral(int(name))
        else:
            raise InputError(f"--networks {name}: give widths, or searched")
    return shapes


def main(arguments: Namespace) -> None:
    choice = registry.Choice.of(
        arguments.name or arguments.method,
        {"method": arguments.method, "count": arguments.count, **arguments.options},
    )
    shapes, start = networks(arguments), sparsest.given_start(arguments) or initial.drawn
    grids = {
        name: spiral.Grid.of(
            arguments, possible_targets(arguments.targets, network, leave_out=arguments.fitting)
        )
        for name, network in shapes.items()
    }
    points, parts = spiral.read_points(arguments.data), []
    for name, network in shapes.items():
        parts += prune_and_train(
            choice,
            name,
            network,
            start,
            grids[name],
            points,
            protocol=arguments.protocol,
            control=arguments.control,
            **spiral.engine(arguments),
        )
    cli.write(arguments, "spiral-runs", spiral.content(parts))


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument("--method", choices=registry.known(), required=True)
    parser.add_argument("--name", help="what to call it in tables and figures (the method)")
    parser.add_argument(
        "--options", type=cli.json_object, default={}, help="of the method, as a JSON object"
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, default="exact")
    parser.add_argument("--networks", nargs="+", required=True, help="widths, or searched")
    parser.add_argument("--targets", type=int, nargs="+", required=True, help="weights to keep")
    parser.add_argument(
        "--count", default="weights", help="what targets count: weights, or effective ones"
    )
    parser.add_argument(
        "--fitting", action="store_true", help="leave out targets above a network's own count"
    )
    parser.add_argument(
        "--control", action="store_true", help="also train random masks with equal layer counts"
    )
    sparsest.add_arguments(parser)
    spiral.add_arguments(parser)
    cli.run(main, parser)
