"""What Snakemake itself takes: of workflows of trivial jobs, and of the studies.

    python tests/benchmarks/scheduler.py --jobs 40 100 1000 --studies config.yaml studies/paper.yaml

Prints a Markdown table. Jobs are run two at a time with the settings of the default profile. A
study is run with steps that do nothing but make their files: what is left is the scheduler, shells,
and the start of an interpreter for each job. Processor time is that of Snakemake and all it starts;
wall time means little on a busy machine.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

TRIVIAL = """
rule all:
    input: [f"results/{i}" for i in range(JOBS)]

rule job:
    output: "results/{i}"
    shell: "touch {output}"
"""
# Put before the code of a step; what stands below is never reached, but says what the step imports.
NOTHING = """
import sys
from pathlib import Path

made = Path(sys.argv[sys.argv.index("--output") + 1])
for file in {made, made.with_suffix(".html")} if made.suffix == ".csv" else {made}:
    file.write_text("nothing")
sys.exit()
"""


@dataclass(frozen=True)
class Cost:
    """Of one run of a program, in seconds: wall, and processor with all that it starts."""

    wall: float
    processor: float

    @classmethod
    def of(cls, command: Sequence[str], folder: Path) -> "Cost":
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return cls(end - start, used)


def snakemake(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]


def trivial(jobs: int, folder: Path) -> None:
    """A workflow of so many jobs, with the default profile."""
    (folder / "Snakefile").write_text(f"JOBS = {jobs}\n{TRIVIAL}")
    profile = folder / "profiles" / "default"
    profile.mkdir(parents=True)
    (profile / "config.yaml").write_text((ROOT / "profiles/default/config.yaml").read_text())


def idle_copy(folder: Path) -> None:
    """The project with steps that do nothing."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    for step in (folder / "steps").glob("*.py"):
        step.write_text(NOTHING + step.read_text())


def measured(jobs: Sequence[int], studies: Sequence[str]) -> Iterator[tuple[str, int, Cost, Cost]]:
    """Of each workflow its name, its number of jobs, its dry run and its run."""
    for n in jobs:
        with tempfile.TemporaryDirectory() as name:
            trivial(n, Path(name))
            dry = Cost.of(snakemake("--dry-run", "--quiet"), Path(name))
            yield "trivial", n, dry, Cost.of(snakemake("--quiet"), Path(name))
    for study in studies:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            idle_copy(folder)
            dry = Cost.of(snakemake("--dry-run", "--configfile", study), folder)
            run = Cost.of(snakemake("--configfile", study), folder)
            done = len(list(folder.glob("benchmarks/**/*.jsonl")))
            yield study, done, dry, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="*", default=[40, 100, 1000])
    parser.add_argument("--studies", nargs="*", default=["config.yaml"])
    arguments = parser.parse_args()
    columns = ["workflow", "jobs"]
    columns += ["dry run (s)", "processor (s)", "run (s)", "processor (s)", "a job (s)"]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name, jobs, dry, run in measured(arguments.jobs, arguments.studies):
        print(
            f"| {name} | {jobs:,} | {dry.wall:.1f} | {dry.processor:.1f} | {run.wall:.1f} | "
            f"{run.processor:.1f} | {run.processor / jobs:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
