"""Read CIFAR-10 or CIFAR-100 from a folder and split its training images."""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli
from sparselimit.datasets import cifar

NAMES = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}


def main(arguments: Namespace) -> None:
    sizes = {name: getattr(arguments, name) for name in ("calibration", "validation")}
    data = cifar(
        NAMES[arguments.name],
        arguments.folder,
        download=arguments.download,
        seed=arguments.seed,
        sizes=sizes,
    )
    content = {"x": data.x, "y": data.y, "split": data.split}
    cli.write(arguments, "images", content)


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False)
    parser.add_argument("--name", choices=NAMES, default="cifar10", help="which of the two")
    parser.add_argument("--folder", type=Path, required=True, help="where the archives are")
    parser.add_argument("--download", action="store_true", help="fetch what the folder lacks")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split")
    for split in ("calibration", "validation"):
        parser.add_argument(
            f"--{split}", type=cli.positive, default=5000, help="training images of the split"
        )
    cli.run(main, parser)
