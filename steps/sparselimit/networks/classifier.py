"""Fully connected classifiers whose pruning limit is studied: building, training, evaluating."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sparselimit import store
from sparselimit.console import progress_bar
from sparselimit.datasets import Dataset
from sparselimit.errors import InputError
from sparselimit.seeds import generator

Sample = tuple[Tensor, Tensor]


def read_dataset(path: Path) -> Dataset:
    """A data set from its file as a fully connected network sees it: float32 [n, features]."""
    stored = store.read(path, "points", "images")
    x = stored.array("x").reshape(len(stored.array("x")), -1).astype(np.float32)
    if stored.attributes["kind"] == "images":
        x /= 255
    return Dataset(x, stored.array("y"), stored.array("split"))


def sample(data: Dataset, split: str, device: str) -> Sample:
    """The points of one split as tensors: x float32 [n, features], y int64 [n].

    Raises InputError for a split without points.
    """
    x, y = data.of(split)
    if not len(y):
        raise InputError(f"the data set has no points of the split '{split}'")
    return torch.as_tensor(x, device=device), torch.as_tensor(y, device=device)


def build(sizes: Sequence[int]) -> nn.Sequential:
    """The network of the given sizes: ReLU between linear layers, logits at the end."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def prunable(module: nn.Module) -> Tensor:
    """Which entries of the flat parameter vector may be pruned, bool: weights, not biases."""
    return torch.cat([torch.full((p.numel(),), p.ndim > 1) for p in module.parameters()])


def read_network(path: Path, device: str) -> nn.Sequential:
    """A trained network from its file, in evaluation mode."""
    stored = store.read(path, "network")
    module = build(stored.array("sizes").tolist()).to(device)
    flat = torch.as_tensor(stored.array("parameters"), dtype=torch.float32, device=device)
    expected = sum(p.numel() for p in module.parameters())
    if len(flat) != expected:
        raise InputError(f"{path}: {len(flat)} parameters, its sizes need {expected}")
    vector_to_parameters(flat, module.parameters())
    return module.eval()


def read_trained(network: Path, data: Path, device: str) -> tuple[nn.Sequential, Dataset]:
    """A trained network and the data set it is to see.

    Raises InputError when the two do not fit.
    """
    module, points = read_network(network, device), read_dataset(data)
    inputs, classes = module[0].in_features, module[-1].out_features
    if points.x.shape[1] != inputs or points.y.max() >= classes:
        raise InputError(
            f"{network}: takes {inputs} features and tells {classes} classes, but {data} has "
            f"{points.x.shape[1]} and {points.y.max() + 1}; give the data it was trained on"
        )
    return module, points


@torch.no_grad()
def evaluate(module: nn.Module, points: Sample) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on a sample."""
    x, y = points
    outputs = [(module(xs), ys) for xs, ys in zip(x.split(4096), y.split(4096), strict=True)]
    loss = sum(float(cross_entropy(z, ys, reduction="sum")) for z, ys in outputs)
    correct = sum(int((z.argmax(dim=1) == ys).sum()) for z, ys in outputs)
    return loss / len(y), correct / len(y)


def train(
    module: nn.Module,
    fit: Sample,
    validation: Sample,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    l1: float,
    seed: int,
) -> pd.DataFrame:
    """Train in place; returns the history, one row per epoch.

    The published recipe of one-shot magnitude pruning (Zhang et al. 2024): SGD with momentum 0.9,
    no weight decay, normal initialisation after He et al., and the penalty l1 times the absolute
    values of all weights and biases. Ours: the learning rate falls on a cosine over the run.

    Raises InputError when the loss is no longer finite.
    """
    rng = generator("train", seed)
    torch.manual_seed(int(rng.integers(2**62)))
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()  # the biases, too, follow the seed
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    optimizer = torch.optim.SGD(module.parameters(), lr=learning_rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    history = []
    with progress_bar("train", epochs, "epoch") as progress:
        for epoch in range(epochs):
            for x, y in _batches(fit, batch_size, rng):
                optimizer.zero_grad()
                penalty = l1 * parameters_to_vector(module.parameters()).abs().sum()
                (cross_entropy(module(x), y) + penalty).backward()
                optimizer.step()
            schedule.step()
            loss, accuracy = evaluate(module, fit)
            if not np.isfinite(loss):
                raise InputError(
                    f"training diverged in epoch {epoch + 1}: lower learning_rate "
                    f"(it is {learning_rate})"
                )
            history.append((epoch, loss, accuracy, evaluate(module, validation)[1]))
            progress.update(1)
    columns = ["epoch", "fit_loss", "fit_accuracy", "validation_accuracy"]
    return pd.DataFrame(history, columns=columns)


def _batches(points: Sample, size: int, rng: np.random.Generator) -> Iterator[Sample]:
    """Shuffled batches; the last is left out if it is short, unless it is the only one."""
    x, y = points
    order = torch.as_tensor(rng.permutation(len(y)), device=y.device)
    for batch in order.split(size):
        if len(batch) == size or len(order) < size:
            yield x[batch], y[batch]
