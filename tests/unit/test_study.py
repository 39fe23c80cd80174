"""The configuration: the files in the repository are valid, and a wrong one is told in one line."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from sparselimit import study
from sparselimit.networks.architectures import WIDTHS
from tests.unit.refusals import refused

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config.yaml"
DELETED = object()

Config = dict[str, Any]
Keys = tuple[str, ...]  # the way to an entry of a configuration


def config() -> Config:
    return yaml.safe_load(CONFIG.read_text())


def merged(base: Config, overlay: Config) -> Config:
    """Overlaid as Snakemake overlays config files: mappings entry by entry, all else replaced."""
    both = {
        key: merged(base[key], value)
        for key, value in overlay.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | overlay | both


def changed(path: Keys, value: object) -> Config:
    """The default configuration with one entry replaced, added or deleted."""
    whole = config()
    node = whole
    for key in path[:-1]:
        node = node[key]
    if value is DELETED:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return whole


# --- What is in the repository -------------------------------------------------------------------


def test_the_default_study_is_valid() -> None:
    assert study.read(config()).model_dump(exclude_unset=True) == config()


@pytest.mark.parametrize("overlay", sorted(ROOT.glob("studies/*.yaml")), ids=lambda p: p.stem)
def test_overlays_are_valid_and_change_something(overlay: Path) -> None:
    base = config()
    whole = merged(base, yaml.safe_load(overlay.read_text()))
    assert study.read(whole) != study.read(base)
    assert whole.keys() == base.keys()


def test_schema_is_fresh() -> None:
    """If it is not: python steps/sparselimit/study.py"""
    assert (ROOT / "studies" / "schema.json").read_text() == study.schema()


def test_schema_takes_what_the_models_take() -> None:
    schema = json.loads(study.schema())
    jsonschema.validate(config(), schema)
    for wrong in (changed(("runs", "epoch"), 5), changed(("runs", "epochs"), "5")):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def _fields(model: type[study.Model], path: Keys = ()) -> Iterator[Keys]:
    """The paths of all fields of a model, `*` for the keys of a mapping of models."""
    for name, field in model.model_fields.items():
        here = (*path, name)
        yield here
        for annotation, inside in ((field.annotation, here), *_entries(field.annotation, here)):
            if isinstance(annotation, type) and issubclass(annotation, study.Model):
                yield from _fields(annotation, inside)


def _entries(annotation: object, path: Keys) -> list[tuple[object, Keys]]:
    return [(entry, (*path, "*")) for entry in get_args(annotation)]


def _key_lines(node: yaml.Node, path: Keys = ()) -> Iterator[tuple[Keys, int]]:
    """The paths of all keys of a YAML mapping, with their lines."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line
            yield from _key_lines(value, (*path, key.value))


def test_every_option_stands_in_the_default_study_with_a_comment() -> None:
    lines = CONFIG.read_text().splitlines()
    keys = dict(_key_lines(yaml.compose(CONFIG.read_text())))
    fields = list(_fields(study.Study))
    assert len(fields) > 50
    for field in fields:
        same = [path for path in keys if _matches(path, field)]
        assert same, f"{'.'.join(field)} is not in config.yaml"
        section = keys[field[:1]]
        explained = lines[section - 1].startswith("# ") or any(
            " # " in lines[keys[path]] for path in same
        )
        assert explained, f"{'.'.join(field)} has no comment"


def _matches(path: Keys, field: Keys) -> bool:
    return len(path) == len(field) and all(
        want in ("*", have) for have, want in zip(path, field, strict=True)
    )


def test_a_study_is_read_without_torch() -> None:
    program = "import sys; from sparselimit import study; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT / "steps")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


# --- Overlays ------------------------------------------------------------------------------------


