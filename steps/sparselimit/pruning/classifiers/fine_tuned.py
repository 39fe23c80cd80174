"""One-shot magnitude pruning with fine-tuning: the smallest weights go at once, the others adapt.

The weights that are kept start from their trained values and minimise the loss itself, without the
L1 penalty, by Adam. Between the last density that keeps the dense network's validation accuracy
and the first that does not, some more are tried: the fine-tuned threshold.
"""

from collections.abc import Iterator
from copy import deepcopy
from math import ceil

from sparselimit.errors import InputError
from sparselimit.pruning.classifiers.masks import largest
from sparselimit.pruning.classifiers.problem import Problem, Pruned


def rounds(
    problem: Problem, *, steps: int = 600, learning_rate: float = 0.001, refine: int = 3
) -> Iterator[Pruned]:
    """The fine-tuned networks, of the given densities and then of those between.

    steps: of Adam, on batches as in training, the rate on a cosine
    learning_rate: its largest
    refine: densities tried between the last that is good enough and the first that is not
    """
    if steps < 1 or refine < 0:
        raise InputError(f"fine_tuned: {steps} steps and {refine} refinements cannot be done")
    yield from problem.refined(
        lambda density: _pruned(problem, density, steps, learning_rate), refine
    )


def trainings(densities: list[float], recipe: int, *, steps: int, refine: int) -> tuple[int, int]:
    """Of the densities and of those between, whatever the recipe takes."""
    return len(densities) + refine, steps


def _pruned(problem: Problem, density: float, steps: int, learning_rate: float) -> Pruned:
    network = deepcopy(problem.trained)
    mask = largest(problem.values(network).abs(), problem.count(density))
    recipe = problem.plain_recipe(
        epochs=ceil(steps / problem.recipe.per_epoch(len(problem.samples["fit"][1]))),
        optimizer="adam",
        learning_rate=learning_rate,
    )
    name = f"density-{density:.6g}"
    epochs = problem.train(network, mask, name, recipe, steps=range(steps))
    return Pruned(network, mask, epochs, density)
