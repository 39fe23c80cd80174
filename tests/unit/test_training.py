"""Training of one classifier: the steps, the learning rates, and going on after a stop."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector
from torch.optim import lr_scheduler

from sparselimit import training
from sparselimit.ensemble.checkpoint import Stopped
from sparselimit.networks import plain
from sparselimit.networks.classifier import Sample, evaluate
from sparselimit.training import Recipe
from tests.unit.refusals import refused

RECIPE = Recipe(epochs=12, batch_size=16)
STILL = replace(RECIPE, epochs=1, learning_rate=0.0)


def blobs(n: int, seed: int) -> Sample:
    """Three classes around three points of the plane."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    angle = 2 * torch.pi * y / 3
    x = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return x + 0.5 * torch.randn(n, 2, generator=generator), y


def pictures(n: int, seed: int) -> Sample:
    """Two classes of 8x8 images: bright at the top, or at the bottom."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 2
    x[y == 0, :, :4] += 1
    x[y == 1, :, 4:] += 1
    return x, y


def trained(recipe: Recipe) -> tuple[nn.Sequential, pd.DataFrame]:
    module = plain.fc((2,), 3, 6, 5)
    training.initialise(module, recipe.seed)
    return module, training.train(module, blobs(90, 0), blobs(45, 1), recipe)


def flat(module: nn.Module) -> Tensor:
    return parameters_to_vector(module.parameters()).detach()


# --- Initial values ------------------------------------------------------------------------------


def test_initial_values_are_those_of_he() -> None:
    module = nn.Sequential(nn.Conv2d(10, 80, 3), nn.BatchNorm2d(80), nn.Linear(100, 80))
    for parameter in module.parameters():
        nn.init.constant_(parameter, 7.0)
    training.initialise(module, 0)
    for layer, fan_in in ((module[0], 90), (module[2], 100)):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.weight.std().item() == pytest.approx(sqrt(2 / fan_in), rel=0.05)
        assert layer.weight.abs().max() > 3 * sqrt(2 / fan_in)
        assert layer.bias is not None
        assert not layer.bias.any()
    assert isinstance(module[1], nn.BatchNorm2d)
    assert torch.equal(module[1].weight, torch.ones(80))


def test_initial_values_and_batches_follow_the_seed() -> None:
    """Whatever was drawn before."""
    first, whole = trained(STILL)[0], flat(trained(RECIPE)[0])
    torch.randn(100)
    assert torch.equal(flat(trained(STILL)[0]), flat(first))
    assert torch.equal(flat(trained(RECIPE)[0]), whole)
    other = flat(trained(replace(STILL, seed=1))[0])
    assert not torch.isclose(other, flat(first))[flat(first) != 0].any()


# --- Steps ---------------------------------------------------------------------------------------


def test_training_learns_an_easy_task() -> None:
    module, history = trained(RECIPE)
    assert history.epoch.tolist() == list(range(12))
    assert list(history.columns) == ["epoch", "fit_loss", "fit_accuracy", "validation_accuracy"]
    assert history.fit_loss.iloc[-1] < history.fit_loss.iloc[0]
    assert history.validation_accuracy.iloc[-1] > 0.9
    assert not module.training
    last = history.iloc[-1]
    assert (last.fit_loss, last.fit_accuracy) == evaluate(module, blobs(90, 0))
    assert last.validation_accuracy == evaluate(module, blobs(45, 1))[1]


def test_training_is_sgd_on_the_penalised_loss() -> None:
    """Three epochs of one batch, worked out by autograd: momentum, decay, penalty and warm-up."""
    points, rate = blobs(16, 0), 0.05
    recipe = Recipe(3, 16, rate, 0.8, 0.02, l1=0.01, schedule="constant", warmup=2)
    module, expected = plain.fc((2,), 3, 4), plain.fc((2,), 3, 4)
    training.initialise(module, 0)
    expected.load_state_dict(module.state_dict())
    training.train(module, points, points, recipe)
    velocity = [torch.zeros_like(p) for p in expected.parameters()]
    for factor in (0.5, 1.0, 1.0):
        parameters = list(expected.parameters())
        penalty = 0.01 * sum(p.abs().sum() for p in parameters)
        slopes = torch.autograd.grad(
            cross_entropy(expected(points[0]), points[1]) + penalty, parameters
        )
        with torch.no_grad():
            for p, v, slope in zip(parameters, velocity, slopes, strict=True):
                v.copy_(0.8 * v + slope + 0.02 * p)
                p.sub_(factor * rate * v)
    torch.testing.assert_close(flat(module), flat(expected), rtol=1e-4, atol=1e-6)


def test_the_penalty_makes_weights_small() -> None:
    plain_, penalised = (flat(trained(replace(RECIPE, epochs=40, l1=l1))[0]) for l1 in (0.0, 0.02))
    weights = plain_ != 0
    assert (penalised[weights].abs() < 1e-2).float().mean() > 0.2
    assert (plain_[weights].abs() < 1e-2).float().mean() < 0.2


@pytest.mark.parametrize(("n", "batch_size"), [(9, 1), (1, 128)])
def test_a_batch_of_one_value_is_told_where_batches_are_normalised(n: int, batch_size: int) -> None:
    module = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    with refused(f"batch_size is {batch_size}", f"{n} points"):
        training.train(module, blobs(n, 0), blobs(9, 1), replace(RECIPE, batch_size=batch_size))


def test_a_training_that_diverges_is_told_in_one_line() -> None:
    with refused("diverged in epoch", "learning_rate", "1e+20"):
        trained(replace(RECIPE, learning_rate=1e20))


@settings(deadline=None)
@given(
    n=st.integers(1, 30), size=st.integers(1, 12), seed=st.integers(0, 5), first=st.integers(0, 9)
)
def test_batches_are_full_and_disjoint(n: int, size: int, seed: int, first: int) -> None:
    """Unless there are fewer points than one batch takes; from any step on they are the same."""
    recipe = Recipe(3, size, seed=seed)
    whole = list(training.batches(n, recipe))
    per_epoch = max(1, n // size)
    assert [step for step, _ in whole] == list(range(3 * per_epoch))
    for epoch in range(3):
        parts = [batch for _, batch in whole[epoch * per_epoch : (epoch + 1) * per_epoch]]
        assert [len(batch) for batch in parts] == ([size] * (n // size) or [n])
        assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
    rest = list(training.batches(n, recipe, first))
    assert [step for step, _ in rest] == [step for step, _ in whole[first:]]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(rest, whole[first:], strict=True))


# --- Augmentation --------------------------------------------------------------------------------


def test_crops_are_shifted_and_mirrored_images() -> None:
    """Every one that there can be, with zeros around, in about equal shares."""
    image = torch.arange(1, 3 * 16 * 16 + 1, dtype=torch.float32).reshape(1, 3, 16, 16)
    found = training.cropped(image.repeat(2000, 1, 1, 1), np.random.default_rng(0))
    padded = torch.zeros(3, 20, 20)
    padded[:, 2:18, 2:18] = image[0]
    counts: list[int] = []
    for top in range(5):
        for left in range(5):
            crop = padded[:, top : top + 16, left : left + 16]
            both = (crop, crop.flip(2))
            counts += [int((found == one).all(dim=(1, 2, 3)).sum()) for one in both]
    assert sum(counts) == 2000
    assert 15 <= min(counts) <= max(counts) <= 70


def test_bytes_stay_bytes_in_a_crop() -> None:
    x = torch.full((4, 1, 8, 8), 255, dtype=torch.uint8)
    out = training.cropped(x, np.random.default_rng(0))
    assert out.dtype == torch.uint8
    assert set(out.unique().tolist()) <= {0, 255}


def test_only_training_sees_augmented_images() -> None:
    """The history is that of the images as they are."""
    fit, validation = pictures(32, 0), pictures(16, 1)
    recipe = replace(RECIPE, epochs=2, augment="crop_flip")
    module = plain.conv((1, 8, 8), 2, 3)
    training.initialise(module, 0)
    seen: list[Tensor] = []

    def look(part: nn.Module, inputs: tuple[Tensor]) -> None:
        if part.training:
            seen.append(inputs[0])

    module.register_forward_pre_hook(look)
    history = training.train(module, fit, validation, recipe)
    assert history.iloc[-1].fit_loss == evaluate(module, fit)[0]
    given = {tuple(image.flatten().tolist()) for image in fit[0]}
    shown = [tuple(image.flatten().tolist()) for batch in seen for image in batch]
    assert len(shown) == 64
    assert sum(image in given for image in shown) < 32
    plain_run = plain.conv((1, 8, 8), 2, 3)
    training.initialise(plain_run, 0)
    training.train(plain_run, fit, validation, replace(recipe, augment="none"))
    assert not torch.equal(flat(plain_run), flat(module))


def test_features_cannot_be_cropped() -> None:
    with refused("augment: crop_flip needs images", "2 features"):
        trained(replace(RECIPE, augment="crop_flip"))


# --- Learning rates ------------------------------------------------------------------------------


def test_schedules_count_epochs() -> None:
    cosine = training.rates(Recipe(4, learning_rate=2.0), 3)
    assert cosine == pytest.approx(np.repeat([2, 1 + sqrt(0.5), 1, 1 - sqrt(0.5)], 3))
    step = Recipe(5, learning_rate=1.0, schedule="step", milestones=[2, 4], factor=0.5)
    assert training.rates(step, 2) == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25])
    warm = Recipe(3, learning_rate=1.0, schedule="constant", warmup=2)
    assert training.rates(warm, 2) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    late = replace(step, warmup=1)
    assert training.rates(late, 2) == pytest.approx([0.5, 1, *training.rates(step, 2)[2:]])


def _torch_rates(recipe: Recipe, steps: int) -> list[float]:
    """What torch's schedulers make of the published loop, which steps all of them every time."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    schedulers: list[tuple[lr_scheduler.LRScheduler, Callable[[int], bool]]] = []
    if recipe.schedule == "step":
        after = lr_scheduler.MultiStepLR(optimizer, list(recipe.milestones), recipe.factor)
        schedulers.append((after, lambda _: True))
    elif recipe.schedule == "cosine":
        schedulers.append(
            (lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs), lambda _: True)
        )
    warm = recipe.warmup * steps
    if warm:
        rising = lr_scheduler.LambdaLR(optimizer, lambda step: step / warm)
        schedulers.insert(0, (rising, lambda step: step < warm))
    found = []
    for step in range(recipe.epochs * steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler, due in schedulers:
            if due(step):
                scheduler.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "epochs", "warmup"),
    [("step", 20, 2), ("step", 20, 0), ("cosine", 20, 3), ("cosine", 7, 0), ("constant", 9, 2)],
)
def test_the_published_slip_is_that_of_torch(schedule: str, epochs: int, warmup: int) -> None:
    milestones = [6, 12, 150] if schedule == "step" else []
    recipe = Recipe(
        epochs, 1, 0.3, schedule=schedule, milestones=milestones, warmup=warmup,
        protocol="published",
    )  # fmt: skip
    np.testing.assert_allclose(training.rates(recipe, 11), _torch_rates(recipe, 11), atol=1e-12)


