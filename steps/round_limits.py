"""Predict the pruning limit of every network that a method makes in rounds, one from the other."""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli, store
from sparselimit.accounts import baseline_of
from sparselimit.kinds import KINDS
from sparselimit.limits import probing, rounds
from sparselimit.networks import classifier
from sparselimit.networks.network import prunable
from sparselimit.pruning.classifiers.results import in_rounds


def main(arguments: Namespace) -> None:
    dense, data = classifier.read_trained(
        arguments.network, arguments.data, arguments.device, arguments.code
    )
    how, kept = probing.settings(arguments), cli.checkpoint(arguments)
    rows = []
    for file in [store.read(path, "pruned-networks") for path in arguments.pruned]:
        _, method = baseline_of(file)
        for pruned in in_rounds(file, dense):
            objective, fit = probing.objectives(pruned.network, data, arguments)
            part = kept.with_name(f"{kept.name}-{method}-{pruned.number}")
            left = rounds.Left(pruned.kept, prunable(dense))
            found = rounds.limits(objective, fit.batch_losses(), left, how, part)
            run = {"method": method, "round": pruned.number}
            rows += [{**run, **row} for row in found]
    limits = KINDS["round-limits"].table("limits").frame(rows)
    cli.write(arguments, "round-limits", {"limits": limits})


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    classifier.add_arguments(parser)
    parser.add_argument(
        "--pruned", type=Path, nargs="+", required=True, help="pruned networks (HDF5)"
    )
    probing.add_arguments(parser)
    cli.run(main, parser)
