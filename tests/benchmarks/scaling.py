"""Cost of training against the number of members and of steps, over three decades each.

    PYTHONPATH=steps python tests/benchmarks/scaling.py

Prints a Markdown table: seconds, and microseconds per network and step, which linear cost keeps
constant. The last row trains a million members and tells the memory that took.
"""

import argparse
import resource
import time

import torch

from sparselimit.datasets import cubist_spiral
from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.train import train
from sparselimit.networks.mlp import MLP, initial_parameters
from sparselimit.seeds import generator

STEPS_PER_EPOCH = 39
NETWORK = MLP.spiral(3)


def members(n: int) -> Members:
    """n members from a hundred initial networks."""
    drawn = [initial_parameters(NETWORK, generator("scaling", i)) for i in range(100)]
    pool = torch.stack([torch.tensor(values) for values in drawn]).float()
    return Members.of(NETWORK, pool[torch.arange(n) % len(pool)], learning_rate=0.05)


def seconds(n_members: int, epochs: int, points: Points, backend: str) -> float:
    """Wall time of one call of `train`, its evaluation included."""
    ensemble = members(n_members)
    start = time.perf_counter()
    train(ensemble, points, Plan.of(["constant"], epochs), backend=backend)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="fused")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = cubist_spiral()
    # A tenth of the spiral: an epoch of 39 steps.
    points = Points(torch.tensor(data.x[::10]), torch.tensor(data.y[::10]).float())
    seconds(16, 1, points, arguments.backend)  # compiles the kernel
    print("| members | steps | seconds | us per network and step |\n|---|---|---|---|")
    grid = [(n, 4) for n in (100, 1_000, 10_000, 100_000)]
    grid += [(1_000, epochs) for epochs in (1, 10, 100, 1_000)]
    grid += [(1_000_000, 1)]
    for n_members, epochs in grid:
        steps = epochs * STEPS_PER_EPOCH
        taken = seconds(n_members, epochs, points, arguments.backend)
        rate = taken / n_members / steps * 1e6
        print(f"| {n_members:,} | {steps:,} | {taken:.3g} | {rate:.3f} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nPeak memory {peak:.1f} GiB.")


if __name__ == "__main__":
    main()
