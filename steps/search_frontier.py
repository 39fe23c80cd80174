"""Gather the search: the best network of each number of weights, and the certificate.

The certificate lists every network known to reach an accuracy with the fewest weights, and says
which success rates are excluded for the others. Shards of more starts add up.
"""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli, store
from sparselimit.search.certificate import gather


def main(arguments: Namespace) -> None:
    shards = (store.read(path, "search-shard") for path in arguments.shards)
    cli.write(arguments, "frontier", gather(shards))


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument("shards", type=Path, nargs="+", help="all shards of all numbers of weights")
    cli.run(main, parser)
