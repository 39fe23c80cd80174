"""Gather the search: for each number of weights, its extent and the best network found."""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli, store
from sparselimit.search.frontier import gather


def main(arguments: Namespace) -> None:
    shards = (store.read(path, "search-shard") for path in arguments.shards)
    cli.write(arguments, "frontier", gather(shards))


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument("shards", type=Path, nargs="+", help="all shards of all numbers of weights")
    cli.run(main, parser)
