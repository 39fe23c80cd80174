"""A copy of the project in which Snakemake runs for real."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Workflow:
    """A folder with the project's files; `snakemake` runs in it."""

    folder: Path

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake with the smoke study; a run that fails is shown, not raised."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)

    def smoke(self, *arguments: str, overlay: str = "") -> subprocess.CompletedProcess[str]:
        """Run the smoke study, with `overlay` as one more configuration file over it."""
        configs = ["studies/smoke.yaml"]
        if overlay:
            (self.folder / "overlay.yaml").write_text(overlay)
            configs.append("overlay.yaml")
        return self.snakemake("--configfile", *configs, "--", *arguments)

    def planned(self, overlay: str = "") -> Counter[str]:
        """Numbers of jobs by rule that a run of the smoke study would start."""
        (self.folder / "overlay.yaml").write_text(overlay)
        configs = ["studies/smoke.yaml", *(["overlay.yaml"] if overlay else [])]
        done = self.snakemake("--dry-run", "--configfile", *configs)
        assert done.returncode == 0, done.stdout + done.stderr
        return jobs_by_rule(done.stdout + done.stderr)


def jobs_by_rule(output: str) -> Counter[str]:
    """Numbers of jobs by rule that a dry run has printed."""
    if "Nothing to be done" in output:
        return Counter()
    table = output.split("Job stats:")[1].split("total")[0]
    return Counter({rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)})


def copy_of_the_project(folder: Path) -> Workflow:
    """A fresh copy of the project: what git has or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return Workflow(folder)


@pytest.fixture(scope="session")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A copy of the project in which nothing has run."""
    return copy_of_the_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def finished(workflow: Workflow) -> Workflow:
    """The same after the smoke study has run from nothing, with its report."""
    done = workflow.smoke("all")
    assert done.returncode == 0, done.stdout + done.stderr
    report = workflow.snakemake("--configfile", "studies/smoke.yaml", "--report", "report.html")
    assert report.returncode == 0, report.stdout + report.stderr
    return workflow
