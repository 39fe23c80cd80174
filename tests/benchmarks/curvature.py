"""Cost of curvature: products, the way to a bracket of 0.005, growth with steps and probes, memory.

    PYTHONPATH=steps python tests/benchmarks/curvature.py products accuracy scaling memory

Prints Markdown tables. The networks are an MLP of 99,530 parameters and ResNet20, trained for a
while on digits, in float32 on one thread. Times are processor time, the fastest of some rounds in
which everything takes its turn. `accuracy` needs PyHessian 0.1 (pip install PyHessian); of the
functions that torch has dropped since, it is given the one that it calls.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import curvlinops
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from sparselimit.curvature.lanczos import lanczos, rademacher
from sparselimit.curvature.products import Objective, Operator
from sparselimit.curvature.quadrature import Bracket, Spectrum, Tridiagonal, flatness
from sparselimit.limits.bounds import Limit, pruning_limit
from sparselimit.networks.network import prunable
from sparselimit.networks.plain import fc
from sparselimit.networks.resnet import resnet20

WIDTH = 0.005  # of the bracket that is asked for
GRID = (10, 15, 20, 30, 40, 60, 80, 100, 150, 200)  # numbers of steps tried
REFERENCE_STEPS = 400
EPSILON = 0.01  # tolerance of the limit at whose tau the spectrum is wanted
MEMORY = 4 << 30


def digits(size: int) -> tuple[Tensor, Tensor]:
    """1,797 digits of 8 x 8 pixels, enlarged."""
    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    return interpolate(images, size=size), torch.tensor(y)


def trained(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A network and the sample of its objective."""
    torch.manual_seed(0)
    size, samples = {"mlp": (8, 1437), "resnet20": (16, 64)}[name]
    shape = (1, size, size)
    module = fc(shape, 10, 256, 256, 64) if name == "mlp" else resnet20(shape, 10)
    x, y = digits(size)
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3)
    module.train()
    for _ in range(5):
        for batch in torch.randperm(1437).split(64):
            optimiser.zero_grad()
            cross_entropy(module(x[batch]), y[batch]).backward()
            optimiser.step()
    return module.eval(), x[:samples], y[:samples]


def signs(seed: int, module: nn.Module) -> Tensor:
    """The probe that PyHessian draws after this seed."""
    torch.manual_seed(seed)
    drawn = [torch.randint_like(p, high=2).flatten() for p in module.parameters()]
    return (2 * torch.cat(drawn) - 1).detach()[None]


def fastest(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of processor time of each, the fastest of the rounds."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - start)
    return best


def products(name: str, rounds: int) -> None:
    module, x, y = trained(name)
    objective = Objective(module, cross_entropy, x, y)
    generators = [np.random.default_rng(i) for i in range(4)]
    vectors = rademacher(objective.dimension, generators, torch.float32)

    def gradient() -> None:
        module.zero_grad()
        cross_entropy(module(x), y).backward()

    works: dict[str, Callable[[], object]] = {"gradient": gradient}
    operators: tuple[tuple[Operator, type], ...] = (
        ("hessian", curvlinops.HessianLinearOperator),
        ("ggn", curvlinops.GGNLinearOperator),
    )
    for operator, other in operators:
        kept, anew = (objective.product(operator, memory=memory) for memory in (MEMORY, 0))
        theirs = other(module, nn.CrossEntropyLoss(), list(module.parameters()), [(x, y)])
        works |= {
            f"{operator}|kept": partial(kept, vectors[0]),
            f"{operator}|kept, 4 probes": partial(kept, vectors),
            f"{operator}|built anew, 4 probes": partial(anew, vectors),
            f"{operator}|curvlinops": partial(theirs.__matmul__, vectors[0]),
        }
    seconds = fastest(works, rounds)
    for work, taken in seconds.items():
        each = taken / 4 if "4 probes" in work else taken
        matrix, _, code = work.partition("|")
        print(
            f"| {name} | {objective.dimension:,} | {len(y):,} | {matrix} | {code} | "
            f"{1e3 * each:.1f} | {each / seconds['gradient']:.2f} |",
            flush=True,
        )


def width(spectrum: Spectrum, tau: float) -> float:
    return spectrum.integral(flatness(tau))


def first_steps(run: Tridiagonal, steps: int) -> Tridiagonal:
    return Tridiagonal(run.alpha[:steps], run.beta[:steps])


def settled(errors: dict[int, float]) -> int | None:
    """The fewest steps from which on no error is above `WIDTH`."""
    above = [steps for steps, error in errors.items() if error > WIDTH]
    return min((steps for steps in errors if steps > max(above, default=0)), default=None)


def pyhessian_density(module: nn.Module, x: Tensor, y: Tensor, steps: int) -> Spectrum:
    """The spectrum from one probe of PyHessian's, without its smoothing."""
    import pyhessian

    def eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], dim=1), vectors

    torch.eig = eig  # type: ignore[assignment,attr-defined]
    computer = pyhessian.hessian(module, nn.CrossEntropyLoss(), data=(x, y), cuda=False)
    torch.manual_seed(1)
    nodes, weights = (np.array(part[0], dtype=float) for part in computer.density(iter=steps))
    module.zero_grad()
    return Spectrum(nodes, weights / weights.sum()).nonnegative("abs")


