"""The workflow on a SLURM, by its profile: what is run, killed, cancelled and done again."""

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sparselimit import store
from tests.workflow import slurm
from tests.workflow.conftest import Workflow, copy_of_the_project

MISSING = slurm.missing()

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.slurm,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]

# Networks of one's own: they tell what becomes of the jobs that train them.
WATCHED = """
import os, time
from pathlib import Path
from torch import nn

NAME, JOB = Path(__file__).stem, os.environ.get("SLURM_JOB_ID")
CHECKPOINT = Path(f"results/train/networks/{NAME}.h5.checkpoint")

class Watched(nn.Sequential):
    # Notes its steps; slow on a cluster, where it was not stopped before.
    def forward(self, x):
        if self.training and JOB:
            with open(f"{NAME}-{JOB}.steps", "a") as file:
                file.write(".")
            if not RESUMED:
                time.sleep(0.2)
        return super().forward(x)

def network():
    global RESUMED
    RESUMED = CHECKPOINT.exists()
    print("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    return Watched(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
"""
BROKEN = """
def network():
    raise RuntimeError("not today")
"""
EPOCHS = 100
STUDY = f"""
networks:
  sparse: null
  conv: null
  timed: {{data: digits, architecture: "timed.py:network", epochs: {EPOCHS}}}
  broken: {{data: digits, architecture: "broken.py:network", epochs: 1}}
  cancelled: {{data: digits, architecture: "cancelled.py:network", epochs: {EPOCHS}}}
search:
  weights: [4, 4]
"""
# A little of every kind: searched networks, tables and a figure of them, a trained one pruned.
TARGETS = ("results/figures/search.svg", "results/sweep/dense.h5")
STEPS = 7 * EPOCHS


def trained(name: str) -> str:
    return f"results/train/networks/{name}.h5"


