"""Tell where every figure of the report comes from: its tables, their files, what made those.

Writes a table of all files (CSV), and a page that links each figure to them beside it (HTML).
"""

import json
from argparse import Namespace

from sparselimit import cli, store
from sparselimit.provenance import as_page, origins, table
from sparselimit.shards import expanded


def main(arguments: Namespace) -> None:
    made_from = [
        pattern
        for entries in (arguments.figures, arguments.tables)
        for _, parts in entries.values()
        for pattern in parts
        if pattern.endswith(".h5")
    ]
    found = origins(file for pattern in made_from for file in expanded(pattern))
    page = as_page(arguments.figures, arguments.tables, found)
    store.write_text(arguments.output, table(found).to_csv(index=False))
    store.write_text(arguments.output.with_suffix(".html"), page)


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    for what in ("figures", "tables"):
        parser.add_argument(
            f"--{what}", type=json.loads, required=True,
            help="JSON: by name a title and what it is made from, tables (CSV) or result files",
        )  # fmt: skip
    cli.run(main, parser)
