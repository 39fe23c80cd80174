"""The cost that is told before a study runs, held against what the study then did."""

import os
import re
import shutil
from collections import Counter

import pytest
import yaml  # type: ignore[import-untyped]

from sparselimit import cost, study
from sparselimit.pruning.registry import Choice
from sparselimit.store import Stored, read
from tests.unit.test_study import ROOT, config, merged
from tests.workflow.conftest import Workflow, jobs_by_rule

pytestmark = pytest.mark.workflow

SMOKE = ("--configfile", "studies/smoke.yaml")


def test_all_jobs_are_in_the_table(finished: Workflow) -> None:
    """As many of each rule as Snakemake plans, and no rule of which nothing is known."""
    told = finished.snakemake(*SMOKE, "--", "cost")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "Not counted" not in told.stdout
    table = told.stdout.split("GPU-hours")[1].split("\n\n")[0]
    lines = re.findall(r"^(\w+) .*?  +([\d,]+)  +[\d,]+  +\S+  ", table, re.M)
    counted = Counter[str]()
    for rule, jobs in lines:
        counted[rule] += int(jobs.replace(",", ""))
    dry = finished.snakemake("--dry-run", "--forceall", *SMOKE)
    planned = Counter[str]()
    for rule, jobs in jobs_by_rule(dry.stdout + dry.stderr).items():
        name = max((name for name in counted if rule.startswith(name)), key=len, default=rule)
        planned[name] += jobs
    assert planned.pop("all") == 1
    assert planned.keys() - counted.keys() == set()
    assert {rule: counted[rule] for rule in planned} == planned


def test_rates_of_ones_own_are_measured_when_asked_for_alone(workflow: Workflow) -> None:
    """Where they are not there yet, or not any more, those that come with the project stand in."""
    rates = workflow.folder / "results" / "rates.csv"
    made = rates.relative_to(workflow.folder)
    assert not rates.exists()

    (workflow.folder / "overlay.yaml").write_text(f"rates: {made}")

    def planned(target: object) -> tuple[set[str], bool]:
        done = workflow.snakemake("--dry-run", "--configfile", "overlay.yaml", "--", str(target))
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        return set(jobs_by_rule(output)), f"{made} is not there yet" in output

    assert planned(made) == ({"rates"}, True)
    assert planned("cost") == ({"cost"}, True)
    rates.parent.mkdir(exist_ok=True)
    shutil.copy(cost.MEASURED, rates)
    try:
        os.utime(rates, (0, 0))  # older than all that it is made from
        assert planned("cost") == ({"cost"}, False)
    finally:
        rates.unlink()


def test_what_was_counted_is_what_was_done(finished: Workflow) -> None:
    """Runs and steps in the files are those that were counted; at most, where that is all."""
    overlay = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text())
    smoke = study.read(merged(config(), overlay))

    def files(pattern: str, kind: str) -> list[Stored]:
        return [read(path, kind) for path in finished.folder.glob(f"results/{pattern}")]

    def done(pattern: str, kind: str) -> tuple[int, int]:
        tables = [file.table("runs") for file in files(pattern, kind)]
        return sum(map(len, tables)), sum(int(table.steps.sum()) for table in tables)

    def counted(jobs: cost.Jobs) -> tuple[int, int]:
        return jobs.runs, jobs.steps

    assert done("train/spiral.h5", "spiral-runs") == counted(cost.train_spiral(smoke))
    for name, pruned in smoke.prune.studies.items():
        for method, entry in smoke.prune.methods.items():
            runs, steps = done(f"prune/{name}/{method}.h5", "spiral-runs")
            jobs = cost.prune_spiral(smoke, name, Choice.of(method, entry))
            if pruned.searched:  # some targets may be too large for what was found
                assert 0 < runs <= jobs.runs
                assert 0 < steps <= jobs.steps
            else:
                assert (runs, steps) == counted(jobs)
    for name in smoke.blocks:
        assert done(f"blocks/{name}/*.h5", "block-runs") == counted(cost.search_blocks(smoke, name))
    for weights in range(smoke.search.weights[0], smoke.search.weights[1] + 1):
        runs, steps = done(f"search/k{weights}/*/*.h5", "search-shard")
        jobs = cost.search_networks(smoke, weights, 1)
        assert runs == jobs.runs
        assert 0 < steps <= jobs.steps
    (beam,) = files("search/beam.h5", "beam")
    assert 0 < beam.table("by_weights").runs.sum() <= cost.beam_spiral(smoke).runs
