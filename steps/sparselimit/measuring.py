"""Rates of this machine: how long a unit of each kind of work takes (`cost.Rates`).

Processor time on the CPU, one thread; wall time on a GPU. The fastest of some rounds counts.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sparselimit.cost import INPUTS, ON_DEVICE, size_of
from sparselimit.curvature.lanczos import lanczos, rademacher
from sparselimit.datasets import cubist_spiral
from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.train import train
from sparselimit.networks.initial import drawn
from sparselimit.networks.mlp import MLP, MOST_FUSED_WEIGHTS
from sparselimit.networks.network import Design, Network
from sparselimit.pruning import registry
from sparselimit.pruning.problem import Problem
from sparselimit.seeds import generator

# Hidden widths and members of the networks on the spiral that are trained and scored.
TRAINED = {3: 1024, 5: 1024, 16: 512, 64: 48, 256: 6}
SCORED = {16: 64, 256: 4}
STEPS = 39
LANCZOS = 2000, 500  # dimension and steps
# Classifiers whose gradients are timed: architecture, data, widths, images at once.
CLASSIFIERS = [
    ("fc", "digits", [20, 20], 128),
    ("fc", "digits", [512, 512], 128),
    ("conv", "digits", [4, 8], 128),
    ("mlpnet", "mnist", [], 128),
    ("resnet20", "cifar10", [], 32),
    ("fc5", "cifar10", [], 128),
    ("fc12", "cifar10", [], 128),
    ("alexnet", "cifar10", [], 8),
    ("vgg16", "cifar10", [], 16),
    ("resnet18", "cifar100", [], 8),
    ("resnet50", "cifar100", [], 4),
    ("resnet18", "tinyimagenet", [], 4),
    ("resnet50", "tinyimagenet", [], 2),
]
Row = tuple[str, float, float]  # rate, size, seconds of one unit


def measured(device: str, kinds: Iterable[str]) -> pd.DataFrame:
    """Rates of a device, of some of the `KINDS`: rate, size, device, seconds, source.

    What only ever runs on the CPU is measured there.
    """
    rows = [(kind, *row) for kind in kinds for row in KINDS[kind](device)]
    table = pd.DataFrame(rows, columns=["kind", "rate", "size", "seconds"])
    machine = torch.cuda.get_device_name() if device == "cuda" else "one core"
    return pd.DataFrame(
        {
            "rate": table.rate,
            "size": table["size"],
            "device": np.where(table.kind.isin(ON_DEVICE), device, "cpu"),
            "seconds": table.seconds.map("{:.3g}".format),
            "source": f"steps/rates.py on {machine}",
        }
    )


def _seconds(action: Callable[[], object], device: str, rounds: int = 3) -> float:
    """The fastest of some rounds, after one that compiles and warms up."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    taken = []
    for _ in range(rounds + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = clock()
        action()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(clock() - start)
    return min(taken[1:])


def _spiral() -> Points:
    """A tenth of it: an epoch of 39 steps."""
    data = cubist_spiral()
    return Points(torch.tensor(data.x[::10]), torch.tensor(data.y[::10]).float())


def _training(device: str) -> Iterator[Row]:
    points, plan = _spiral(), Plan.of(["constant"], 1)
    for width, n in TRAINED.items():
        network = MLP.spiral(width)
        members = Members.of(network, drawn(network, range(n)), learning_rate=0.05)
        fits = network.n_weights <= MOST_FUSED_WEIGHTS
        for backend in ("fused", "batched") if fits else ("batched",):
            how = partial(train, members, points, plan, device=device, backend=backend)
            unit = _seconds(how, device) / n / STEPS
            yield f"train {backend}", network.n_weights, unit


def _scoring(device: str) -> Iterator[Row]:
    points = _spiral()
    for method in registry.known():
        for width, n in SCORED.items():
            network = MLP.spiral(width)
            seeds = torch.arange(n)
            problem = Problem(
                network,
                drawn(network, range(n)),
                torch.full((n,), 20),
                seeds,
                torch.full((n,), 0.05, dtype=torch.float64),
                points,
                128,
                STEPS,
                "exact",
                "weights",
            )
            score = partial(registry.apply, method, problem, {})
            yield f"score {method}", network.n_weights, _seconds(score, "cpu", 1) / n


def _gradients(device: str) -> Iterator[Row]:
    for architecture, data, widths, n in CLASSIFIERS:
        channels, pixels, classes = INPUTS[data]
        side = int((pixels / channels) ** 0.5)
        shape = (channels, side, side)
        design = Design(architecture, tuple(widths), shape, classes, np.zeros(1), np.ones(1))
        network = Network(design).to(device).train()
        x, y = torch.rand(n, *shape, device=device), torch.arange(n, device=device) % classes
        unit = _seconds(partial(_gradient, network, x, y), device, 2) / n
        yield f"gradient {architecture} {data}", size_of(architecture, widths, data), unit


def _gradient(network: Network, x: Tensor, y: Tensor) -> None:
    network.zero_grad()
    cross_entropy(network(x), y).backward()


def _orthogonalising(device: str) -> Iterator[Row]:
    """Lanczos with a matrix that costs nothing, for each step squared."""
    dimension, steps = LANCZOS
    spectrum = torch.logspace(-6, 0, dimension, dtype=torch.float64)
    start = rademacher(dimension, [generator("rates", 0)], torch.float64)

    def product(vectors: Tensor) -> Tensor:
        return vectors * spectrum

    run = partial(lanczos, product, start, steps, memory=1 << 30)
    yield "orthogonalise", dimension, _seconds(run, "cpu", 1) / steps**2


KINDS: dict[str, Callable[[str], Iterator[Row]]] = {
    "train": _training,
    "score": _scoring,
    "gradient": _gradients,
    "orthogonalise": _orthogonalising,
}
