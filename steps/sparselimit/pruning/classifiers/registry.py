"""Pruning methods for classifiers by name: a method is a file in this folder.

Its file defines one of

    start_mask(problem, density, *, options) -> mask [N], or None
        pruned before training: the network is trained once, from its initial values, by its recipe
    pruned(problem, density, *, options) -> Pruned, or None
        a pruned network, made by a training of its own
    rounds(problem, *, options) -> iterator of Pruned
        several pruned networks, each made from the one before

with what `problem` offers. None says that the method has no network of that density. Options are
the keyword arguments of that function (see `sparselimit.plugins`).

What it costs, unless that is one training for each density, is said by

    trainings(densities, steps, *, options) -> (trainings, steps of each)
        how many trainings it takes at most to make the networks of these densities, and of how many
        SGD steps each; `steps` are those of a training by the recipe

which is run before anything else is, without the rest of its file (see `plugins.Methods.said`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparselimit.errors import InputError
from sparselimit.plugins import Methods, Value, shown

if TYPE_CHECKING:
    from sparselimit.pruning.classifiers.problem import Problem, Pruned

PACKAGE = "sparselimit.pruning.classifiers"
_NOT_METHODS = frozenset({"__init__", "masks", "problem", "registry", "results", "tables"})
_ENTRY_POINTS = ("rounds", "pruned", "start_mask")


def methods() -> Methods:
    """The methods there are."""
    return Methods(Path(__file__).parent, PACKAGE, _ENTRY_POINTS, _NOT_METHODS)


@dataclass(frozen=True)
class Choice:
    """A method as a study uses it.

    name     as it is called in tables and figures
    method   its file
    options  all of them, defaults filled in
    """

    name: str
    method: str
    options: dict[str, Value]

    @classmethod
    def of(cls, name: str, entry: dict[str, Value]) -> "Choice":
        """From an entry of a study: options by name, and by `method` the file if called otherwise.

        Raises InputError for what does not exist.
        """
        options = dict(entry)
        method = str(options.pop("method", name))
        return cls(name, method, methods().complete(method, options))

    @property
    def chained(self) -> bool:
        """Whether its networks are made one from the other, and so in one job."""
        return methods().entry(self.method) == "rounds"

    def parts(self, densities: list[float], per_job: int | None) -> list[list[float]]:
        """The densities of each job, in their order; chained networks stay together."""
        size = len(densities) if self.chained or per_job is None else per_job
        return [densities[i : i + size] for i in range(0, len(densities), size)]

    def trainings(self, densities: Sequence[float], steps: int) -> tuple[int, int]:
        """Trainings for the networks of these densities, at most, and the SGD steps of each.

        `steps` are those of a training by the recipe. Raises InputError for options of which
        nothing can be counted.
        """
        said = methods().said(
            *(self.method, "trainings", (list(densities), steps), self.options),
            otherwise=(len(densities), steps),
        )
        match said:
            case (int(number), int(each)) if number >= 0 and each >= 0:
                return number, each
        raise InputError(
            f"{self.method}.py: trainings gives {said} for {shown(self.options)}, where two whole "
            "numbers from 0 on are expected: how many trainings, and of how many steps"
        )


def networks(choice: Choice, problem: "Problem") -> Iterator["Pruned"]:
    """All networks that a method makes of a problem, in its order.

    Raises InputError when what the method gives cannot be used.
    """
    # Here and not above: what reads options must not import torch.
    from sparselimit.pruning.classifiers.problem import Pruned

    module, entry = methods().load(choice.method), methods().entry(choice.method)
    if entry == "rounds":
        yield from module.rounds(problem, **choice.options)
        return
    for density in problem.densities:
        made = getattr(module, entry)(problem, density, **choice.options)
        if made is None:
            problem.leave_out(choice.name, density)
        elif entry == "pruned":
            yield made
        else:
            problem.check_mask(choice.method, made)
            network = problem.start()
            epochs = problem.train(network, made, f"density-{density:g}")
            yield Pruned(network, made, epochs, density)
