"""The scripts in steps/: what they say of themselves, how they refuse, and a whole run of them."""

import json
import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sparselimit import cli, own, spiral, store
from sparselimit.console import progress_bar
from sparselimit.errors import InputError
from sparselimit.search.counting import totals
from tests.unit.refusals import refused

STEPS = Path(__file__).parents[2] / "steps"
SCRIPTS = sorted(path.stem for path in STEPS.glob("*.py"))

Step = Callable[..., int]


def in_a_process(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """A script run as a user runs it: from anywhere, with nothing installed or set."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(STEPS / f"{script}.py"), *map(str, arguments)],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    """Runs a script inside this process, for speed, and returns its exit code."""
    monkeypatch.setattr(logging.root, "handlers", [])  # its log goes to stderr as in a process
    threads = torch.get_num_threads()

    def run(script: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, arguments)])
        try:
            runpy.run_path(str(STEPS / f"{script}.py"), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    yield run
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("steps")


@pytest.fixture(scope="module")
def disc(folder: Path) -> Path:
    """A small data set of two classes in the plane."""
    x = np.random.default_rng(0).normal(size=(256, 2)).astype(np.float32)
    y = (np.linalg.norm(x, axis=1) > 1).astype(np.int64)
    path = folder / "disc.h5"
    store.write(path, "points", {"x": x, "y": y, "split": np.zeros_like(y)}, config={})
    return path


# --- Help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_explains_itself(script: str) -> None:
    done = in_a_process(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    docstring = (STEPS / f"{script}.py").read_text().split('"""')[1]
    said = " ".join(done.stdout.split())
    assert " ".join(docstring.split()) in said
    output = "[--output OUTPUT]" if script in ("cost", "score", "verify") else "--output OUTPUT"
    assert said.startswith(f"usage: {script}.py [-h] {output}")
    assert "file to write" in said


# --- Exit codes ----------------------------------------------------------------------------------


def assert_one_line(text: str, *words: str) -> None:
    assert text.count("\n") == 1, text
    assert [word for word in words if word not in text] == [], text


def test_bad_input_is_told_in_one_line_and_exit_code_2(folder: Path) -> None:
    output = folder / "never.h5"
    missing = in_a_process("search_frontier", folder / "missing.h5", "--output", output)
    assert missing.returncode == 2
    assert_one_line(missing.stderr, "search_frontier.py: ", "missing.h5", "no such file")
    splits = in_a_process("data_digits", "--test", 5000, "--output", output)
    assert splits.returncode == 2
    assert_one_line(splits.stderr, "data_digits.py: ", "'test': 5000", "none to fit")
    place = in_a_process("data_digits", "--output", "/dev/null/digits.h5")
    assert place.returncode == 2
    assert_one_line(place.stderr, "/dev/null/digits.h5", "cannot be written")
    device = in_a_process(
        "train_spiral", "--widths", 3, "--data", "x", "--device", "gpu", "--output", output
    )
    assert device.returncode == 2
    assert_one_line(device.stderr, "train_spiral.py: ", "--device", "gpu", "cuda")
    assert not output.exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("data_spiral", ["--output", "required"]),
        (
            "data_images --name cifar10 --folder {folder} --output {out}",
            ["cifar10", "{folder}", "download: true"],
        ),
        ("data_images --name svhn --folder {folder} --output {out}", ["svhn", "tinyimagenet"]),
        ("data_own --loader {folder}/mine.py:images --output {out}", ["there is no file"]),
        ("data_own --loader images --output {out}", ["images", "file.py:function"]),
        ("train_spiral --widths 3 --data {folder}/none.h5 --output {out}", ["none.h5", "no such"]),
        ("train_spiral --widths 0 --data {disc} --output {out}", ["--widths", "0"]),
        (
            "train_spiral --widths 3 --data {disc} --learning-rates -0.1 --output {out}",
            ["learning_rate", "non-negative"],
        ),
        (
            "train_spiral --widths 3 --data {disc} --batch-size 999 --output {out}",
            ["batch size 999", "256 points"],
        ),
        (
            "prune_spiral --method imp --networks 3 --data {disc} --targets 10 28 --output {out}",
            ["target 28", "27 weights"],
        ),
        (
            "prune_spiral --method magic --networks 3 --data {disc} --targets 10 --output {out}",
            ["--method", "magic", "snip"],
        ),
        (
            'prune_spiral --method imp --options {{"pruning":2}} --networks 3 --data {disc} '
            "--targets 10 --output {out}",
            ["no option 'pruning'", "did you mean prunings?"],
        ),
        (
            "prune_spiral --method imp --options [2] --networks 3 --data {disc} --targets 10 "
            "--output {out}",
            ["--options", "[2]", "JSON object"],
        ),
        (
            "prune_spiral --method imp --options {{2 --networks 3 --data {disc} --targets 10 "
            "--output {out}",
            ["--options", "{{2"],
        ),
        ("search_networks --data {disc} --weights 3 --output {out}", ["no network of 3 weights"]),
        (
            "search_networks --data {disc} --weights 6 --shard 2 --shards 2 --output {out}",
            ["shard 2", "0 to 1"],
        ),
        ("search_networks --weights 6 --first-start -5 --output {out}", ["--first-start", "'-5'"]),
        ("search_networks --weights 6 --polish -1 --output {out}", ["--polish", "'-1'"]),
        ("search_networks --weights 6 --keep nan 0.1 --output {out}", ["keep (nan, 0.1)"]),
        ("verify {folder}/none.h5 --rerun 8 1 2", ["--rerun 8 1 2", "give one network"]),
        ("verify {folder}/none.h5 --rerun 8 -1", ["--rerun", "'-1'"]),
        (
            "search_blocks --data {disc} --most-parameters 12 --shard 4 --shards 5 --output {out}",
            ["shard 4 of 5", "none of 3 networks"],
        ),
        ("search_blocks --data {disc} --most-weights 9 --output {out}", ["give widths"]),
        (
            "search_blocks --widths 2 1 1 --labelled --initial searched --most-weights 1 "
            "--output {out}",
            ["labelled: ", "no bounds"],
        ),
        (
            "search_blocks --widths 2 1 1 --labelled --output {out}",
            ["labelled: ", "initial: searched or a file"],
        ),
        (
            "search_blocks --widths 2 1 1 --classes --initial searched --output {out}",
            ["classes: ", "different experiments"],
        ),
        ("search_blocks --data {disc} --widths 3 2 --output {out}", ["--widths", "3 arguments"]),
        (
            "search_blocks --data {disc} --initial searched --output {out}",
            ["searched", "--frontier"],
        ),
        (
            "search_blocks --data {disc} --initial {disc} --output {out}",
            ["disc.h5", "not a state dict"],
        ),
        (
            "train_network --data {disc} --architecture fc --widths 3 --output {out}",
            ["no points of the split 'validation'"],
        ),
        (
            "train_network --data {disc} --architecture fc --widths 3 x --output {out}",
            ["--widths", "'x'"],
        ),
        *(
            (
                f"train_network --data {{disc}} --architecture fc --output {{out}} {told}",
                told.split("="),
            )
            for told in (
                *("--learning-rate=-1", "--learning-rate=0", "--learning-rate=nan", "--factor=0"),
                *("--momentum=-1", "--momentum=1", "--weight-decay=-1", "--l1=inf", "--warmup=-1"),
            )
        ),
        (
            "train_network --data {disc} --architecture resnet --output {out}",
            ["architecture 'resnet' is unknown", "resnet18"],
        ),
        (
            "sweep_network --data {disc} --network {disc} --output {out}",
            ["disc.h5", "'points'", "'network'"],
        ),
        ("table --name methods {disc} --output {out}", ["disc.h5", "'points'", "runs"]),
        ("table --name thresholds {disc} --output {out}", ["0 files given where one is needed"]),
        ("table --name nothing {disc} --output {out}", ["--name", "nothing", "methods"]),
        (
            "figure --name search_success {folder}/search_success.csv --output {out}",
            ["search_success.csv", "No such file", "run the step"],
        ),
    ],
)
def test_whatever_is_wrong_is_told_in_one_line(
    step: Step,
    folder: Path,
    disc: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    words: list[str],
) -> None:
    """Before any work is done: nothing is written."""
    places = {"folder": folder, "disc": disc, "out": folder / "out.h5"}
    before = sorted(folder.rglob("*"))
    assert step(*command.format(**places).split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    script = command.split()[0]
    assert_one_line(captured.err, f"{script}.py: ", *(word.format(**places) for word in words))
    assert sorted(folder.rglob("*")) == before


def test_an_error_of_the_code_is_no_bad_input() -> None:
    """It keeps its traceback and ends with exit code 1."""
    program = (
        "from sparselimit import cli\n"
        "def step(arguments):\n    raise KeyError('of the code')\n"
        "cli.run(step, cli.Parser('test', computes=False))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--output", "x"],
        env=os.environ | {"PYTHONPATH": str(STEPS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("KeyError: 'of the code'\n")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused("--device cuda", "no CUDA GPU", "--device cpu"):
        cli._choose_device("cuda", threads)
    assert [cli._choose_device(asked, threads) for asked in ("auto", "cpu")] == ["cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [cli._choose_device(asked, threads) for asked in ("auto", "cuda")] == ["cuda", "cuda"]
    assert cli._choose_device("cpu", threads) == "cpu"


def test_arguments_reach_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    before = torch.get_num_threads()
    try:
        for argv in (
            ["--output", "a.h5"],
            ["--output", "a.h5", "--device", "cpu", "--threads", "2"],
        ):
            monkeypatch.setattr(sys, "argv", ["step.py", *argv])
            parser = cli.Parser("test")
            parser.add_argument("--width", type=cli.positive, default=3)
            cli.run(lambda arguments: seen.update(vars(arguments)), parser)
            assert seen["output"] == Path("a.h5")
            assert seen["device"] in ("cpu", "cuda")
            assert torch.get_num_threads() == seen["threads"]
    finally:
        torch.set_num_threads(before)
    assert (seen["device"], seen["threads"]) == ("cpu", 2)


def test_what_does_not_decide_the_result_is_no_part_of_its_provenance(tmp_path: Path) -> None:
    parser = cli.Parser("test")
    parser.add_argument("--width", type=cli.positive, default=3)
    output = tmp_path / "points.h5"
    arguments = parser.parse_args(["--output", str(output), "--device", "cpu", "--threads", "2"])
    y = np.arange(3)
    cli.write(arguments, "points", {"x": np.zeros((3, 2)), "y": y, "split": 0 * y})
    written = store.read(output, "points")
    assert written.config == {"width": 3}
    assert written.attributes["device"] == "cpu"


@pytest.mark.parametrize("error", [InputError("told"), store.StoreError("told")])
def test_an_input_error_is_told_without_traceback(
    error: InputError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(_: object) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["step.py", "--output", "x"])
    with pytest.raises(SystemExit) as end:
        cli.run(step, cli.Parser("test", computes=False))
    assert end.value.code == 2
    assert capsys.readouterr().err == "step.py: told\n"


def test_progress_in_a_log_is_plain_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 21.0, 21.0, 30.0, 40.0])
    monkeypatch.setattr("sparselimit.console.time.monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO), progress_bar("train", total=40, unit="step") as progress:
        progress.update(10)
        progress.update(11)
        progress.update(19)
    assert caplog.messages == [
        "train: 21 of 40 steps, 21 s, 1 steps/s",
        "train: 40 of 40 steps, 40 s, 1 steps/s",
    ]


# --- Whole runs ----------------------------------------------------------------------------------


def test_from_data_to_the_tables_of_the_spiral(step: Step, folder: Path, disc: Path) -> None:
    run = ("--data", disc, "--epochs", 2, "--batch-size", 32)
    assert step("train_spiral", *run, "--widths", 3, "--seeds", 2, "--output", folder / "d.h5") == 0
    pruned = (
        "--targets",
        12,
        20,
        99,
        "--fitting",
        "--options",
        '{"prunings": 4}',
        "--protocol",
        "exact",
    )
    assert (
        step("prune_spiral", *run, "--method", "imp", "--networks", 3, *pruned,
             "--schedules", "cosine", "constant", "--output", folder / "imp.h5") == 0
    )  # fmt: skip
    shards = []
    for weights, shard, count in ((4, 0, 1), (7, 0, 2), (7, 1, 2)):
        shards.append(folder / f"k{weights}-{shard}.h5")
        place = ("--weights", weights, "--shard", shard, "--shards", count, "--starts", 2)
        assert step("search_networks", *run, *place, "--output", shards[-1]) == 0
    assert step("search_frontier", *shards, "--output", folder / "frontier.h5") == 0

    dense = store.read(folder / "d.h5", "spiral-runs")
    assert dense.table("runs")[["method", "target", "weights", "seed"]].to_numpy().tolist() == [
        ["dense", 27, 27, 0],
        ["dense", 27, 27, 1],
    ]
    imp = store.read(folder / "imp.h5", "spiral-runs")
    assert imp.table("runs").weights.tolist() == [12, 12, 20, 20]
    assert imp.table("runs").schedule.tolist() == ["cosine", "constant"] * 2
    assert imp.config["options"] == {"prunings": 4}
    assert "output" not in imp.config
    frontier = store.read(folder / "frontier.h5", "frontier").table("by_weights")
    assert frontier.weights.tolist() == [4, 7]
    assert frontier.networks.tolist() == [totals(7)[4], totals(7)[7]]
    assert frontier.runs.tolist() == [2 * totals(7)[4], 2 * totals(7)[7]]

    for name, files in {
        "methods": [folder / "d.h5", folder / "imp.h5"],
        "frontier": [folder / "frontier.h5"],
        "search_runs": shards,
        "thresholds": [folder / "frontier.h5", folder / "d.h5", folder / "imp.h5"],
    }.items():
        path = folder / f"{name}.csv"
        assert step("table", "--name", name, *files, "--output", path) == 0
        assert len(pd.read_csv(path)) > 0
        assert path.with_suffix(".html").read_text().startswith("<!DOCTYPE html>")
    methods = pd.read_csv(folder / "methods.csv")
    assert methods[["method", "target", "runs"]].to_numpy().tolist() == [
        ["dense", 27, 2],
        ["imp", 12, 2],
        ["imp", 20, 2],
    ]


def test_from_data_to_the_table_of_blocks(step: Step, folder: Path, disc: Path) -> None:
    """Shards, masks of a block cut from a saved network, and what the table makes of them."""
    run = ("--data", disc, "--epochs", 2, "--batch-size", 32, "--learning-rates", 0.05, 0.1)
    dense = ("--most-parameters", 14, "--seeds", 2, "--protocol", "published")
    shards = [folder / "first" / f"{shard}.h5" for shard in (0, 1)]
    for shard, path in enumerate(shards):
        assert (
            step("search_blocks", *run, *dense, "--shard", shard, "--shards", 2, "--output", path)
            == 0
        )
    saved = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Linear(4, 4),
                                torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))  # fmt: skip
    torch.save(saved.state_dict(), folder / "start.pt")
    masks = ("--widths", 2, 2, 1, "--most-weights", 8, "--initial", folder / "start.pt")
    second = folder / "second" / "0.h5"
    assert step("search_blocks", *run, *masks, "--output", second) == 0

    found = store.read(second, "block-runs")
    networks, runs = found.table("networks"), found.table("runs")
    assert (networks[["d1", "d2", "d3"]] == [2, 2, 1]).all(axis=None)
    assert networks.network.tolist() == list(range(len(networks)))
    # The output layer has one weight beside those that the bound is about.
    assert set(networks.weights) == {7, 8, 9}
    assert found.array("mask").sum(axis=1).tolist() == networks.weights.tolist()
    assert len(runs) == 2 * len(networks)
    first = pd.concat([store.read(path, "block-runs").table("networks") for path in shards])
    assert sorted(first.network) == list(range(len(first)))

    path = folder / "blocks.csv"
    assert step("table", "--name", "blocks", *shards, second, "--output", path) == 0
    table = pd.read_csv(path).drop_duplicates(["search", "weights"])
    assert table.groupby("search").runs.sum().to_dict() == {
        "first": 4 * len(first),
        "second": len(runs),
    }


def test_equal_runs_have_equal_results(step: Step, folder: Path, disc: Path) -> None:
    """Alone and in company: what a run is decides its result."""
    run = ("--data", disc, "--epochs", 2, "--batch-size", 32, "--method", "snip", "--networks", 3)
    files = []
    for i, targets in enumerate([(12, 20), (20,)]):
        files.append(folder / f"snip-{i}.h5")
        assert step("prune_spiral", *run, "--targets", *targets, "--output", files[-1]) == 0
    both, alone = (store.read(path, "spiral-runs") for path in files)
    _, second = spiral.stored_networks(both)
    (only,) = spiral.stored_networks(alone)
    assert second[0] == only[0]
    np.testing.assert_array_equal(second[1], only[1])
    np.testing.assert_allclose(second[2], only[2], rtol=1e-4, atol=1e-5)


def limits(step: Step, folder: Path, *inputs: object) -> store.Stored:
    """From a trained network to its limits; the file of bounds, its spectra beside it."""
    assert step("sweep_network", *inputs, "--ratios", 5, "--output", folder / "sweep.h5") == 0
    spectra = [folder / f"net-{operator}.h5" for operator in ("hessian", "ggn")]
    for operator, path in zip(("hessian", "ggn"), spectra, strict=True):
        size = ("--probes", 1, "--steps", 8, "--offsets", 2, "--batch-size", 16)
        run = (*inputs, "--operator", operator, *size)
        assert step("spectrum", *run, "--output", path) == 0
    files = ("--network", folder / "net.h5", "--spectra", *spectra, "--sweep", folder / "sweep.h5")
    assert step("bounds", *files, "--tolerances", 0.1, "--output", folder / "net-bounds.h5") == 0
    return store.read(folder / "net-bounds.h5", "bounds")


def test_from_data_to_the_limits_of_a_network(
    step: Step, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A convolutional one with batch normalisation; too few Lanczos steps are told of."""
    data, network = tmp_path / "digits.h5", tmp_path / "net.h5"
    assert step("data_digits", "--output", data) == 0
    trained = ("--architecture", "conv", "--widths", 2, 3, "--epochs", 2, "--l1", 1e-4)
    assert step("train_network", "--data", data, *trained, "--output", network) == 0
    bounds = limits(step, tmp_path, "--data", data, "--network", network)
    assert set(bounds.table("bounds").operator) == {"hessian", "ggn"}
    told = [text for _, _, text in caplog.record_tuples if "Lanczos steps" in text]
    assert len(told) == (bounds.table("bounds").reason != "").sum() > 0
    assert all(", epsilon 0" in line for line in told)
    assert json.loads(str(bounds.attributes["config"]))["tolerances"] == [0.1]
    for name, file in (("networks", "net"), ("spectra", "net-ggn"), ("sweeps", "sweep")):
        files = (tmp_path / f"{file}.h5", "--output", tmp_path / f"{name}.csv")
        assert step("table", "--name", name, *files) == 0
    assert pd.read_csv(tmp_path / "sweeps.csv").reoptimised_rise.is_monotonic_increasing
    table, weights = pd.read_csv(tmp_path / "networks.csv").iloc[0], 9 * 2 + 9 * 6 + 12 * 10
    assert (table.network, table.prunable, table.parameters) == ("net", weights, weights + 20)
    inputs = ("--data", data, "--network", network, "--ratios", 3, "--exact", weights + 19)
    assert step("sweep_network", *inputs, "--output", tmp_path / "sweep.h5") == 0
    large = store.read(tmp_path / "sweep.h5", "sweep").table("sweep")
    assert large.reoptimised_rise.isna().all()
    assert pd.read_csv(tmp_path / "sweeps.csv").removed.tolist() == [0, 38, 77, 115, 154]


OWN_CODE = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(),
                         nn.Linear(8, 3))

def data():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 1, 4, 4, generator=generator), torch.arange(60) % 3
    x[torch.arange(60), 0, 0, y] += 3
    return {"fit": TensorDataset(x[:40], y[:40]), "validation": TensorDataset(x[40:50], y[40:50]),
            "test": TensorDataset(x[50:], y[50:])}
"""


def test_from_code_and_a_state_dict_of_ones_own_to_the_limits(
    step: Step, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, state, data = tmp_path / "mine.py", tmp_path / "mine.pt", tmp_path / "data.h5"
    code.write_text(OWN_CODE)
    assert step("data_own", "--loader", f"{code}:data", "--output", data) == 0
    taken = ("--data", data, "--architecture", f"{code}:network", "--state-dict", state)
    torch.save({}, state)
    assert step("train_network", *taken, "--output", tmp_path / "net.h5") == 2
    assert_one_line(capsys.readouterr().err, str(state), "'0.weight' is missing")
    module = own.call(f"{code}:network")
    torch.save(module.state_dict(), state)
    assert step("train_network", *taken, "--output", tmp_path / "net.h5") == 0
    network = store.read(tmp_path / "net.h5", "network")
    parameters = torch.nn.utils.parameters_to_vector(module.parameters())
    np.testing.assert_array_equal(network.array("parameters"), parameters.detach().numpy())
    assert len(network.table("history")) == 1
    inputs = ("--data", data, "--network", tmp_path / "net.h5")
    assert step("sweep_network", *inputs, "--output", tmp_path / "sweep.h5") == 2
    assert_one_line(capsys.readouterr().err, "built by", f"--code {code}")
    bounds = limits(step, tmp_path, *inputs, "--code", code).table("bounds")
    assert (bounds.prunable == 18 + 24).all()
