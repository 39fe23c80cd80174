"""One-shot magnitude pruning of a trained network at many ratios."""

import copy
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sparselimit.curvature.products import Objective
from sparselimit.ensemble.checkpoint import identity_of, in_turn
from sparselimit.limits.bounds import radii, smallest_first
from sparselimit.limits.subspace import Reoptimised, reoptimised
from sparselimit.networks.classifier import Sample, evaluate
from sparselimit.networks.network import prunable

_JACOBIANS_OF = 64  # samples at a time; it bounds memory


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
    order = smallest_first(flat.cpu(), prunable(module))
    radius = radii(flat.cpu()[order])

    def row(i: int) -> dict[str, float]:
        removed = round(i / ratios * len(order))
        gone = torch.from_numpy(order[:removed]).to(flat.device)
        vector_to_parameters(flat.index_fill(0, gone, 0.0), pruned.parameters())
        measured = {
            "removed": removed,
            "pruning_ratio": removed / len(order),
            "radius": float(radius[removed]),
        }
        for name, points in samples.items():
            measured[f"{name}_loss"], measured[f"{name}_accuracy"] = evaluate(pruned, points)
        return measured

    data = [part for name, points in samples.items() for part in (name, *points)]
    return pd.DataFrame(in_turn(row, ratios, checkpoint, [*identity_of(module), *data]))


def reoptimised_sweep(module: nn.Module, points: Sample, damping: float = 0.0) -> Reoptimised:
    """Weights go as in `one_shot_sweep`, all others re-optimise in the Gauss-Newton model.

    Exact minima of that model of the loss; `damping` is added to its curvatures. The dense matrix
    of all D parameters is built: D^2 numbers, and time in proportion to D^3.
    """
    objective = Objective(
        copy.deepcopy(module).double(), cross_entropy, *points, batch_size=_JACOBIANS_OF
    )
    parameters = objective.parameters.cpu().numpy()
    order = smallest_first(parameters, prunable(module))
    return reoptimised(objective.exact_ggn().cpu().numpy(), parameters, order, damping)
