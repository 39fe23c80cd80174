"""Make one table of the report from result files: CSV for programs, HTML for readers."""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli, store
from sparselimit.kinds import KINDS
from sparselimit.pages import table_page
from sparselimit.tables import TABLES


def main(arguments: Namespace) -> None:
    files = [store.browse(path, *KINDS) for path in arguments.files]
    table = TABLES[arguments.name](files)
    store.write_text(arguments.output, table.to_csv(index=False))
    store.write_text(arguments.output.with_suffix(".html"), table_page(arguments.name, table))


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument("--name", choices=TABLES, required=True)
    parser.add_argument("files", type=Path, nargs="+", help="result files (HDF5)")
    cli.run(main, parser)
