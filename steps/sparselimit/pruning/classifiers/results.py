"""What pruned classifiers are worth, as a `pruned-networks` file holds it."""

from collections.abc import Iterable

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


_SPLITS = ("fit", "validation", "test")
_COLUMNS: dict[str, type] = {
    "round": int,
    "asked": float,
    "weights": int,
    "density": float,
    "epochs": float,
    **{f"{split}_{what}": float for split in _SPLITS for what in ("loss", "accuracy")},
}


def _row(problem: Problem, pruned: Pruned) -> dict[str, float]:
    weights = int(pruned.mask.sum())
    row = {
        "asked": np.nan if pruned.density is None else pruned.density,
        "weights": weights,
        "density": weights / len(pruned.mask),
        "epochs": pruned.epochs,
    }
    for split in _SPLITS:
        loss, accuracy = evaluate(pruned.network, problem.samples[split])
        row[f"{split}_loss"], row[f"{split}_accuracy"] = loss, accuracy
    return row