def test_the_published_rates_are_what_the_slip_makes_of_them() -> None:
    """Of AlexNet constant after the warm-up; of the residual networks up and down for ever."""
    published = Recipe(200, learning_rate=0.1, warmup=5, protocol="published")
    alexnet = replace(published, schedule="step", milestones=[60, 120, 160], factor=0.5)
    assert training.rates(alexnet, 391)[5 * 391 :] == pytest.approx(0.1)
    swings = training.rates(published, 391)[5 * 391 :]
    assert (swings.min(), swings.max()) == pytest.approx((0, 0.1136), abs=1e-3)
    troughs = np.flatnonzero(swings < 1e-9)
    assert set(np.diff(troughs)) == {400}


# --- Stopping and going on -----------------------------------------------------------------------


class Small(nn.Sequential):
    """Batch normalisation and dropout, on crops: everything that has a state or is random."""

    def __init__(self) -> None:
        layers = list(plain.conv((1, 8, 8), 2, 3))
        super().__init__(*layers[:-1], nn.Dropout(0.3), layers[-1])
        training.initialise(self, 0)


CROPS = replace(RECIPE, epochs=4, augment="crop_flip")


def _run(module: nn.Module, path: Path | None, recipe: Recipe = CROPS) -> pd.DataFrame:
    return training.train(module, pictures(70, 0), pictures(20, 1), recipe, path)


