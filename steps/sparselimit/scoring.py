"""Score a mask from outside: what it keeps and connects, what it trains to, what beats it."""

import zipfile
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sparselimit.ensemble.members import Points
from sparselimit.ensemble.train import Engine
from sparselimit.errors import InputError
from sparselimit.networks.initial import Fixed, Initial, drawn
from sparselimit.networks.mlp import MLP
from sparselimit.sparsity.connectivity import connectivity, path_count
from sparselimit.spiral import Grid, Runs, train_runs
from sparselimit.statistics import ACCURACIES, wilson

# Every network of the study has three hidden layers.
MASKS, WEIGHTS, BIASES = ([f"{name}_{i}" for i in range(4)] for name in ("mask", "weight", "bias"))
CLASSES = ("active", "constant", "dead", "unused")

# Tables may be rounded to six digits; one point of the spiral is 2e-5.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Candidate:
    """A mask to be scored.

    name     of the file it came from
    network  its shape
    mask     bool [n_weights]
    initial  what it is trained from: the values that came with it, or `drawn`
    """

    name: str
    network: MLP
    mask: Tensor
    initial: Initial

    @property
    def weights(self) -> int:
        """Number of weights kept."""
        return int(self.mask.sum())


def read_candidate(path: Path) -> Candidate:
    """A mask from an npz file.

    mask_0 to mask_3    [out, in], from the inputs to the output; what is not zero is kept
    weight_0, bias_0, ...  initial values of all weights and biases, if the mask needs its own

    Raises InputError, naming the file and the array, for anything else.
    """
    arrays = _read_npz(path)
    _check_names(path, arrays.keys())
    for name, value in arrays.items():
        _check_numbers(path, name, value)
    network = _shape(path, [arrays[name] for name in MASKS])
    mask = torch.tensor(np.concatenate([arrays[name].ravel() != 0 for name in MASKS]))
    if not mask.any():
        raise InputError(f"{path}: every mask is zero; keep at least one weight")
    initial: Initial = drawn
    if WEIGHTS[0] in arrays:
        initial = Fixed(network, _initial_values(path, network, arrays))
    return Candidate(path.stem, network, mask, initial)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    remedy = "save the masks by np.savez(path, mask_0=..., mask_1=..., mask_2=..., mask_3=...)"
    if not path.is_file():
        raise InputError(f"{path}: no such file; {remedy}")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not an npz file; {remedy}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # numpy and zipfile raise many types for damaged files
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read ({reason}); {remedy}") from error


def _check_names(path: Path, names: Set[str]) -> None:
    initial = {*WEIGHTS, *BIASES}
    wanted = {*MASKS} if initial.isdisjoint(names) else {*MASKS} | initial
    missing, unknown = sorted(wanted - names), sorted(names - wanted)
    if missing or unknown:
        wrong = f"lacks {missing[0]}" if missing else f"has an unknown array '{unknown[0]}'"
        raise InputError(
            f"{path}: {wrong}; name the masks mask_0 to mask_3 from the inputs to the output and "
            "initial values, if you give any, weight_0 to weight_3 and bias_0 to bias_3"
        )


def _check_numbers(path: Path, name: str, value: object) -> None:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise InputError(f"{path}: {name} does not hold real numbers or booleans; convert it")
    if not (np.abs(value) <= np.finfo(np.float32).max).all():
        raise InputError(
            f"{path}: {name} holds NaN, infinity or a number beyond single precision; mend it"
        )


def _shape(path: Path, masks: list[np.ndarray]) -> MLP:
    """The network whose weight matrices have the masks' shapes."""
    sizes = [2]
    for name, mask in zip(MASKS, masks, strict=True):
        last = name == MASKS[-1]
        fits = mask.ndim == 2 and mask.size > 0 and mask.shape[1] == sizes[-1]
        if not fits or (last and len(mask) != 1):
            raise InputError(
                f"{path}: {name} has shape {mask.shape}, expected ({1 if last else 'out'}, "
                f"{sizes[-1]}); give masks as [out, in], from the 2 inputs to the 1 output"
            )
        sizes.append(len(mask))
    return MLP(tuple(sizes))