def test_the_networks_of_the_literature_are_trained_as_published() -> None:
    """Epochs, learning rate, L1 penalty, warm-up, schedule and milestones of the published code."""
    networks = overlaid("paper").networks
    steps = ("step", [60, 120, 160], 0.5)
    for name, recipe in {
        "fc5": (0.01, 5e-5, 0, "constant"),
        "fc12": (0.01, 5e-5, 0, "constant"),
        "alexnet": (0.01, 3e-5, 5, *steps),
        "vgg16": (0.01, 1e-4, 5, "constant"),
        "resnet18": (0.1, 5e-5, 5, "cosine"),
        "resnet50": (0.1, 2e-5, 5, "cosine"),
    }.items():
        one = networks[name]
        schedule = (one.schedule, one.milestones, one.factor)
        found = (one.learning_rate, one.l1, one.warmup, *schedule[: len(recipe) - 3])
        assert found == recipe, name
        common = (one.epochs, one.batch_size, one.momentum, one.weight_decay, one.augment)
        assert common == (200, 128, 0.9, 0, "crop_flip")
        assert one.schedule == "constant" or one.protocol == "published"
        assert one.data == ("cifar100" if name.startswith("resnet") else "cifar10")
    assert {one.architecture for one in networks.values()} == {
        name for name in WIDTHS if name not in ("fc", "conv")
    }


def test_a_network_of_ones_own_needs_three_lines() -> None:
    mine = {"architecture": "mine.py:network", "state_dict": "mine.pt", "data": "mine.py:images"}
    network = study.read(merged(config(), {"networks": {"mine": mine}})).networks["mine"]
    assert network.model_dump(exclude_unset=True) == mine
    assert network.widths == []


def test_what_an_entry_leaves_out_is_as_in_the_first() -> None:
    networks = study.read(config()).networks
    first = networks["dense"]
    few = {"data": "digits", "architecture": "fc", "widths": first.widths}
    assert study.Network.model_validate(few) == first


def test_null_takes_an_entry_out() -> None:
    overlay = {
        "prune": {"methods": {"snip": None}},
        "networks": {"sparse": None},
        "spectrum": {"steps": {"hessian": None}},
    }
    whole, found = study.read(config()), study.read(merged(config(), overlay))
    assert whole.prune.methods.keys() - found.prune.methods.keys() == {"snip"}
    assert whole.networks.keys() - found.networks.keys() == {"sparse"}
    assert whole.spectrum.steps.keys() - found.spectrum.steps.keys() == {"hessian"}


def test_a_method_without_options_has_its_defaults() -> None:
    assert study.read(changed(("prune", "methods", "imp"), {})).prune.methods["imp"] == {}


# --- How much a study asks for -------------------------------------------------------------------


def overlaid(name: str) -> study.Study:
    """The study of an overlay in studies/."""
    overlay = yaml.safe_load((ROOT / "studies" / f"{name}.yaml").read_text())
    return study.read(merged(config(), overlay))


# Numbers of runs by group: of pruning, and of each search of blocks.
PUBLISHED = {
    "fixed_95": (9_720, {"first": 558, "second": 2_496}),
    "fixed_995": (11_340, {"first": 2_034, "second": 70_584}),
    "random": (18_954, {"first": 24_576, "95_second": 155_952, "995_second": 189_624}),
}


def test_the_paper_study_has_the_published_runs() -> None:
    """As Zhang & Papyan (ICML 2024) count them: 485,838 in all."""
    paper = overlaid("paper")
    total = 0
    for group, (pruned, tried) in PUBLISHED.items():
        studies = [one for name, one in paper.prune.studies.items() if name.startswith(group)]
        assert sum(9 * one.count(paper.runs) for one in studies) == pruned
        searches = {phase: paper.blocks[f"{group}_{phase}"].count(paper.runs) for phase in tried}
        assert searches == tried
        total += pruned + sum(tried.values())
    assert total == 12_774 + 83_958 + 389_106 == 485_838


def test_the_paper_study_has_nothing_but_the_published_runs() -> None:
    paper = overlaid("paper")
    methods = "imp imp_lth rigl snip grasp synflow iter_snip force prospr"
    assert set(paper.prune.methods) == set(methods.split())
    assert not any(one.control for one in paper.prune.studies.values())
    assert all(name.startswith(tuple(PUBLISHED)) for name in paper.prune.studies)
    assert set(paper.blocks) == {
        f"{group}_{phase}" for group, (_, tried) in PUBLISHED.items() for phase in tried
    }


