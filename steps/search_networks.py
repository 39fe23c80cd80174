"""Train every sparse network of k weights, all widths, up to permutation, from several starts.

One shard of them: network i, i + n, i + 2n, ... of the enumeration.
"""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd

from sparselimit import cli, spiral, store
from sparselimit.ensemble.members import SCHEDULES, Plan
from sparselimit.errors import InputError
from sparselimit.pruning.problem import PROTOCOLS
from sparselimit.search.exhaustive import Networks, train_all


def main(arguments: Namespace) -> None:
    if arguments.shard >= arguments.shards:
        raise InputError(f"shard {arguments.shard}: shards count from 0 to {arguments.shards - 1}")
    networks = Networks.shard(arguments.weights, arguments.shard, arguments.shards)
    runs, best = train_all(
        networks,
        arguments.starts,
        spiral.read_points(arguments.data),
        Plan.of([arguments.schedule], arguments.epochs, arguments.batch_size),
        arguments.learning_rate,
        protocol=arguments.protocol,
        **spiral.engine(arguments),
    )
    number = arguments.shard + arguments.shards * np.arange(len(networks.mask))
    table = pd.DataFrame(networks.widths, columns=["d1", "d2", "d3"])
    content: store.Content = {
        "sizes": np.array(networks.frame.sizes),
        "networks": table.assign(network=number, weights=arguments.weights),
        "mask": networks.mask,
        "parameters": best,
        "runs": runs.assign(network=number[runs.network]),
    }
    cli.write(arguments, "search-shard", content)


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the spiral's points (HDF5)")
    parser.add_argument("--weights", type=cli.positive, required=True, help="k")
    parser.add_argument("--shard", type=int, default=0, help="which shard, from 0")
    parser.add_argument("--shards", type=cli.positive, default=1, help="of how many")
    parser.add_argument("--starts", type=cli.positive, default=16, help="starts of each network")
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--schedule", choices=SCHEDULES, default="cosine")
    parser.add_argument("--epochs", type=cli.positive, default=50)
    parser.add_argument("--batch-size", type=cli.positive, default=128)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="exact")
    spiral.add_engine_arguments(parser)
    cli.run(main, parser)