def accuracy(name: str, rounds: int) -> None:
    module, x, y = trained(name)
    objective = Objective(module, cross_entropy, x, y)
    start = signs(1, module)

    def ours(operator: Operator, steps: int) -> Tridiagonal:
        return lanczos(objective.product(operator, memory=MEMORY), start, steps)[0]

    theirs: dict[int, Spectrum] = {}

    def pyhessian(steps: int) -> None:
        theirs[steps] = pyhessian_density(module, x, y, steps)

    ggn, hessian = ours("ggn", 200), ours("hessian", REFERENCE_STEPS)
    weights = objective.parameters[prunable(module)]
    limit = pruning_limit(Bracket.psd([ggn]), weights, objective.dimension, EPSILON)
    assert isinstance(limit, Limit)
    for tau in (limit.tau, 100 * limit.tau):
        reference = width(hessian.gauss().nonnegative("abs"), tau)
        widths, errors = {}, {}
        for k in GRID:
            bracket = Bracket.psd([first_steps(ggn, k)])
            widths[k] = width(bracket.upper, tau) - width(bracket.lower, tau)
            found = first_steps(hessian, k).gauss().nonnegative("abs")
            errors[k] = abs(width(found, tau) - reference)
        mine, other = settled(widths), settled(errors) or GRID[-1]
        assert mine is not None
        works: dict[str, Callable[[], object]] = {
            "ggn": partial(ours, "ggn", mine),
            "hessian": partial(ours, "hessian", other),
            "PyHessian": partial(pyhessian, other),
        }
        seconds = fastest(works, rounds)
        error = abs(width(theirs[other], tau) - reference)
        for code, matrix, steps, taken, reached in (
            ("this", "ggn", mine, seconds["ggn"], widths[mine]),
            ("this", "hessian", other, seconds["hessian"], errors[other]),
            ("PyHessian", "hessian", other, seconds["PyHessian"], error),
        ):
            cells = f"{code} | {matrix} | {steps} | {taken:.2f} | {reached:.4f}"
            print(f"| {name} | {tau:.2g} | {cells} |", flush=True)


def scaling(rounds: int) -> None:
    module, x, y = trained("mlp")
    objective = Objective(module, cross_entropy, x, y)
    product = objective.product("hessian", memory=MEMORY)
    for probes, steps in ((1, 25), (1, 50), (1, 100), (1, 200), (2, 50), (4, 50), (8, 50)):
        generators = [np.random.default_rng(i) for i in range(probes)]
        start = rademacher(objective.dimension, generators, torch.float32)
        taken = fastest({"run": partial(lanczos, product, start, steps)}, rounds)["run"]
        each = 1e3 * taken / probes / steps
        print(f"| {probes} | {steps} | {taken:.2f} | {each:.1f} |", flush=True)


def peak(hidden: int, steps: int, memory: int) -> None:
    """In a process of its own: parameters, and peak memory in bytes of a spectrum."""
    torch.manual_seed(0)
    objective = Objective(
        fc((64,), 10, hidden, hidden).eval(),
        cross_entropy,
        torch.randn(64, 64),
        torch.randint(10, (64,)),
    )
    start = rademacher(objective.dimension, [np.random.default_rng(0)], torch.float32)
    lanczos(objective.product("ggn", memory=MEMORY), start, steps, memory=memory)
    print(objective.dimension, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def memory() -> None:
    for steps, budget, where in ((100, MEMORY, "memory"), (20, MEMORY, "memory"), (20, 1, "file")):
        measured = []
        for hidden in (100, 400, 800):
            command = [sys.executable, __file__, "memory", "--peak"]
            command += map(str, (hidden, steps, budget))
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            measured.append([int(number) for number in told.split()])
        (base, least), *rest = measured
        for parameters, peak_bytes in rest:
            each = (peak_bytes - least) / (parameters - base)
            print(f"| {parameters:,} | {steps} | {where} | {peak_bytes / 1e9:.2f} | {each:.0f} |")


def title(*columns: str) -> None:
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    tables = ("products", "accuracy", "scaling", "memory")
    parser.add_argument("tables", nargs="*", choices=tables)
    parser.add_argument("--networks", nargs="+", default=["mlp", "resnet20"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        peak(*arguments.peak)
        return
    if "products" in arguments.tables:
        title("network", "parameters", "samples", "matrix", "code", "ms per product", "gradients")
        for name in arguments.networks:
            products(name, arguments.rounds)
    if "accuracy" in arguments.tables:
        title("network", "tau", "code", "matrix", "steps", "seconds", "bracket or error")
        for name in arguments.networks:
            accuracy(name, arguments.rounds)
    if "scaling" in arguments.tables:
        title("probes", "steps", "seconds", "ms per step and probe")
        scaling(arguments.rounds)
    if "memory" in arguments.tables:
        title("parameters", "steps", "basis", "peak GB", "bytes per parameter")
        memory()


if __name__ == "__main__":
    main()
