"""Tell what a study costs before it runs: jobs, runs, steps, hours of CPU cores and GPUs.

`snakemake --cores 1 cost` hands over the plan of a study. Times come from measured rates; what was
never measured is said so. With the benchmark files of jobs that have run, what these took stands
beside it.
"""

import json
from argparse import Namespace
from pathlib import Path

from sparselimit import cli, cost


def main(arguments: Namespace) -> None:
    planned = [cost.Jobs.parsed(entry) for entry in arguments.plan]
    found = cost.lines(planned, cost.Rates.read(arguments.rates))
    print(cost.told(found))
    if arguments.not_counted:
        print(f"Not counted, for nothing is known of it: {', '.join(arguments.not_counted)}.")
    if taken := cost.taken(arguments.benchmarks, {line.rule for line in found}):
        print(f"\n{cost.compared(found, taken)}")


if __name__ == "__main__":
    parser = cli.Parser(__doc__, computes=False, prints=True)
    parser.add_argument("--plan", type=json.loads, required=True, help="the jobs, as JSON")
    parser.add_argument("--rates", type=Path, default=cost.MEASURED, help="measured rates (CSV)")
    parser.add_argument("--not-counted", nargs="*", default=[], help="rules without an estimate")
    parser.add_argument(
        "--benchmarks", type=Path, default=Path("benchmarks"), help="what jobs took (Snakemake)"
    )
    cli.run(main, parser)