def _at_step(module: nn.Module, step: int, act: Callable[[], None]) -> None:
    """Do something in the forward pass of a step."""
    steps = []

    def count(part: nn.Module, _: object) -> None:
        if part.training:
            steps.append(1)
            if len(steps) == step:
                act()

    module.register_forward_pre_hook(count)


@pytest.mark.parametrize("step", [1, 4, 6, 16])
def test_a_stopped_training_goes_on_to_the_same_numbers(tmp_path: Path, step: int) -> None:
    """Stopped in the first step, at the end of an epoch, in the midst of one, and in the last."""
    path = tmp_path / "net.h5.checkpoint"
    whole = Small()
    expected = _run(whole, None)
    stopped = Small()
    _at_step(stopped, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        _run(stopped, path)
    resumed = Small()
    history = _run(resumed, path)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    pd.testing.assert_frame_equal(history, expected, check_exact=True)
    assert path.exists()


def test_a_killed_training_goes_on_from_the_last_time_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    path = tmp_path / "net.h5.checkpoint"

    def kill() -> None:
        raise KeyboardInterrupt

    killed = Small()
    _at_step(killed, 7, kill)
    with pytest.raises(KeyboardInterrupt):
        _run(killed, path)
    whole, resumed = Small(), Small()
    steps: list[int] = []
    resumed.register_forward_pre_hook(lambda part, _: steps.append(1) if part.training else None)
    expected, history = _run(whole, None), _run(resumed, path)
    assert len(steps) == 16 - 6
    assert torch.equal(flat(resumed), flat(whole))
    pd.testing.assert_frame_equal(history, expected, check_exact=True)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.h5.checkpoint"
    stopped = Small()
    _at_step(stopped, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        _run(stopped, path)
    with refused(str(path), "another run"):
        _run(Small(), path, replace(CROPS, l1=0.1))
    path.write_bytes(b"no checkpoint")
    with refused(str(path), "not a readable checkpoint"):
        _run(Small(), path)


def test_a_checkpoint_has_to_know_what_a_penalty_does(tmp_path: Path) -> None:
    """A function cannot be told from another."""
    module = Small()
    with refused("penalty", "identity"):
        training.train(
            module,
            pictures(70, 0),
            pictures(20, 1),
            CROPS,
            tmp_path / "net.h5.checkpoint",
            penalty=lambda: flat(module).square().sum(),
        )
