"""Real runs of Snakemake: the smoke study from nothing, and what changes make it do again."""

from pathlib import Path

import pandas as pd
import pytest
import yaml  # type: ignore[import-untyped]

from sparselimit.figures.registry import MODULES
from sparselimit.shards import collapsed
from sparselimit.tables import TABLES
from tests.unit.test_provenance import Page
from tests.workflow.conftest import Workflow, copy_of_the_project, jobs_by_rule

pytestmark = pytest.mark.workflow

# What hangs on any run: accounts of all that was done.
AFTER_RUNS = dict.fromkeys(
    (
        *("table_outcomes", "figure_outcomes", "figure_stuck", "table_extent", "overview"),
        *("provenance", "all"),
    ),
    1,
)
# What hangs on the runs of pruning methods: the tables made from them, the figures made from those.
AFTER_PRUNING = AFTER_RUNS | dict.fromkeys(
    (
        *("beam_spiral", "table_from_above", "table_bracket"),
        *("spiral_limits", "table_meeting", "figure_meeting", "table_answers", "figure_answer"),
        *("table_methods", "table_thresholds", "table_success", "table_connectivity"),
        *("table_equal_budget", "figure_frontier", "figure_widths", "figure_connectivity"),
        "figure_overparameterisation",
        *("figure_gap", "figure_success", "figure_repair", "explorer"),
    ),
    1,
)


def test_smoke_study_makes_every_table_and_figure(finished: Workflow) -> None:
    tables = {path.stem: pd.read_csv(path) for path in finished.folder.glob("results/tables/*.csv")}
    assert tables.keys() == TABLES.keys()
    # Nothing so small solves the task: of no accuracy is a network known.
    assert {name for name, table in tables.items() if table.empty} == {"known"}
    figures = {path.stem for path in finished.folder.glob("results/figures/*.svg")}
    assert figures == MODULES.keys()
    assert (finished.folder / "report.html").stat().st_size > 100_000

    methods = tables["methods"]
    assert set(methods.method) == {"dense", "imp", "snip", "random_imp", "random_snip"}
    assert set(methods.study) == {"dense", "overparameterisation", "optimal_width"}
    pruned = methods[methods.method != "dense"]
    assert (pruned.weights == pruned.target).all()
    assert list(tables["frontier"].networks) == [2, 1, 7, 9, 24]
    blocks = tables["blocks"].drop_duplicates(["search", "weights"])
    assert blocks.groupby("search").runs.sum().to_dict() == {"first_phase": 3, "second_phase": 4}
    assert set(tables["bounds"].network) == {"dense", "sparse", "conv"}
    baselines = tables["baselines"]
    assert set(baselines.network) == {"dense"}
    assert set(baselines.method) == {"dense", "one_shot", "imp", "rare_gems", "fine_tuned"}


def test_every_figure_leads_to_the_files_behind_it(finished: Workflow) -> None:
    """And every table; each way ends at files that tell all there is to tell."""
    results = finished.folder / "results"
    page = Page((results / "provenance.html").read_text())
    files = pd.read_csv(results / "provenance.csv").set_index("file")
    assert files.notna().drop(columns="made_from").all(axis=None)
    patterns = {collapsed([file])[0] for file in files.index}
    for kind, suffix in (("figure", "svg"), ("table", "csv")):
        names = {path.stem for path in results.glob(f"{kind}s/*.{suffix}")}
        assert {f"{kind}-{name}" for name in names} == {a for a in page.links if a.startswith(kind)}
        for name in names:
            behind = {anchor for anchor in page.behind(f"{kind}-{name}") if "/" in anchor}
            assert behind, name
            assert behind <= patterns
    # What was made from nothing: data, and what is drawn at random.
    first = set(files.index[files.made_from.isna()])
    assert first == {"results/data/spiral.h5", "results/data/digits.h5", "results/geometry.h5"}
    on_disk = {str(file.relative_to(finished.folder)) for file in results.rglob("*.h5")}
    assert set(files.index) == on_disk


def test_nothing_is_left_behind(finished: Workflow) -> None:
    results = finished.folder / "results"
    assert not list(results.rglob("*.tmp"))
    assert all(log.is_file() for log in finished.folder.glob("logs/**/*.log"))
    assert list(finished.folder.glob("benchmarks/*.jsonl"))


