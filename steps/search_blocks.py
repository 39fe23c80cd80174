"""Train the blocks that the published search tries: dense ones, or all masks of one block.

One shard of them: network i, i + n, i + 2n, ... of the list.
"""

from argparse import Namespace

import numpy as np
import pandas as pd

from sparselimit import cli, spiral, store
from sparselimit.pruning.problem import PROTOCOLS
from sparselimit.search import sparsest
from sparselimit.search.block_runs import train_blocks
from sparselimit.search.blocks import tried


def main(arguments: Namespace) -> None:
    blocks = tried(
        tuple(arguments.widths) if arguments.widths else None,
        arguments.most_parameters,
        arguments.most_weights,
        arguments.second_layer_masks,
        classes=arguments.classes,
        labelled=arguments.labelled,
        given=arguments.initial != "random",
    )
    networks = blocks.shard(arguments.shard, arguments.shards)
    runs, best = train_blocks(
        networks,
        spiral.Grid.of(arguments, []),
        spiral.read_points(arguments.data),
        sparsest.given_start(arguments),
        protocol=arguments.protocol,
        **spiral.engine(arguments),
    )
    table = pd.DataFrame(networks.widths, columns=["d1", "d2", "d3"])
    content: store.Content = {
        "sizes": np.array(networks.frame.sizes),
        "networks": table.assign(network=networks.number, weights=networks.mask.sum(axis=1)),
        "mask": networks.mask,
        "parameters": best.numpy(),
        "runs": runs.assign(network=networks.number[runs.network]),
    }
    cli.write(arguments, "block-runs", content)


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--widths",
        type=cli.positive,
        nargs=3,
        help="d1 d2 d3 of the block whose masks are tried; dense blocks if not given",
    )
    parser.add_argument(
        "--most-parameters", type=cli.positive, help="of a dense block, weights and biases"
    )
    parser.add_argument(
        "--most-weights", type=cli.positive, help="of a mask, in its first three layers"
    )
    parser.add_argument(
        "--second-layer-masks", type=cli.positive, help="tried of each number of weights there"
    )
    parser.add_argument(
        "--classes",
        action="store_true",
        help="try all networks of the block, each once, instead of the published list of masks",
    )
    parser.add_argument(
        "--labelled",
        action="store_true",
        help="try all masks of the block, permuted ones as well: of use in a given initial network",
    )
    parser.add_argument("--shard", type=cli.whole, default=0, help="which shard, from 0")
    parser.add_argument("--shards", type=cli.positive, default=1, help="of how many")
    sparsest.add_arguments(parser)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="exact")
    spiral.add_arguments(parser)
    cli.run(main, parser)
