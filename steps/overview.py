"""Write the first page of the report: what the study answers, from its tables and a figure."""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli, store
from sparselimit.overview import page

TABLES = ("answers", "frontier", "extent")


def main(arguments: Namespace) -> None:
    answers, frontier, extent = (store.read_table(getattr(arguments, name)) for name in TABLES)
    figure = arguments.figure.read_text("utf-8")
    store.write_text(arguments.output, page(answers, frontier, extent, figure))


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    for table in TABLES:
        parser.add_argument(f"--{table}", type=Path, required=True, help="table (CSV)")
    parser.add_argument("--figure", type=Path, required=True, help="of the answers (SVG)")
    cli.run(main, parser)
