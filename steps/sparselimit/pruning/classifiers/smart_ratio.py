"""Smart-Ratio: random tickets with hand-made densities of layers (Su et al. 2020).

Of L layers the l-th keeps a share of its weights in proportion to (L - l + 1)^2 + (L - l + 1), in
networks without shortcuts divided by l^2; linear layers keep a share of their own. Shares above one
are cut, and what they lose goes to the layers after them, and where these are full to those before.
Which weights are kept is drawn at random; training starts from the initial values.

Networks without convolutions, of which the published code makes nothing (it divides by zero), have
the quadratic in all layers but the last; so have all linear layers but the last in others.

By `published` (the authors' code): counts are rounded down, all linear layers keep their share, and
what is cut is lost unless it begins in the first layer, for the loop ends at the first layer that
has nothing to pass on.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sparselimit.errors import InputError
from sparselimit.networks.resnet import Residual
from sparselimit.pruning.classifiers.masks import largest_of_layers, random
from sparselimit.pruning.classifiers.problem import Problem

# Weight of the l-th of n layers.
DECAYS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "quadratic": lambda place, n: (n - place + 1) ** 2 + (n - place + 1),
    "linear": lambda place, n: n - place + 1,
    "cubic": lambda place, n: (n - place + 1) ** 3,
    "ascend": lambda place, n: place**2 + place,
    "uniform": lambda place, n: np.ones(n),
}


def start_mask(
    problem: Problem,
    density: float,
    *,
    linear: float = 0.3,
    decay: str = "quadratic",
    hybrid: bool = False,
) -> Tensor | None:
    """The mask before training, bool [N]; None where linear layers alone keep too many weights.

    linear: share that linear layers keep
    decay: of densities over layers: quadratic, linear, cubic, ascend, or uniform
    hybrid: keep the largest weights of the trained network instead of random ones
    """
    if decay not in DECAYS:
        raise InputError(f"smart_ratio: decay {decay!r} is none of {', '.join(DECAYS)}")
    if not 0 <= linear <= 1:
        raise InputError(f"smart_ratio: linear {linear} must lie between 0 and 1")
    counts = layer_counts(problem, density, linear, decay)
    if counts is None:
        return None
    if hybrid:
        return largest_of_layers(problem.values(problem.trained).abs(), problem.sizes, counts)
    return random(problem.sizes, counts, "smart ratio", problem.recipe.seed)


def layer_counts(
    problem: Problem, density: float, linear: float = 0.3, decay: str = "quadratic"
) -> list[int] | None:
    """How many weights each layer keeps; None where linear layers alone keep too many."""
    sizes = np.array(problem.sizes)
    of_linear = np.array([isinstance(layer, nn.Linear) for layer in problem.layers])
    places = np.arange(1, len(sizes) + 1)
    raw = DECAYS[decay](places, len(sizes)).astype(np.float64)
    if not of_linear.all() and not _has_shortcuts(problem.trained) and decay != "uniform":
        raw = raw / places**2
    if problem.protocol == "published":
        return _published(sizes, of_linear, raw, density, linear)
    last = of_linear & (places == len(sizes)) & (len(sizes) > 1)
    return _exact(sizes, last, raw, problem.count(density), linear)


def _has_shortcuts(network: nn.Module) -> bool:
    """Residual networks: ours, and those that their names tell."""
    return any(
        isinstance(part, Residual) or "resnet" in type(part).__name__.lower()
        for part in network.modules()
    )


def _exact(
    sizes: np.ndarray, apart: np.ndarray, raw: np.ndarray, k: int, linear: float
) -> list[int] | None:
    """Counts that sum to k; layers `apart` keep the share `linear`."""
    quotas = np.where(apart, linear * sizes, 0.0)
    rest = k - quotas.sum()
    if rest < (~apart).sum():  # a weight for each of the other layers
        return None
    weighted = np.where(apart, 0.0, raw * sizes)
    quotas += rest * weighted / weighted.sum()
    surplus = 0.0
    for layer in 2 * [*np.flatnonzero(~apart), *np.flatnonzero(apart)]:
        wanted = quotas[layer] + surplus
        quotas[layer] = min(wanted, sizes[layer])
        surplus = wanted - quotas[layer]
    return _rounded(quotas, sizes, k)


def _rounded(quotas: np.ndarray, sizes: np.ndarray, k: int) -> list[int]:
    """Whole numbers that sum to k, by largest remainder; of equals the first."""
    counts = np.floor(quotas + 1e-9).astype(int)
    order = np.argsort(counts - quotas, kind="stable")
    for layer in [*order, *range(len(sizes))]:
        counts[layer] += min(max(0, k - counts.sum()), 1, sizes[layer] - counts[layer])
    return counts.tolist()


def _published(
    sizes: np.ndarray, of_linear: np.ndarray, raw: np.ndarray, density: float, linear: float
) -> list[int] | None:
    """As the published code counts, in its single precision."""
    if of_linear.all():
        raise InputError(
            "smart_ratio: by `published` it has no meaning for a network without convolutions "
            "(its code divides by zero); use protocol: exact"
        )
    size = torch.tensor(sizes, dtype=torch.float32)
    ratio = torch.tensor(raw, dtype=torch.float32)
    convolutions = np.flatnonzero(~of_linear)
    in_linear = float(size[torch.tensor(of_linear)].sum())
    goal = int(float(size.sum()) * density) - int(in_linear * linear)
    if goal <= 0:
        return None
    total = sum(int(size[i] * ratio[i]) for i in convolutions)
    ratio[convolutions] *= goal / total
    surplus = 0
    for i in convolutions:
        if ratio[i] >= 1:
            surplus += int((ratio[i] - 1) * size[i])
            ratio[i] = 1.0
        else:
            room = int((1 - ratio[i]) * size[i])
            passed = min(room, surplus)
            ratio[i] = ratio[i] + surplus / size[i] if room >= surplus else 1.0
            surplus -= passed
        if surplus == 0:
            break
    ratio = ratio.clamp(max=1.0)
    counts = [int(r * n) for r, n in zip(ratio, size, strict=True)]
    return [
        int(linear * n) if is_linear else count
        for count, n, is_linear in zip(counts, sizes.tolist(), of_linear, strict=True)
    ]
