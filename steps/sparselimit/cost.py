"""What a study costs, before anything of it has run: its jobs, their work, and the time that takes.

The work of a job is counted from the study: SGD steps of networks on the spiral, gradients of
classifiers on images, products with their curvature. What is known only afterwards (which starts of
a race are dropped, where Lanczos ends) is counted as it is at most, or as a measured share. Times
come from measured rates, `rates.csv` beside this file, or `steps/rates.py` for another machine.
Nothing here needs torch.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from math import ceil, exp, log
from pathlib import Path
from typing import TYPE_CHECKING

from sparselimit import own
from sparselimit.console import duration
from sparselimit.datasets import SPIRAL_POINTS
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, MOST_FUSED_WEIGHTS
from sparselimit.pruning.classifiers import registry as classifiers
from sparselimit.pruning.registry import Choice
from sparselimit.search.blocks import Blocks
from sparselimit.search.counting import totals

if TYPE_CHECKING:  # whose edits rerun no step
    from sparselimit.study import Network, Search, Study

MEASURED = Path(__file__).with_name("rates.csv")

# Of the starts of the exhaustive search so many are provably dead, and cost nothing (measured:
# between 35% and 47%, tests/benchmarks).
DEAD = 0.41
# Minutes of a time limit: what is added for slow starts, and what is given where no rate is known.
LEAST, UNKNOWN = 20, 720
# MB that a training step of 128 images keeps for its backward pass (counted: what torch saves).
ACTIVATIONS = {
    ("alexnet", "cifar10"): 560,
    ("vgg16", "cifar10"): 340,
    ("resnet20", "cifar10"): 200,
    ("resnet18", "cifar100"): 610,
    ("resnet50", "cifar100"): 3_300,
    ("resnet18", "tinyimagenet"): 2_400,
    ("resnet50", "tinyimagenet"): 13_100,
}
# Work for a GPU; all else is done on the CPU in any case.
ON_DEVICE = ("train", "gradient")
# Images of the published data sets: those that are split, and those of the test.
IMAGES = {
    "digits": (1_797, 0),
    "mnist": (60_000, 10_000),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "tinyimagenet": (100_000, 10_000),
}
# Products by which the diagonal and the row norms of a curvature matrix are estimated.
ROW_PROBES = 64
# Weights of the common shape that holds networks of k weights, by k (measured at 13, where a step
# costs what it does at 7-3-3), and common shapes of networks of many widths.
FRAME, SHAPES = 3.5, 8
# Channels, pixels and classes of the data sets; widths where none are given.
INPUTS = {
    "digits": (1, 64, 10),
    "mnist": (1, 784, 10),
    "cifar10": (3, 3_072, 10),
    "cifar100": (3, 3_072, 100),
    "tinyimagenet": (3, 12_288, 200),
}
DEFAULT_WIDTHS = {"resnet20": [16]}
# Costs in gradients of the same images: an evaluation has no backward pass, a product passes twice.
EVALUATION, PRODUCT = 1 / 3, {"hessian": 2.0, "ggn": 1.5}


@dataclass(frozen=True)
class Work:
    """So much of what a rate counts, at some size (of a network in weights, say)."""

    rate: str
    size: float
    amount: float

    @property
    def on_device(self) -> bool:
        """Whether a GPU does it, where there is one."""
        return self.rate.split()[0] in ON_DEVICE


def _started(jobs: int) -> Work:
    """What jobs take before they compute."""
    return Work("start", 1, jobs)


START = (_started(1),)


@dataclass(frozen=True)
class Jobs:
    """Jobs that are alike, and what they do together.

    rule, label  what they are jobs of: the rule, and the method, network or stage
    jobs         how many
    runs, steps  training runs, and the SGD steps (or gradients, products) that they take at most
    work         all of it
    on_device    whether they compute on a GPU where there is one
    """

    rule: str
    label: str
    jobs: int
    runs: int = 0
    steps: int = 0
    work: tuple[Work, ...] = ()
    on_device: bool = True

    @property
    def plain(self) -> list:
        """The same as JSON can hold it."""
        return [*astuple(self)[:5], [astuple(work) for work in self.work], self.on_device]

    @classmethod
    def parsed(cls, plain: list) -> Jobs:
        """The inverse of `plain`."""
        rule, label, jobs, runs, steps, work, on_device = plain
        return cls(rule, label, jobs, runs, steps, tuple(Work(*one) for one in work), on_device)


# --- Rates ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """Measured seconds by rate and device, each at some sizes, ascending."""

    points: Mapping[tuple[str, str], Sequence[tuple[float, float]]]

    @classmethod
    def read(cls, path: Path | str) -> Rates:
        """Raises InputError for a file that is not there or no table of rates."""
        points: dict[tuple[str, str], list[tuple[float, float]]] = {}
        try:
            with Path(path).open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    key = row["rate"], row["device"]
                    points.setdefault(key, []).append((float(row["size"]), float(row["seconds"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: no table of rates ({error}); make one by steps/rates.py"
            ) from error
        if not points:
            raise InputError(f"{path}: no table of rates (it is empty); make one by steps/rates.py")
        if any(not (size > 0 and taken > 0) for known in points.values() for size, taken in known):
            raise InputError(f"{path}: sizes and seconds must be positive")
        return cls({key: sorted(known) for key, known in points.items()})

    def seconds(self, work: Work, device: str) -> float | None:
        """What the work takes; None if that rate was never measured on that device.

        Between sizes powers are interpolated; beyond the largest, time grows in proportion; below
        the smallest it stays.
        """
        known = self.points.get((work.rate, device if work.on_device else "cpu"))
        if known is None:
            return None
        return work.amount * _interpolated(known, work.size)

    def of(self, jobs: Jobs, device: str) -> float | None:
        """Seconds of all the jobs together; None if a rate of theirs was never measured.

        A pruning method of one's own, whose scores nobody has timed, counts as its training.
        """
        timed = [
            w for w in jobs.work if w.rate.split()[0] != "score" or (w.rate, "cpu") in self.points
        ]
        found = [self.seconds(work, device) for work in timed]
        return None if None in found else sum(taken for taken in found if taken is not None)


def _interpolated(known: Sequence[tuple[float, float]], size: float) -> float:
    (least, first), (most, last) = known[0], known[-1]
    if size <= least:
        return first
    if size >= most:
        return last * size / most
    for (a, low), (b, high) in pairwise(known):
        if size <= b:
            share = log(size / a) / log(b / a)
            return exp((1 - share) * log(low) + share * log(high))
    raise AssertionError("sizes ascend")


# --- The spiral ----------------------------------------------------------------------------------


def steps_per_epoch(batch_size: int) -> int:
    """Of SGD on the spiral; what does not fill a batch is left out."""
    return max(1, SPIRAL_POINTS // batch_size)


def training(weights: int, steps: float, batch_size: int) -> Work:
    """SGD steps of networks of so many weights, at a batch size."""
    kind = "train fused" if weights <= MOST_FUSED_WEIGHTS else "train batched"
    return Work(kind, weights, steps * batch_size / 128)


def _trained(runs: Mapping[int, int], steps: int, batch_size: int) -> tuple[Work, ...]:
    """Training of `runs` by their number of weights, all for so many steps."""
    return (
        Work("compile", 1, len(runs)),
        *(training(weights, n * steps, batch_size) for weights, n in runs.items()),
    )


def _steps(study: Study) -> int:
    """Of a training on the spiral."""
    return study.runs.epochs * steps_per_epoch(study.runs.batch_size)


def train_spiral(study: Study) -> Jobs:
    """All dense networks."""
    shapes = [MLP.spiral(width) for width in study.train.widths]
    shapes += [MLP.nearest(count) for count in study.train.counts]
    runs = Counter[int]()
    for shape in shapes:
        runs[shape.n_weights] += study.runs.settings
    work = _trained(runs, _steps(study), study.runs.batch_size)
    total = runs.total()
    return Jobs("train_spiral", "dense", 1, total, total * _steps(study), (*START, *work))


def prune_spiral(study: Study, name: str, choice: Choice) -> Jobs:
    """One method in one study. A searched network, whose size is open, counts with all targets."""
    one = study.prune.studies[name]
    runs = Counter[int]()
    for network in one.networks:
        searched = network == "searched"
        weights = max(one.targets) if searched else MLP.spiral(int(network)).n_weights
        targets = sum(searched or target <= weights for target in one.targets)
        runs[weights] += targets * one.trained_as(study.runs).settings
    trainings = max(1, int(choice.options.get("trainings", 1)))
    once = _steps(study)
    work = _trained(runs, trainings * once, study.runs.batch_size)
    scores = tuple(Work(f"score {choice.method}", weights, n) for weights, n in runs.items())
    total, steps = runs.total(), trainings * runs.total() * once
    if one.control:
        work += _trained(runs, once, study.runs.batch_size)
        total, steps = 2 * total, steps + total * once
    return Jobs("prune_spiral", choice.name, 1, total, steps, (*START, *work, *scores))


def search_networks(study: Study, weights: int, shards: int) -> Jobs:
    """The search of all networks of so many weights, in all its rounds."""
    search, once = study.search, steps_per_epoch(study.runs.batch_size)
    runs = totals(search.weights[1])[weights] * search.starts * search.rounds
    jobs = shards * search.rounds
    epochs, expected = race_epochs(search, study.runs.protocol)
    dealt = min(search.polish * jobs, totals(search.weights[1])[weights] * search.rounds)
    work = (
        _started(jobs),
        Work("compile", 1, 2 * jobs),
        training(round(FRAME * weights), runs * expected * once, study.runs.batch_size),
        Work("polish", 1, dealt),
    )
    return Jobs(
        "search_networks", f"{weights} weights", jobs, runs, ceil(runs * epochs * once), work
    )


def race_epochs(search: Search, protocol: str) -> tuple[float, float]:
    """Epochs that a start takes on average: at most, and as many as the measured share of dead has.

    At a rung the share to keep goes on, and of all others that are not dead those that calibrate.
    """
    if protocol == "published":
        return search.epochs, search.epochs
    ends = [end for end in search.rungs if end < search.epochs]
    shares = [1.0, *(ceil(share * search.starts) / search.starts for share in search.keep)]
    calibrating = ceil(search.starts / search.calibrate) / search.starts
    most = expected = 0.0
    for (first, end), share in zip(pairwise([0, *ends, search.epochs]), shares, strict=False):
        racing = min(share, 1 - DEAD)
        most += (end - first) * min(1, share + calibrating)
        expected += (end - first) * (racing + calibrating * (1 - DEAD - racing))
    return most, expected


def search_blocks(study: Study, name: str) -> Jobs:
    """A search as published. Blocks are held in few shapes; cost grows with their weights."""
    search = study.blocks[name]
    jobs, runs = search.shards(study.runs), search.count(study.runs)
    if search.widths is None:
        assert isinstance(search.blocks, Blocks)
        weights = [MLP((2, *widths, 1)).n_weights for widths, _ in search.blocks]
        shapes, mean = SHAPES, round(sum(weights) / len(weights))
    else:
        shapes, mean = 1, MLP((2, *search.widths, 1)).n_weights
    work = (
        _started(jobs),
        Work("compile", 1, shapes * jobs),
        training(mean, runs * _steps(study), study.runs.batch_size),
    )
    return Jobs("search_blocks", name, jobs, runs, runs * _steps(study), work)


def beam_spiral(study: Study, given: str | None = None) -> Jobs:
    """The search from above, if every removal from every network of the beam is another network.

    In the initial network of the study `given`, whose masks are trained as long as it trains.
    """
    beam = study.beam
    least, epochs, starts = beam.weights[0], beam.epochs, beam.starts
    if given:
        least, epochs, starts = min(study.prune.studies[given].targets), study.runs.epochs, 0
    once = epochs * steps_per_epoch(study.runs.batch_size)
    levels = range(least, beam.weights[1] + 1)
    runs = sum(beam.width * (weights + 1) * (1 + starts) for weights in levels)
    polished = Work("polish", 1, len(levels) * beam.polish)
    trained = training(round(FRAME * beam.weights[1]), runs * once, study.runs.batch_size)
    work = (*START, Work("compile", 1, SHAPES), trained, polished)
    rule, label = ("beam_given", given) if given else ("beam_spiral", "from above")
    return Jobs(rule, label, 1, runs, runs * once, work)


# --- Classifiers ---------------------------------------------------------------------------------


def images_of(study: Study, data: str) -> dict[str, int] | None:
    """Images of each split; None for data of one's own."""
    if own.is_own(data):
        return None
    whole, test = IMAGES[data]
    held_out = study.digits if data == "digits" else study.images
    if data == "digits":
        test = study.digits.test
        whole -= test
    fit = whole - held_out.calibration - held_out.validation
    return {
        "fit": fit,
        "calibration": held_out.calibration,
        "validation": held_out.validation,
        "test": test,
    }