def test_the_paper_study_has_the_published_runs_at_every_width() -> None:
    paper = overlaid("paper")
    runs = {
        (name.split("_")[0], width): one.model_copy(update={"networks": [width]}).count(paper.runs)
        for name, one in paper.prune.studies.items()
        if name != "fixed_995"
        for width in one.networks
    }
    wider = {("random", width): 207 for width in (6, 7, 8, 16, 32, 64, 128, 256)}
    narrow = {("random", 3): 108, ("random", 4): 144, ("random", 5): 198}
    assert runs == {("fixed", 3): 540, ("fixed", 16): 540} | narrow | wider
    fixed = paper.prune.studies["fixed_995"]
    assert fixed.networks == [6, 16]
    assert fixed.count(paper.runs) == 2 * 630


def test_the_paper_study_is_trained_as_published() -> None:
    paper = overlaid("paper")
    assert (paper.runs.protocol, paper.runs.epochs, paper.runs.batch_size) == ("published", 50, 128)
    for name, one in paper.prune.studies.items():
        trained = one.trained_as(paper.runs)
        assert trained.learning_rates == [0.05, 0.1, 0.2]
        assert trained.schedules == ["cosine", "step", "constant"]
        assert trained.seeds == (5 if "fixed" in name else 1)
        assert one.initial == ("searched" if "fixed" in name else "random")
        # All targets were below the number of weights.
        weights = {3 * int(width) + 2 * int(width) ** 2 for width in one.networks}
        assert weights.isdisjoint(one.targets)
    for name, search in paper.blocks.items():
        trained = search.trained_as(paper.runs)
        assert trained.learning_rates == ([0.05] if "995_second" in name else [0.05, 0.1])
        assert trained.schedules == ["cosine", "step", "constant"]
        assert trained.seeds == 1
        assert search.initial == ("searched" if "fixed" in name else "random")


def test_runs_of_a_study_are_counted() -> None:
    whole = study.read(config())
    one = whole.prune.studies["overparameterisation"]
    # Width 3 has 27 weights and is not pruned to 32; with the controls, twice as many. There are
    # two learning rates, one schedule, and the study's own number of seeds.
    assert one.count(whole.runs) == 2 * (4 + 5 + 5) * 2 * 1 * 4
    assert one.model_copy(update={"seeds": 3}).count(whole.runs) == 2 * 14 * 6
    assert whole.prune.studies["optimal_start"].count(whole.runs) == 4 * 2 * 1 * 8


def test_a_search_of_blocks_is_cut_into_jobs_that_have_networks() -> None:
    whole = study.read(config())
    search = whole.blocks["first_phase"]
    assert search.count(whole.runs) == 93 * 2
    for runs_per_job, jobs in ((3000, 1), (186, 1), (185, 2), (62, 3), (1, 93)):
        cut = search.model_copy(update={"runs_per_job": runs_per_job})
        assert cut.shards(whole.runs) == jobs


# --- Wrong configurations ------------------------------------------------------------------------

