"""The pruning methods by name: a method is a file in this folder.

Its file defines one of

    saliency(problem, *, options) -> scores [E, n_weights]
        pruned once, before training: each member keeps its target's number of largest scores
    start_mask(problem, *, options) -> mask [E, n_weights]
        pruned before training by a rule of its own (saliency may stand beside it)
    events(problem, *, options) -> list of Event
        pruned during training (start_mask may stand beside it, with the same options)

and, if it does not train from the common initial values,

    start_parameters(problem) -> parameters [E, n_parameters].

A method that trains several times over, each time with the whole schedule of learning rates, has an
option `trainings` that says how often.

Its options are the keyword arguments of that function (see `sparselimit.plugins`). What of them it
cannot work with is told by

    objection(*, options, or `count`) -> what is wrong with them in words, or None

which is run when a study is checked, without the rest of its file (see `plugins.Methods.said`).
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sparselimit.errors import InputError
from sparselimit.plugins import Methods, Option, Value

if TYPE_CHECKING:
    from torch import Tensor

    from sparselimit.ensemble.state import Event
    from sparselimit.pruning.problem import Problem

_NOT_METHODS = frozenset({"__init__", "problem", "published", "registry", "runs"})
_ENTRY_POINTS = ("events", "start_mask", "saliency")
# What a study may say of any method, beside the method's own options.
_COUNTS = ("weights", "effective")


@dataclass(frozen=True)
class Choice:
    """A method as a study uses it.

    name     as it is called in tables and figures
    method   its file
    count    what targets count: `weights`, or `effective` weights
    options  all of them, defaults filled in
    """

    name: str
    method: str
    count: str
    options: "dict[str, Value]"

    @classmethod
    def of(cls, name: str, entry: "dict[str, Value]") -> "Choice":
        """From an entry of a study: options by name, and by `method` and `count` the rest.

        `method` names the file, if that is not called as the entry. Raises InputError for what does
        not exist, or what the method objects to.
        """
        options = dict(entry)
        method, count = str(options.pop("method", name)), options.pop("count", _COUNTS[0])
        if count not in _COUNTS:
            raise InputError(f"method {name}: count {count!r} is none of {', '.join(_COUNTS)}")
        choice = cls(name, method, str(count), complete(method, options))
        every = {**choice.options, "count": choice.count}
        objection = _methods().said(method, "objection", (), every, otherwise=None)
        if objection is not None:
            raise InputError(f"{method}: {objection}")
        return choice


def _methods() -> Methods:
    return Methods(Path(__file__).parent, "sparselimit.pruning", _ENTRY_POINTS, _NOT_METHODS)


def known() -> list[str]:
    """Names of all methods."""
    return _methods().known()


def options(method: str) -> dict[str, Option]:
    """The options of a method by name, see `Methods.options`."""
    return _methods().options(method)


def complete(method: str, given: dict[str, Value]) -> dict[str, Value]:
    """The options of a method with defaults filled in, see `Methods.complete`."""
    return _methods().complete(method, given)


def apply(
    method: str, problem: "Problem", given: dict[str, Value]
) -> tuple["Tensor", "Tensor", "list[Event]"]:
    """Set a method to work: initial parameters, weight mask before training, and events during it.

    Raises InputError when the method's scores or mask cannot be used.
    """
    # Here and not above: what reads options must not import torch.
    from sparselimit.sparsity.masks import keep_largest

    module = _methods().load(method)
    chosen = complete(method, given)
    problem = problem.with_parameters(_parameters(module, problem))
    mask = problem.dense
    events = module.events(problem, **chosen) if hasattr(module, "events") else []
    if hasattr(module, "start_mask"):
        mask = module.start_mask(problem, **chosen)
        _check_shape(method, "start_mask", mask, problem)
        if mask.dtype != problem.dense.dtype:
            raise InputError(
                f"method {method}: start_mask of type {mask.dtype}, expected torch.bool"
            )
    elif hasattr(module, "saliency"):
        scores = module.saliency(problem, **chosen)
        _check_shape(method, "saliency", scores, problem)
        mask = problem.keep(scores, problem.target, published=keep_largest)
    return problem.parameters, mask, events


def _parameters(module: ModuleType, problem: "Problem") -> "Tensor":
    if hasattr(module, "start_parameters"):
        return module.start_parameters(problem)
    return problem.parameters


def _check_shape(method: str, entry: str, value: "Tensor", problem: "Problem") -> None:
    if not isinstance(value, type(problem.dense)):
        raise InputError(f"method {method}: {entry} gives a {type(value).__name__}, not a tensor")
    if value.shape != problem.dense.shape:
        raise InputError(
            f"method {method}: {entry} of shape {tuple(value.shape)}, "
            f"expected {tuple(problem.dense.shape)}"
        )
