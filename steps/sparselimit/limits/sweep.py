"""One-shot magnitude pruning of a trained network at many ratios."""

import copy
from pathlib import Path

import pandas as pd
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sparselimit.ensemble.checkpoint import in_turn
from sparselimit.limits.bounds import radii
from sparselimit.networks.classifier import Sample, evaluate
from sparselimit.networks.network import prunable


def one_shot_sweep(
    module: nn.Module,
    samples: dict[str, Sample],
    ratios: int,
    checkpoint: Path | None = None,
) -> pd.DataFrame:
    """Loss and accuracy on each sample after removing a share of the weights of least magnitude.

    Magnitudes are compared across all layers, nothing is retrained, ties go by index. One row per
    ratio 0, 1/ratios, ..., 1 - 1/ratios: removed (count), pruning_ratio, radius (distance to the
    trained weights), and `<sample>_loss`, `<sample>_accuracy`.

    checkpoint: where the rows are saved now and then, as by `in_turn`.
    """
    pruned = copy.deepcopy(module)
    flat = parameters_to_vector(module.parameters()).detach()
    weights = prunable(module).nonzero()[:, 0].to(flat.device)
    smallest_first = weights[flat[weights].abs().argsort(stable=True)]
    radius = radii(flat[weights].cpu().numpy())

    def row(i: int) -> dict[str, float]:
        removed = round(i / ratios * len(weights))
        vector_to_parameters(flat.index_fill(0, smallest_first[:removed], 0.0), pruned.parameters())
        measured = {
            "removed": removed,
            "pruning_ratio": removed / len(weights),
            "radius": float(radius[removed]),
        }
        for name, points in samples.items():
            measured[f"{name}_loss"], measured[f"{name}_accuracy"] = evaluate(pruned, points)
        return measured

    data = [part for name, points in samples.items() for part in (name, *points)]
    identity = [str(module), *module.state_dict().values(), *data]
    return pd.DataFrame(in_turn(row, ratios, checkpoint, identity))
