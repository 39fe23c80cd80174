"""Make the Cubist Spiral: 49,982 points of two classes in the plane."""

from argparse import Namespace

from sparselimit import cli
from sparselimit.datasets import cubist_spiral


def main(arguments: Namespace) -> None:
    data = cubist_spiral()
    content = {"x": data.x, "y": data.y, "split": data.split}
    cli.write(arguments, "points", content)


if __name__ == "__main__":
    cli.run(main, cli.Parser(__doc__, computes=False))
