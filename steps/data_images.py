"""Read MNIST, CIFAR-10, CIFAR-100 or TinyImageNet from a folder and split its training images."""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli, images


def main(arguments: Namespace) -> None:
    sizes = {name: getattr(arguments, name) for name in ("calibration", "validation")}
    data = images.read(
        arguments.name,
        arguments.folder,
        download=arguments.download,
        seed=arguments.seed,
        sizes=sizes,
    )
    cli.write(arguments, "images", vars(data))


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument("--name", choices=images.SOURCES, required=True, help="the data set")
    parser.add_argument("--folder", type=Path, required=True, help="where it lies unpacked")
    parser.add_argument("--download", action="store_true", help="fetch what the folder lacks")
    parser.add_argument("--seed", type=cli.whole, default=0, help="seed of the split")
    for split in ("calibration", "validation"):
        parser.add_argument(
            f"--{split}", type=cli.positive, default=5000, help="training images of the split"
        )
    cli.run(main, parser)
