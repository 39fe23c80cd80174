"""Classifiers: reading, training, evaluating; one-shot pruning of a trained one at many ratios."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from sparselimit import store
from sparselimit.datasets import SPLITS, Dataset
from sparselimit.limits.sweep import last_within, one_shot_sweep
from sparselimit.networks import classifier
from sparselimit.networks.classifier import Sample
from tests.unit.refusals import refused

SETTINGS: dict[str, Any] = {
    "epochs": 12,
    "batch_size": 16,
    "learning_rate": 0.1,
    "l1": 0.0,
    "seed": 0,
}


def blobs(n: int, seed: int) -> Sample:
    """Three classes around three points of the plane."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    angle = 2 * torch.pi * y / 3
    x = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return x + 0.5 * torch.randn(n, 2, generator=generator), y


def trained(**changes: float) -> tuple[nn.Sequential, pd.DataFrame]:
    module = classifier.build([2, 6, 5, 3])
    history = classifier.train(module, blobs(90, 0), blobs(45, 1), **(SETTINGS | changes))
    return module, history


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    return trained()[0].eval()


def flat(module: nn.Module) -> Tensor:
    return parameters_to_vector(module.parameters()).detach()


# --- Networks ------------------------------------------------------------------------------------


def test_networks_are_linear_layers_with_relu_between() -> None:
    module = classifier.build([4, 6, 5, 3])
    assert [type(layer).__name__ for layer in module] == ["Linear", "ReLU"] * 2 + ["Linear"]
    x = torch.randn(7, 4)
    hidden = torch.relu(module[2](torch.relu(module[0](x))))
    torch.testing.assert_close(module(x), module[4](hidden))
    assert classifier.build([4, 3])(x).shape == (7, 3)


def test_weights_may_be_pruned_and_biases_not() -> None:
    module = classifier.build([2, 3, 2])
    assert (
        classifier.prunable(module).tolist() == [True] * 6 + [False] * 3 + [True] * 6 + [False] * 2
    )


def test_evaluation_is_the_mean_over_all_points(network: nn.Sequential) -> None:
    """In blocks, of which the last is short."""
    x, y = blobs(5000, 2)
    loss, accuracy = classifier.evaluate(network, (x, y))
    assert loss == pytest.approx(cross_entropy(network(x), y).item(), rel=1e-5)
    assert accuracy == (network(x).argmax(dim=1) == y).double().mean().item()


# --- Data ----------------------------------------------------------------------------------------


def test_data_sets_are_read_as_a_network_sees_them(tmp_path: Path) -> None:
    """Points as they are, images flattened and scaled to [0, 1]."""
    images = np.arange(2 * 3 * 2 * 2, dtype=np.uint8).reshape(2, 3, 2, 2) * 10
    labels = np.array([0, 1])
    points = np.array([[1.5, -2.0], [0.0, 3.0]])
    for kind, x in (("images", images), ("points", points)):
        content = {"x": x, "y": labels, "split": np.array([0, 3])}
        store.write(tmp_path / f"{kind}.h5", kind, content, config={})
    read = classifier.read_dataset(tmp_path / "images.h5")
    assert (read.x.dtype, read.x.shape) == (np.float32, (2, 12))
    np.testing.assert_allclose(read.x, images.reshape(2, 12) / 255, rtol=1e-6)
    read = classifier.read_dataset(tmp_path / "points.h5")
    assert read.x.dtype == np.float32
    np.testing.assert_array_equal(read.x, points)
    features, classes = classifier.sample(read, "test", "cpu")
    assert (features.tolist(), classes.tolist()) == ([[0, 3]], [1])


def test_a_split_without_points_is_refused() -> None:
    data = Dataset(np.zeros((3, 2), np.float32), np.zeros(3, np.int64), np.zeros(3, np.int64))
    assert len(classifier.sample(data, "fit", "cpu")[1]) == 3
    for split in SPLITS[1:]:
        with refused(f"no points of the split '{split}'"):
            classifier.sample(data, split, "cpu")


