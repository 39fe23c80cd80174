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
_KERNELS = (".c", ".cu")
# Files that the running script has loaded by name, each with a digest of what it held then.
_by_name: dict[Path, bytes] = {}


def sources(script: str, *modules: str) -> list[str]:
    """The library files that a script imports, directly or not, as paths relative to the root.

    `modules` are those it imports by name at run time, for example a pruning method. Listed as
    input of a rule, they make an edit rerun just the steps that use the edited file.
    """
    found = set(_with_imports(STEPS / script, STEPS) - {STEPS / script})
    for module in modules:
        file = _module(module, STEPS)
        assert file is not None
        found |= _with_imports(file, STEPS)
    return sorted(str(path.relative_to(ROOT)) for path in found)


def beside(file: Path) -> list[Path]:
    """A file of one's own, and after it those in its folder that it imports, directly or not.

    Of what cannot be parsed the file alone.
    """
    try:
        return [file, *sorted(_with_imports(file, file.parent) - {file})]
    except (OSError, SyntaxError, ValueError):
        return [file]


def note(file: Path) -> None:
    """Say that the running script has loaded a file by name: a pruning method, or one's own."""
    file = file.resolve()
    files = {*_with_imports(file, STEPS), *beside(file)}
    _by_name.update((path, _content(path)) for path in files)


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
def _with_imports(file: Path, root: Path) -> frozenset[Path]:
    """A file and all below the root that it imports, however deep."""
    found, pending = {file}, [file]
    while pending:
        here = pending.pop()
        for level, name in _imported_names(here.read_bytes(), str(here)):
            above = here.parents[min(level, len(here.parents)) - 1]
            module = _module(name, above if level else root)
            if module and module not in found:
                packages = {p / "__init__.py" for p in module.parents if root in p.parents}
                new = {module, *filter(Path.is_file, packages)} - found
                found |= new
                pending += new
    # A kernel in another language lies beside the module that compiles it, under the same name.
    kernels = {module.with_suffix(suffix) for module in found for suffix in _KERNELS}
    return frozenset(found | set(filter(Path.is_file, kernels)))


@cache
def _imported_names(source: bytes, file: str) -> frozenset[tuple[int, str]]:
    """Modules in import statements at any depth, but not those only for type checking.

    Each with its level: 0, or how many dots stand before it. Names in modules may be among them.
    """
    names: set[tuple[int, str]] = set()
    pending: list[ast.AST] = [ast.parse(source, file)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {(0, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            within = (".".join([*module, alias.name]) for alias in node.names)
            names |= {(node.level, name) for name in (node.module, *within) if name}
        pending += (child for child in ast.iter_child_nodes(node) if isinstance(child, _STATEMENTS))
    return frozenset(names)


def _module(name: str, folder: Path) -> Path | None:
    """The file of a module below a folder; None for a name that is none there."""
    place = folder.joinpath(*name.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None
