"""The step that stores a spectrum: its content against dense matrices, and how it goes on."""

import logging
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sparselimit import store
from sparselimit.curvature.lanczos import lanczos
from sparselimit.curvature.products import Objective
from sparselimit.datasets import Dataset
from sparselimit.limits.bounds import magnitude_offset
from sparselimit.limits.prediction import lanczos_runs
from sparselimit.networks import classifier
from sparselimit.networks.network import Design, Network, prunable

SCRIPT = Path(__file__).parents[2] / "steps" / "spectrum.py"
RUN = ("--probes", 2, "--steps", 9, "--offsets", 3, "--batch-size", 16)

Step = Callable[..., store.Stored]


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Step:
    """Runs the step on a small network and data set, and reads what it wrote."""
    monkeypatch.setattr(logging.root, "handlers", [])
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(60, 3)), "y": rng.integers(0, 3, 60), "split": np.arange(60) % 2}
    store.write(tmp_path / "points.h5", "points", data, config={})
    torch.manual_seed(0)
    network = Network(Design.of("fc", [5], Dataset(**data)))
    columns = ("fit_loss", "fit_accuracy", "validation_accuracy")
    history = pd.DataFrame({"epoch": [0], **{name: [0.5] for name in columns}})
    store.write(tmp_path / "net.h5", "network", classifier.content(network, history), config={})

    def run(*arguments: object) -> store.Stored:
        files = ("--data", tmp_path / "points.h5", "--network", tmp_path / "net.h5")
        output = tmp_path / "spectrum.h5"
        everything = (*files, "--output", output, *RUN, *arguments)
        monkeypatch.setattr(sys, "argv", ["spectrum.py", *map(str, everything)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return store.read(output, "spectrum")

    return run


def objective(folder: Path) -> tuple[Objective, Tensor]:
    """The objective of the step, and which of its parameters may be pruned."""
    module, data = classifier.read_trained(folder / "net.h5", folder / "points.h5", "cpu")
    fit = Objective(module.double(), cross_entropy, *classifier.sample(data, "fit", "cpu"))
    return fit, prunable(module)


@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_it_stores_what_the_dense_matrix_has(tmp_path: Path, step: Step, operator: str) -> None:
    found = step("--operator", operator, "--row-probes", 40)
    fit, weights = objective(tmp_path)
    matrix = getattr(fit, f"exact_{operator}")()
    assert fit.dimension == 38  # all products by unit vectors: exact, to the precision stored
    np.testing.assert_allclose(found.array("diagonal"), matrix.diagonal(), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.array("row_norm"), matrix.norm(dim=1), rtol=1e-6, atol=1e-9)
    assert found.array("trace") == pytest.approx(float(matrix.trace()), rel=1e-9)
    assert found.array("trace_error") == 0
    assert found.array("loss") == pytest.approx(fit.value(), rel=1e-9)
    assert found.array("gradient_norm") == pytest.approx(float(fit.gradient().norm()), rel=1e-9)
    assert found.array("batch_losses").shape == (2,)

    removed = found.array("offset_removed").tolist()
    assert removed == [10, 20, 30]
    for m, run in zip(removed, lanczos_runs(found, "offset_"), strict=True):
        offset = magnitude_offset(fit.parameters, weights, m)
        (expected,) = lanczos(lambda v: v @ matrix, torch.from_numpy(offset)[None], 9)
        np.testing.assert_allclose(run.alpha, expected.alpha, rtol=1e-6, atol=1e-9)
    for run in lanczos_runs(found):
        assert run.gauss().moment(1) == pytest.approx(run.alpha[0], rel=1e-9)
        assert run.alpha.size == 9


def test_trace_and_rows_are_estimated_where_parameters_are_more(tmp_path: Path, step: Step) -> None:
    found = step("--operator", "ggn", "--row-probes", 30)
    matrix = objective(tmp_path)[0].exact_ggn()
    error = float(found.array("trace_error"))
    assert 0 < error < 0.2 * float(matrix.trace())
    assert abs(float(found.array("trace")) - float(matrix.trace())) < 4 * error
    assert np.corrcoef(found.array("row_norm"), matrix.norm(dim=1))[0, 1] > 0.9


def test_precision_and_memory_do_not_decide_the_result(step: Step) -> None:
    """Beyond rounding, that is."""
    double, single = (step("--precision", precision) for precision in ("float64", "float32"))
    assert not np.array_equal(double.array("alpha"), single.array("alpha"))
    np.testing.assert_allclose(
        double.array("alpha")[:, :5], single.array("alpha")[:, :5], rtol=0.01
    )
    np.testing.assert_allclose(double.array("row_norm"), single.array("row_norm"), rtol=1e-3)
    little = step("--memory", 1)
    for name, value in double.content.items():
        np.testing.assert_allclose(little.content[name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("stop_at", [4, 12, 19])
def test_it_goes_on_from_its_checkpoint(
    tmp_path: Path, step: Step, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Stopped among the probes, the offsets and the rows."""
    calls = []
    build = Objective.product

    def product(*arguments: object, **options: object) -> Callable[[Tensor], Tensor]:
        built = build(*arguments, **options)  # type: ignore[arg-type]

        def counted(vectors: Tensor) -> Tensor:
            calls.append(len(vectors))
            if len(calls) == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return built(vectors)

        return counted

    whole = step()
    (tmp_path / "spectrum.h5").unlink()
    monkeypatch.setattr(Objective, "product", product)
    with pytest.raises(SystemExit) as stopped:
        step()
    assert stopped.value.code == 143
    assert not (tmp_path / "spectrum.h5").exists()
    resumed = step()
    for name, value in whole.content.items():
        np.testing.assert_array_equal(resumed.content[name], value)
    assert sum(calls) == 9 * 2 + 9 * 3 + 38
    assert not list(tmp_path.glob("*.checkpoint*"))


def test_one_batch_that_has_no_spread_is_refused(
    step: Step, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        step("--batch-size", 30)
    assert stopped.value.code == 2
    assert "--batch-size 30 takes all 30 fitted points at once" in capsys.readouterr().err
