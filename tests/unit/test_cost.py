"""What a study costs: counted exactly, reckoned from measured rates, gaps told."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sparselimit import cost, datasets, measuring, study
from sparselimit.cost import Jobs, Rates, Work
from sparselimit.ensemble.members import Plan
from sparselimit.networks.mlp import MLP
from sparselimit.networks.network import Design, Network, prunable
from sparselimit.pruning.registry import Choice
from sparselimit.search.counting import totals
from tests.unit.refusals import refused
from tests.unit.test_study import config, merged, overlaid

ROOT = Path(__file__).parents[2]
SPIRAL_POINTS = 49_982


def changed(**sections: dict) -> study.Study:
    """The default study with some options changed."""
    return study.read(merged(config(), sections))


# --- Counting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 128, 1000])
def test_an_epoch_of_the_spiral_is_what_the_engine_makes_of_it(batch_size: int) -> None:
    made = Plan.of(["constant"], 1, batch_size).steps_per_epoch(SPIRAL_POINTS)
    assert cost.steps_per_epoch(batch_size) == made
    assert len(datasets.cubist_spiral().x) == SPIRAL_POINTS


def test_dense_networks_are_counted() -> None:
    one = changed(train={"widths": [3, 4], "counts": [12]}, runs={"epochs": 2})
    jobs = cost.train_spiral(one)
    # Three shapes, each at two learning rates, one schedule and eight seeds.
    assert (jobs.jobs, jobs.runs, jobs.steps) == (1, 48, 48 * 2 * 390)
    trained = {work.size: work.amount for work in jobs.work if work.rate == "train fused"}
    assert trained == dict.fromkeys((27, 44, MLP.nearest(12).n_weights), 16 * 2 * 390)


def test_pruning_is_counted() -> None:
    """Targets that do not fit a network are left out; controls are trained once, tickets often."""
    one = study.read(config())
    for choice, trainings in (
        (Choice.of("snip", {}), 1),
        (Choice.of("imp_lth", {"trainings": 3}), 3),
        # Of a method that does not object to it.
        (Choice("imp_lth", "imp_lth", "weights", {"trainings": -3}), 1),
    ):
        jobs = cost.prune_spiral(one, "overparameterisation", choice)
        pruned = (4 + 5 + 5) * 2 * 4
        assert jobs.runs == 2 * pruned
        assert jobs.steps == (trainings + 1) * pruned * 50 * 390
        sums = sum(work.amount for work in jobs.work if work.rate.startswith("train"))
        assert sums == jobs.steps
    assert (
        Work("score snip", 27, 4 * 8)
        in cost.prune_spiral(one, "overparameterisation", Choice.of("snip", {})).work
    )


def test_wide_networks_are_trained_by_matrix_products() -> None:
    paper = overlaid("paper")
    jobs = cost.prune_spiral(paper, "random_256", Choice.of("snip", {}))
    weights = MLP.spiral(256).n_weights
    assert Work("train batched", weights, 207 * 50 * 390) in jobs.work
    assert cost.training(10, 5, 256) == Work("train fused", 10, 10)


def test_the_paper_study_is_counted() -> None:
    """By two ways of counting, of which the other is tested against the publication."""
    paper = overlaid("paper")
    methods = [Choice.of(name, entry) for name, entry in paper.prune.methods.items()]
    pruned = [cost.prune_spiral(paper, name, c) for name in paper.prune.studies for c in methods]
    blocks = [cost.search_blocks(paper, name) for name in paper.blocks]
    assert sum(jobs.runs for jobs in (*pruned, *blocks)) == 485_838
    assert all(jobs.steps == jobs.runs * 50 * 390 for jobs in blocks)


def test_a_race_costs_what_it_was_measured_to() -> None:
    """10.9 epochs a start by the default rungs (tests/benchmarks); 13.9 if no start were dead."""
    search = study.read(config()).search.model_copy(update={"starts": 400})
    most, expected = cost.race_epochs(search, "exact")
    assert expected == pytest.approx(10.9, abs=0.1)
    assert most == pytest.approx(4 + 12 * (0.35 + 0.05) + 34 * (0.1 + 0.05))
    assert cost.race_epochs(search, "published") == (50, 50)
    late = search.model_copy(update={"rungs": [60], "keep": [0.1]})
    assert cost.race_epochs(late, "exact")[0] == 50


def test_what_a_start_takes_is_as_the_documentation_says() -> None:
    search = study.read(config()).search
    told = re.search(
        r"a start takes ([\d.]+) of (\d+) epochs, of (\d+) starts",
        (ROOT / "docs" / "cost.md").read_text(),
    )
    assert told
    assert told.groups() == (
        f"{cost.race_epochs(search, 'exact')[1]:.1f}",
        str(search.epochs),
        str(search.starts),
    )


def test_the_search_is_counted() -> None:
    one = changed(search={"weights": [4, 9], "starts": 10, "rounds": 3})
    jobs = cost.search_networks(one, 9, 4)
    assert (jobs.jobs, jobs.runs) == (12, totals(9)[9] * 30)
    assert Work("polish", 1, 24) in jobs.work


def test_images_of_digits_are_as_many_as_there_are() -> None:
    one = study.read(config())
    sizes = {name: getattr(one.digits, name) for name in ("calibration", "validation", "test")}
    data = datasets.digits(one.digits.seed, sizes)
    assert cost.images_of(one, "digits") == {
        split: len(data.of(split)[1]) for split in datasets.SPLITS
    }
    assert cost.images_of(one, "mine.py:images") is None
    pictures = cost.images_of(one, "cifar10")
    assert pictures == {"fit": 40_000, "calibration": 5_000, "validation": 5_000, "test": 10_000}


def test_the_size_of_a_dense_classifier_is_its_number_of_weights() -> None:
    design = Design("fc", (20, 7), (1, 8, 8), 10, torch.zeros(1).numpy(), torch.ones(1).numpy())
    assert cost.size_of("fc", [20, 7], "digits") == int(prunable(Network(design)).sum())
    assert cost.size_of("vgg16", [], "cifar10") == 1
    assert cost.size_of("resnet20", [], "cifar10") == cost.size_of("resnet20", [16], "cifar10")


def test_classifiers_are_counted() -> None:
    one = study.read(config())
    trained = cost.train_network(one, "dense")
    fit = 1797 - 900
    assert trained.steps == 60 * (fit // 128)
    given = changed(networks={"dense": {"state_dict": "a.pt"}})
    assert cost.train_network(given, "dense").steps == 0
    assert cost.spectrum(one, "dense", "ggn").steps == (2 + 12) * 200 + 64
    assert cost.spectrum(one, "dense", "hessian").steps == 2 * 2000 + 64
    # The dense network and six rounds, each of which leaves 60%.
    assert cost.round_limits(one, "dense").steps == 7 * ((2 + 12) * 200 + 64)
    (work,) = cost.sweep_network(one, "conv").work[1:]
    assert work.amount == pytest.approx(200 * (fit + 300 + 300) / 3)


def test_methods_on_classifiers_are_counted() -> None:
    """As each says: rounds down to the least density, twice for scores and weights, or none."""
    one = study.read(config())
    once = 60 * ((1797 - 900) // 128)
    expected = {"imp": (7, 7 * once), "rare_gems": (8, 8 * once), "rare_gems_l2": (8, 8 * once)}
    expected |= {"smart_ratio": (4, 4 * once), "reoptimised": (0, 0), "fine_tuned": (7, 7 * 300)}
    found = {
        name: cost.prune_network(one, "dense", choice, one.baselines.densities)
        for name, choice in one.baselines.choices.items()
    }
    assert {name: (jobs.runs, jobs.steps) for name, jobs in found.items()} == expected


def test_memory_grows_with_images_and_networks() -> None:
    paper, mine = overlaid("paper"), {"data": "mine.py:images", "architecture": "fc", "widths": [3]}
    assert cost.megabytes(study.read(config()), "dense", 4000) == 4001
    # 60,000 images of 3 x 32 x 32 thrice; what resnet18 keeps of 128 of them, and half as much.
    assert cost.megabytes(paper, "resnet18", 4000) == 4000 + 553 + 915
    assert cost.megabytes(paper, "resnet50_tiny", 4000) > 4000 + 3 * 1_351 + 13_100
    assert cost.megabytes(changed(networks={"mine": mine}), "mine", 4000) == 4000


# --- Rates ---------------------------------------------------------------------------------------

RATES = Rates(
    {
        ("train fused", "cpu"): [(10, 1.0), (1000, 100.0)],
        ("train fused", "cuda"): [(10, 0.5)],
        ("start", "cpu"): [(1, 3.0)],
    }
)


def test_between_sizes_powers_are_interpolated() -> None:
    for size, seconds in ((1, 1), (10, 1), (100, 10), (1000, 100), (5000, 500)):
        assert RATES.seconds(Work("train fused", size, 2), "cpu") == pytest.approx(2 * seconds)


def test_what_was_not_measured_is_no_number() -> None:
    start, trained = Work("start", 1, 1), Work("train fused", 10, 4)
    jobs = Jobs("a", "b", 1, work=(start, trained))
    assert RATES.of(jobs, "cpu") == 7
    assert RATES.of(jobs, "cuda") == 5  # the start is the CPU's
    unknown = replace(jobs, work=(start, Work("gradient mine mine.py:x", 1, 1)))
    assert RATES.of(unknown, "cpu") is None
    # Scores of a method of one's own are left out, its training is not.
    mine = replace(jobs, work=(*jobs.work, Work("score mine", 10, 1)))
    assert RATES.of(mine, "cpu") == 7


def test_time_limits() -> None:
    jobs = Jobs("a", "b", 2, work=(Work("train fused", 10, 3600),))
    assert cost.minutes(RATES, jobs, "cpu") == cost.LEAST + 60
    assert cost.minutes(RATES, jobs, "cuda") == cost.LEAST + 30
    assert cost.minutes(RATES, replace(jobs, jobs=1, work=(Work("x", 1, 1),)), "cpu") == 720


def test_all_rates_of_the_studies_are_measured_on_a_cpu() -> None:
    """Whatever the default study or the published ones train, but what users bring."""
    rates = Rates.read(cost.MEASURED)
    for whole in (study.read(config()), overlaid("paper")):
        for name in whole.networks:
            for jobs in (
                cost.train_network(whole, name),
                cost.sweep_network(whole, name),
                *(cost.spectrum(whole, name, operator) for operator in whole.spectrum.steps),
            ):
                assert rates.of(jobs, "cpu") is not None, name
        for job in (cost.train_spiral, cost.beam_spiral, cost.geometry, cost.spiral_limits):
            assert rates.of(job(whole), "cpu") is not None
        assert rates.of(cost.search_networks(whole, 9, 1), "cpu") is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rate,size,device,seconds\nstart,1,cpu,-3\n",
        "rate,size,device,seconds\nstart,nan,cpu,3\n",
        "rate,size,device,seconds\nstart,1,cpu\n",
        "rate,size\nstart,1\n",
        "rate,size,device,seconds\nstart,1,cpu,fast\n",
        None,
    ],
)
def test_what_is_no_table_of_rates_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "rates.csv"
    if text is not None:
        path.write_text(text)
    with refused(str(path)):
        Rates.read(path)


def test_rates_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured at least sizes; what comes out is a table of rates that costs are reckoned by."""
    monkeypatch.setattr(measuring, "TRAINED", {3: 4})
    monkeypatch.setattr(measuring, "SCORED", {3: 2})
    monkeypatch.setattr(measuring, "LANCZOS", (50, 10))
    monkeypatch.setattr(measuring, "CLASSIFIERS", [("fc", "digits", [4], 8)])
    table = measuring.measured("cpu", measuring.KINDS)
    table.to_csv(tmp_path / "rates.csv", index=False)
    known = Rates.read(tmp_path / "rates.csv").points
    assert {device for _, device in known} == {"cpu"}
    names = {rate for rate, _ in known}
    assert names >= {"train fused", "train batched", "gradient fc digits", "score snip"}
    committed = {rate for rate, _ in Rates.read(cost.MEASURED).points}
    assert {name for name in names if not name.startswith("score")} <= committed


