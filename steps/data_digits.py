"""Make the digits data set: scikit-learn's 1,797 images, split into four disjoint parts."""

from argparse import Namespace

from sparselimit import cli
from sparselimit.datasets import digits


def main(arguments: Namespace) -> None:
    sizes = {name: getattr(arguments, name) for name in ("calibration", "validation", "test")}
    cli.write(arguments, "images", vars(digits(arguments.seed, sizes)))


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument("--seed", type=cli.whole, default=0, help="seed of the split")
    for split in ("calibration", "validation", "test"):
        parser.add_argument(
            f"--{split}", type=cli.positive, default=300, help="images of the split"
        )
    cli.run(main, parser)
