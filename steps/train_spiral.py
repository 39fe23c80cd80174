"""Train dense networks of one width on the Cubist Spiral, all in one ensemble."""

from argparse import Namespace

import torch

from sparselimit import cli, spiral
from sparselimit.networks.mlp import MLP


def main(arguments: Namespace) -> None:
    network = MLP.spiral(arguments.width)
    grid = spiral.Grid.of(arguments, [network.n_weights])
    runs = grid.runs().assign(method="dense")
    parameters = spiral.initial_networks(network, runs.seed.tolist())
    dense = torch.ones(len(runs), network.n_weights, dtype=torch.bool)
    content = spiral.train_runs(
        network,
        grid,
        runs,
        spiral.read_points(arguments.data),
        parameters,
        dense,
        **spiral.engine(arguments),
    )
    cli.write(arguments, "spiral-runs", content)


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    spiral.add_arguments(parser)
    cli.run(main, parser)
