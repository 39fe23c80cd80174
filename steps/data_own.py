"""Read a data set by a loader of your own: a function in a Python file, which is run."""

from argparse import Namespace

from sparselimit import cli, loaders


def main(arguments: Namespace) -> None:
    data = loaders.read(arguments.loader)
    if data.x.ndim == 4:
        cli.write(arguments, "images", vars(data))
    else:
        points = {"x": data.x.astype("float32"), "y": data.y, "split": data.split}
        cli.write(arguments, "points", points)


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument(
        "--loader",
        required=True,
        metavar="FILE.PY:FUNCTION",
        help="function that returns a mapping from splits to torch data loaders",
    )
    cli.run(main, parser)
