"""Spectrum of a network's Hessian or Gauss-Newton matrix by stochastic Lanczos quadrature."""

from argparse import Namespace
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from sparselimit import cli
from sparselimit.curvature.lanczos import lanczos, rademacher
from sparselimit.curvature.products import Objective
from sparselimit.curvature.quadrature import Tridiagonal
from sparselimit.curvature.rows import row_statistics
from sparselimit.limits.bounds import magnitude_offset
from sparselimit.networks import classifier
from sparselimit.networks.network import prunable
from sparselimit.seeds import generator

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def main(arguments: Namespace) -> None:
    # The 10 bits that TF32 leaves of a convolution's products are too few for Lanczos iteration.
    torch.backends.cudnn.allow_tf32 = False
    module, data = classifier.read_trained(
        arguments.network, arguments.data, arguments.device, arguments.code
    )
    module.to(DTYPES[arguments.precision])
    x, y = classifier.sample(data, arguments.split, arguments.device)
    objective = Objective(module, cross_entropy, x, y)
    memory, kept = budget(arguments), cli.checkpoint(arguments)
    product = objective.product(arguments.operator, memory=memory // 2)
    identity = [arguments.operator, objective.parameters, x, y]

    def runs(start: torch.Tensor, part: str) -> list[Tridiagonal]:
        return lanczos(
            product,
            start,
            arguments.steps,
            memory=memory,
            checkpoint=kept.with_name(f"{kept.name}-{part}"),
            identity=identity,
            label=part,
        )

    def generators(purpose: str, n: int) -> list[np.random.Generator]:
        return [generator(purpose, arguments.seed, i) for i in range(n)]

    signs = rademacher(
        objective.dimension, generators("probe", arguments.probes), objective.parameters.dtype
    )
    probes = runs(signs.to(arguments.device), "probes")
    removed, starts = offsets(objective, prunable(module), arguments.offsets)
    along = runs(starts, "offsets") if len(removed) else []
    rows = row_statistics(
        product,
        objective.parameters,
        generators("row probe", arguments.row_probes),
        checkpoint=kept.with_name(f"{kept.name}-rows"),
        identity=identity,
    )

    fit_x, fit_y = classifier.sample(data, "fit", arguments.device)
    fit = Objective(module, cross_entropy, fit_x, fit_y, arguments.batch_size)
    content = {
        **stacked("", probes),
        **stacked("offset_", along),
        "offset_removed": removed,
        "diagonal": rows.diagonal.astype(np.float32),
        "row_norm": rows.norms.astype(np.float32),
        "trace": np.array(rows.trace),
        "trace_error": np.array(rows.trace_error),
        "gradient_norm": np.array(float(objective.gradient().norm())),
        "loss": np.array(objective.value()),
        "batch_losses": fit.batch_losses(),
    }
    cli.write(arguments, "spectrum", content)


def budget(arguments: Namespace) -> int:
    """Bytes for the Lanczos basis: half of the memory, so that the network has the rest."""
    if arguments.device == "cuda":
        return torch.cuda.mem_get_info()[0] // 2
    return arguments.memory * 10**6 // 2


def offsets(objective: Objective, weights: torch.Tensor, n: int) -> tuple[np.ndarray, torch.Tensor]:
    """What removing the smallest weights takes away, at n counts of them, as start vectors."""
    parameters = objective.parameters.cpu().numpy()
    counts = np.unique(np.linspace(0, int(weights.sum()), n + 1).round().astype(int))
    starts = objective.parameters.new_zeros(len(counts), objective.dimension)
    for start, m in zip(starts, counts.tolist(), strict=True):
        start.copy_(torch.from_numpy(magnitude_offset(parameters, weights.numpy(), m)))
    moved = starts.any(dim=1)
    return counts[moved.cpu().numpy()], starts[moved]


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
    classifier.add_arguments(parser)
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
    parser.add_argument(
        "--row-probes",
        type=cli.positive,
        default=64,
        help="products for diagonal, row norms and trace; all exact if no fewer than parameters",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the probes")
    parser.add_argument(
        "--precision", choices=DTYPES, default="float64", help="of products and Lanczos vectors"
    )
    parser.add_argument(
        "--memory",
        type=cli.positive,
        default=8000,
        help="MB to work in; Lanczos vectors that do not fit go to files (a GPU is used whole)",
    )
    parser.add_argument(
        "--batch-size", type=cli.positive, default=128, help="of the per-batch losses kept beside"
    )
    cli.run(main, parser)
