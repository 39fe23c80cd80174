"""Write a page about one trained network: how far it can be pruned, measured and predicted."""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli, store
from sparselimit.network_page import network_page


def main(arguments: Namespace) -> None:
    files = [store.read(path, "network", "sweep", "bounds", "spectrum") for path in arguments.files]
    store.write_text(arguments.output, network_page(arguments.name, files))


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument("--name", required=True, help="of the network, which its files have too")
    parser.add_argument(
        "files", type=Path, nargs="+", help="the network, its sweep, spectra and bounds (HDF5)"
    )
    cli.run(main, parser)
