"""Spectrum of a network's Hessian or Gauss-Newton matrix by stochastic Lanczos quadrature."""

from argparse import Namespace
from collections.abc import Sequence

import numpy as np

from sparselimit import cli
from sparselimit.curvature.quadrature import Tridiagonal
from sparselimit.curvature.rows import row_statistics
from sparselimit.limits import probing
from sparselimit.networks import classifier
from sparselimit.networks.network import prunable
from sparselimit.seeds import generators


def main(arguments: Namespace) -> None:
    module, data = classifier.read_trained(
        arguments.network, arguments.data, arguments.device, arguments.code
    )
    objective, fit = probing.objectives(module, data, arguments)
    how, kept = probing.settings(arguments), cli.checkpoint(arguments)
    product = objective.product(arguments.operator, memory=how.memory // 2)
    identity = [arguments.operator, *objective.identity]
    runs = probing.probe(product, objective.parameters, prunable(module), how, kept, identity)
    rows = row_statistics(
        product,
        objective.parameters,
        generators("row probe", arguments.seed, arguments.row_probes),
        checkpoint=kept.with_name(f"{kept.name}-rows"),
        identity=identity,
    )

    content = {
        **stacked("", runs.probes),
        **stacked("offset_", runs.along),
        "offset_removed": runs.removed,
        "diagonal": rows.diagonal.astype(np.float32),
        "row_norm": rows.norms.astype(np.float32),
        "trace": np.array(rows.trace),
        "trace_error": np.array(rows.trace_error),
        "gradient_norm": np.array(float(objective.gradient().norm())),
        "loss": np.array(objective.value()),
        "batch_losses": fit.batch_losses(),
    }
    cli.write(arguments, "spectrum", content)


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
    probing.add_arguments(parser)
    parser.add_argument(
        "--row-probes",
        type=cli.positive,
        default=64,
        help="products for diagonal, row norms and trace; all exact if no fewer than parameters",
    )
    cli.run(main, parser)
