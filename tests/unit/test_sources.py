"""The library files that a script's results depend on."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from sparselimit import own
from sparselimit import sources as module
from sparselimit.ensemble.checkpoint import Checkpoint
from sparselimit.pruning import registry
from sparselimit.pruning.classifiers.registry import methods
from sparselimit.sources import ROOT, STEPS, note, sources
from tests.unit.refusals import refused

SCRIPTS = sorted(path.name for path in STEPS.glob("*.py"))


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Library files that are loaded when each script prints its help, found by running it."""
    program = """
        import contextlib, json, runpy, sys
        from pathlib import Path

        steps, found = Path(sys.argv[1]), {}
        for script in sys.argv[2:]:
            for name in [name for name in sys.modules if name.split(".")[0] == "sparselimit"]:
                del sys.modules[name]
            sys.argv = [script, "--help"]
            with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):
                runpy.run_path(str(steps / script), run_name="__main__")
            library = [m for name, m in sys.modules.items() if name.split(".")[0] == "sparselimit"]
            found[script] = sorted(str(Path(m.__file__).relative_to(steps.parent)) for m in library)
        print(json.dumps(found))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(STEPS), *SCRIPTS],
        env=os.environ | {"PYTHONPATH": str(STEPS)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("script", SCRIPTS)
def test_all_that_a_script_loads_is_listed(loaded: dict[str, list[str]], script: str) -> None:
    listed = sources(script)
    assert sorted(set(listed)) == listed
    assert all((ROOT / path).is_file() for path in listed)
    assert loaded[script] != []
    assert set(loaded[script]) <= set(listed)


def test_a_script_that_only_makes_data_depends_on_little(loaded: dict[str, list[str]]) -> None:
    for script in ("data_spiral.py", "data_digits.py", "data_images.py", "data_own.py"):
        assert sources(script) == loaded[script]
        assert not any("ensemble" in path or "networks" in path for path in loaded[script])


def test_a_pruning_script_depends_on_its_method_alone() -> None:
    for method in registry.known():
        listed = sources("prune_spiral.py", f"sparselimit.pruning.{method}")
        methods = {f"steps/sparselimit/pruning/{name}.py" for name in registry.known()}
        assert methods & set(listed) == {f"steps/sparselimit/pruning/{method}.py"}
        assert "steps/sparselimit/sparsity/masks.py" in listed


def test_what_snakemake_alone_needs_is_no_source() -> None:
    """An edit of the config models reruns no step, nor how sources are found those that draw.

    A checkpoint belongs to its code, so a step that may have one finds its sources too.
    """
    runs = {"ensemble/checkpoint.py", "own.py", "plugins.py"}
    for script in SCRIPTS:
        listed = set(sources(script))
        assert "steps/sparselimit/study.py" not in listed
        may_save = bool({f"steps/sparselimit/{name}" for name in runs} & listed)
        assert ("steps/sparselimit/sources.py" in listed) == may_save


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small library and a script that uses it in every way there is."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "STEPS", tmp_path / "steps")
    files = {
        "script.py": "import os\nfrom sparselimit import one\nfrom sparselimit.sub import two\n",
        "sparselimit/__init__.py": "",
        "sparselimit/one.py": "def f():\n    import sparselimit.sub.three as t\n    return t\n",
        "sparselimit/sub/__init__.py": "def two():\n    pass\n",
        "sparselimit/sub/three.py": (
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    from sparselimit import types_only\n"
            "else:\n    pass\n"
        ),
        "sparselimit/types_only.py": "",
        "sparselimit/by_name.py": "from sparselimit.deep import value\n",
        "sparselimit/deep.py": "value = 1\n",
        "sparselimit/unused.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "steps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_imports_of_every_form_are_followed(tree: Path) -> None:
    """At the top and inside functions, of modules and of names in them; not those for types."""
    assert tree.is_dir()
    package = [
        "steps/sparselimit/__init__.py",
        "steps/sparselimit/one.py",
        "steps/sparselimit/sub/__init__.py",
        "steps/sparselimit/sub/three.py",
    ]
    assert sources("script.py") == package
    by_name = {"steps/sparselimit/by_name.py", "steps/sparselimit/deep.py"}
    assert set(sources("script.py", "sparselimit.by_name")) == {*package, *by_name}


def test_the_files_of_ones_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules and packages beside it, round and round; a path as it was given."""
    files = {
        "mine.py": "import torch, helper\ndef network():\n    from parts.block import Block\n",
        "helper.py": "import mine, random\n",
        "parts/__init__.py": "",
        "parts/block.py": "from . import size\nfrom .deep.est import x\n",
        "parts/size.py": "",
        "parts/deep/est.py": "from ..block import y\nfrom ..... import z\n",
        "parts/unused.py": "",
        "unused.py": "",
        "broken.py": "def network(:\n",
    }
    for name, text in files.items():
        path = tmp_path / "nets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    helpers = ["helper", "parts/__init__", "parts/block", "parts/deep/est", "parts/size"]
    for folder in (tmp_path / "nets", Path("nets"), Path()):
        monkeypatch.chdir(tmp_path if folder.name else tmp_path / "nets")
        expected = [folder / "mine.py", *(folder / f"{name}.py" for name in helpers)]
        assert own.files_of(f"{folder / 'mine.py'}:network") == expected
    for name in ("broken.py", "missing.py"):
        assert own.files_of(f"{name}:network") == [Path(name)]


def test_what_is_loaded_by_name_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_by_name", {})
    (tmp_path / "noted.py").write_text("import beside_noted\ndef network(): return 1\n")
    (tmp_path / "beside_noted.py").touch()
    own.call(f"{tmp_path / 'noted.py'}:network")
    assert set(module._by_name) == {tmp_path / "noted.py", tmp_path / "beside_noted.py"}
    methods().load("rare_gems")
    folder = STEPS / "sparselimit" / "pruning" / "classifiers"
    assert {folder / "rare_gems.py", folder / "masks.py"} <= set(module._by_name)
    assert folder / "imp.py" not in module._by_name


def test_a_checkpoint_belongs_to_the_code_that_runs(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script, what it imports, and what it loads by name; nothing where no script runs."""
    folder = tmp_path_factory.mktemp("run")
    path, mine = folder / "out.h5.checkpoint", folder / "mine.py"
    mine.write_text("from sparselimit import by_name\n")

    def run() -> Checkpoint:
        """In a process of its own, as it were."""
        module._library.cache_clear()
        module._with_imports.cache_clear()
        monkeypatch.setattr(module, "_by_name", {})
        note(mine)
        return Checkpoint(path, ["what is computed"], interval=300)

    run().save({"step": 1})
    running = ModuleType("__main__")
    running.__file__ = str(tree / "steps" / "script.py")
    monkeypatch.setitem(sys.modules, "__main__", running)
    with refused(str(path), "before the code was changed; delete it"):
        run().load()
    library = tree / "steps" / "sparselimit"
    for file in (library / "sub" / "three.py", library / "deep.py", mine, tree / "steps/script.py"):
        path.unlink()
        run().save({"step": 1})
        file.write_text(f"{file.read_text()}# edited\n")
        with refused(str(path), "before the code was changed; delete it"):
            run().load()
    path.unlink()
    run().save({"step": 1})
    (library / "unused.py").write_text("# edited")
    assert run().load() == {"step": 1}
    # What a process has begun with is what it runs.
    (library / "one.py").write_text("# edited")
    assert Checkpoint(path, ["what is computed"], interval=300).load() == {"step": 1}
