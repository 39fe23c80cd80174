"""Diagonal, row norms and trace of a symmetric operator given by its products.

With random signs z, the entries of z * (H z) have the diagonal of H for their mean (Bekas,
Kokiopoulou and Saad, 2007), those of (H z)^2 the squared norms of its rows, and z^T H z has its
trace (Hutchinson, 1989). A row of small norm is a parameter that the loss does not feel, alone or
beside others.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparselimit.console import progress_bar
from sparselimit.curvature.lanczos import rademacher
from sparselimit.ensemble.checkpoint import CHECKPOINT_SECONDS, Checkpoint

_NUMBERS = 1 << 24  # in the probes that are multiplied at a time; it bounds memory


@dataclass(frozen=True, eq=False)
class Rows:
    """What products tell of a symmetric operator H, in its units.

    diagonal: float64 [D].  norms: float64 [D], Euclidean.  trace, and its standard error: 0 where
    all is exact, nan for a single probe.
    """

    diagonal: np.ndarray
    norms: np.ndarray
    trace: float
    trace_error: float


def row_statistics(
    product: Callable[[Tensor], Tensor],
    like: Tensor,
    generators: Sequence[np.random.Generator],
    *,
    checkpoint: Path | None = None,
    identity: Sequence[object] = (),
) -> Rows:
    """Estimates from the products with one vector of random signs from each generator.

    n of them leave in a squared row norm a relative standard error of at most sqrt(2 / n). If there
    are as many as dimensions, the unit vectors serve instead and all is exact.

    product: maps vectors [P, D] to H vectors [P, D].
    like: a vector [D] whose type and device the probes take.
    checkpoint, identity: as for `lanczos`.
    """
    dimension = len(like)
    exact = len(generators) >= dimension
    count = dimension if exact else len(generators)
    together = max(1, _NUMBERS // dimension)
    done = 0
    sums = {
        "diagonal": torch.zeros(dimension, dtype=torch.float64, device=like.device),
        "squares": torch.zeros(dimension, dtype=torch.float64, device=like.device),
        "traces": torch.zeros(count, dtype=torch.float64, device=like.device),
    }
    keeper = None
    if checkpoint is not None:
        drawn = [] if exact else [generator.bit_generator.state for generator in generators]
        keeper = Checkpoint(checkpoint, [*identity, like, count, drawn], CHECKPOINT_SECONDS)
        if saved := keeper.load():
            done = saved["done"]
            sums = {name: saved[name].to(like.device) for name in sums}
    with (
        progress_bar("rows", count, "product") as progress,
        keeper.listening() if keeper else nullcontext(),
    ):
        progress.update(done)
        while done < count:
            part = slice(done, min(done + together, count))
            if exact:
                probes = torch.zeros(part.stop - done, dimension, dtype=like.dtype)
                probes.diagonal(offset=done).fill_(1)
            else:
                probes = rademacher(dimension, generators[part], like.dtype)
            probes = probes.to(like.device)
            images = product(probes).double()
            sums["squares"] += images.square().sum(dim=0)
            images *= probes
            sums["diagonal"] += images.sum(dim=0)
            sums["traces"][part] = images.sum(dim=1)
            progress.update(part.stop - done)
            done = part.stop
            if keeper and (keeper.due() or done == count):
                keeper.save({"done": done, **sums})
    diagonal, squares, traces = (sums[name].cpu().numpy() for name in sums)
    if exact:
        return Rows(diagonal, np.sqrt(squares), float(traces.sum()), 0.0)
    error = traces.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return Rows(diagonal / count, np.sqrt(squares / count), float(traces.mean()), float(error))
