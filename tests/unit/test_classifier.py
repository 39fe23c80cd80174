"""Classifiers: their data and files, state dicts of others; one-shot pruning at many ratios."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from sparselimit import store, training
from sparselimit.curvature.products import Objective
from sparselimit.datasets import SPLITS, Dataset
from sparselimit.limits.bounds import last_within
from sparselimit.limits.sweep import one_shot_sweep, reoptimised_sweep
from sparselimit.networks import classifier, plain
from sparselimit.networks.classifier import Sample
from sparselimit.networks.network import Design, Network, prunable
from tests.unit.refusals import refused

HISTORY = pd.DataFrame(
    {"epoch": [0], "fit_loss": [0.5], "fit_accuracy": [0.5], "validation_accuracy": [0.5]}
)


def blobs(n: int, seed: int) -> Sample:
    """Three classes around three points of the plane."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    angle = 2 * torch.pi * y / 3
    x = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return x + 0.5 * torch.randn(n, 2, generator=generator), y


def built(
    architecture: str, shape: tuple[int, ...], classes: int, *widths: int, **moments: np.ndarray
) -> Network:
    given = {"mean": np.zeros(1), "std": np.ones(1)} | moments
    return Network(Design(architecture, widths, shape, classes, **given))


@pytest.fixture(scope="module")
def network() -> Network:
    """Trained on the three classes."""
    module = built("fc", (2,), 3, 6, 5)
    training.initialise(module, 0)
    training.train(module, blobs(90, 0), blobs(45, 1), training.Recipe(12, batch_size=16))
    return module


@pytest.fixture
def normalised() -> Network:
    """A network with statistics of batch normalisation, on bytes of two channels."""
    torch.manual_seed(0)
    moments = {"mean": np.array([100.0, 120.0]), "std": np.array([50.0, 60.0])}
    module = built("conv", (2, 8, 8), 3, 4, 5, **moments)
    x = torch.randint(0, 256, (64, 2, 8, 8), dtype=torch.uint8)
    module.train()
    for _ in range(3):
        module(x)
    return module.eval()


def flat(module: nn.Module) -> Tensor:
    return parameters_to_vector(module.parameters()).detach()


# --- Quality -------------------------------------------------------------------------------------


