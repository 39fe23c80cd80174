"""Search all sparse networks of k weights, all widths, up to permutation, from many starts each.

One shard of them: network i, i + n, i + 2n, ... of the enumeration. The starts of a network race;
with more starts (from another first one) the search of the same networks goes on. By protocol
`published` every start is trained to its end.
"""

from argparse import Namespace
from pathlib import Path

from sparselimit import cli, spiral
from sparselimit.ensemble.members import SCHEDULES
from sparselimit.errors import InputError
from sparselimit.pruning.problem import PROTOCOLS
from sparselimit.search.exhaustive import Networks
from sparselimit.search.racing import Race
from sparselimit.search.shard import search_shard


def main(arguments: Namespace) -> None:
    if arguments.shard >= arguments.shards:
        raise InputError(f"shard {arguments.shard}: shards count from 0 to {arguments.shards - 1}")
    first = arguments.first_start
    how = Race(
        range(first, first + arguments.starts),
        arguments.learning_rate,
        arguments.schedule,
        arguments.epochs,
        arguments.batch_size,
        arguments.protocol,
        tuple(arguments.rungs),
        tuple(arguments.keep),
        arguments.calibrate,
    )
    content = search_shard(
        Networks.shard(arguments.weights, arguments.shard, arguments.shards),
        how,
        spiral.read_points(arguments.data),
        arguments.polish,
        **spiral.engine(arguments),
    )
    cli.write(arguments, "search-shard", content)


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument("--data", type=Path, help="the spiral's points (HDF5); else made anew")
    parser.add_argument("--weights", type=cli.positive, required=True, help="k")
    parser.add_argument("--shard", type=cli.whole, default=0, help="which shard, from 0")
    parser.add_argument("--shards", type=cli.positive, default=1, help="of how many")
    parser.add_argument("--starts", type=cli.positive, default=64, help="starts of each network")
    parser.add_argument(
        "--first-start", type=cli.whole, default=0, help="number of the first of them"
    )
    parser.add_argument("--learning-rate", type=float, default=Race.learning_rate)
    parser.add_argument("--schedule", choices=SCHEDULES, default=Race.schedule)
    parser.add_argument("--epochs", type=cli.positive, default=Race.epochs)
    parser.add_argument("--batch-size", type=cli.positive, default=Race.batch_size)
    parser.add_argument("--protocol", choices=PROTOCOLS, default=Race.protocol)
    parser.add_argument(
        "--rungs", type=int, nargs="*", default=list(Race.rungs), help="epochs after which some go"
    )
    parser.add_argument(
        "--keep", type=float, nargs="*", default=list(Race.keep), help="share of starts that stays"
    )
    parser.add_argument(
        "--calibrate", type=cli.positive, default=Race.calibrate,
        help="one in so many starts is trained to the end whatever its rank",
    )  # fmt: skip
    parser.add_argument("--polish", type=cli.whole, default=4, help="networks polished by L-BFGS")
    spiral.add_engine_arguments(parser)
    cli.run(main, parser)
