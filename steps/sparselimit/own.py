"""Code of one's own: a function in a Python file, named `path/to/file.py:function`.

To name it runs it, so a name is taken from the study or the command line alone, never from a
result file.
"""

import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparselimit import sources
from sparselimit.errors import InputError, in_one_line

_FORM = re.compile(r"(?P<file>[^:]+\.py):(?P<function>[^\W\d]\w*)")


def is_own(name: str) -> bool:
    """Whether a name is of the form file.py:function."""
    return _FORM.fullmatch(name) is not None


def file_of(name: str) -> Path:
    """The file that a name of this form names."""
    return Path(name.rpartition(":")[0])


def files_of(name: str) -> list[Path]:
    """That file, and after it those beside it that it imports, directly or not."""
    return sources.beside(file_of(name))


def plain(name: str) -> str:
    """A name for files that are made by it."""
    return re.sub(r"\W+", "-", name)


def call(name: str) -> Any:
    """What the function returns; it is called without arguments.

    Modules beside its file can be imported from it. Raises InputError when there is no such file
    or function, or when it fails, with its own words.
    """
    function = _function(name)
    with blamed(name):
        return function()


@contextmanager
def blamed(name: str, what: str = "fails") -> Iterator[None]:
    """The body runs code of one's own: whatever it raises, even an exit, is told as its fault.

    The line of its file is told too. What ran out of memory is nobody's fault.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if type(error).__name__ == "OutOfMemoryError":  # of torch, which need not be here
            raise
        file = str(file_of(name).absolute())
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if str(Path(frame.filename).absolute()) == file
        ]
        place = f", line {lines[-1]}" if lines else ""
        raise InputError(f"{name} {what}{place}: {in_one_line(error)}") from error


def _function(name: str) -> Callable[[], Any]:
    if not is_own(name):
        raise InputError(f"'{name}': name a function of yours as file.py:function")
    path, function = file_of(name), name.rpartition(":")[2]
    if not path.is_file():
        raise InputError(f"{name}: there is no file {path} (a path from where you are)")
    specification = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # where pickling, for one, looks for its classes
    sys.path.append(str(path.parent.resolve()))
    with blamed(name, "cannot be imported"):
        specification.loader.exec_module(module)
    sources.note(path)
    found = getattr(module, function, None)
    if not callable(found):
        raise InputError(f"{path} defines no function {function}")
    return found