def size_of(architecture: str, widths: Sequence[int], data: str) -> float:
    """Of a network whose widths are chosen, by what its cost grows: products of neighbours."""
    widths = widths or DEFAULT_WIDTHS.get(architecture, [])
    if not widths or data not in INPUTS:
        return 1
    channels, pixels, classes = INPUTS[data]
    first = pixels if architecture == "fc" else channels
    return sum(a * b for a, b in pairwise([first, *widths, classes]))


def _size(network: Network) -> float:
    return size_of(network.architecture, network.widths, network.data)


def megabytes(study: Study, name: str, least: int) -> int:
    """Memory of a job that trains a classifier or looks at it, beside the `least` that all take.

    Three copies of its images, a byte for each number, and one and a half times what a step keeps.
    """
    network = study.networks[name]
    if own.is_own(network.data):
        return least
    images = 3 * sum(IMAGES[network.data]) * INPUTS[network.data][1] / 10**6
    kept = ACTIVATIONS.get((network.architecture, network.data), 0) * network.batch_size / 128
    return least + ceil(images + 1.5 * kept)


def _gradients(network: Network, images: float) -> Work:
    """The gradient of so many images; or what costs as much."""
    return Work(f"gradient {network.architecture} {network.data}", _size(network), images)


def train_network(study: Study, name: str) -> Jobs:
    """The training of a classifier; one that comes as a state dict is only looked at."""
    network = study.networks[name]
    images, epochs = images_of(study, network.data), network.epochs
    if images is None:
        return Jobs("train_network", name, 1, 1, 0, (*START, _gradients(network, 0)))
    if network.state_dict:
        epochs = 0
    steps = epochs * max(1, images["fit"] // network.batch_size)
    looked_at = (epochs + 1) * (images["fit"] + images["validation"]) * EVALUATION
    work = _gradients(network, steps * network.batch_size + looked_at)
    return Jobs("train_network", name, 1, 1, steps, (*START, work))


def sweep_network(study: Study, name: str) -> Jobs:
    """One-shot pruning: an evaluation of three splits at each ratio."""
    network = study.networks[name]
    images = images_of(study, network.data) or {}
    seen = sum(images.get(split, 0) for split in ("fit", "validation", "test"))
    work = _gradients(network, study.sweep.ratios * seen * EVALUATION)
    return Jobs("sweep_network", name, 1, 0, 0, (*START, work))


def spectrum(study: Study, name: str, operator: str) -> Jobs:
    """Lanczos runs from probes and pruned points, at most as many steps as asked for."""
    network, how = study.networks[name], study.spectrum
    images = images_of(study, network.data) or {}
    runs = how.probes + (how.offsets if operator == "ggn" else 0)
    steps = how.steps[operator]  # type: ignore[index]
    products = runs * steps + ROW_PROBES
    work = (
        *START,
        _gradients(network, products * PRODUCT[operator] * images.get(how.split, 0)),
        Work("orthogonalise", _size(network), runs * steps**2),
    )
    return Jobs("spectrum", f"{name}, {operator}", 1, 0, products, work)


def round_limits(study: Study, name: str) -> Jobs:
    """The spectrum of each network that a method makes in rounds, with whatever it has left."""
    rounds = 0
    for choice in study.baselines.choices.values():
        trainings, each = choice.trainings(study.baselines.densities, 1)
        # Chained methods that do not train by the recipe make networks of given densities.
        rounds += trainings * (choice.chained and each == 1)
    one = spectrum(study, name, "ggn")
    work = (Work(part.rate, part.size, rounds * part.amount) for part in one.work[1:])
    return Jobs("round_limits", name, 1, 0, rounds * one.steps, (*START, *work))


def geometry(study: Study) -> Jobs:
    """Trials of the Monte Carlo check."""
    work = Work("geometry", study.geometry.dimension, study.geometry.trials)
    return Jobs("geometry", "Monte Carlo", 1, 0, 0, (*START, work), on_device=False)


def small(rule: str, label: str, jobs: int) -> Jobs:
    """Jobs that take seconds, whatever the study."""
    return Jobs(rule, label, jobs, 0, 0, (Work("small", 1, jobs),), on_device=False)


def prune_network(
    study: Study, name: str, choice: classifiers.Choice, part: Sequence[float]
) -> Jobs:
    """A method on a classifier, for some densities: as many trainings as it says it takes."""
    network, images = study.networks[name], images_of(study, study.networks[name].data)
    fit = images["fit"] if images else 0
    once = network.epochs * max(1, fit // network.batch_size)
    trainings, each = choice.trainings(part, once)
    steps = trainings * each if images else 0
    work = _gradients(network, steps * network.batch_size)
    return Jobs("prune_network", choice.name, 1, trainings, steps, (*START, work))


def spiral_limits(study: Study) -> Jobs:
    """Exact curvature of dense networks, and L-BFGS on the way to their minima."""
    how = study.spiral_limits
    shapes = [MLP.spiral(width) for width in study.train.widths]
    fit = [shape for shape in shapes if shape.n_parameters <= how.most_parameters]
    points = how.points or SPIRAL_POINTS
    work = (*START, Work("spiral limit", points, how.seeds * len(fit)))
    return Jobs("spiral_limits", "limit meets truth", 1, 0, 0, work, on_device=False)


# --- The table -----------------------------------------------------------------------------------


def minutes(rates: Rates, jobs: Jobs, device: str) -> int:
    """A time limit for one of the jobs: some minutes and twice what it should take.

    Where a GPU was not measured, by what a CPU takes.
    """
    seconds = rates.of(jobs, device) or rates.of(jobs, "cpu")
    if seconds is None:
        return UNKNOWN
    return LEAST + ceil(2 * seconds / jobs.jobs / 60)


@dataclass(frozen=True)
class Line:
    """What jobs of one rule and label take, in seconds; None where that was never measured.

    cpu      on one core
    gpu      of jobs that compute on a GPU, on one
    longest  of one job, on a core
    """

    rule: str
    label: str
    jobs: int
    runs: int
    steps: int
    cpu: float | None
    gpu: float | None
    longest: float | None

    @classmethod
    def of(cls, alike: Sequence[Jobs], rates: Rates) -> Line:
        cpu = [rates.of(jobs, "cpu") for jobs in alike]
        gpu = [rates.of(jobs, "cuda") if jobs.on_device else 0.0 for jobs in alike]
        longest = [
            None if taken is None else taken / jobs.jobs
            for taken, jobs in zip(cpu, alike, strict=True)
        ]
        return cls(
            alike[0].rule,
            alike[0].label,
            sum(jobs.jobs for jobs in alike),
            sum(jobs.runs for jobs in alike),
            sum(jobs.steps for jobs in alike),
            _sum(cpu),
            _sum(gpu),
            None if None in longest else max(filter(None, longest), default=0.0),
        )


def _sum(seconds: Iterable[float | None]) -> float | None:
    """A sum with a gap in it is a gap."""
    known = list(seconds)
    return None if None in known else sum(filter(None, known))


def lines(planned: Iterable[Jobs], rates: Rates) -> list[Line]:
    """The jobs by rule and label, in the order in which they come first."""
    groups: dict[tuple[str, str], list[Jobs]] = {}
    for jobs in planned:
        groups.setdefault((jobs.rule, jobs.label), []).append(jobs)
    return [Line.of(alike, rates) for alike in groups.values()]


def told(found: Sequence[Line]) -> str:
    """The lines as a text, with their sums; what was not measured is counted apart."""
    heading = ("rule", "of", "jobs", "runs", "steps", "CPU-hours", "GPU-hours", "longest job")
    rows = [
        (
            *(line.rule, line.label, f"{line.jobs:,}", f"{line.runs:,}", f"{line.steps:.3g}"),
            *(_hours(line.cpu), _hours(line.gpu), _duration(line.longest)),
        )
        for line in found
    ]
    text = [_aligned([heading, *rows], 2)]
    jobs, runs = sum(line.jobs for line in found), sum(line.runs for line in found)
    text += [
        "",
        f"{jobs:,} jobs with {runs:,} training runs.",
        f"On CPU cores: {_total([line.cpu for line in found])}.",
        f"On GPUs: {_total([line.gpu for line in found])}.",
    ]
    return "\n".join(text)


def taken(folder: Path, rules: Iterable[str]) -> dict[str, tuple[int, float, float]]:
    """What jobs of each rule have taken, by Snakemake's benchmark files.

    By rule the number of jobs, their processor time and their wall time in seconds.
    """
    found: dict[str, tuple[int, float, float]] = {}
    for file in sorted(folder.rglob("*.jsonl")):
        name = str(file.relative_to(folder))
        rule = max((rule for rule in rules if name.startswith(rule)), key=len, default=None)
        if rule is None:
            continue
        for record in map(json.loads, file.read_text().splitlines()):
            jobs, cpu, wall = found.get(rule, (0, 0.0, 0.0))
            spent = record.get("cpu_time")  # of jobs of less than a second it is not known
            spent = float(spent) if isinstance(spent, int | float) else 0.0
            found[rule] = jobs + 1, cpu + spent, wall + float(record["s"])
    return found


def compared(found: Sequence[Line], spent: Mapping[str, tuple[int, float, float]]) -> str:
    """A line for each rule of which jobs have run: what they took, and what all should take."""
    rows = []
    for rule, (jobs, cpu, wall) in spent.items():
        alike = [line for line in found if line.rule == rule]
        expected, whole = _sum(line.cpu for line in alike), sum(line.jobs for line in alike)
        columns = (f"{jobs:,} of {whole:,}", _duration(cpu), _duration(wall), _duration(expected))
        rows.append((rule, *columns))
    return _aligned([("rule", "jobs done", "CPU time", "wall time", "all on a CPU"), *rows], 1)


def _aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    """Rows as lines of equal columns, of which the first few begin at the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _total(seconds: Sequence[float | None]) -> str:
    known = [taken for taken in seconds if taken is not None]
    if not any(known):
        return "not measured (steps/rates.py --device cuda measures it on a machine with one)"
    gaps = len(seconds) - len(known)
    lines = "the line that was" if gaps == 1 else f"the {gaps} lines that were"
    without = f", without {lines} not measured" if gaps else ""
    return f"{sum(known) / 3600:,.1f} hours{without}"


def _hours(seconds: float | None) -> str:
    if seconds is None:
        return "not measured"
    hours = seconds / 3600
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.2g}"


def _duration(seconds: float | None) -> str:
    return "not measured" if seconds is None else duration(seconds)
