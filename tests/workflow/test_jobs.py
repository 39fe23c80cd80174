"""How jobs are started, kept apart and stopped: small rules in the place of the study's."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workflow.conftest import copy_of_the_project, jobs_by_rule

pytestmark = pytest.mark.workflow

COMMON = """
configfile: "config.yaml"
include: "rules/common.smk"
"""


# --- Jobs on a GPU -------------------------------------------------------------------------------

TWO_ON_THE_DEVICE = f"""{COMMON}
rule all:
    input: "a.times", "b.times"

rule compute:
    output: "{{name}}.times"
    resources: gpu=GPUS
    shell: "date +%s%N > {{output}}; sleep 2; date +%s%N >> {{output}}"
"""


@pytest.mark.parametrize(
    ("device", "driver", "together"),
    [("auto", True, False), ("cpu", True, True), ("auto", False, True)],
)
def test_two_jobs_share_cores_but_no_gpu(
    tmp_path: Path, device: str, driver: bool, together: bool
) -> None:
    """With the default profile, on a machine with NVIDIA's driver or without."""
    folder = copy_of_the_project(tmp_path / "project").folder
    (folder / "Snakefile").write_text(TWO_ON_THE_DEVICE)
    programs = tmp_path / "programs"
    programs.mkdir()
    if driver:
        (programs / "nvidia-smi").touch(mode=0o755)
    kept = [place for place in os.get_exec_path() if not (Path(place) / "nvidia-smi").exists()]
    environment = os.environ | {"PATH": os.pathsep.join([str(programs), *kept])}
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", f"device={device}"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    files = ((folder / f"{name}.times").read_text().split() for name in "ab")
    (_, end), (start, _) = sorted([int(time) for time in times] for times in files)
    assert (start < end) == together


# --- A job that is stopped -----------------------------------------------------------------------

ONE_STEP = f"""{COMMON}
rule step:
    output: "result"
    # Two commands: of one alone, some shells make themselves the process.
    shell: "python step.py; touch {{output}}"
"""
# It takes so long to save its state that a shell, or Snakemake, would be gone before.
STEP = """
import signal, sys, time

def save(*_):
    time.sleep(6)
    open("saved", "w").close()
    sys.exit(143)

signal.signal(signal.SIGTERM, save)
open("started", "w").close()
time.sleep(60)
"""


def test_what_starts_a_step_waits_for_it_to_save(tmp_path: Path) -> None:
    """All of its processes get SIGTERM at once, as from SLURM."""
    folder = copy_of_the_project(tmp_path).folder
    (folder / "Snakefile").write_text(ONE_STEP)
    (folder / "step.py").write_text(STEP)
    command = [sys.executable, "-m", "snakemake", "--cores", "1"]
    run = subprocess.Popen(command, cwd=folder, start_new_session=True)
    end = time.monotonic() + 60
    while not (folder / "started").exists() and time.monotonic() < end:
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGTERM)
    assert run.wait(60) != 0
    assert (folder / "saved").exists()
    assert not (folder / "result").exists()


# --- Code of one's own ---------------------------------------------------------------------------

OWN = """
networks:
  mine: {architecture: "mine.py:network", data: "mine.py:images"}
"""


def test_an_edit_beside_ones_own_code_reruns_what_it_is_part_of(tmp_path: Path) -> None:
    """Of a module that it imports, as of the file itself."""
    workflow = copy_of_the_project(tmp_path)
    texts = {"own.yaml": OWN, "mine.py": "import helper\n", "helper.py": "", "other.py": ""}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    made = ["results/data/own/mine-py-images.h5", "results/train/networks/mine.h5"]
    for later, name in enumerate(made):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(time.time_ns(), time.time_ns() + later * 10**9))

    def planned() -> str:
        configs = ("--configfile", "own.yaml", "--rerun-triggers", "mtime", "--")
        done = workflow.snakemake("--dry-run", *configs, *made)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    soon = time.time() + 10
    os.utime(tmp_path / "other.py", (soon, soon))
    assert "Nothing to be done" in planned()
    os.utime(tmp_path / "helper.py", (soon, soon))
    assert jobs_by_rule(planned()) == {"data_own": 1, "train_network": 1}