@dataclass(frozen=True)
class Cluster:
    """A copy of the project on a SLURM."""

    project: Workflow
    daemons: slurm.Slurm

    def start(self, *targets: str, retries: int) -> "subprocess.Popen[str]":
        """Run the study by the profile, but for what suits so small a cluster."""
        command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm"]
        command += ["--slurm-status-command", "squeue", "--latency-wait", "20"]
        command += ["--slurm-init-seconds-before-status-checks", "2", "--retries", str(retries)]
        command += ["--configfile", "studies/smoke.yaml", "study.yaml", "--", *targets]
        return subprocess.Popen(
            command,
            cwd=self.project.folder,
            env=self.daemons.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def training(self, name: str) -> list[slurm.Job]:
        """The jobs that trained a network, in turn."""
        comment = f"rule_train_network_wildcards_{name}"
        return [job for job in self.daemons.jobs() if job.comment == comment]

    def steps(self, job: slurm.Job) -> int:
        """How many steps of training a job took, so far."""
        files = list(self.project.folder.glob(f"*-{job.number}.steps"))
        return len(files[0].read_text()) if files else 0

    def log(self, name: str) -> str:
        return (self.project.folder / f"logs/train_network-{name}.log").read_text()

    def network(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The parameters of a trained network and the history of its training."""
        stored = store.read(self.project.folder / trained(name), "network")
        return stored.array("parameters"), stored.table("history").to_numpy()

    def trained_in_one_go(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of a watched network, trained outside of SLURM."""
        command = [sys.executable, "steps/train_network.py", "--data", "results/data/digits.h5"]
        command += ["--architecture", "timed.py:network", "--epochs", str(EPOCHS)]
        command += ["--output", trained("whole")]
        subprocess.run(command, cwd=self.project.folder, check=True)
        return self.network("whole")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    project = copy_of_the_project(tmp_path_factory.mktemp("project"))
    (project.folder / "study.yaml").write_text(STUDY)
    for name in ("timed", "cancelled"):
        (project.folder / f"{name}.py").write_text(WATCHED)
    (project.folder / "broken.py").write_text(BROKEN)
    with slurm.running() as own:
        yield Cluster(project, own)


@dataclass(frozen=True)
class Finished:
    """A run of Snakemake: its exit code, what it printed, and the jobs that it submitted."""

    code: int
    output: str
    jobs: list[slurm.Job]


def finish(run: "subprocess.Popen[str]", cluster: Cluster) -> Finished:
    output, _ = run.communicate(timeout=900)
    numbers = re.findall(r"submitted with SLURM jobid (\d+)", output)
    jobs = [job for job in cluster.daemons.jobs() if job.number in numbers]
    return Finished(run.returncode, output, jobs)


@pytest.fixture(scope="module")
def first_run(cluster: Cluster) -> Finished:
    """From nothing. One job runs out of time, one fails whatever is done; the rest goes well."""
    run = cluster.start(*TARGETS, trained("timed"), trained("broken"), retries=1)
    job = wait_for_training("timed", cluster)
    # Less than the two minutes in which, by the profile, a step has SIGTERM to reckon with.
    cluster.daemons.client("scontrol", "update", f"JobId={job.number}", "TimeLimit=1")
    return finish(run, cluster)


def wait_for_training(name: str, cluster: Cluster) -> slurm.Job:
    """Wait until a network is being trained; returns the job that does it."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        under_way = [job for job in cluster.training(name) if cluster.steps(job) > 5]
        if under_way:
            return under_way[0]
        time.sleep(0.5)
    raise AssertionError(f"{name}: no job trains it")


def test_the_study_runs_through_the_profile(cluster: Cluster, first_run: Finished) -> None:
    for target in (*TARGETS, trained("timed")):
        assert (cluster.project.folder / target).exists(), first_run.output
    rules = Counter(job.comment.split("_wildcards_")[0] for job in first_run.jobs)
    # No tables and figures: they are made where Snakemake runs.
    assert rules == {
        "rule_data_spiral": 1,
        "rule_search_networks": 1,
        "rule_search_frontier": 1,
        "rule_data_digits": 1,
        "rule_train_network": 1 + 2 + 2,
        "rule_sweep_network": 1,
    }
    assert all(job.name.startswith("sparselimit_") for job in first_run.jobs)


def test_jobs_that_compute_on_the_device_get_a_gpu(cluster: Cluster, first_run: Finished) -> None:
    on_gpus = {job.comment.split("_")[1] for job in first_run.jobs if job.partition == "gpu"}
    assert on_gpus == {"search", "train", "sweep"}
    elsewhere = {job.comment for job in first_run.jobs if job.partition != "gpu"}
    assert {"rule_data_spiral", "rule_search_frontier"} <= elsewhere
    assert re.search(r"^CUDA_VISIBLE_DEVICES [0-3]$", cluster.log("timed"), re.M)


def test_a_job_stopped_for_time_goes_on_from_its_checkpoint(
    cluster: Cluster, first_run: Finished
) -> None:
    stopped, resumed = cluster.training("timed")
    # Its step ended by itself after SIGTERM, or SLURM put the end to a job that lingered.
    assert stopped.state in ("FAILED", "TIMEOUT"), first_run.output
    assert resumed.state == "COMPLETED", first_run.output
    memory, more = (int(job.memory.removesuffix("M")) for job in (stopped, resumed))
    assert more == 2 * memory
    taken = cluster.steps(stopped), cluster.steps(resumed)
    assert min(taken) > 0
    assert sum(taken) == STEPS
    assert not list(cluster.project.folder.glob(trained("timed") + ".checkpoint*"))
    assert_equal(cluster.network("timed"), cluster.trained_in_one_go())


def assert_equal(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_array_equal(here, there)


def test_a_failing_step_is_tried_again_and_reported(cluster: Cluster, first_run: Finished) -> None:
    assert first_run.code == 1
    assert [job.state for job in cluster.training("broken")] == ["FAILED", "FAILED"]
    assert "logs/train_network-broken.log" in first_run.output
    assert re.search("^train_network.py: .*broken.py.*not today", first_run.output, re.M)
    assert not (cluster.project.folder / trained("broken")).exists()


def test_after_scancel_a_rerun_does_what_is_missing(cluster: Cluster, first_run: Finished) -> None:
    """One job is cancelled as it trains; what failed before has been mended meanwhile."""
    wanted = (*TARGETS, *map(trained, ("timed", "broken", "cancelled")))
    done = {file: file.stat().st_mtime_ns for file in results(cluster)}
    cut_short = cluster.start(trained("cancelled"), retries=0)
    cluster.daemons.client("scancel", wait_for_training("cancelled", cluster).number)
    stopped = finish(cut_short, cluster)
    assert stopped.code == 1
    assert list(cluster.project.folder.glob(trained("cancelled") + ".checkpoint")), stopped.output

    (cluster.project.folder / "broken.py").write_text(WATCHED)
    again = finish(cluster.start(*wanted, retries=0), cluster)
    assert again.code == 0, again.output
    assert Counter(job.comment for job in again.jobs) == {
        f"rule_train_network_wildcards_{name}": 1 for name in ("broken", "cancelled")
    }
    assert {file: file.stat().st_mtime_ns for file in done} == done
    assert sum(map(cluster.steps, cluster.training("cancelled"))) == STEPS
    # But for its name it is the network of the other test.
    assert_equal(cluster.network("cancelled"), cluster.network("timed"))


def results(cluster: Cluster) -> list[Path]:
    return [file for file in cluster.project.folder.glob("results/**/*") if file.is_file()]


def test_the_report_is_made_of_it(cluster: Cluster, first_run: Finished) -> None:
    report = cluster.project.snakemake(
        "--configfile",
        "studies/smoke.yaml",
        "study.yaml",
        "--report",
        "report.html",
        "--",
        *TARGETS,
    )
    assert report.returncode == 0, report.stdout + report.stderr
    assert (cluster.project.folder / "report.html").stat().st_size > 100_000
