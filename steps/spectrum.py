"""Spectrum of a network's Hessian or Gauss-Newton matrix by stochastic Lanczos quadrature."""

from argparse import Namespace
from pathlib import Path

import numpy as np
from torch.nn.functional import cross_entropy

from sparselimit import cli, store
from sparselimit.curvature.lanczos import lanczos, rademacher
from sparselimit.curvature.products import Objective
from sparselimit.networks import classifier
from sparselimit.seeds import generator


def main(arguments: Namespace) -> None:
    data = classifier.read_dataset(arguments.data)
    module = classifier.read_network(arguments.network, arguments.device).double()
    x, y = classifier.sample(data, arguments.split, arguments.device)
    objective = Objective(module, cross_entropy, x.double(), y)
    product = getattr(objective, f"{arguments.operator}_product")
    probes = rademacher(
        objective.dimension,
        [generator("probe", arguments.seed, i) for i in range(arguments.probes)],
    )
    runs = lanczos(product, probes.to(arguments.device), arguments.steps)

    steps = max(run.alpha.size for run in runs)
    padded = {
        name: np.stack([np.pad(getattr(run, name), (0, steps - run.alpha.size)) for run in runs])
        for name in ("alpha", "beta")
    }
    fit_x, fit_y = classifier.sample(data, "fit", arguments.device)
    fit = Objective(module, cross_entropy, fit_x.double(), fit_y, arguments.batch_size)
    content = {
        **padded,
        "steps": np.array([run.alpha.size for run in runs]),
        "gradient_norm": np.array(float(objective.gradient().norm())),
        "loss": np.array(objective.value()),
        "batch_losses": fit.batch_losses(),
    }
    store.write(
        arguments.output,
        "spectrum",
        content,
        config=cli.options(arguments),
        device=arguments.device,
    )


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
    parser.add_argument("--seed", type=int, default=0, help="of the probes")
    parser.add_argument(
        "--batch-size", type=cli.positive, default=128, help="of the per-batch losses kept beside"
    )
    cli.run(main, parser)
