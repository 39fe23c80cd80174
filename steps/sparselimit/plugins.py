"""Methods that are files of a folder, named as they are; what each can be told is read from it.

The options of a method are the keyword arguments of its entry point, with a type and a default
each; a docstring line `name: text` explains one. They are read from the source, so that a study can
be checked without importing torch.
"""

import __future__

import ast
import difflib
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from sparselimit import sources
from sparselimit.errors import InputError, in_one_line

Value = int | float | str | bool

_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True)
class Option:
    """One option of a method: its type, its default and what it means."""

    type: type
    default: Value
    help: str


@dataclass(frozen=True)
class Methods:
    """The methods of one folder.

    folder   where the files are
    package  as which they are imported
    entries  functions of which a file defines at least one; of several the first counts
    others   files of the folder that are no methods
    """

    folder: Path
    package: str
    entries: tuple[str, ...]
    others: frozenset[str]

    def known(self) -> list[str]:
        """Names of all methods."""
        files = self.folder.glob("*.py")
        return sorted(file.stem for file in files if file.stem not in self.others)

    def entry(self, method: str) -> str:
        """The entry point of a method.

        Raises InputError for a name without a file, or a file without an entry point.
        """
        return self._entry(method).name

    def options(self, method: str) -> dict[str, Option]:
        """The options of a method by name. Raises InputError as `entry` does."""
        return _keyword_options(f"{method}.py", self._entry(method))

    def complete(self, method: str, given: dict[str, Value]) -> dict[str, Value]:
        """The options of a method with defaults filled in.

        Raises InputError for an option that the method does not have, or a value of another type.
        """
        available = self.options(method)
        for name, value in given.items():
            if name not in available:
                close = difflib.get_close_matches(name, available, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                has = ", ".join(available) or "none"
                raise InputError(f"method {method} has no option '{name}' (it has: {has}){hint}")
            wanted = available[name].type
            if not (type(value) is wanted or (wanted is float and type(value) is int)):
                raise InputError(
                    f"method {method}, option {name}: {value!r} is not {wanted.__name__}"
                )
        return {name: given.get(name, option.default) for name, option in available.items()}

    def said(
        self, method: str, name: str, given: tuple, options: dict[str, Value], otherwise: object
    ) -> object:
        """What a function of the file returns that only plans; `otherwise`, if there is none.

        It is run without the rest of its file, which would import torch: it may use what it is
        given, those of the method's options that are its keyword arguments, Python's own functions
        and those of `math`. Raises InputError if it fails.
        """
        function = self._functions(method).get(name)
        if function is None:
            return otherwise
        named = [argument.arg for argument in function.args.kwonlyargs]
        try:
            return _made(function)(*given, **{option: options[option] for option in named})
        except Exception as error:
            raise InputError(
                f"{method}.py: {name} fails for {shown(options)} ({in_one_line(error)})"
            ) from error

    def load(self, method: str) -> ModuleType:
        """The module of a method."""
        sources.note(self.folder / f"{method}.py")
        return importlib.import_module(f"{self.package}.{method}")

    def _entry(self, method: str) -> ast.FunctionDef:
        functions = self._functions(method)
        for entry in self.entries:
            if entry in functions:
                return functions[entry]
        raise InputError(f"{method}.py: defines none of {', '.join(self.entries)}")

    def _functions(self, method: str) -> dict[str, ast.FunctionDef]:
        if method not in self.known():
            raise InputError(
                f"pruning method '{method}' is unknown: use one of {', '.join(self.known())}"
            )
        file = self.folder / f"{method}.py"
        try:
            return _functions(file.read_text())
        except SyntaxError as error:
            raise InputError(
                f"{file.name}: line {error.lineno} is not Python ({error.msg})"
            ) from error


@cache
def _functions(source: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(source)
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def _made(function: ast.FunctionDef) -> Callable[..., object]:
    """The function alone, its annotations unread."""
    names = dict(vars(math))
    module = ast.Module([function], type_ignores=[])
    flags = __future__.annotations.compiler_flag
    exec(compile(module, f"<{function.name}>", "exec", flags, dont_inherit=True), names)
    made: Callable[..., object] = names[function.name]
    return made


def shown(options: dict[str, Value]) -> str:
    """Options and their values, in a message."""
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "no options"


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
