"""Train dense networks on the Cubist Spiral, all of a shape in one ensemble."""

from argparse import Namespace

import torch

from sparselimit import cli, spiral
from sparselimit.errors import InputError
from sparselimit.networks.initial import drawn
from sparselimit.networks.mlp import MLP


def networks(arguments: Namespace) -> dict[str, MLP]:
    """The shapes to train, by name: equal widths, and those with about the asked-for weights."""
    shapes = {f"w{width}": MLP.spiral(width) for width in arguments.widths}
    for count in arguments.counts:
        network = MLP.nearest(count)
        shapes["-".join(map(str, network.sizes[1:-1]))] = network
    if not shapes:
        raise InputError("nothing to train: give --widths or --counts")
    return shapes


def main(arguments: Namespace) -> None:
    points, parts = spiral.read_points(arguments.data), []
    for name, network in networks(arguments).items():
        grid = spiral.Grid.of(arguments, [network.n_weights])
        runs = grid.runs(name).assign(method="dense")
        parts.append(
            spiral.train_runs(
                network,
                grid,
                runs,
                points,
                drawn(network, runs.seed.tolist()),
                torch.ones(len(runs), network.n_weights, dtype=torch.bool),
                **spiral.part(spiral.engine(arguments), name),
            )
        )
    cli.write(arguments, "spiral-runs", spiral.content(parts))


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument("--widths", type=cli.positive, nargs="*", default=[], help="w of 2-w-w-w-1")
    parser.add_argument(
        "--counts", type=cli.positive, nargs="*", default=[], help="weights, of the nearest shape"
    )
    spiral.add_arguments(parser)
    cli.run(main, parser)
