"""Time of a training step: the engine's backends against the usual loop over a DataLoader.

    PYTHONPATH=steps python tests/benchmarks/ensemble.py --shapes 3-3-3 16-16-16 --backends fused
    PYTHONPATH=steps python tests/benchmarks/ensemble.py --device cuda --rounds 5 --grid

Prints a Markdown table; with `--grid` also how long the published grid of 485,838 runs would take,
from its shapes in their numbers. Everything in the table is timed in turns, round after round, so
that all meet the same disturbances; a cell is the fastest round, with the median in brackets as a
measure of the noise. The rate of the device's own matrix product is taken in the same rounds. The
plain loop always runs on the CPU. What runs on one thread is timed by its processor time, which
leaves out the turns of other programs.
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
MEMBERS = {"cpu": 256, "cuda": 65536}  # enough to fill the device
GEMM_SIZE = {"cpu": 768, "cuda": 8192}
DRAWS = 256  # different initial networks
DTYPES = {"float32": torch.float32, "float64": torch.float64}

# Runs of the published grid by shape. The exploration of widths up to 16, 27,168 runs, is counted
# with 16-16-16, within which it is trained under masks.
PUBLISHED_STEPS = 19_500
PUBLISHED_RUNS = {
    "3-2-2": 2_496,
    "3-3-3": 161_784,
    "4-4-4": 1_296,
    "5-5-5": 1_782,
    "6-3-2": 70_584,
    "6-6-6": 7_533,
    "7-3-3": 189_624,
    "7-7-7": 1_863,
    "8-8-8": 1_863,
    "16-16-16": 39_561,
    **{f"{width}-{width}-{width}": 1_863 for width in (32, 64, 128, 256)},
}

Timer = Callable[[], float]  # seconds per unit of work, measured once


def flop_per_step(network: MLP) -> int:
    """Multiplications and additions in the matrix products of one step.

    Forward, gradient and, but for the first layer, backward.
    """
    products = [3 * n_out * n_in for n_out, n_in in network.weight_shapes]
    products[0] = products[0] * 2 // 3
    return 2 * BATCH * sum(products)


def timed(work: Callable[[], object], units: int, threads: int = 1, device: str = "cpu") -> Timer:
    clock = time.process_time if device == "cpu" and threads == 1 else time.perf_counter

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def seconds() -> float:
        torch.set_num_threads(threads)
        finish()
        start = clock()
        work()
        finish()
        return (clock() - start) / units

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
    backend: str,
    network: MLP,
    points: Points,
    n_members: int,
    steps: int,
    threads: int,
) -> Timer:
    """Members without a mask: it changes nothing in what is computed. A unit is a step of one."""
    dtype, device = points.x.dtype, points.x.device
    draws = [initial_parameters(network, generator("benchmark", i)) for i in range(DRAWS)]
    index = torch.arange(n_members)
    parameters = torch.tensor(np.stack(draws), dtype=dtype)[index % DRAWS].to(device)
    settings = (torch.full((n_members,), value, device=device) for value in (0.05, 0.9, 5e-4))
    state = State(
        network,
        index,
        parameters,
        torch.zeros_like(parameters),
        torch.ones_like(parameters, dtype=torch.bool),
        *settings,
    )
    engine = backends.choose(backend, network, dtype, device)
    batches = torch.tensor(batch_order(len(points.x), BATCH, 0, 0))[:steps].to(device)
    engine.advance(state, points, batches[:1])  # compiles

    def advance() -> None:
        engine.advance(state, points, batches)

    return timed(advance, n_members * len(batches), threads, device.type)


def matrix_product(dtype: torch.dtype, device: str) -> Timer:
    size = GEMM_SIZE[device]
    a, b = torch.rand(2, size, size, dtype=dtype, device=device)
    return timed(lambda: a @ b, 2 * size**3, device=device)


def published_grid(points: Points, options: argparse.Namespace) -> None:
    """Time of the published grid, each shape at its own rate (fastest round)."""
    print("\n| network | runs | network-steps/s | hours |\n|---|---|---|---|")
    total = 0.0
    for shape, runs in PUBLISHED_RUNS.items():
        members = min(runs, options.members)
        timer = ensemble("auto", _network(shape), points, members, options.steps, options.threads)
        per_step = min(timer() for _ in range(options.rounds))
        hours = runs * PUBLISHED_STEPS * per_step / 3600
        total += hours
        print(f"| {shape} | {runs:,} | {1 / per_step:.3g} | {hours:.3g} |", flush=True)
    print(f"\nThe published grid, {sum(PUBLISHED_RUNS.values()):,} runs: {total:.3g} hours")


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
    print(
        "\n| network | precision | code | us per step | network-steps/s | speed-up | GFLOP/s "
        "| of product |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for key, value in best.items():
        if key[0] == "gemm":
            continue
        shape, name, code = key
        rate = flop_per_step(_network(shape)) / value
        print(
            f"| {shape} | {name} | {code} "
            f"| {1e6 * value:.3g} ({1e6 * float(np.median(seconds[key])):.3g}) "
            f"| {1 / value:.3g} "
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
    parser.add_argument("--device", choices=list(MEMBERS), default="cpu")
    parser.add_argument("--members", type=int, help=f"default: {MEMBERS}")
    parser.add_argument("--steps", type=int, default=30, help="steps per measurement")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1, help="of the backends; all else has one")
    parser.add_argument("--grid", action="store_true", help="time of the published grid, too")
    options = parser.parse_args()
    options.members = options.members or MEMBERS[options.device]

    data = cubist_spiral()

    def spiral(dtype: torch.dtype, device: str) -> Points:
        return Points(
            torch.tensor(data.x, dtype=dtype, device=device),
            torch.tensor(data.y, dtype=dtype, device=device),
        )

    timers: dict[tuple[str, ...], Timer] = {}
    for name in options.dtypes:
        dtype = DTYPES[name]
        timers["gemm", name] = matrix_product(dtype, options.device)
        for shape in options.shapes:
            network = _network(shape)
            timers[shape, name, "loop"] = plain_loop(network, spiral(dtype, "cpu"))
            for backend in options.backends:
                timers[shape, name, backend] = ensemble(
                    backend,
                    network,
                    spiral(dtype, options.device),
                    options.members,
                    options.steps,
                    options.threads,
                )
    table(timers, options.rounds)
    if options.grid:
        published_grid(spiral(torch.float32, options.device), options)


if __name__ == "__main__":
    main()
