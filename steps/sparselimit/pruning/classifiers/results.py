"""What pruned classifiers are worth, as a `pruned-networks` file holds it."""

from collections.abc import Iterable
from copy import deepcopy

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from sparselimit import store
from sparselimit.networks.classifier import evaluate
from sparselimit.pruning.classifiers.masks import counts_of_layers
from sparselimit.pruning.classifiers.problem import Problem, Pruned


def content(problem: Problem, made: Iterable[Pruned]) -> store.Content:
    """Everything about the networks that a method made, one after the other."""
    rows: list[dict[str, float]] = []
    layers: list[dict[str, int]] = []
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
        "runs": pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS),
        "layers": pd.DataFrame(layers, columns=["run", "layer", "weights", "kept"]).astype(int),
        "mask": np.array(masks, dtype=bool).reshape(len(masks), n),
        "parameters": np.concatenate(parameters),
        "buffers": np.concatenate(buffers),
    }


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
    # By index where magnitudes are equal, as everywhere.
    ranked = torch.where(pruned.mask, values.abs(), torch.inf).argsort(stable=True)
    own = evaluate(network, validation)[1]
    enough = kept
    for removed in np.unique(np.linspace(0, kept, _STEPS + 1).round().astype(int))[1:-1].tolist():
        problem.set_values(network, values.index_fill(0, ranked[:removed], 0.0))
        if own - evaluate(network, validation)[1] > problem.tolerance + 1e-12:
            break
        enough = kept - removed
    return enough


_STEPS = 100
_SPLITS = ("fit", "validation", "test")
_COLUMNS: dict[str, type] = {
    "round": int,
    "asked": float,
    "weights": int,
    "density": float,
    "epochs": float,
    "one_shot_weights": int,
    **{f"{split}_{what}": float for split in _SPLITS for what in ("loss", "accuracy")},
}


def _row(problem: Problem, pruned: Pruned) -> dict[str, float]:
    weights = int(pruned.mask.sum())
    row = {
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