# --- The table -----------------------------------------------------------------------------------

PLANNED = [
    Jobs("train", "x", 2, 10, 100, (Work("start", 1, 2), Work("train fused", 10, 3600))),
    Jobs("train", "x", 1, 5, 50, (Work("train fused", 1000, 72),)),
    Jobs("train", "mine", 1, 1, 10, (Work("gradient mine", 1, 1),)),
    Jobs("table", "", 3, 0, 0, (Work("start", 1, 3),), on_device=False),
]


def test_jobs_alike_are_one_line() -> None:
    x, mine, table = cost.lines(PLANNED, RATES)
    assert (x.jobs, x.runs, x.steps) == (3, 15, 150)
    assert x.cpu == 6 + 3600 + 7200
    assert x.longest == 7200
    assert (mine.cpu, mine.gpu, mine.longest) == (None, None, None)
    assert (table.cpu, table.gpu) == (9, 0)


def test_what_is_told() -> None:
    text = cost.told(cost.lines(PLANNED, RATES))
    rows = text.splitlines()
    assert rows[1].split() == ["train", "x", "3", "15", "150", "3", "1.5", "2.0", "h"]
    assert rows[2].count("not measured") == 3
    assert "7 jobs with 16 training runs." in rows
    assert "On CPU cores: 3.0 hours, without the line that was not measured." in rows
    assert "On GPUs: 1.5 hours, without the line that was not measured." in rows
    no_gpu = Rates({key: points for key, points in RATES.points.items() if key[1] == "cpu"})
    assert "On GPUs: not measured" in cost.told(cost.lines(PLANNED, no_gpu))


