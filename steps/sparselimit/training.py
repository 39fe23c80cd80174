"""Training of one classifier: the recipes of the limit study, resumable at any step."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import astuple, dataclass, fields
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from sparselimit import cli
from sparselimit.console import progress_bar
from sparselimit.ensemble.checkpoint import CHECKPOINT_SECONDS, Checkpoint, identity_of
from sparselimit.errors import InputError, in_one_line
from sparselimit.networks.classifier import Sample, evaluate
from sparselimit.networks.network import PRUNABLE
from sparselimit.seeds import generator


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained: SGD with momentum on cross-entropy plus an L1 penalty.

    optimizer   sgd; adam, which has its own two moments and takes no `momentum`
    l1          times the absolute values of all parameters is added to the loss
    schedule    constant; cosine, down to 0 at the end; step, times `factor` at each of `milestones`
    milestones  in epochs
    warmup      epochs in which the rate rises in proportion to the step
    protocol    exact; published: schedules count steps where epochs are meant, and go on from the
                rate that the warm-up has set, as in the code of Zhang et al. (2024)
    augment     none; crop_flip: random crops of padded images, half of them mirrored
    seed        of initial values, batches and augmentation
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    l1: float = 0.0
    schedule: str = "cosine"
    milestones: Sequence[int] = ()
    factor: float = 0.1
    warmup: int = 0
    protocol: str = "exact"
    augment: str = "none"
    seed: int = 0
    optimizer: str = "sgd"

    def steps(self, points: int) -> int:
        """Number of steps on so many points."""
        return self.epochs * self.per_epoch(points)

    def per_epoch(self, points: int) -> int:
        """Number of steps of an epoch: full batches, or the one there is."""
        return max(1, points // self.batch_size)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a step that trains: one for every field of a recipe."""
    default = Recipe(epochs=60)
    parser.add_argument("--epochs", type=cli.positive, default=default.epochs)
    parser.add_argument("--batch-size", type=cli.positive, default=default.batch_size)
    parser.add_argument("--optimizer", choices=("sgd", "adam"), default=default.optimizer)
    parser.add_argument("--learning-rate", type=cli.positive_number, default=default.learning_rate)
    parser.add_argument(
        "--momentum", type=momentum, default=default.momentum, help="of sgd, from 0 to below 1"
    )
    parser.add_argument("--weight-decay", type=cli.number, default=default.weight_decay)
    parser.add_argument(
        "--l1",
        type=cli.number,
        default=default.l1,
        help="penalty on absolute values of parameters",
    )
    parser.add_argument(
        "--schedule", choices=("constant", "cosine", "step"), default=default.schedule
    )
    parser.add_argument(
        "--milestones", type=cli.positive, nargs="*", default=[], help="of step, in epochs"
    )
    parser.add_argument(
        "--factor",
        type=cli.positive_number,
        default=default.factor,
        help="of the rate at each milestone",
    )
    parser.add_argument("--warmup", type=cli.whole, default=default.warmup, help="in epochs")
    parser.add_argument(
        "--protocol",
        choices=("exact", "published"),
        default=default.protocol,
        help="published: schedules count steps instead of epochs, as a published code does",
    )
    parser.add_argument("--augment", choices=("none", "crop_flip"), default=default.augment)
    parser.add_argument(
        "--seed",
        type=cli.whole,
        default=default.seed,
        help="of initial values, batches, augmentation",
    )


