"""Rare Gems: subnetworks found at initialisation by training scores (Sreenivasan et al. 2022).

The weights stay at their initial signs times the deviation of their initialisation; what is trained
is a score p in [0, 1] of each: a weight is used where p > 1/2, and the gradient passes through this
step as if it were not there. Every few epochs a share of the weights that are left, those of the
lowest scores, is dropped for good, so that the density falls geometrically to the target. Then all
that are left are used, and trained.

Scores may be penalised by `l2` times their squares. Biases and batch normalisation keep their
initial values: the published networks have none, and none that is trained.

By `published` (the authors' code) weights that tie with the last one dropped go too, after scores
were cut to [0, 1], where many are equal; by `exact` they are ranked before, and the count is met.
"""

from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sparselimit.errors import InputError
from sparselimit.networks.network import Network
from sparselimit.pruning.classifiers.masks import counts_of_layers, random
from sparselimit.pruning.classifiers.problem import Problem, Pruned, layers_of, weight_of
from sparselimit.seeds import generator

_CHECKS = ("none", "reinit", "shuffle", "invert")


def pruned(
    problem: Problem,
    density: float,
    *,
    l2: float = 0.0,
    period: int = 5,
    score_rate: float = 0.1,
    rate: float = 0.01,
    optimizer: str = "sgd",
    check: str = "none",
) -> Pruned | None:
    """The network after both trainings, of as many epochs each as the recipe has.

    None where `published` drops all weights: where many tie, or more than there are to keep.

    l2: penalty on the squares of all scores
    period: epochs between two prunings
    score_rate: learning rate of the scores, on a cosine
    rate: learning rate of the weights, a tenth after 8/15 and 12/15 of the epochs
    optimizer: of the scores, sgd or adam
    check: none; reinit: train new weights; shuffle: other weights of each layer; invert: the rest
    """
    prunings = (problem.recipe.epochs - 1) // period if period > 0 else 0
    if check not in _CHECKS or optimizer not in ("sgd", "adam") or prunings < 1:
        raise InputError(
            f"rare_gems: {problem.recipe.epochs} epochs with a pruning every {period}, optimizer "
            f"{optimizer!r}, check {check!r}: it takes at least one pruning, sgd or adam, and a "
            f"check of {', '.join(_CHECKS)}"
        )
    name = f"density-{density:g}"
    gem = Gem(problem, density, period, l2)
    recipe = problem.plain_recipe(optimizer=optimizer, learning_rate=score_rate)
    epochs = problem.fit(
        gem.network,
        f"{name}-scores",
        recipe,
        penalty=gem.penalty,
        before=gem.before,
        identity=gem.identity(),
    )
    if not gem.mask().any():
        return None
    mask = _checked(problem, gem.mask(), check)
    network = problem.start() if check == "reinit" else signed_constant(problem)
    milestones = [max(1, round(problem.recipe.epochs * share)) for share in (8 / 15, 12 / 15)]
    fine = problem.plain_recipe(
        learning_rate=rate, schedule="step", milestones=tuple(milestones), factor=0.1
    )
    epochs += problem.train(network, mask, f"{name}-weights", fine, weights_only=True)
    return Pruned(network, mask, epochs, density)


def trainings(densities: list[float], steps: int) -> tuple[int, int]:
    """Of scores, and then of weights."""
    return 2 * len(densities), steps


