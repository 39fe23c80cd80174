"""The Lanczos runs that a limit is read from: from random probes, and from pruned points."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparselimit import cli
from sparselimit.curvature.lanczos import lanczos, rademacher
from sparselimit.curvature.products import Objective, Product
from sparselimit.curvature.quadrature import Tridiagonal
from sparselimit.datasets import Dataset
from sparselimit.errors import InputError
from sparselimit.limits.bounds import magnitude_offset
from sparselimit.networks.classifier import sample
from sparselimit.seeds import generators

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Probing:
    """How a curvature matrix is looked at.

    probes: random ones.  steps: Lanczos steps of each run, at most.  offsets: pruned points whose
    direction is followed too, equally spaced in weights removed.  seed: of the probes.
    memory: bytes that the vectors of the runs may take before they go to files.
    """

    probes: int
    steps: int
    offsets: int
    seed: int
    memory: int


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments that `settings` and `objectives` read."""
    parser.add_argument(
        "--split", choices=("fit", "calibration"), default="fit", help="images of the objective"
    )
    parser.add_argument(
        "--batch-size", type=cli.positive, default=128, help="of the per-batch losses kept beside"
    )
    parser.add_argument(
        "--precision", choices=DTYPES, default="float64", help="of products and Lanczos vectors"
    )
    parser.add_argument("--probes", type=cli.positive, default=4, help="random probes averaged")
    parser.add_argument("--steps", type=cli.positive, default=100, help="Lanczos steps of each")
    parser.add_argument(
        "--offsets",
        type=cli.whole,
        default=0,
        help="pruned points whose direction is followed too, equally spaced in weights removed",
    )
    parser.add_argument("--seed", type=cli.whole, default=0, help="of the probes")
    parser.add_argument(
        "--memory",
        type=cli.positive,
        default=8000,
        help="MB to work in; Lanczos vectors that do not fit go to files (a GPU is used whole)",
    )


def settings(arguments: Namespace) -> Probing:
    """From a step's arguments; half of the memory is left to the network."""
    if arguments.device == "cuda":
        memory = torch.cuda.mem_get_info()[0] // 2
    else:
        memory = arguments.memory * 10**6 // 2
    names = ("probes", "steps", "offsets", "seed")
    return Probing(**{name: getattr(arguments, name) for name in names}, memory=memory)


def objectives(module: nn.Module, data: Dataset, arguments: Namespace) -> tuple[Objective, ...]:
    """The loss whose curvature is looked at, and that on what was fitted, batch by batch.

    Raises InputError when there is one batch only, which has no spread.
    """
    # The 10 bits that TF32 leaves of a convolution's products are too few for Lanczos iteration.
    torch.backends.cudnn.allow_tf32 = False
    module.to(DTYPES[arguments.precision])
    looked_at, fit = (sample(data, s, arguments.device) for s in (arguments.split, "fit"))
    if len(fit[1]) <= arguments.batch_size:
        raise InputError(
            f"--batch-size {arguments.batch_size} takes all {len(fit[1])} fitted points at once: "
            "the tolerated rise in loss is the spread between batches, so take a smaller one"
        )
    return (
        Objective(module, cross_entropy, *looked_at),
        Objective(module, cross_entropy, *fit, arguments.batch_size),
    )


@dataclass(frozen=True)
class Runs:
    """Lanczos runs: `probes`, and `along` the way to where `removed` [n] weights are gone."""

    probes: list[Tridiagonal]
    removed: np.ndarray
    along: list[Tridiagonal]


def probe(
    product: Product,
    parameters: Tensor,
    prunable: Tensor,
    how: Probing,
    checkpoint: Path,
    identity: Sequence[object],
) -> Runs:
    """All runs on the curvature at a point of D parameters.

    product: maps vectors [P, D] to as many.  parameters: [D], whose type and device vectors take.
    prunable: bool [D], on the CPU.  checkpoint, identity: as for `lanczos`; each part of the runs
    has a checkpoint of its own, whose name begins with that of this one.
    """

    def runs(start: Tensor, part: str) -> list[Tridiagonal]:
        return lanczos(
            *(product, start, how.steps),
            memory=how.memory,
            checkpoint=checkpoint.with_name(f"{checkpoint.name}-{part}"),
            identity=identity,
            label=part,
        )

    signs = rademacher(len(parameters), generators("probe", how.seed, how.probes), parameters.dtype)
    probes = runs(signs.to(parameters.device), "probes")
    removed, starts = _offsets(parameters, prunable, how.offsets)
    return Runs(probes, removed, runs(starts, "offsets") if len(removed) else [])


def _offsets(parameters: Tensor, prunable: Tensor, n: int) -> tuple[np.ndarray, Tensor]:
    """What removing the smallest weights takes away, at n counts of them, as start vectors."""
    values = parameters.cpu().numpy()
    counts = np.unique(np.linspace(0, int(prunable.sum()), n + 1).round().astype(int))
    starts = parameters.new_zeros(len(counts), len(parameters))
    for start, m in zip(starts, counts.tolist(), strict=True):
        start.copy_(torch.from_numpy(magnitude_offset(values, prunable.numpy(), m)))
    moved = starts.any(dim=1)
    return counts[moved.cpu().numpy()], starts[moved]