def test_evaluation_is_the_mean_over_all_points(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks, of which the last is short."""
    monkeypatch.setattr(classifier, "_NUMBERS", 300)
    x, y = blobs(1000, 2)
    loss, accuracy = classifier.evaluate(network, (x, y))
    assert loss == pytest.approx(cross_entropy(network(x), y).item(), rel=1e-5)
    assert accuracy == (network(x).argmax(dim=1) == y).double().mean().item()


# --- Data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_images_are_read_as_they_are_stored(tmp_path: Path, dtype: type) -> None:
    pixels: np.ndarray = (10 * np.arange(24)).astype(dtype).reshape(2, 3, 2, 2)
    moments = {"mean": np.array([1.0, 2.0, 3.0]), "std": np.array([4.0, 5.0, 6.0])}
    content = {"x": pixels, "y": np.array([0, 1]), "split": np.array([0, 3]), **moments}
    store.write(tmp_path / "images.h5", "images", content, config={})
    read = classifier.read_dataset(tmp_path / "images.h5")
    np.testing.assert_array_equal(read.x, pixels)
    assert read.x.dtype == (np.uint8 if dtype is np.uint8 else np.float32)
    assert (read.mean.tolist(), read.std.tolist()) == ([1, 2, 3], [4, 5, 6])
    x, y = classifier.sample(read, "test", "cpu")
    assert (x.shape, y.tolist()) == ((1, 3, 2, 2), [1])


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((2, 1, 3, 3), dtype=bool), ["x has type bool"]),
        (np.full((2, 1, 3, 3), np.nan), ["x contains NaN"]),
        (np.zeros((2, 9)), ["x has shape (2, 9)"]),
    ],
)
def test_what_is_no_image_is_not_stored(tmp_path: Path, x: np.ndarray, words: list[str]) -> None:
    rest = {"y": np.zeros(2, np.int64), "split": np.zeros(2, np.int64)}
    moments = {"mean": np.zeros(1), "std": np.ones(1)}
    with refused(*words):
        store.write(tmp_path / "images.h5", "images", {"x": x, **rest, **moments}, config={})


def test_points_are_read_as_single_precision(tmp_path: Path) -> None:
    points = np.array([[1.5, -2.0], [0.0, 3.0]])
    content = {"x": points, "y": np.array([0, 1]), "split": np.array([0, 3])}
    store.write(tmp_path / "points.h5", "points", content, config={})
    read = classifier.read_dataset(tmp_path / "points.h5")
    assert read.x.dtype == np.float32
    np.testing.assert_array_equal(read.x, points)
    assert (read.mean.tolist(), read.std.tolist()) == ([0], [1])
    assert classifier.sample(read, "test", "cpu")[0].tolist() == [[0, 3]]


def test_a_split_without_points_is_refused() -> None:
    data = Dataset(np.zeros((3, 2), np.float32), np.zeros(3, np.int64), np.zeros(3, np.int64))
    assert len(classifier.sample(data, "fit", "cpu")[1]) == 3
    for split in SPLITS[1:]:
        with refused(f"no points of the split '{split}'"):
            classifier.sample(data, split, "cpu")


# --- Files ---------------------------------------------------------------------------------------


def written(path: Path, network: Network, **changes: np.ndarray) -> Path:
    content = dict(classifier.content(network, HISTORY)) | changes
    store.write(path, "network", content, config={})
    return path


def test_a_stored_network_is_read_back(tmp_path: Path, network: Network) -> None:
    read = classifier.read_network(written(tmp_path / "n.h5", network), "cpu")
    assert not read.training
    x, _ = blobs(9, 3)
    torch.testing.assert_close(read(x), network(x), rtol=0, atol=0)


def test_statistics_and_moments_are_read_back(tmp_path: Path, normalised: Network) -> None:
    read = classifier.read_network(written(tmp_path / "n.h5", normalised), "cpu")
    x = torch.randint(0, 256, (9, 2, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(read(x), normalised(x), rtol=0, atol=0)
    for name, value in normalised.state_dict().items():
        assert torch.equal(read.state_dict()[name], value), name
    assert int(read.state_dict()["layers.1.num_batches_tracked"]) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"widths": np.array([4, 6])}, ["parameters, conv has"]),
        ({"buffers": np.zeros(3)}, ["3 buffers, conv has 20"]),
        ({"architecture": np.array(["magic"])}, ["'magic' is unknown"]),
    ],
)
def test_a_file_that_does_not_fit_its_design_is_refused(
    tmp_path: Path, normalised: Network, changes: dict[str, Any], words: list[str]
) -> None:
    path = written(tmp_path / "network.h5", normalised, **changes)
    with refused(*words):
        classifier.read_network(path, "cpu")


@pytest.mark.parametrize(("shape", "classes"), [((2, 8, 9), 3), ((1, 8, 8), 3), ((2, 8, 8), 4)])
def test_a_network_and_data_that_do_not_fit_are_refused(
    tmp_path: Path, normalised: Network, shape: tuple[int, ...], classes: int
) -> None:
    network, data = written(tmp_path / "network.h5", normalised), tmp_path / "data.h5"
    content = {
        "x": np.zeros((9, *shape)),
        "y": np.arange(9) % classes,
        "split": np.zeros(9, dtype=int),
        "mean": np.zeros(1),
        "std": np.ones(1),
    }
    store.write(data, "images", content, config={})
    with refused("takes inputs of shape (2, 8, 8) and tells 3 classes", f"{shape} and {classes}"):
        classifier.read_trained(network, data, "cpu")


def test_code_is_run_only_if_it_is_allowed(tmp_path: Path) -> None:
    """A file that names some does not make it run."""
    code, marker = tmp_path / "mine.py", tmp_path / "was run"
    code.write_text(
        f"from torch import nn\nopen({str(marker)!r}, 'w')\ndef network(): return nn.Linear(2, 3)\n"
    )
    path = written(tmp_path / "network.h5", built(f"{code}:network", (2,), 3))
    marker.unlink()
    for allowed in (None, tmp_path / "another.py"):
        with refused(str(path), f"built by {code}:network", f"--code {code}"):
            classifier.read_network(path, "cpu", allowed)
    assert not marker.exists()
    assert classifier.read_network(path, "cpu", code)(torch.zeros(1, 2)).shape == (1, 3)


# --- State dicts ---------------------------------------------------------------------------------


def test_a_state_dict_is_taken_up(tmp_path: Path, normalised: Network) -> None:
    torch.save(normalised.layers.state_dict(), tmp_path / "mine.pt")
    other = Network(normalised.design)
    classifier.load_state(other, tmp_path / "mine.pt")
    for name, value in normalised.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


State = dict[str, Any]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s | {"3.weight": torch.zeros(5, 4)}, ["'3.weight' has shape (5, 4), the net"]),
        (lambda s: {k: s[k] for k in s if k != "4.running_var"}, ["'4.running_var' is missing"]),
        (lambda s: s | {"fc.weight": torch.zeros(1)}, ["'fc.weight' is not in the network"]),
        (lambda s: {f"module.{k}": s[k] for k in s}, ["'0.weight' is missing", "'module.0.wei"]),
        (lambda s: {"state_dict": s, "epoch": 3}, ["'0.weight' is missing", "'state_dict'"]),
        (lambda s: s | {"1.bias": "zero"}, ["'1.bias' is a str, not a tensor"]),
        (lambda s: s | {"1.bias": torch.tensor([0, 0, torch.nan, 0])}, ["'1.bias' holds NaN"]),
        (lambda s: list(s.values()), ["holds a list", "model.state_dict()"]),
    ],
)
def test_the_first_key_that_does_not_fit_is_named(
    tmp_path: Path, normalised: Network, change: Callable[[State], object], words: list[str]
) -> None:
    path = tmp_path / "mine.pt"
    torch.save(change(dict(normalised.layers.state_dict())), path)
    before = flat(normalised).clone()
    with refused(str(path), *words):
        classifier.load_state(normalised, path)
    assert torch.equal(flat(normalised), before)


def test_what_is_no_state_dict_is_refused(tmp_path: Path, normalised: Network) -> None:
    path = tmp_path / "mine.pt"
    with refused(str(path), "no such file"):
        classifier.load_state(normalised, path)
    path.write_bytes(b"nothing of torch")
    with refused(str(path), "not a state dict", "torch.save"):
        classifier.load_state(normalised, path)
    torch.save(normalised.layers, path)  # a pickled module: it would run code
    with refused(str(path), "not a state dict", "torch.save"):
        classifier.load_state(normalised, path)


# --- One-shot pruning ----------------------------------------------------------------------------


def test_the_sweep_removes_the_smallest_weights(network: Network) -> None:
    """Each row against a network pruned by hand; biases stay, and so does the network given."""
    before, weights = flat(network).clone(), prunable(network)
    samples = {"fit": blobs(60, 4), "test": blobs(30, 5)}
    ratios = 7
    table = one_shot_sweep(network, samples, ratios)
    assert torch.equal(flat(network), before)
    n = int(weights.sum())
    assert table.removed.tolist() == [round(i / ratios * n) for i in range(ratios)]
    assert table.pruning_ratio.tolist() == [removed / n for removed in table.removed]
    for row in table.itertuples():
        order = sorted(weights.nonzero()[:, 0].tolist(), key=lambda i: (abs(before[i]), i))
        pruned = before.clone()
        pruned[order[: int(str(row.removed))]] = 0
        module = plain.fc((2,), 3, 6, 5)
        torch.nn.utils.vector_to_parameters(pruned, module.parameters())
        assert row.radius == pytest.approx((pruned - before).norm().item(), rel=1e-5)
        for name, points in samples.items():
            found = getattr(row, f"{name}_loss"), getattr(row, f"{name}_accuracy")
            assert found == pytest.approx(classifier.evaluate(module, points), rel=1e-5)


def test_the_sweep_starts_from_the_dense_network(network: Network) -> None:
    sample = blobs(50, 6)
    first = one_shot_sweep(network, {"test": sample}, 10).iloc[0]
    assert (first.removed, first.pruning_ratio, first.radius) == (0, 0, 0)
    assert (first.test_loss, first.test_accuracy) == classifier.evaluate(network, sample)


def test_ties_in_magnitude_go_by_index() -> None:
    module = plain.fc((1,), 2, 4)
    torch.nn.utils.vector_to_parameters(torch.ones(18), module.parameters())
    x = torch.ones(1, 1), torch.tensor([0])
    table = one_shot_sweep(module, {"fit": x}, 12)
    # One by one the hidden neurons lose their input, the bias remains; then the first logit loses
    # its inputs.
    logits = [(9 - i, 9 - i) for i in range(5)] + [(5 - i, 5) for i in range(1, 5)]
    expected = [cross_entropy(torch.tensor([z]).float(), x[1]).item() for z in logits]
    assert table.fit_loss.tolist()[:9] == pytest.approx(expected)


def test_a_sweep_knows_how_inputs_are_standardised(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "sweep.h5.checkpoint"
    one_shot_sweep(network, {"fit": blobs(20, 6)}, 4, path)
    moved = copy.deepcopy(network)
    moved.mean += 1
    with refused(str(path), "another run"):
        one_shot_sweep(moved, {"fit": blobs(20, 6)}, 4, path)


def test_the_sweep_leaves_batch_normalisation_alone(normalised: Network) -> None:
    """Against a network pruned by hand, with the statistics as they were."""
    x = torch.randint(0, 256, (40, 2, 8, 8), dtype=torch.uint8)
    sample = x, torch.arange(40) % 3
    statistics = {name: buffer.clone() for name, buffer in normalised.named_buffers()}
    weights = prunable(normalised)
    table = one_shot_sweep(normalised, {"fit": sample}, 4)
    pruned = flat(normalised).clone()
    order = flat(normalised)[weights].abs().argsort(stable=True)
    pruned[weights.nonzero()[:, 0][order[: table.removed[3]]]] = 0
    module = Network(normalised.design)
    torch.nn.utils.vector_to_parameters(pruned, module.parameters())
    for name, buffer in module.named_buffers():
        buffer.copy_(statistics[name])
    assert table.fit_loss[3] == pytest.approx(classifier.evaluate(module, sample)[0])
    for name, buffer in normalised.named_buffers():
        assert torch.equal(buffer, statistics[name])


def test_kept_weights_re_optimise_in_the_quadratic_model(network: Network) -> None:
    """Against the Schur complement of the dense matrix, and below the loss of weights left alone.

    (With a sample as large as this the matrix has full rank but for dead neurons.)
    """
    sample = blobs(80, 7)
    rises = reoptimised_sweep(network, sample).losses
    double = copy.deepcopy(network).double()
    matrix = Objective(double, cross_entropy, *sample).exact_ggn().numpy()
    w, weights = flat(double).detach().numpy(), prunable(network).nonzero()[:, 0].numpy()
    order = weights[np.argsort(np.abs(w[weights]), kind="stable")]
    assert len(rises) == len(order) + 1
    for removed in (0, 3, len(order) // 2, len(order)):
        gone = order[:removed]
        kept = np.setdiff1d(np.arange(len(w)), gone)
        cross = matrix[np.ix_(kept, gone)]
        inner = matrix[np.ix_(gone, gone)]
        schur = inner - cross.T @ np.linalg.pinv(matrix[np.ix_(kept, kept)], 1e-10) @ cross
        expected = w[gone] @ schur @ w[gone] / 2
        assert rises[removed] == pytest.approx(expected, rel=1e-4, abs=1e-9)
        assert rises[removed] <= w[gone] @ inner @ w[gone] / 2 + 1e-9
    assert (np.diff(rises) >= -1e-12).all()


def test_scales_of_batch_normalisation_make_up_for_all_weights_in_the_quadratic_model(
    normalised: Network,
) -> None:
    """To remove a layer's weights changes the linearised network as to take away its scale does."""
    x = torch.randint(0, 256, (40, 2, 8, 8), dtype=torch.uint8)
    rises = reoptimised_sweep(normalised, (x, torch.arange(40) % 3)).losses
    w = flat(normalised).double().numpy() * prunable(normalised).numpy()
    objective = Objective(
        copy.deepcopy(normalised).double(), cross_entropy, x, torch.arange(40) % 3
    )
    left_alone = w @ objective.product("ggn")(torch.from_numpy(w)).numpy() / 2
    assert left_alone > 1e-3
    assert rises.max() < 1e-9 * left_alone


@pytest.mark.parametrize(
    ("damage", "tolerance", "expected"),
    [
        ([0.0, 0.1, 0.2, 0.3], 0.15, 10),
        ([0.0, 0.1, 0.2, 0.3], 0.2, 20),
        ([0.0, 0.1, 0.2, 0.3], 9.0, 30),
        ([0.0, 0.5, 0.0, 0.0], 0.1, 0),
        ([0.0, -0.2, -0.3, 0.0], 0.0, 30),
        ([0.0, 0.1, 0.1, 0.1], 0.0, 0),
    ],
)
def test_the_threshold_is_before_the_first_excess(
    damage: list[float], tolerance: float, expected: int
) -> None:
    removed = np.array([0, 10, 20, 30])
    assert last_within(removed, np.array(damage) <= tolerance) == expected
