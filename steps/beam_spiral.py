"""Search for sparse networks from above: take weights away from trained networks, one at a time.

At each number of weights all that a removal leads to are trained, and the best are what the next
removals start from. The result has the best network of each number of weights. With --initial, the
networks are masks of that initial network, and each is trained from its values there.
"""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli, spiral, store
from sparselimit.ensemble.members import SCHEDULES
from sparselimit.errors import InputError
from sparselimit.pruning.problem import PROTOCOLS
from sparselimit.search import sparsest
from sparselimit.search.ancestors import FILE_KINDS, best_networks
from sparselimit.search.beam import Beam, content, polish, search_down


def main(arguments: Namespace) -> None:
    least, most = arguments.least_weights, arguments.most_weights
    if least > most:
        raise InputError(f"--least-weights {least}: more than --most-weights {most}")
    start = sparsest.given_start(arguments)
    if start and arguments.starts:
        raise InputError(
            f"--starts {arguments.starts}: with a given initial network there are none"
        )
    files = (store.read(path, *FILE_KINDS) for path in arguments.networks)
    table, networks = best_networks(files, least, most, arguments.width, start)
    how = Beam(
        least,
        arguments.width,
        arguments.starts,
        arguments.learning_rate,
        arguments.schedule,
        arguments.epochs,
        arguments.batch_size,
        arguments.protocol,
    )
    points, engine = spiral.read_points(arguments.data), spiral.engine(arguments)
    levels = search_down(networks, how, points, **engine)
    final = [level.best for level in levels]
    if arguments.polish:
        final = polish(levels, points, **engine)
    cli.write(arguments, "beam", content(levels, final, how, points, table))


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "networks",
        type=Path,
        nargs="+",
        help="trained networks (HDF5): pruned, searched, or found so",
    )
    parser.add_argument("--data", type=Path, help="the spiral's points (HDF5); else made anew")
    parser.add_argument("--most-weights", type=cli.positive, default=40, help="to start from")
    parser.add_argument("--least-weights", type=cli.positive, default=12, help="to go down to")
    parser.add_argument(
        "--width", type=cli.positive, default=Beam.width, help="networks that removals go on from"
    )
    parser.add_argument(
        "--starts", type=cli.whole, default=Beam.starts, help="fresh starts of each network"
    )
    parser.add_argument("--learning-rate", type=float, default=Beam.learning_rate)
    parser.add_argument("--schedule", choices=SCHEDULES, default=Beam.schedule)
    parser.add_argument("--epochs", type=cli.positive, default=Beam.epochs)
    parser.add_argument("--batch-size", type=cli.positive, default=Beam.batch_size)
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default=Beam.protocol, help="of fresh initial values"
    )
    parser.add_argument(
        "--polish", action="store_true", help="minimise the loss of the best by L-BFGS at the end"
    )
    sparsest.add_arguments(parser)
    spiral.add_engine_arguments(parser)
    cli.run(main, parser)
