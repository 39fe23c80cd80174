"""Make the explorer: one HTML page in which networks of the spiral can be looked at and changed.

Of each source (the search, the search from above, dense networks, every pruning method) it holds
the best network of each number of weights, and all networks of one's own. Such a network comes as
an npz file with the arrays mask_0 to mask_3, weight_0 to weight_3 and bias_0 to bias_3, [out, in]
from the 2 inputs to the 1 output, as for steps/score.py; or as a file that steps/score.py wrote.
"""

from argparse import Namespace
from itertools import chain
from pathlib import Path

from sparselimit import cli, explorer, spiral, store

PARTS = Path(__file__).resolve().parents[1] / "report" / "explorer"


def main(arguments: Namespace) -> None:
    stored = (store.read(path, *explorer.FILE_KINDS) for path in arguments.files)
    found = chain.from_iterable(map(explorer.entries, stored))
    own = [explorer.own_network(path) for path in arguments.network]
    page = explorer.page(explorer.best([*own, *found]), spiral.read_points(None), PARTS)
    store.write_text(arguments.output, page)


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument("files", type=Path, nargs="*", help="trained networks (HDF5)")
    parser.add_argument(
        "--network", type=Path, nargs="+", default=[], help="networks of your own (npz)"
    )
    cli.run(main, parser)