def _initial_values(path: Path, network: MLP, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Weights and biases, float64 [n_parameters]."""
    shapes = [*network.weight_shapes, *((size,) for size in network.sizes[1:])]
    for name, shape in zip(WEIGHTS + BIASES, shapes, strict=True):
        if arrays[name].shape != shape:
            raise InputError(
                f"{path}: {name} has shape {arrays[name].shape}, expected {shape} as the masks have"
            )
    return np.concatenate([arrays[name].ravel() for name in WEIGHTS + BIASES], dtype=np.float64)


@dataclass(frozen=True)
class BestKnown:
    """The best networks that anybody has found: `weights` int64 [n], `accuracy` float64 [n]."""

    weights: np.ndarray
    accuracy: np.ndarray

    def fewest_weights(self, accuracy: float) -> int | None:
        """Of the sparsest known network at least so accurate; None if there is none."""
        reached = self.weights[self.accuracy >= accuracy - ROUNDING]
        return int(reached.min()) if len(reached) else None

    def best_accuracy(self, weights: int) -> float | None:
        """Of the best known network with no more weights; None if there is none."""
        reached = self.accuracy[self.weights <= weights]
        return float(reached.max()) if len(reached) else None


def read_best_known(path: Path) -> BestKnown:
    """From a table (CSV) with the columns `weights` and `accuracy`, a fraction.

    Raises InputError when it is not there or holds something else.
    """
    expected = "expected a CSV table with the columns weights and accuracy (a fraction)"
    try:
        table = pd.read_csv(path)[["weights", "accuracy"]].astype(float)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {expected}") from error
    except (KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: {reason}; {expected}") from error
    weights, accuracy = table.weights.to_numpy(), table.accuracy.to_numpy()
    whole = (weights == np.floor(weights)) & (weights >= 1) & (weights < np.inf)
    sound = whole & (accuracy >= 0) & (accuracy <= 1)
    if len(table) == 0 or not sound.all():
        what = f"row {int(np.argmin(sound)) + 1} is none of a network" if len(table) else "is empty"
        raise InputError(f"{path}: {what}; {expected}")
    return BestKnown(weights.astype(np.int64), accuracy)


@dataclass(frozen=True)
class Score:
    """What a mask is worth: its training runs, and what is known beside it."""

    candidate: Candidate
    grid: Grid
    runs: Runs
    best_known: BestKnown


def score(
    candidate: Candidate,
    grid: Grid,
    points: Points,
    best_known: BestKnown,
    **engine: Unpack[Engine],
) -> Score:
    """Train the masked network by every setting and seed of the grid.

    Raises InputError when grid and data do not fit.
    """
    network = candidate.network
    table = grid.runs(candidate.name).assign(method="given")
    runs = train_runs(
        network,
        grid,
        table,
        points,
        candidate.initial(network, table.seed.tolist()),
        candidate.mask.repeat(len(table), 1),
        **engine,
    )
    return Score(candidate, grid, runs, best_known)


def report(score: Score) -> list[str]:
    """The score in plain lines."""
    return [
        *_mask_lines(score.candidate),
        *_training_lines(score),
        *_distance_lines(score),
    ]


def _mask_lines(candidate: Candidate) -> list[str]:
    network, mask = candidate.network, candidate.mask[None]
    density = candidate.weights / network.n_weights
    found = connectivity(network, mask)
    counts = {name: by_layer[0].tolist() for name, by_layer in found.items()}
    paths = float(path_count(network, mask))
    lines = [
        f"{candidate.name}, a mask of network {'-'.join(map(str, network.sizes))}",
        f"weights: {candidate.weights:,} of {network.n_weights:,} kept "
        f"(density {density:.2%}, pruning ratio {1 - density:.2%})",
        f"connectivity: {_number(paths, 'path')} from an input to the output, "
        f"{_number(sum(counts['effective_weights']), 'effective weight')}; hidden neurons: "
        + _classes({name: sum(counts[name][:-1]) for name in CLASSES}),
    ]
    if paths == 0:
        lines.append("  without a path the output is the same for every point")
    for layer, (n_out, n_in) in enumerate(network.weight_shapes):
        kept = _number(counts["weights"][layer], "weight")
        effective = counts["effective_weights"][layer]
        line = f"  layer {layer + 1}, {n_in} to {n_out}: {kept}, {effective} effective"
        if layer + 1 < network.n_layers:
            line += f"; neurons: {_classes({name: counts[name][layer] for name in CLASSES})}"
        lines.append(line)
    return lines


def _classes(neurons: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in neurons.items() if count)


def _training_lines(score: Score) -> list[str]:
    grid, runs = score.grid, score.runs.table
    accuracy = runs.accuracy.to_numpy()
    low, median, high = np.quantile(accuracy, [0.1, 0.5, 0.9])
    starts = _number(grid.seeds, "random initial network")
    if isinstance(score.candidate.initial, Fixed):
        starts = f"the given initial values by {_number(grid.seeds, 'batch order')}"
    lines = [
        f"training: {_number(len(runs), 'run')} of {_number(grid.epochs, 'epoch')} from {starts}; "
        f"learning rates {', '.join(f'{rate:g}' for rate in grid.learning_rates)}; "
        f"schedules {', '.join(grid.schedules)}",
        f"accuracy: best {accuracy.max():.3%}, median {median:.3%}, "
        f"middle 80% of runs {low:.3%} to {high:.3%}",
    ]
    if diverged := int((runs.diverged_at >= 0).sum()):
        lines.append(f"  {_number(diverged, 'run')} diverged")
    successes = (accuracy >= np.array(ACCURACIES)[:, None]).sum(axis=1)
    intervals = zip(*wilson(successes, len(runs)), strict=True)
    for level, count, (low, high) in zip(ACCURACIES, successes, intervals, strict=True):
        lines.append(
            f"  {level:.1%} reached by {count} of {len(runs)}: success rate "
            f"{count / len(runs):.1%} (95% interval {low:.1%} to {high:.1%})"
        )
    return lines


def _distance_lines(score: Score) -> list[str]:
    """How far the best run is from the best known networks, in weights and in accuracy."""
    weights, accuracy = score.candidate.weights, float(score.runs.table.accuracy.max())
    fewest = score.best_known.fewest_weights(accuracy)
    best = score.best_known.best_accuracy(weights)
    return [
        "no known network is as accurate"
        if fewest is None
        else f"sparsest known network at least as accurate: {_number(fewest, 'weight')}; "
        f"this mask has {weights:,} ({weights - fewest:+,})",
        "no known network is as sparse"
        if best is None
        else f"most accurate known network of no more weights: {best:.3%}; "
        f"this mask reaches {accuracy:.3%} ({100 * (accuracy - best):+.3f} points)",
    ]


def _number(n: float, noun: str) -> str:
    return f"{n:,.0f} {noun}{'' if n == 1 else 's'}"
