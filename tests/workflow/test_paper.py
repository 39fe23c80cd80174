"""The full grids of both papers: planned from nothing, in time, without the data at hand."""

import resource

import pytest

from tests.workflow.conftest import Workflow, jobs_by_rule

pytestmark = pytest.mark.workflow

PAPER = ("--configfile", "studies/paper.yaml")


def test_the_paper_study_is_planned_in_time(workflow: Workflow) -> None:
    assert not (workflow.folder / "data").exists()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = workflow.snakemake("--dry-run", *PAPER)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time: the machine may have other work.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = jobs_by_rule(done.stdout + done.stderr)
    assert sum(jobs.values()) < 1000
    assert jobs["data_images"] == 4
    # Nine methods in six studies; ten classifiers, each with two operators.
    assert jobs["prune_spiral"] == 54
    assert jobs["train_network"] * 2 == jobs["spectrum"] == 20


def test_a_data_set_that_is_not_there_is_one_line(workflow: Workflow) -> None:
    (workflow.folder / "overlay.yaml").write_text("images: {folder: nowhere, download: false}")
    wanted = "results/data/cifar10.h5"
    done = workflow.snakemake(*PAPER, "overlay.yaml", "--", wanted)
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert "data_images.py: cifar10 is not to be had from 'nowhere' (" in output
    assert "put the unpacked archive there, or set download: true" in output
    assert "Traceback" not in output
    assert not (workflow.folder / wanted).exists()
