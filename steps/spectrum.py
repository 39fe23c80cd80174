"""Spectrum of a network's Hessian or Gauss-Newton matrix by stochastic Lanczos quadrature."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from sparselimit import cli
from sparselimit.curvature.lanczos import lanczos, rademacher
from sparselimit.curvature.products import Objective
from sparselimit.curvature.quadrature import Tridiagonal
from sparselimit.limits.bounds import magnitude_offset
from sparselimit.networks import classifier
from sparselimit.seeds import generator


def main(arguments: Namespace) -> None:
    module, data = classifier.read_trained(arguments.network, arguments.data, arguments.device)
    module.double()
    x, y = classifier.sample(data, arguments.split, arguments.device)
    objective = Objective(module, cross_entropy, x.double(), y)
    product = getattr(objective, f"{arguments.operator}_product")
    signs = rademacher(
        objective.dimension,
        [generator("probe", arguments.seed, i) for i in range(arguments.probes)],
    )
    probes = lanczos(product, signs.to(arguments.device), arguments.steps)
    removed, starts = offsets(objective, classifier.prunable(module), arguments.offsets)
    along = lanczos(product, starts, arguments.steps) if len(removed) else []

    fit_x, fit_y = classifier.sample(data, "fit", arguments.device)
    fit = Objective(module, cross_entropy, fit_x.double(), fit_y, arguments.batch_size)
    content = {
        **stacked("", probes),
        **stacked("offset_", along),
        "offset_removed": removed,
        "gradient_norm": np.array(float(objective.gradient().norm())),
        "loss": np.array(objective.value()),
        "batch_losses": fit.batch_losses(),
    }
    cli.write(arguments, "spectrum", content)


def offsets(
    objective: Objective, prunable: torch.Tensor, n: int
) -> tuple[np.ndarray, torch.Tensor]:
    """What removing the smallest weights takes away, at n counts of them, as start vectors."""
    parameters = objective.parameters.cpu().numpy()
    counts = np.unique(np.linspace(0, int(prunable.sum()), n + 1).round().astype(int))
    vectors = {m: magnitude_offset(parameters, prunable.numpy(), m) for m in counts.tolist()}
    removed = np.array([m for m, vector in vectors.items() if vector.any()], dtype=np.int64)
    starts = np.array([vectors[m] for m in removed.tolist()])
    return removed, torch.as_tensor(starts, device=objective.parameters.device)


def stacked(prefix: str, runs: Sequence[Tridiagonal]) -> dict[str, np.ndarray]:
    """Lanczos runs as arrays [runs, steps], padded with zeros, and the steps that each took."""
    taken = np.array([run.alpha.size for run in runs], dtype=np.int64)
    columns = {"alpha": np.zeros((len(runs), taken.max(initial=0)))}
    columns["beta"] = columns["alpha"].copy()
    for i, run in enumerate(runs):
        columns["alpha"][i, : taken[i]] = run.alpha
        columns["beta"][i, : taken[i]] = run.beta
    return {prefix + name: values for name, values in {**columns, "steps": taken}.items()}


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data set (HDF5)")
    parser.add_argument("--network", type=Path, required=True, help="trained network (HDF5)")
    parser.add_argument("--operator", choices=("hessian", "ggn"), default="hessian")
    parser.add_argument(
        "--split", choices=("fit", "calibration"), default="fit", help="images of the objective"
    )
    parser.add_argument("--probes", type=cli.positive, default=4, help="random probes averaged")
    parser.add_argument("--steps", type=cli.positive, default=100, help="Lanczos steps of each")
    parser.add_argument(
        "--offsets",
        type=int,
        default=0,
        help="pruned points whose direction is followed too, equally spaced in weights removed",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the probes")
    parser.add_argument(
        "--batch-size", type=cli.positive, default=128, help="of the per-batch losses kept beside"
    )
    cli.run(main, parser)
