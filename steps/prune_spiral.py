"""Prune networks by one method and train them on the Cubist Spiral, all of a shape at once."""

import json
from argparse import ArgumentTypeError, Namespace
from pathlib import Path

from sparselimit import cli, spiral, store
from sparselimit.errors import InputError
from sparselimit.networks import initial
from sparselimit.networks.mlp import MLP
from sparselimit.pruning import registry
from sparselimit.pruning.problem import PROTOCOLS
from sparselimit.pruning.runs import possible_targets, prune_and_train
from sparselimit.search.sparsest import sparsest_start


def json_object(text: str) -> dict:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ArgumentTypeError(f"{text} is not a JSON object")
    return value


def networks_and_start(arguments: Namespace) -> tuple[dict[str, MLP], initial.Initial]:
    """The shapes to prune, by name, and where their initial values come from."""
    searched = None
    if "searched" in [*arguments.networks, arguments.initial]:
        if arguments.frontier is None:
            raise InputError("searched: give the file of the search by --frontier")
        searched = sparsest_start(store.read(arguments.frontier, "frontier"), arguments.accuracy)
    networks = {}
    for name in arguments.networks:
        if name == "searched" and searched:
            networks["searched"] = searched.whole
        elif name.isdecimal() and int(name) > 0:
            networks[f"w{name}"] = MLP.spiral(int(name))
        else:
            raise InputError(f"--networks {name}: give widths, or searched")
    if arguments.initial == "searched" and searched:
        return networks, searched
    if arguments.initial == "random":
        return networks, initial.drawn
    return networks, initial.read(Path(arguments.initial))


def main(arguments: Namespace) -> None:
    choice = registry.Choice.of(
        arguments.name or arguments.method,
        {"method": arguments.method, "count": arguments.count, **arguments.options},
    )
    networks, start = networks_and_start(arguments)
    grids = {
        name: spiral.Grid.of(
            arguments, possible_targets(arguments.targets, network, leave_out=arguments.fitting)
        )
        for name, network in networks.items()
    }
    points, parts = spiral.read_points(arguments.data), []
    for name, network in networks.items():
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
        "--options", type=json_object, default={}, help="of the method, as a JSON object"
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
    parser.add_argument(
        "--initial", default="random", help="initial values: random, searched, or a state dict"
    )
    parser.add_argument("--frontier", type=Path, help="the search (HDF5), if that is called for")
    parser.add_argument(
        "--accuracy", type=float, default=0.9, help="of the searched network: the sparsest with it"
    )
    spiral.add_arguments(parser)
    cli.run(main, parser)
