"""Train a fully connected classifier, with or without an L1 penalty."""

from argparse import Namespace
from pathlib import Path

import numpy as np
from torch.nn.utils import parameters_to_vector

from sparselimit import cli, store
from sparselimit.networks import classifier


def main(arguments: Namespace) -> None:
    data = classifier.read_dataset(arguments.data)
    sizes = [data.x.shape[1], *arguments.hidden, int(data.y.max()) + 1]
    module = classifier.build(sizes).to(arguments.device)
    history = classifier.train(
        module,
        classifier.sample(data, "fit", arguments.device),
        classifier.sample(data, "validation", arguments.device),
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        l1=arguments.l1,
        seed=arguments.seed,
    )
    content: store.Content = {
        "sizes": np.array(sizes),
        "parameters": parameters_to_vector(module.parameters()).detach().cpu().numpy(),
        "prunable": classifier.prunable(module).numpy(),
        "history": history,
    }
    cli.write(arguments, "network", content)


if __name__ == "__main__":
    parser = cli.Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data set (HDF5)")
    parser.add_argument("--hidden", type=cli.positive, nargs="+", required=True, help="widths")
    parser.add_argument("--epochs", type=cli.positive, default=60)
    parser.add_argument("--batch-size", type=cli.positive, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--l1", type=float, default=0.0, help="penalty on absolute values")
    parser.add_argument("--seed", type=int, default=0, help="of initial values and batches")
    cli.run(main, parser)
