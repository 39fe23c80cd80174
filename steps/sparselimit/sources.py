"""Which files of this library a script uses: what its results depend on besides its input."""

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = ROOT / "steps"
# What imports stand in: there are none in expressions, and these are most of a file.
_STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)
# Files that the running script has loaded by name, each with a digest of what it held then.
_by_name: dict[Path, bytes] = {}


def sources(script: str, *modules: str) -> list[str]:
    """The library files that a script imports, directly or not, as paths relative to the root.

    `modules` are those it imports by name at run time, for example a pruning method. Listed as
    input of a rule, they make an edit rerun just the steps that use the edited file.
    """
    found = set(_imports(STEPS / script))
    for module in modules:
        found |= _with_imports(_file(module))
    return sorted(str(path.relative_to(ROOT)) for path in found)


def note(file: Path) -> None:
    """Say that the running script has loaded a file by name: a pruning method, or one's own."""
    file = file.resolve()
    _by_name.update((path, _content(path)) for path in {file, *_imports(file)})


def running_code() -> str:
    """A digest of the code that runs: the script, its sources, and what was loaded by name.

    Empty where no script of the workflow runs.
    """
    named = getattr(sys.modules["__main__"], "__file__", None)
    script = Path(named).resolve() if named else ROOT
    if script.parent != STEPS.resolve():
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for path, content in sorted({**_library(script), **_by_name}.items()):
        digest.update(path.name.encode() + content)
    return digest.hexdigest()


@cache
def _library(script: Path) -> dict[Path, bytes]:
    """A script and its sources, each with a digest of what it holds when this is first asked."""
    files = (script, *(ROOT.resolve() / name for name in sources(script.name)))
    return {file: _content(file) for file in files}


def _content(file: Path) -> bytes:
    return hashlib.blake2b(file.read_bytes()).digest()


@cache
def _imports(file: Path) -> frozenset[Path]:
    """All library files that a file imports, however deep."""
    found: set[Path] = set()
    for module in _imported_names(file):
        found |= _with_imports(_file(module))
    return frozenset(found)


def _with_imports(file: Path | None) -> set[Path]:
    if file is None:
        return set()
    packages = {parent / "__init__.py" for parent in file.parents if STEPS in parent.parents}
    # A kernel in another language lies beside the module that compiles it, under the same name.
    kernels = {other for other in file.parent.glob(f"{file.stem}.c*") if other.is_file()}
    return {file, *packages, *kernels} | _imports(file)


def _imported_names(file: Path) -> set[str]:
    """Names of modules in import statements at any depth, but not those only for type checking."""
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(file.read_bytes(), str(file))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        pending += (child for child in ast.iter_child_nodes(node) if isinstance(child, _STATEMENTS))
    return {name for name in names if name.split(".")[0] == "sparselimit"}


def _file(module: str) -> Path | None:
    """The file of a library module; None for a name that is no module but something in one."""
    place = STEPS.joinpath(*module.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None
