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

Its options are the keyword arguments of that function, with a type and a default each; a docstring
line `name: text` explains one. They are read from the source, so that a study can be checked
without importing torch.
"""

import ast
import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sparselimit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from sparselimit.ensemble.state import Event
    from sparselimit.pruning.problem import Problem

_NOT_METHODS = {"__init__", "problem", "published", "registry", "runs"}
_ENTRY_POINTS = ("events", "start_mask", "saliency")
_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}

Value = int | float | str | bool


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
        not exist.
        """
        options = dict(entry)
        method, count = options.pop("method", name), options.pop("count", _COUNTS[0])
        if count not in _COUNTS:
            raise InputError(f"method {name}: count {count!r} is none of {', '.join(_COUNTS)}")
        return cls(name, str(method), str(count), complete(str(method), options))


@dataclass(frozen=True)
class Option:
    """One option of a method: its type, its default and what it means."""

    type: type
    default: Value
    help: str


def known() -> list[str]:
    """Names of all methods."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if file.stem not in _NOT_METHODS)


def options(method: str) -> dict[str, Option]:
    """The options of a method by name.

    Raises InputError for a name without a file, or a file without an entry point.
    """
    if method not in known():
        raise InputError(f"pruning method '{method}' is unknown: use one of {', '.join(known())}")
    file = Path(__file__).parent / f"{method}.py"
    try:
        functions = {
            node.name: node
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.FunctionDef)
        }
    except SyntaxError as error:
        raise InputError(f"{file.name}: line {error.lineno} is not Python ({error.msg})") from error
    for entry in _ENTRY_POINTS:
        if entry in functions:
            return _keyword_options(file.name, functions[entry])
    raise InputError(f"{file.name}: defines none of {', '.join(_ENTRY_POINTS)}")


def complete(method: str, given: dict[str, Value]) -> dict[str, Value]:
    """The options of a method with defaults filled in.

    Raises InputError for an option that the method does not have, or a value of another type.
    """
    available = options(method)
    for name, value in given.items():
        if name not in available:
            close = difflib.get_close_matches(name, available, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            has = ", ".join(available) or "none"
            raise InputError(f"method {method} has no option '{name}' (it has: {has}){hint}")
        wanted = available[name].type
        if not (type(value) is wanted or (wanted is float and type(value) is int)):
            raise InputError(f"method {method}, option {name}: {value!r} is not {wanted.__name__}")
    return {name: given.get(name, option.default) for name, option in available.items()}


def apply(
    method: str, problem: "Problem", given: dict[str, Value]
) -> tuple["Tensor", "Tensor", "list[Event]"]:
    """Set a method to work: initial parameters, weight mask before training, and events during it.

    Raises InputError when the method's scores or mask cannot be used.
    """
    # Here and not above: what reads options must not import torch.
    from sparselimit.sparsity.masks import keep_largest

    module = importlib.import_module(f"sparselimit.pruning.{method}")
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
    if value.shape != problem.dense.shape:
        raise InputError(
            f"method {method}: {entry} of shape {tuple(value.shape)}, "
            f"expected {tuple(problem.dense.shape)}"
        )


def _keyword_options(file: str, function: ast.FunctionDef) -> dict[str, Option]:
    help_lines = dict(
        line.strip().split(": ", 1)
        for line in (ast.get_docstring(function) or "").splitlines()
        if ": " in line
    )
    found = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        annotation, value = argument.annotation, _literal(default)
        if not (isinstance(annotation, ast.Name) and annotation.id in _TYPES and value is not None):
            raise InputError(
                f"{file}: option {argument.arg} needs a default and a type of {', '.join(_TYPES)}"
            )
        found[argument.arg] = Option(_TYPES[annotation.id], value, help_lines.get(argument.arg, ""))
    return found


def _literal(node: ast.expr | None) -> Value | None:
    """The value that a default stands for; None if there is none to be read."""
    try:
        return ast.literal_eval(node) if node else None
    except ValueError:
        return None
