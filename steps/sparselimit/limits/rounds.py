"""Pruning limits along the rounds of a method: how far each of its networks could still go.

A network that is pruned already has fewer parameters: those that are left, in whose space alone the
loss is looked at. Its limit is that of any other network, with these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike
from torch import Tensor

from sparselimit.curvature.products import Objective, restricted
from sparselimit.curvature.quadrature import Bracket
from sparselimit.limits.bounds import batch_spread, interpolated_direction
from sparselimit.limits.prediction import Reading, columns
from sparselimit.limits.probing import Probing, probe


@dataclass(frozen=True)
class Left:
    """The parameters that are left of a network: `kept`, and those of them that could go.

    kept, prunable: bool [D], on the CPU, over all parameters.
    """

    kept: Tensor
    prunable: Tensor


def limits(
    objective: Objective,
    batch_losses: ArrayLike,
    left: Left,
    how: Probing,
    checkpoint: Path,
) -> list[dict[str, object]]:
    """By the published and the corrected formula, each on the Gauss-Newton matrix.

    The tolerated rise in loss is the published one, the spread of `batch_losses`. Ratios and counts
    are of the weights that are left.
    """
    kept = left.kept.to(objective.parameters.device)
    product = restricted(objective.product("ggn", memory=how.memory // 2), kept)
    parameters, prunable = objective.parameters[kept], (left.prunable & left.kept)[left.kept]
    identity = [*objective.identity, left.kept]
    runs = probe(product, parameters, prunable, how, checkpoint, identity)
    whole, along = Bracket.psd(runs.probes), None
    if runs.along:
        directions = [Bracket.psd([run]) for run in runs.along]
        along = interpolated_direction(runs.removed.tolist(), directions)
    epsilon = batch_spread(batch_losses)
    weights = parameters.cpu()[prunable].double().numpy()
    readings = (
        Reading("ggn", "psd", "published", "none", whole, None, epsilon),
        Reading("ggn", "psd", "B", "offset" if along else "isotropic", whole, along, epsilon),
    )
    return [
        {
            **reading.names,
            "rule": "batch_std",
            "epsilon": epsilon,
            "prunable": len(weights),
            "parameters": len(parameters),
            "resolution": whole.resolution,
            **columns(reading.limit_of(weights, len(parameters), epsilon)),
        }
        for reading in readings
    ]