STUDY = ("prune", "studies", "overparameterisation")
BLOCKS = ("blocks", "second_phase")
STUDY_OF_SEARCHED = config()["prune"]["studies"]["optimal_width"] | {"accuracy": None}
BLOCKS_OF_SEARCHED = config()["blocks"]["second_phase"] | {"initial": "searched"}
NETWORK = config()["networks"]["dense"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("device",), "gpu", ["'auto', 'cpu' or 'cuda'", "'gpu'"]),
        (("runs",), None, ["(it is None)"]),
        (("runs",), DELETED, ["is missing"]),
        (("rnus",), {}, ["is not an option", "networks", "runs"]),
        (("runs", "epochs"), DELETED, ["is missing"]),
        (("runs", "epochs"), 0, ["greater than or equal to 1", "(it is 0)"]),
        (("runs", "epochs"), "50", ["integer", "(it is '50')"]),
        (("runs", "epochs"), 50.5, ["integer", "(it is 50.5)"]),
        (("runs", "epochs"), True, ["integer", "(it is True)"]),
        (("runs", "epoch"), 50, ["is not an option (known here: ", "epochs"]),
        (("runs", "protocol"), "Exact", ["'exact' or 'published'"]),
        (("runs", "learning_rates"), [], ["at least 1 item"]),
        (("runs", "learning_rates"), [0.1, 0.1], ["the same value stands twice"]),
        (("runs", "learning_rates"), [0.1, -0.1], ["greater than 0", "(it is -0.1)"]),
        (("runs", "learning_rates"), [float("nan")], ["finite"]),
        (("runs", "learning_rates"), ["5e-2"], ["number", "(it is '5e-2')"]),
        (("runs", "schedules"), ["cosin"], ["'cosine', 'step' or 'constant'"]),
        (("runs", "batch_size"), 50_000, ["less than or equal to 49982"]),
        (("runs", "protocol"), "published", ["imp_effective, snip_effective count", "null"]),
        (("train", "widths"), 3, ["list", "(it is 3)"]),
        ((*STUDY, "targets"), [10, 0], ["greater than or equal to 1"]),
        ((*STUDY, "networks"), [3, "best"], ["integer or 'searched'", "'best'"]),
        ((*STUDY, "networks"), [3, 1], ["width 1 has 5 weights", "add a target"]),
        (STUDY, STUDY_OF_SEARCHED, ["say by `accuracy` which network is meant"]),
        ((*STUDY, "accuracy"), 95, ["less than or equal to 1"]),
        (("prune", "methods", "dense"), {}, ["the name is taken"]),
        (("prune", "methods", "blocks"), {"method": "imp"}, ["the name is taken"]),
        (("prune", "methods", "random_imp"), {}, ["the name is taken"]),
        (("prune", "methods", "mine"), {"method": "snap"}, ["'snap' is unknown"]),
        (("prune", "methods", "imp"), {"count": "paths"}, ["none of weights, effective"]),
        (("prune", "methods", "snap"), {}, ["'snap' is unknown", "imp, "]),
        (("prune", "methods", "Imp"), {}, ["match pattern", "(it is 'Imp')"]),
        (
            ("prune", "methods", "imp"),
            {"pruning": 20},
            ["imp has no option 'pruning'", "did you mean prunings?"],
        ),
        (("prune", "methods", "imp"), {"prunings": "many"}, ["prunings: 'many' is not int"]),
        (
            ("prune", "methods", "imp"),
            {"prunings": [1]},
            ["prunings: ", "integer or ", "(it is [1])"],
        ),
        *(
            (("baselines", "methods", "imp"), {"fraction": wrong}, [f"imp.py: trainings {how}"])
            for wrong, how in (
                (1.0, "fails for fraction 1.0"),
                (1.5, "fails for fraction 1.5"),
                (0.0, "fails for fraction 0.0"),
                (-0.5, "gives (-6, 1) for fraction -0.5"),
            )
        ),
        (("baselines", "methods", "fine_tuned"), {"steps": -1}, ["gives (7, -1) for steps -1"]),
        (("prune", "methods", "imp"), {"prunings": 1}, ["1 prunings", "at least 2"]),
        (("prune", "methods", "imp_lth"), {"trainings": 1}, ["1 trainings", "at least 2"]),
        (("prune", "methods", "rigl"), {"count": "effective"}, ["count effective", "use weights"]),
        (("prune", "methods", "rigl"), {"drop": 2.0}, ["drop 2.0", "a drop in [0, 1]"]),
        (("search", "rungs"), [16, 4], ["[16, 4]", "ascending"]),
        (("search", "rungs"), [4], ["1 rungs, 2 shares"]),
        (("search", "keep"), [0.1, 0.35], ["[0.1, 0.35]", "descending"]),
        (("search", "weights"), [3, 10], ["[3, 10]", "within 4 to 20"]),
        (("search", "weights"), [12, 10], ["[12, 10]"]),
        (("search", "weights"), [4, 99], ["[4, 99]"]),
        (("search", "weights"), [4], ["at least 2 items"]),
        ((*BLOCKS, "widths"), [3, 2], ["at least 3 items"]),
        ((*BLOCKS, "widths"), [3, 2, 17], ["give three from 1 to 16"]),
        ((*BLOCKS, "widths"), [7, 3, 3], ["bound them by most_weights"]),
        ((*BLOCKS, "most_parameters"), 30, ["it bounds dense blocks"]),
        ((*BLOCKS, "most_weights"), 7, ["most_weights 7", "no block has so few"]),
        (BLOCKS, BLOCKS_OF_SEARCHED, ["say by `accuracy` which network is meant"]),
        ((*BLOCKS, "runs_per_job"), 0, ["greater than or equal to 1"]),
        ((*BLOCKS, "starts"), 5, ["is not an option (known here: ", "seeds"]),
        (("digits", "seed"), -1, ["greater than or equal to 0"]),
        (("networks", "dense", "data"), "svhn", ["'svhn' is unknown", "mnist", "file.py:function"]),
        (("networks", "dense", "data"), "cifar10", ["set images.folder"]),
        (("networks", "dense", "architecture"), "resnet", ["'resnet' is unknown", "resnet18"]),
        (("networks", "dense", "widths"), [], ["fc takes at least one of `widths`"]),
        (("networks", "dense", "widths"), [0], ["greater than or equal to 1"]),
        (("networks", "dense", "schedule"), "step", ["`milestones` are for the schedule step"]),
        (("networks", "dense", "milestones"), [3], ["`milestones` are for the schedule step"]),
        (("networks", "dense", "augment"), "flip", ["'none' or 'crop_flip'"]),
        (("networks", "dense", "l1"), -0.1, ["greater than or equal to 0"]),
        (("networks", "dense", "dropout"), 0.1, ["is not an option (known here: ", "widths"]),
        (("networks", "my net"), NETWORK, ["match pattern", "(it is 'my net')"]),
        (("spectrum", "split"), "test", ["'fit' or 'calibration'"]),
        (("spectrum", "steps", "hesian"), 5, ["'hessian' or 'ggn'"]),
        (("spectrum", "steps", "ggn"), 0, ["greater than or equal to 1"]),
        (("spectrum", "steps"), {"hessian": None, "ggn": None}, ["at least 1 item"]),
        (("bounds", "accuracy_tolerance"), None, ["number", "(it is None)"]),
        (("bounds", "tolerances"), [0.0], ["greater than 0"]),
    ],
)
def test_what_is_wrong_is_told_in_one_line(path: Keys, value: object, words: list[str]) -> None:
    """The line names the key, what is wrong and, where it can, what is allowed."""
    with refused("config: " + path[0], path[-1], *words):
        study.read(changed(path, value))