def test_a_rerun_does_nothing(finished: Workflow) -> None:
    assert finished.planned() == {}


def test_a_touched_file_reruns_nothing(finished: Workflow) -> None:
    (finished.folder / "steps/sparselimit/spiral.py").touch()
    assert finished.planned() == {}


def test_an_option_of_a_method_reruns_that_method(finished: Workflow) -> None:
    planned = finished.planned("prune: {methods: {imp: {prunings: 10}}}")
    assert planned == {"prune_spiral": 2, **AFTER_PRUNING}


def test_an_option_of_a_baseline_reruns_that_baseline(finished: Workflow) -> None:
    after = (
        *("round_limits", "table_rounds"),
        *("table_baselines", "table_reached", "table_hyperparameters"),
        *("table_outcomes", "table_extent", "figure_outcomes", "figure_stuck"),
        *("figure_baselines", "figure_rounds", "overview", "provenance", "all"),
    )
    planned = finished.planned("baselines: {methods: {imp: {fraction: 0.5}}}")
    assert planned == {"prune_network": 1, **dict.fromkeys(after, 1)}


def test_the_device_reruns_nothing(finished: Workflow) -> None:
    assert finished.planned("device: cpu") == {}


def test_a_new_target_leaves_search_and_limits_alone(finished: Workflow) -> None:
    planned = finished.planned("prune: {studies: {overparameterisation: {targets: [12, 14]}}}")
    assert planned == {"prune_spiral": 2, **AFTER_PRUNING}


def test_an_edited_method_reruns_that_method(finished: Workflow) -> None:
    file = finished.folder / "steps/sparselimit/pruning/snip.py"
    original = file.read_text()
    file.write_text(original + "\n# An edit.\n")
    try:
        planned = finished.planned()
    finally:
        file.write_text(original)
    assert planned == {"prune_spiral": 2, **AFTER_PRUNING}


def test_one_more_weight_searches_only_that(finished: Workflow) -> None:
    planned = finished.planned("search: {weights: [4, 9]}")
    assert planned["search_networks"] == 1
    # The study of the optimal width prunes what the search finds.
    assert planned["prune_spiral"] == 2
    assert planned["spectrum"] == 0


def test_a_further_round_searches_only_with_new_starts(finished: Workflow) -> None:
    assert finished.planned("search: {rounds: 2}")["search_networks"] == 5


def test_a_method_of_ones_own_appears_in_tables_and_figures(finished: Workflow) -> None:
    """One file with one function, one line in the study; nothing else is done again."""
    file = finished.folder / "steps/sparselimit/pruning/mine.py"
    file.write_text(
        '"""Magnitude at initialisation, to some power."""\n\n\n'
        "def saliency(problem, *, power: float = 1.0):\n"
        '    """|w|^power."""\n'
        "    return problem.weights.abs() ** power\n"
    )
    overlay = "prune: {methods: {mine: {power: 2.0}, snip: null}}"
    tables = ("methods", "success", "connectivity", "equal_budget", "thresholds")
    try:
        assert finished.planned(overlay) == {"prune_spiral": 2, **AFTER_PRUNING}
        wanted = [f"results/tables/{name}.csv" for name in tables]
        done = finished.smoke(*wanted, "results/figures/widths.svg", overlay=overlay)
        assert done.returncode == 0, done.stdout + done.stderr
        for name in tables:
            table = pd.read_csv(finished.folder / f"results/tables/{name}.csv")
            assert "mine" in set(table["source" if name == "thresholds" else "method"])
    finally:
        file.unlink()
        restored = finished.smoke("all")
    assert restored.returncode == 0, restored.stdout + restored.stderr


def test_a_page_about_one_network_is_made_when_asked_for(finished: Workflow) -> None:
    done = finished.smoke("results/limits/conv/report.html")
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs_by_rule(done.stdout + done.stderr) == {"network_page": 1}
    assert "How far can conv" in (finished.folder / "results/limits/conv/report.html").read_text()