# --- Training ------------------------------------------------------------------------------------


def test_training_learns_an_easy_task(network: nn.Sequential) -> None:
    module, history = trained()
    assert history.epoch.tolist() == list(range(12))
    assert list(history.columns) == ["epoch", "fit_loss", "fit_accuracy", "validation_accuracy"]
    assert history.fit_loss.iloc[-1] < history.fit_loss.iloc[0]
    assert history.validation_accuracy.iloc[-1] > 0.9
    last = history.iloc[-1]
    loss, accuracy = classifier.evaluate(module, blobs(90, 0))
    assert (last.fit_loss, last.fit_accuracy) == (loss, accuracy)
    assert last.validation_accuracy == classifier.evaluate(module, blobs(45, 1))[1]
    assert torch.equal(flat(module), flat(network))


def test_all_initial_values_and_batches_follow_the_seed() -> None:
    """Whatever was drawn before; biases, too."""
    still = {"epochs": 1, "learning_rate": 1e-30}
    first = flat(trained(**still)[0])
    torch.randn(100)
    assert torch.equal(flat(trained(**still)[0]), first)
    other = flat(trained(**still, seed=1)[0])
    assert not torch.isclose(other, first).any()
    assert torch.equal(flat(trained()[0]), flat(trained()[0]))


def test_initial_values_are_those_of_he() -> None:
    module = classifier.build([100, 80, 3])
    sample = torch.zeros(4, 100), torch.zeros(4, dtype=torch.int64)
    settings = SETTINGS | {"epochs": 1, "learning_rate": 1e-30}
    classifier.train(module, sample, sample, **settings)
    first = module[0].weight
    assert isinstance(first, Tensor)
    assert first.std().item() == pytest.approx(np.sqrt(2 / 100), rel=0.05)
    assert abs(first).max() > 3 * np.sqrt(2 / 100)


def test_training_is_sgd_on_the_penalised_loss() -> None:
    """One epoch of one batch, worked out by autograd: momentum does not count yet."""
    points, rate, l1 = blobs(16, 0), 0.05, 0.01
    start = classifier.build([2, 4, 3])
    end = classifier.build([2, 4, 3])
    settings = SETTINGS | {"epochs": 1, "l1": l1}
    classifier.train(start, points, points, **(settings | {"learning_rate": 1e-30}))
    classifier.train(end, points, points, **(settings | {"learning_rate": rate}))
    penalty = l1 * sum(p.abs().sum() for p in start.parameters())
    slopes = torch.autograd.grad(
        cross_entropy(start(points[0]), points[1]) + penalty, list(start.parameters())
    )
    for before, after, slope in zip(start.parameters(), end.parameters(), slopes, strict=True):
        torch.testing.assert_close(after, before - rate * slope, rtol=1e-4, atol=1e-6)


def test_the_penalty_makes_weights_small() -> None:
    plain, penalised = (flat(trained(epochs=40, l1=l1)[0]) for l1 in (0.0, 0.02))
    assert (penalised.abs() < 1e-2).float().mean() > (plain.abs() < 1e-2).float().mean() + 0.2


def test_a_training_that_diverges_is_told_in_one_line() -> None:
    with refused("diverged in epoch", "learning_rate", "1e+20"):
        trained(learning_rate=1e20)