def drop_rate(density: float, epochs: int, period: int) -> float:
    """Share of the weights left that a pruning drops, so that all of them leave the density."""
    return 1 - density ** (1 / ((epochs - 1) // period))


def signed_constant(problem: Problem) -> Network:
    """The network whose weights are their initial signs times the deviation of He et al."""
    network = problem.start()
    with torch.no_grad():
        for layer in layers_of(network):
            weight = weight_of(layer)
            deviation = (2 / weight[0].numel()) ** 0.5
            weight.copy_(torch.where(weight < 0, -deviation, deviation))
    return network


class Scores(nn.Module):
    """Which weights of a layer are used: those that are left and score above 1/2."""

    left: Tensor

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)
        self.register_buffer("left", torch.ones_like(scores, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        used: Tensor = _Used.apply(self.scores)
        return weight * used * self.left


class _Used(torch.autograd.Function):
    """1 where the score exceeds 1/2; the gradient passes through unchanged."""

    @staticmethod
    def forward(context: object, scores: Tensor) -> Tensor:
        return (scores > 0.5).to(scores)

    @staticmethod
    def backward(context: object, slope: Tensor) -> Tensor:
        return slope


class Gem:
    """A network whose scores are trained, and what happens to them on the way."""

    def __init__(self, problem: Problem, density: float, period: int, l2: float) -> None:
        self.problem, self.l2 = problem, l2
        epochs = problem.recipe.epochs
        self.every = period * problem.recipe.per_epoch(len(problem.samples["fit"][1]))
        self.prunings = (epochs - 1) // period
        self.density, self.rate = density, drop_rate(density, epochs, period)
        self.network = signed_constant(problem).requires_grad_(False)
        self.parts: list[Scores] = []
        held = [
            (module, name, parameter)
            for module in self.network.modules()
            for name, parameter in module.named_parameters(recurse=False)
        ]
        for place, layer in enumerate(layers_of(self.network)):
            weight = weight_of(layer)
            drawn = generator("scores", problem.recipe.seed, place).random(weight.shape)
            scores = Scores(torch.tensor(drawn).to(weight))
            for module, name, parameter in held:  # more than one where layers share a weight
                if parameter is weight:
                    parametrize.register_parametrization(module, name, scores)
            self.parts.append(scores)

    def identity(self) -> list[object]:
        """All that decides what is penalised and dropped."""
        return [self.l2, self.density, self.every, self.prunings, self.problem.protocol]

    def penalty(self) -> Tensor:
        """Of the scores of all weights, dropped or not."""
        return self.l2 * torch.stack([part.scores.square().sum() for part in self.parts]).sum()

    def before(self, step: int) -> None:
        """Drop weights if it is time, and cut scores to [0, 1]."""
        if self.problem.protocol == "published":
            self._cut()
        if step and step % self.every == 0 and step // self.every <= self.prunings:
            self._drop(step // self.every)
        self._cut()

    def mask(self) -> Tensor:
        """The weights that are left, bool [N], on the CPU."""
        return torch.cat([part.left.flatten() for part in self.parts]).cpu()

    def _drop(self, number: int) -> None:
        scores = torch.cat([part.scores.detach().flatten() for part in self.parts])
        left = self.mask().to(scores.device)
        if self.problem.protocol == "published":
            dropped = ceil(self.rate * int(left.sum()))
            if not dropped:  # at density 1, and where none is left
                return
            threshold = scores[left].abs().sort().values[dropped - 1]
            left = left & (scores > threshold)
        else:
            # Geometric, and the target itself at the last.
            n, target = len(scores), self.problem.count(self.density)
            k = round(n * (target / n) ** (number / self.prunings))
            ranked = torch.where(left, scores, -torch.inf).argsort(descending=True, stable=True)
            left = torch.zeros_like(left).index_fill(0, ranked[:k], True)
        for part, kept in zip(self.parts, left.split(list(self.problem.sizes)), strict=True):
            part.left.copy_(kept.view_as(part.left))

    @torch.no_grad()
    def _cut(self) -> None:
        for part in self.parts:
            part.scores.clamp_(0.0, 1.0)


def _checked(problem: Problem, mask: Tensor, check: str) -> Tensor:
    """The mask, or that of a sanity check."""
    if check == "invert":
        return ~mask
    if check == "shuffle":
        counts = counts_of_layers(mask, problem.sizes)
        return random(problem.sizes, counts, "shuffled gem", problem.recipe.seed)
    return mask