def test_the_file_of_an_initial_network_is_an_input(tmp_path: Path) -> None:
    """What starts from it is made again when it is replaced, and nothing is begun without it. The
    search from above there trains as the study does."""
    workflow = copy_of_the_project(tmp_path)
    start = {"initial": "start.pt", "accuracy": None}
    pruned: dict[str, object] = {**start, "networks": [3], "targets": [12], "control": False}
    pruned |= {"learning_rates": [0.2, 0.1], "schedules": ["step"]}
    blocks = {**start, "widths": [2, 1, 1], "runs_per_job": 100}
    overlay = {"prune": {"studies": {"given": pruned}}, "blocks": {"given": blocks}}
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    made = (
        "results/prune/given/imp.h5",
        "results/prune/given/snip.h5",
        "results/search/beam-given.h5",
        "results/blocks/given/shard-000-of-001.h5",
    )
    for name in ("results/data/spiral.h5", *made):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    how = "--dry-run", "--printshellcmds", "--configfile", "studies/smoke.yaml", "overlay.yaml"
    command = *how, "--", *made
    without = workflow.snakemake(*command)
    assert without.returncode == 1
    assert "MissingInputException" in without.stdout + without.stderr
    (tmp_path / "start.pt").touch()
    done = workflow.snakemake(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    planned = jobs_by_rule(done.stdout + done.stderr)
    assert planned == {"prune_spiral": 2, "beam_given": 1, "search_blocks": 1}
    assert done.stdout.count("Updated input files: start.pt") == 3
    (beam,) = (line for line in done.stdout.splitlines() if "beam_spiral.py" in line)
    assert "--learning-rate 0.2 --schedule step --epochs 1 " in beam


def test_larger_blocks_rerun_one_search(finished: Workflow) -> None:
    planned = finished.planned("blocks: {first_phase: {most_parameters: 14}}")
    assert planned == {"search_blocks": 1, "table_blocks": 1, **AFTER_RUNS}


def test_a_study_without_blocks_has_no_table_of_them(finished: Workflow) -> None:
    assert finished.planned("blocks: {first_phase: null, second_phase: null}") == AFTER_RUNS


def test_a_study_of_the_spiral_alone(finished: Workflow) -> None:
    """No table of classifiers, nor a figure of such tables; what counts everything counts less."""
    alone = "networks: {dense: null, sparse: null, conv: null}\nbaselines: {networks: []}"
    assert finished.planned(alone) == {**AFTER_RUNS, "table_splits": 1}


def test_a_removed_method_disappears(finished: Workflow) -> None:
    planned = finished.planned("prune: {methods: {snip: null}}")
    assert planned == AFTER_PRUNING


def test_one_target(finished: Workflow) -> None:
    wanted = finished.folder / "results/train/spiral.h5"
    before = wanted.read_bytes()
    wanted.unlink()
    done = finished.smoke("results/train/spiral.h5")
    assert done.returncode == 0, done.stderr
    assert len(wanted.read_bytes()) == len(before)


@pytest.mark.parametrize(
    ("overlay", "line"),
    [
        ("prune: {methods: {impp: {}}}", "pruning method 'impp' is unknown: use one of force, "),
        ("prune: {methods: {imp: {pruning: 3}}}", "did you mean prunings?"),
        ("search: {weights: [9, 8]}", "config: search: weights: [9, 8] must be a range"),
        ("blocks: {first_phase: {most_weights: 9}}", "config: blocks.first_phase: most_weights, "),
        ("runs: {epoch: 3}", "config: runs.epoch: is not an option"),
        ("networks: {big: {data: cifar10}}", "config: networks.big.architecture: is missing"),
    ],
)
def test_a_wrong_config_is_one_line_before_the_graph(
    workflow: Workflow, overlay: str, line: str
) -> None:
    done = workflow.smoke("all", overlay=overlay)
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert line in output
    assert "Traceback" not in output
    assert "Building DAG" not in output


@pytest.mark.parametrize(
    "file",
    [
        "spectrum/dense-hessian.h5",
        "search/beam-overparameterisation.h5",  # its start is random
        "blocks/first_phase/shard-900-of-001.h5",
        "baselines/dense/imp/part-001-of-002.h5",  # its rounds are one job, those of others two
    ],
)
def test_what_the_study_does_not_have_no_rule_makes(workflow: Workflow, file: str) -> None:
    (workflow.folder / "overlay.yaml").write_text(
        "spectrum: {steps: {hessian: null}}\nbaselines: {densities_per_job: 1}"
    )
    configs = ("--configfile", "studies/smoke.yaml", "overlay.yaml")
    done = workflow.snakemake("--dry-run", *configs, "--", f"results/{file}")
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert "No rule to produce" in output
    assert "Traceback" not in output
