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
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparselimit.plugins import Methods, Value

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