def test_the_step_prints_what_is_planned_and_what_was_done(tmp_path: Path) -> None:
    rates = tmp_path / "rates.csv"
    rows = [f"{rate},{s},{d},{t}" for (rate, d), p in RATES.points.items() for s, t in p]
    rates.write_text("\n".join(["rate,size,device,seconds", *rows]))
    done = tmp_path / "benchmarks" / "train"
    done.mkdir(parents=True)
    (done / "x-1.jsonl").write_text('{"s": 10.0, "cpu_time": 7.5}\n')
    (done / "x-2.jsonl").write_text('{"s": 0.5, "cpu_time": "NA"}\n')
    plan = json.dumps([jobs.plain for jobs in PLANNED])
    command = [sys.executable, str(ROOT / "steps" / "cost.py"), "--plan", plan]
    command += ["--rates", str(rates), "--benchmarks", str(done.parent), "--not-counted", "novel"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.startswith(cost.told(cost.lines(PLANNED, RATES)))
    assert "Not counted, for nothing is known of it: novel." in out
    assert out.splitlines()[-1].split()[:6] == ["train", "2", "of", "4", "8", "s"]


def test_a_plan_survives_json() -> None:
    assert [Jobs.parsed(json.loads(json.dumps(jobs.plain))) for jobs in PLANNED] == PLANNED