def momentum(text: str) -> float:
    """From 0 to below 1, as an argument type."""
    value = cli.number(text)
    if value >= 1:
        raise ValueError
    return value


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe that such arguments describe."""
    return Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})


# --- Learning rates ------------------------------------------------------------------------------


def rates(recipe: Recipe, steps: int) -> np.ndarray:
    """The learning rate at every step, for so many steps an epoch: float64 [epochs * steps]."""
    if recipe.protocol == "published":
        return recipe.learning_rate * _published_factors(recipe, steps)
    step = np.arange(recipe.epochs * steps)
    warm = recipe.warmup * steps
    factors = np.where(step < warm, (step + 1) / max(warm, 1), _factors(recipe, step // steps))
    return recipe.learning_rate * factors


def _factors(recipe: Recipe, epoch: np.ndarray) -> np.ndarray:
    if recipe.schedule == "cosine":
        return (1 + np.cos(pi * epoch / recipe.epochs)) / 2
    if recipe.schedule == "step":
        return recipe.factor ** np.searchsorted(recipe.milestones, epoch, side="right")
    return np.ones(len(epoch))


def _published_factors(recipe: Recipe, steps: int) -> np.ndarray:
    """With the slip of the published code: the schedule advances at every step, not every epoch.

    torch's schedulers multiply the rate that they find. During the warm-up they find the one that
    the warm-up has just set, so milestones that fall into it have no lasting effect, and the cosine
    (of a period of 2 `epochs` steps) goes on from its end at whatever phase that has.
    """
    warm, half = recipe.warmup * steps, recipe.epochs
    factors = np.empty(recipe.epochs * steps)
    factor = 0.0 if warm else 1.0
    for step in range(len(factors)):
        factors[step] = factor
        if step < warm:
            factor = (step + 1) / warm
        if recipe.schedule == "step":
            factor *= recipe.factor ** recipe.milestones.count(step + 1)
        elif recipe.schedule == "cosine" and step % (2 * half) == half:
            factor += (1 - cos(pi / half)) / 2  # from zero, where there is nothing to multiply
        elif recipe.schedule == "cosine":
            factor *= (1 + cos(pi * (step + 1) / half)) / (1 + cos(pi * step / half))
    return factors


# --- Training ------------------------------------------------------------------------------------


def initialise(module: nn.Module, seed: int) -> None:
    """Draw initial values: normal after He et al. for weights, zero for biases of their layers.

    All other layers start as torch starts them.
    """
    torch.manual_seed(int(generator("initial", seed).integers(2**62)))
    for layer in module.modules():
        if callable(reset := getattr(layer, "reset_parameters", None)):
            reset()
        if isinstance(layer, PRUNABLE):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def train(
    module: nn.Module,
    fit: Sample,
    validation: Sample,
    recipe: Recipe,
    checkpoint: Path | None = None,
    *,
    fixed: Tensor | None = None,
    steps: range | None = None,
    penalty: Callable[[], Tensor] | None = None,
    before: Callable[[int], None] | None = None,
    identity: Sequence[object] = (),
) -> pd.DataFrame:
    """Train in place, from the values that the module has; returns the history, a row per epoch.

    fixed    which entries of the flat parameter vector keep their values, bool [D]: pruned weights
    steps    those of the recipe that are done, if not all
    penalty  a further term of the loss
    before   is called before each step with its number; what it changes must be the module's state
    identity all that decides what these two do, without which there is no checkpoint with them

    The random choices of a step follow from the seed and its number. With a `checkpoint` path the
    run saves its state there now and then, at its end, and on a signal, which then ends it by
    `Stopped`; the same call goes on from it, on one device to the same numbers. To remove it is for
    the caller.

    Raises InputError when the loss is no longer finite, when there is nothing to crop, when batches
    are too small for batch normalisation, when one does not fit in the GPU's memory, and for a
    checkpoint that is damaged or of another run.
    """
    if checkpoint is not None and (penalty or before) and not identity:
        raise InputError("a training with a penalty or `before` needs an identity for a checkpoint")
    run = _Run(module, fit, validation, recipe, fixed, penalty, before)
    todo = range(recipe.steps(len(fit[1]))) if steps is None else steps
    keeper = None
    if checkpoint is not None:
        keeper = Checkpoint(checkpoint, [*run.identity(), *identity, todo], CHECKPOINT_SECONDS)
    try:
        # Without this, convolutions on a GPU may choose another algorithm at every run.
        with (
            torch.backends.cudnn.flags(enabled=True, deterministic=True),
            keeper.listening() if keeper else nullcontext(),
        ):
            saved = keeper.load() if keeper else None
            run.all_steps(range(run.restore(saved), todo.stop) if saved else todo, keeper)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"a batch of {recipe.batch_size} does not fit in the GPU's memory "
            f"({in_one_line(error)}); lower batch_size, or use --device cpu"
        ) from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):  # in torch's words
            raise
        raise InputError(
            f"batch normalisation needs batches of more than one value of each channel: batch_size "
            f"is {recipe.batch_size}, of {len(fit[1])} points to fit; make it larger"
        ) from error
    module.eval()
    return pd.DataFrame(run.history)


def observed(module: nn.Module, fit: Sample, validation: Sample, epoch: int) -> dict[str, float]:
    """A row of the history: how good a module in evaluation mode is."""
    loss, accuracy = evaluate(module, fit)
    return {
        "epoch": epoch,
        "fit_loss": loss,
        "fit_accuracy": accuracy,
        "validation_accuracy": evaluate(module, validation)[1],
    }


class _Run:
    """One call of `train`: what it trains, and how far it has come."""

    def __init__(
        self,
        module: nn.Module,
        fit: Sample,
        validation: Sample,
        recipe: Recipe,
        fixed: Tensor | None,
        penalty: Callable[[], Tensor] | None,
        before: Callable[[int], None] | None,
    ) -> None:
        if recipe.augment != "none" and fit[0].ndim != 4:
            raise InputError(
                f"augment: {recipe.augment} needs images, and the data have {fit[0].shape[1]} "
                "features; set it to none"
            )
        self.module, self.fit, self.validation, self.recipe = module, fit, validation, recipe
        self.penalty, self.before = penalty, before
        self.fixed = _fixed_parts(module, fixed)
        self.optimizer = _optimizer(module, recipe)
        self.history: list[dict[str, float]] = []

    def identity(self) -> list[object]:
        """All that decides the result, but for what `penalty` and `before` do."""
        fixed = [which for _, which, _ in self.fixed]
        data = [*self.fit, *self.validation]
        return [astuple(self.recipe), *identity_of(self.module), *fixed, *data]

    def all_steps(self, steps: range, keeper: Checkpoint | None) -> None:
        n, recipe = len(self.fit[1]), self.recipe
        per_epoch = recipe.per_epoch(n)
        learning_rates = rates(recipe, per_epoch).tolist()
        self.module.train()
        with progress_bar("train", steps.stop, "step") as progress:
            progress.update(steps.start)
            for step, batch in batches(n, recipe, steps.start, steps.stop):
                if self.before:
                    self.before(step)
                self._step(step, batch, learning_rates[step])
                if (step + 1) % per_epoch == 0:
                    self._look(step // per_epoch)
                if keeper and (keeper.due() or step + 1 == steps.stop):
                    keeper.save(self._snapshot(step + 1))
                progress.update(1)

    def _step(self, step: int, batch: np.ndarray, learning_rate: float) -> None:
        rng = generator("step", self.recipe.seed, step)
        torch.manual_seed(int(rng.integers(2**62)))  # for dropout, if there is any
        chosen = torch.as_tensor(batch, device=self.fit[1].device)
        x, y = self.fit[0][chosen], self.fit[1][chosen]
        if self.recipe.augment == "crop_flip":
            x = cropped(x, rng)
        loss = cross_entropy(self.module(x), y)
        if self.recipe.l1:
            loss = loss + self.recipe.l1 * sum(p.abs().sum() for p in self.module.parameters())
        if self.penalty:
            loss = loss + self.penalty()
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():  # whatever momentum and weight decay have made of them
            for parameter, which, values in self.fixed:
                parameter.copy_(torch.where(which, values, parameter))

    def _look(self, epoch: int) -> None:
        self.module.eval()
        row = observed(self.module, self.fit, self.validation, epoch)
        if not np.isfinite(row["fit_loss"]):
            raise InputError(
                f"training diverged in epoch {epoch + 1}: lower learning_rate "
                f"(it is {self.recipe.learning_rate})"
            )
        self.history.append(row)
        self.module.train()

    def _snapshot(self, step: int) -> dict[str, Any]:
        """All that is known before a step."""
        return {
            "step": step,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }

    def restore(self, saved: dict[str, Any]) -> int:
        """Take up a snapshot; returns the step that comes next."""
        self.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.history = saved["history"]
        return int(saved["step"])


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adam":
        return torch.optim.Adam(module.parameters(), rate, weight_decay=decay)
    return torch.optim.SGD(module.parameters(), rate, recipe.momentum, weight_decay=decay)


def _fixed_parts(
    module: nn.Module, fixed: Tensor | None
) -> list[tuple[nn.Parameter, Tensor, Tensor]]:
    """The parameters that have fixed entries, each with which these are and all its values."""
    if fixed is None:
        return []
    parameters = list(module.parameters())
    parts = fixed.split([p.numel() for p in parameters])
    return [
        (p, part.view_as(p).to(p.device), p.detach().clone())
        for p, part in zip(parameters, parts, strict=True)
        if part.any()
    ]


def batches(
    n: int, recipe: Recipe, first: int = 0, last: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """The steps of a training on n points, each with the points of its batch.

    Of all steps those from `first` on and before `last`. Every epoch is a permutation without its
    incomplete end, unless there are fewer points than one batch takes.
    """
    per_epoch = recipe.per_epoch(n)
    last = recipe.steps(n) if last is None else last
    for epoch in range(first // per_epoch, recipe.epochs):
        order = generator("batches", recipe.seed, epoch).permutation(n)
        for step in range(max(first, epoch * per_epoch), min(last, (epoch + 1) * per_epoch)):
            start = (step - epoch * per_epoch) * recipe.batch_size
            yield step, order[start : start + recipe.batch_size]


def cropped(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image shifted by up to an eighth of its height with zeros around, or mirrored as well.

    Images [n, channels, height, width] of 32x32 are cropped from 40x40, as is usual for CIFAR.
    """
    n, channels, height, width = x.shape
    margin = height // 8
    top, left = rng.integers(0, 2 * margin + 1, (2, n, 1))
    rows, columns = top + np.arange(height), left + np.arange(width)
    columns = np.where(rng.random((n, 1)) < 0.5, columns[:, ::-1], columns)
    image, channel = torch.arange(n)[:, None, None, None], torch.arange(channels)[:, None, None]
    row = torch.as_tensor(rows)[:, None, :, None]
    column = torch.as_tensor(columns)[:, None, None, :]
    return pad(x, (margin,) * 4)[image, channel, row, column]