def test_all_labelled_masks_want_a_given_initial_network() -> None:
    entry = config()["blocks"]["second_phase"] | {"labelled": True, "accuracy": 0.9}
    with refused("config: blocks.second_phase: labelled: ", "initial: searched or a file"):
        study.read(changed(("blocks", "second_phase"), entry))
    given = entry | {"initial": "searched"}
    found = study.read(changed(("blocks", "second_phase"), given)).blocks["second_phase"]
    assert found.blocks.count == 4375
    with refused("labelled: ", "no bounds"):
        study.read(changed(("blocks", "second_phase"), given | {"most_weights": 8}))


def test_one_order_of_each_network_is_not_enough_for_given_initial_values() -> None:
    entry = config()["blocks"]["second_phase"] | {"classes": True}
    assert study.read(changed(("blocks", "second_phase"), entry)).blocks["second_phase"].classes
    with refused("config: blocks.second_phase: classes: ", "different experiments"):
        study.read(changed(("blocks", "second_phase"), entry | {"initial": "net.pt"}))


def test_a_search_from_above_begins_above_its_least_target() -> None:
    targets = ("prune", "studies", "optimal_start", "targets")
    assert study.read(changed(targets, [40, 50])).prune.given == ["optimal_start"]
    with refused("config: prune.studies.optimal_start.targets: ", "40", "beam.weights", "50"):
        study.read(changed(targets, [50]))
    # From random initial values there is no such search.
    study.read(changed(("prune", "studies", "optimal_width", "targets"), [50]))


@pytest.mark.parametrize("whole", [None, [], "runs"])
def test_what_is_no_mapping_is_refused(whole: Any) -> None:
    with refused("config: ", "dictionary"):
        study.read(whole)


def test_further_problems_are_counted() -> None:
    wrong = copy.deepcopy(config())
    wrong["runs"]["epochs"] = wrong["runs"]["batch_size"] = 0
    with refused("config: runs.epochs", "[and 1 more]"):
        study.read(wrong)