@settings(deadline=None)
@given(n=st.integers(1, 30), size=st.integers(1, 12), seed=st.integers(0, 5))
def test_batches_are_full_and_disjoint(n: int, size: int, seed: int) -> None:
    """Unless there are fewer points than one batch takes."""
    points = torch.arange(n)[:, None], torch.arange(n)
    batches = list(classifier._batches(points, size, np.random.default_rng(seed)))
    assert [len(y) for _, y in batches] == ([size] * (n // size) or [n])
    seen = torch.cat([y for _, y in batches])
    assert len(seen.unique()) == len(seen)
    assert all(torch.equal(x[:, 0], y) for x, y in batches)


# --- Files ---------------------------------------------------------------------------------------


def network_content(module: nn.Sequential, sizes: list[int]) -> store.Content:
    history = {"epoch": [0], "fit_loss": [0.5], "fit_accuracy": [0.5], "validation_accuracy": [0.5]}
    return {
        "sizes": np.array(sizes),
        "parameters": flat(module).numpy(),
        "prunable": classifier.prunable(module).numpy(),
        "history": pd.DataFrame(history),
    }


def test_a_stored_network_is_read_back(tmp_path: Path, network: nn.Sequential) -> None:
    path, (x, _) = tmp_path / "network.h5", blobs(9, 3)
    store.write(path, "network", network_content(network, [2, 6, 5, 3]), config={})
    read = classifier.read_network(path, "cpu")
    assert not read.training
    torch.testing.assert_close(read(x), network(x), rtol=0, atol=0)


def test_a_network_whose_parameters_do_not_fit_is_refused(
    tmp_path: Path, network: nn.Sequential
) -> None:
    path = tmp_path / "network.h5"
    store.write(path, "network", network_content(network, [2, 6, 6, 3]), config={})
    with refused(str(path), "71 parameters", "need 81"):
        classifier.read_network(path, "cpu")


# --- One-shot pruning ----------------------------------------------------------------------------


def test_the_sweep_removes_the_smallest_weights(network: nn.Sequential) -> None:
    """Each row against a network pruned by hand; biases stay, and so does the network given."""
    before, weights = flat(network).clone(), classifier.prunable(network)
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
        module = classifier.build([2, 6, 5, 3])
        torch.nn.utils.vector_to_parameters(pruned, module.parameters())
        assert row.radius == pytest.approx((pruned - before).norm().item(), rel=1e-5)
        for name, points in samples.items():
            found = getattr(row, f"{name}_loss"), getattr(row, f"{name}_accuracy")
            assert found == pytest.approx(classifier.evaluate(module, points), rel=1e-5)


def test_the_sweep_starts_from_the_dense_network(network: nn.Sequential) -> None:
    sample = blobs(50, 6)
    first = one_shot_sweep(network, {"test": sample}, 10).iloc[0]
    assert (first.removed, first.pruning_ratio, first.radius) == (0, 0, 0)
    assert (first.test_loss, first.test_accuracy) == classifier.evaluate(network, sample)


def test_ties_in_magnitude_go_by_index() -> None:
    module = classifier.build([1, 4, 2])
    torch.nn.utils.vector_to_parameters(torch.ones(18), module.parameters())
    x = torch.ones(1, 1), torch.tensor([0])
    table = one_shot_sweep(module, {"fit": x}, 12)
    # One by one the hidden neurons lose their input, the bias remains; then the first logit loses
    # its inputs.
    logits = [(9 - i, 9 - i) for i in range(5)] + [(5 - i, 5) for i in range(1, 5)]
    expected = [cross_entropy(torch.tensor([z]).float(), x[1]).item() for z in logits]
    assert table.fit_loss.tolist()[:9] == pytest.approx(expected)


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
    assert last_within(removed, np.array(damage), tolerance) == expected


def test_a_network_and_data_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    module = classifier.build([3, 4, 2])
    flat = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    history = pd.DataFrame(
        {"epoch": [0], "fit_loss": [0.1], "fit_accuracy": [1.0], "validation_accuracy": [1.0]}
    )
    content: store.Content = {
        "sizes": np.array([3, 4, 2]),
        "parameters": flat,
        "prunable": classifier.prunable(module).numpy(),
        "history": history,
    }
    store.write(tmp_path / "network.h5", "network", content, config={})
    for features, classes in ((4, 2), (3, 3)):
        points = {
            "x": np.zeros((9, features)),
            "y": np.arange(9) % classes,
            "split": np.zeros(9, dtype=int),
        }
        store.write(tmp_path / "data.h5", "points", points, config={})
        with refused("takes 3 features and tells 2 classes"):
            classifier.read_trained(tmp_path / "network.h5", tmp_path / "data.h5", "cpu")
