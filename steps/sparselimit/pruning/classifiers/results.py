"""What pruned classifiers are worth, as a `pruned-networks` file holds it."""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from sparselimit import store
from sparselimit.errors import InputError
from sparselimit.kinds import KINDS
from sparselimit.limits.bounds import smallest_first
from sparselimit.networks.classifier import evaluate, set_values
from sparselimit.networks.network import Network, prunable
from sparselimit.pruning.classifiers.masks import counts_of_layers
from sparselimit.pruning.classifiers.problem import Problem, Pruned
from sparselimit.statistics import keeps_accuracy
from sparselimit.store import Stored


def content(problem: Problem, made: Iterable[Pruned]) -> store.Content:
    """Everything about the networks that a method made, one after the other."""
    rows: list[dict[str, object]] = []
    layers: list[dict[str, object]] = []
    masks: list[np.ndarray] = []
    parameters: list[np.ndarray] = [np.zeros(0, dtype=np.float32)]
    buffers: list[np.ndarray] = [np.zeros(0)]
    for run, pruned in enumerate(made):
        rows.append({"round": run, **_row(problem, pruned)})
        counts = counts_of_layers(pruned.mask, problem.sizes)
        layers += [
            {"run": run, "layer": layer + 1, "weights": size, "kept": kept}
            for layer, (size, kept) in enumerate(zip(problem.sizes, counts, strict=True))
        ]
        masks.append(pruned.mask.numpy())
        flat = parameters_to_vector(pruned.network.parameters()).detach().cpu()
        parameters.append(flat[kept_parameters(problem.weights, pruned.mask, len(flat))].numpy())
        buffers += [b.double().flatten().cpu().numpy() for b in pruned.network.layers.buffers()]
    n = len(problem.weights)
    return {
        "runs": _KIND.table("runs").frame(rows),
        "layers": _KIND.table("layers").frame(layers),
        "mask": np.array(masks, dtype=bool).reshape(len(masks), n),
        "parameters": np.concatenate(parameters),
        "buffers": np.concatenate(buffers),
    }


@dataclass(frozen=True)
class StoredNetwork:
    """A pruned network from a file.

    number: among those of the file.  kept: bool [D], all parameters but the pruned weights.
    """

    number: int
    network: Network
    kept: Tensor


def stored_networks(file: Stored, dense: Network) -> Iterator[StoredNetwork]:
    """The networks of a `pruned-networks` file, in its order; `dense` is what they were made of.

    Raises InputError if they were made of another.
    """
    weights = prunable(dense)
    mask = torch.from_numpy(file.array("mask"))
    flat, buffers = (torch.from_numpy(file.array(part)) for part in ("parameters", "buffers"))
    if mask.shape[1] != weights.sum():
        raise InputError(
            f"{file.path}: networks of {mask.shape[1]} prunable weights, and {int(weights.sum())} "
            "in the network given; give the one that they were pruned from"
        )
    kept = [kept_parameters(weights.nonzero()[:, 0], one, len(weights)) for one in mask]
    parts = flat.split([int(one.sum()) for one in kept])
    of_each = buffers.view(len(kept), -1) if len(kept) else buffers
    for place, (left, values, own) in enumerate(zip(kept, parts, of_each, strict=True)):
        network, whole = deepcopy(dense), flat.new_zeros(len(weights))
        whole[left] = values
        set_values(network, whole, own, file.path)
        yield StoredNetwork(place, network, left)


def in_rounds(file: Stored, dense: Network) -> Iterator[StoredNetwork]:
    """Those that were made one from the other, and not by the density that was asked for."""
    asked = file.table("runs").asked.notna()
    return (one for one in stored_networks(file, dense) if not asked[one.number])


def kept_parameters(weights: Tensor, mask: Tensor, parameters: int) -> Tensor:
    """All parameters but the pruned weights, bool [D], from a mask over the weights."""
    kept = torch.ones(parameters, dtype=torch.bool)
    kept[weights] = mask
    return kept


def one_shot_weights(problem: Problem, pruned: Pruned) -> int:
    """How many weights of a pruned network suffice without training: its one-shot threshold.

    The smallest go at once, in steps of a hundredth of those it has, until validation accuracy
    falls by more than the tolerance below its own.
    """
    network, values = deepcopy(pruned.network), problem.values(pruned.network)
    validation, kept = problem.samples["validation"], int(pruned.mask.sum())
    ranked = torch.from_numpy(smallest_first(values, pruned.mask))
    own = evaluate(network, validation)[1]
    enough = kept
    for removed in np.unique(np.linspace(0, kept, _STEPS + 1).round().astype(int))[1:-1].tolist():
        problem.set_values(network, values.index_fill(0, ranked[:removed], 0.0))
        if not keeps_accuracy(evaluate(network, validation)[1], own, problem.tolerance):
            break
        enough = kept - removed
    return enough


_KIND = KINDS["pruned-networks"]
_STEPS = 100
_SPLITS = ("fit", "validation", "test")


def _row(problem: Problem, pruned: Pruned) -> dict[str, object]:
    weights = int(pruned.mask.sum())
    row: dict[str, object] = {
        "asked": np.nan if pruned.density is None else pruned.density,
        "weights": weights,
        "density": weights / len(pruned.mask),
        "epochs": pruned.epochs,
        "one_shot_weights": one_shot_weights(problem, pruned),
    }
    for split in _SPLITS:
        loss, accuracy = evaluate(pruned.network, problem.samples[split])
        row[f"{split}_loss"], row[f"{split}_accuracy"] = loss, accuracy
    return row
