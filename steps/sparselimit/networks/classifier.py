"""Classifiers whose pruning limit is studied: their files, their data, their quality."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sparselimit import own, store
from sparselimit.datasets import Dataset
from sparselimit.errors import InputError, in_one_line
from sparselimit.networks.architectures import check
from sparselimit.networks.network import Design, Network, prunable

Sample = tuple[Tensor, Tensor]

_NUMBERS = 1 << 21  # in the inputs that are evaluated at a time; it bounds memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a step that looks at a trained network: `--network`, `--data`, `--code`."""
    parser.add_argument("--data", type=Path, required=True, help="data set (HDF5)")
    parser.add_argument("--network", type=Path, required=True, help="trained network (HDF5)")
    parser.add_argument(
        "--code", type=Path, help="Python file to run, where it builds a network of your own"
    )


# --- Data ----------------------------------------------------------------------------------------


def read_dataset(path: Path) -> Dataset:
    """A data set from its file: images as they are stored, all else float32."""
    stored = store.read(path, "points", "images")
    x, y, split = (stored.array(name) for name in ("x", "y", "split"))
    if x.dtype.kind == "f":
        x = x.astype(np.float32)
    if stored.attributes["kind"] == "points":
        return Dataset(x, y, split)
    return Dataset(x, y, split, stored.array("mean"), stored.array("std"))


def sample(data: Dataset, split: str, device: str) -> Sample:
    """The points of one split as tensors: x [n, ...] as stored, y int64 [n].

    Raises InputError for a split without points.
    """
    x, y = data.of(split)
    if not len(y):
        raise InputError(f"the data set has no points of the split '{split}'")
    return torch.as_tensor(x, device=device), torch.as_tensor(y, device=device)


# --- Files ---------------------------------------------------------------------------------------


def content(network: Network, history: pd.DataFrame) -> store.Content:
    """What a `network` file holds."""
    design = network.design
    buffers = [buffer.detach().double().flatten().cpu() for buffer in network.layers.buffers()]
    return {
        "architecture": np.array([design.architecture]),
        "widths": np.array(design.widths, dtype=np.int64),
        "shape": np.array(design.shape),
        "classes": np.array(design.classes),
        "mean": design.mean,
        "std": design.std,
        "parameters": parameters_to_vector(network.parameters()).detach().cpu().numpy(),
        "prunable": prunable(network).numpy(),
        "buffers": torch.cat([torch.zeros(0, dtype=torch.float64), *buffers]).numpy(),
        "history": history,
    }


def read_network(path: Path, device: str, code: Path | None = None) -> Network:
    """A trained network from its file, in evaluation mode.

    code: the Python file that may be run to build it. Raises InputError when it takes another one,
    or when what it builds has other parameters than the file.
    """
    stored = store.read(path, "network")
    architecture, widths = str(stored.array("architecture")[0]), stored.array("widths").tolist()
    check(architecture, widths)
    if own.is_own(architecture) and code != own.file_of(architecture):
        raise InputError(
            f"{path}: built by {architecture}; allow that code to be run by "
            f"--code {own.file_of(architecture)}"
        )
    network = Network(
        Design(
            architecture,
            tuple(widths),
            tuple(stored.array("shape").tolist()),
            int(stored.array("classes")),
            stored.array("mean"),
            stored.array("std"),
        )
    )
    parameters, buffers = (torch.as_tensor(stored.array(n)) for n in ("parameters", "buffers"))
    set_values(network, parameters, buffers, path)
    return network.to(device)


def set_values(network: Network, parameters: Tensor, buffers: Tensor, path: Path) -> None:
    """Give a network all its parameters [D] and buffers, flat and in order, as files have them.

    Raises InputError, which names the file `path`, if there are not as many as it has.
    """
    for name, values, needed in (
        ("parameters", parameters, sum(p.numel() for p in network.parameters())),
        ("buffers", buffers, sum(b.numel() for b in network.layers.buffers())),
    ):
        if len(values) != needed:
            architecture = network.design.architecture
            raise InputError(f"{path}: {len(values)} {name}, {architecture} has {needed}")
    vector_to_parameters(parameters.to(next(network.parameters())), network.parameters())
    sizes = [buffer.numel() for buffer in network.layers.buffers()]
    for buffer, values in zip(network.layers.buffers(), buffers.split(sizes), strict=True):
        buffer.copy_(values.view_as(buffer))


def read_trained(
    network: Path, data: Path, device: str, code: Path | None = None
) -> tuple[Network, Dataset]:
    """A trained network and the data set it is to see.

    Raises InputError when the two do not fit, and as `read_network` does.
    """
    module, points = read_network(network, device, code), read_dataset(data)
    shape, classes = module.design.shape, module.design.classes
    if points.x.shape[1:] != shape or points.y.max() >= classes:
        raise InputError(
            f"{network}: takes inputs of shape {shape} and tells {classes} classes, but {data} has "
            f"{points.x.shape[1:]} and {points.y.max() + 1}; give the data it was trained on"
        )
    return module, points


def load_state(network: Network, path: Path) -> None:
    """Take parameters and buffers from a state dict saved by torch; nothing else is unpickled.

    Raises InputError when there is no such file, it is none, or it does not fit: the line names the
    first key that is wrong.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file (give a state dict saved by torch)")
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many types for files that are not its own
        raise InputError(
            f"{path}: not a state dict ({in_one_line(error)}); save it by "
            "torch.save(model.state_dict(), ...)"
        ) from error
    name, wanted = network.design.architecture, network.layers.state_dict()
    if not isinstance(saved, dict):
        raise InputError(f"{path}: holds a {type(saved).__name__}; save model.state_dict()")
    for key in [*wanted, *saved]:
        if key not in saved:
            has = f"the first is '{next(iter(saved))}'" if saved else "there are none"
            raise InputError(f"{path} does not fit {name}: '{key}' is missing (of its keys {has})")
        problem = _misfit(wanted.get(key), saved[key])
        if problem:
            raise InputError(f"{path} does not fit {name}: '{key}' {problem}")
    network.layers.load_state_dict(saved)


def _misfit(wanted: Tensor | None, given: object) -> str | None:
    """What is wrong with an entry of a state dict, in words, or None."""
    if wanted is None:
        return "is not in the network"
    if not isinstance(given, Tensor):
        return f"is a {type(given).__name__}, not a tensor"
    if given.shape != wanted.shape:
        return f"has shape {tuple(given.shape)}, the network has {tuple(wanted.shape)}"
    if given.layout != torch.strided or given.is_quantized or given.is_complex() or given.is_meta:
        return "is not a dense tensor of real numbers"
    if not given.double().isfinite().all():
        return "holds NaN or infinity"
    return None


# --- Quality -------------------------------------------------------------------------------------


@torch.no_grad()
def evaluate(module: nn.Module, points: Sample) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of a module in evaluation mode on a sample."""
    x, y = points
    size = max(1, _NUMBERS // x[0].numel())
    outputs = [(module(xs), ys) for xs, ys in zip(x.split(size), y.split(size), strict=True)]
    loss = sum(float(cross_entropy(z, ys, reduction="sum")) for z, ys in outputs)
    correct = sum(int((z.argmax(dim=1) == ys).sum()) for z, ys in outputs)
    return loss / len(y), correct / len(y)
