"""Time of a training step: the engine's backends against the usual loop over a DataLoader.

    PYTHONPATH=steps python tests/benchmarks/ensemble.py --shapes 3-3-3 16-16-16 --backends fused

Prints a Markdown table. Everything is timed in turns, round after round, so that all meet the same
disturbances; a cell is the fastest round, with the median in brackets as a measure of the noise.
The rate of the machine's own matrix product is taken in the same rounds.
"""

import argparse
import time
from collections.abc import Callable
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from sparselimit.datasets import cubist_spiral
from sparselimit.ensemble import backends
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import State
from sparselimit.ensemble.train import batch_order
from sparselimit.networks.mlp import MLP, initial_parameters
from sparselimit.seeds import generator

BATCH = 128
PLAIN_STEPS = 60
GEMM_SIZE = 768
DTYPES = {"float32": torch.float32, "float64": torch.float64}

Timer = Callable[[], float]  # seconds per unit of work, measured once


def flop_per_step(network: MLP) -> int:
    """Multiplications and additions in the matrix products of one step.

    Forward, gradient and, but for the first layer, backward.
    """
    products = [3 * n_out * n_in for n_out, n_in in network.weight_shapes]
    products[0] = products[0] * 2 // 3
    return 2 * BATCH * sum(products)


def timed(work: Callable[[], object], units: int, threads: int = 1) -> Timer:
    def seconds() -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) / units

    return seconds


def plain_loop(network: MLP, points: Points) -> Timer:
    """One network in torch's own terms, masked before and after each step; a unit is a step."""
    dtype = points.x.dtype
    layers: list[torch.nn.Module] = []
    for n_out, n_in in network.weight_shapes:
        layers += [torch.nn.Linear(n_in, n_out, dtype=dtype), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    masks = [torch.ones_like(parameter) for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    loss_of = torch.nn.BCEWithLogitsLoss()
    data = TensorDataset(points.x, points.y[:, None])
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True)

    def apply_masks() -> None:
        with torch.no_grad():
            for parameter, mask in zip(model.parameters(), masks, strict=True):
                parameter.mul_(mask)

    def train() -> None:
        for x, y in islice(loader, PLAIN_STEPS):
            apply_masks()
            optimizer.zero_grad()
            loss_of(model(x), y).backward()
            optimizer.step()
            apply_masks()

    return timed(train, PLAIN_STEPS)


def ensemble(
    backend: str, network: MLP, points: Points, n_members: int, steps: int, threads: int
) -> Timer:
    """Members without a mask: it changes nothing in what is computed."""
    dtype = points.x.dtype
    draws = [initial_parameters(network, generator("benchmark", i)) for i in range(n_members)]
    parameters = torch.tensor(np.stack(draws), dtype=dtype)
    settings = (torch.full((n_members,), value) for value in (0.05, 0.9, 5e-4))
    state = State(
        network,
        torch.arange(n_members),
        parameters,
        torch.zeros_like(parameters),
        torch.ones(parameters.shape, dtype=torch.bool),
        *settings,
    )
    engine = backends.choose(backend, network, dtype, torch.device("cpu"))
    batches = torch.tensor(batch_order(len(points.x), BATCH, 0, 0))[:steps]
    engine.advance(state, points, batches[:1])  # compiles
    return timed(lambda: engine.advance(state, points, batches), n_members * len(batches), threads)


def matrix_product(dtype: torch.dtype) -> Timer:
    a, b = torch.rand(2, GEMM_SIZE, GEMM_SIZE, dtype=dtype)
    return timed(lambda: a @ b, 2 * GEMM_SIZE**3)


def table(timers: dict[tuple[str, ...], Timer], rounds: int) -> None:
    seconds: dict[tuple[str, ...], list[float]] = {key: [] for key in timers}
    for _ in range(rounds):
        for key, timer in timers.items():
            seconds[key].append(timer())
    best = {key: min(times) for key, times in seconds.items()}
    for name in DTYPES:
        if ("gemm", name) in best:
            print(f"{name} matrix product: {1e-9 / best['gemm', name]:.0f} GFLOP/s", end="")
            print(f" ({1e-9 / float(np.median(seconds['gemm', name])):.0f})")
    print("\n| network | precision | code | us per step | speed-up | GFLOP/s | of product |")
    print("|---|---|---|---|---|---|---|")
    for key, value in best.items():
        if key[0] == "gemm":
            continue
        shape, name, code = key
        rate = flop_per_step(_network(shape)) / value
        print(
            f"| {shape} | {name} | {code} "
            f"| {1e6 * value:.3g} ({1e6 * float(np.median(seconds[key])):.3g}) "
            f"| {best[shape, name, 'loop'] / value:,.0f} "
            f"| {1e-9 * rate:.3g} | {100 * rate * best['gemm', name]:.2g}% |"
        )


def _network(shape: str) -> MLP:
    return MLP((2, *map(int, shape.split("-")), 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=["3-3-3", "7-3-3", "16-16-16"])
    parser.add_argument("--backends", nargs="+", default=["fused", "batched"])
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--members", type=int, default=256)
    parser.add_argument("--steps", type=int, default=30, help="steps per measurement")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1, help="of the backends; all else has one")
    options = parser.parse_args()

    data = cubist_spiral()
    timers: dict[tuple[str, ...], Timer] = {}
    for name in options.dtypes:
        dtype = DTYPES[name]
        timers["gemm", name] = matrix_product(dtype)
        points = Points(torch.tensor(data.x, dtype=dtype), torch.tensor(data.y, dtype=dtype))
        for shape in options.shapes:
            network = _network(shape)
            timers[shape, name, "loop"] = plain_loop(network, points)
            for backend in options.backends:
                timers[shape, name, backend] = ensemble(
                    backend, network, points, options.members, options.steps, options.threads
                )
    table(timers, options.rounds)


if __name__ == "__main__":
    main()
