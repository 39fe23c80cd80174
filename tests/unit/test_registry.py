"""Pruning methods by name: options read from source, and a method of the user's own."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sparselimit.pruning
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import Event
from sparselimit.networks.mlp import MLP
from sparselimit.plugins import Value
from sparselimit.pruning import registry
from sparselimit.pruning.problem import Problem
from tests.unit.refusals import refused

METHODS = registry.known()
ENTRY_POINTS = ("events", "start_mask", "saliency")

Add = Callable[[str], None]


@pytest.fixture
def problem() -> Problem:
    """Three small networks to be pruned to different targets."""
    network = MLP((2, 3, 3, 1))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 2, generator=generator)
    return Problem(
        network,
        torch.randn(3, network.n_parameters, generator=generator),
        torch.tensor([4, 9, 18]),
        torch.tensor([0, 1, 1]),
        torch.full((3,), 0.1, dtype=torch.float64),
        Points(x, (x[:, 0] > 0).float()),
        batch_size=10,
        steps=6,
    )


@pytest.fixture
def add_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Makes a file `mine.py` the only pruning method there is."""
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    monkeypatch.setattr(sparselimit.pruning, "__path__", [str(tmp_path)])

    def add(source: str) -> None:
        (tmp_path / "mine.py").write_text(source)

    yield add
    sys.modules.pop("sparselimit.pruning.mine", None)


# --- The methods there are -----------------------------------------------------------------------


def test_every_method_can_be_loaded_and_nothing_else_is_listed() -> None:
    assert {"imp", "snip"} <= set(METHODS)
    assert sorted(METHODS) == METHODS
    for method in METHODS:
        module = importlib.import_module(f"sparselimit.pruning.{method}")
        assert any(hasattr(module, entry) for entry in ENTRY_POINTS)
    folder = Path(registry.__file__).parent
    helpers = {file.stem for file in folder.glob("*.py")} - set(METHODS)
    for helper in helpers:
        module = importlib.import_module(f"sparselimit.pruning.{helper}")
        assert not any(hasattr(module, entry) for entry in ENTRY_POINTS)


@pytest.mark.parametrize("method", METHODS)
def test_options_read_from_source_are_those_of_the_function(method: str) -> None:
    module = importlib.import_module(f"sparselimit.pruning.{method}")
    entry = next(getattr(module, name) for name in ENTRY_POINTS if hasattr(module, name))
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(entry).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    found = registry.options(method)
    assert list(found) == list(parameters)
    for name, option in found.items():
        assert option.type is parameters[name].annotation
        assert option.default == parameters[name].default
        assert type(option.default) is option.type
        assert option.help, f"{method}.{name} is not explained in its docstring"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("protocol", ["exact", "published"])
def test_every_method_can_be_applied(problem: Problem, method: str, protocol: str) -> None:
    parameters, mask, events = registry.apply(method, replace(problem, protocol=protocol), {})
    assert parameters.shape == problem.parameters.shape
    assert (mask.shape, mask.dtype) == ((3, problem.network.n_weights), torch.bool)
    assert all(isinstance(event, Event) for event in events)
    if protocol == "exact" and not events:
        assert mask.sum(dim=1).tolist() == problem.target.tolist()


# --- Options -------------------------------------------------------------------------------------


def test_options_are_completed_by_defaults() -> None:
    assert registry.complete("imp", {}) == {"prunings": 200}
    assert registry.complete("imp", {"prunings": 7}) == {"prunings": 7}


def test_what_is_not_an_option_is_refused() -> None:
    with refused("'SNIP' is unknown", "snip"):
        registry.options("SNIP")
    with refused("'registry' is unknown"):
        registry.options("registry")
    with refused("imp has no option 'pruning' (it has: prunings)", "did you mean prunings?"):
        registry.complete("imp", {"pruning": 10})
    with refused("imp has no option 'zzz'"):
        registry.complete("imp", {"zzz": 10})


@pytest.mark.parametrize("value", ["10", 10.0, True])
def test_values_of_another_type_are_refused(value: Value) -> None:
    with refused("method imp, option prunings", repr(value), "is not int"):
        registry.complete("imp", {"prunings": value})


def test_whole_numbers_are_good_for_fractions_and_options_are_of_four_types(
    add_method: Add,
) -> None:
    add_method(
        "def saliency(problem, *, a: int = 1, b: float = -0.5, c: str = 'x', d: bool = False):\n"
        "    '''Scores.\n\n    b: how much\n    '''\n"
    )
    assert registry.complete("mine", {"b": 2, "d": True}) == {"a": 1, "b": 2, "c": "x", "d": True}
    assert [option.help for option in registry.options("mine").values()] == ["", "how much", "", ""]
    with refused("option d: 1 is not bool"):
        registry.complete("mine", {"d": 1})


# --- A method of the user's own ------------------------------------------------------------------

BY_INDEX = """
import torch

def saliency(problem, *, sign: float = 1.0):
    n = problem.network.n_weights
    return sign * torch.arange(n).repeat(len(problem.parameters), 1)
"""


def test_a_file_with_a_saliency_is_a_method(add_method: Add, problem: Problem) -> None:
    add_method(BY_INDEX)
    assert registry.known() == ["mine"]
    parameters, mask, events = registry.apply("mine", problem, {})
    assert parameters is problem.parameters
    assert events == []
    n = problem.network.n_weights
    expected = [[i >= n - k for i in range(n)] for k in problem.target.tolist()]
    assert mask.tolist() == expected
    reverse = registry.apply("mine", problem, {"sign": -1.0})[1]
    assert reverse.tolist() == [row[::-1] for row in expected]


def test_a_method_may_start_from_other_values(add_method: Add, problem: Problem) -> None:
    """The scores are then those of these values."""
    add_method(
        "def start_parameters(problem):\n    return -problem.parameters\n"
        "def saliency(problem):\n    return problem.parameters[:, :problem.network.n_weights]\n"
    )
    parameters, mask, _ = registry.apply("mine", problem, {})
    torch.testing.assert_close(parameters, -problem.parameters)
    weights = parameters[:, : problem.network.n_weights]
    for row, kept, target in zip(weights, mask, problem.target, strict=True):
        assert int(kept.sum()) == target
        if not kept.all():
            assert row[kept].min() >= row[~kept].max()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def saliency(problem: int\n", ["mine.py", "line 1", "not Python"]),
        ("def scores(problem):\n    return 0\n", ["mine.py", "events, start_mask, saliency"]),
        ("def saliency(problem, *, n):\n    pass\n", ["mine.py", "option n", "a default"]),
        ("def saliency(problem, *, n=1):\n    pass\n", ["mine.py", "option n", "a type"]),
        (
            "def saliency(problem, *, n: list = 1):\n    pass\n",
            ["mine.py", "int, float, str, bool"],
        ),
        ("def saliency(problem, *, n: int = [].x):\n    pass\n", ["mine.py", "option n"]),
    ],
)
def test_a_file_that_cannot_be_a_method_is_refused(
    add_method: Add, source: str, words: list[str]
) -> None:
    add_method(source)
    with refused(*words):
        registry.options("mine")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def saliency(problem):\n    return problem.parameters\n", ["mine", "(3, 25)", "(3, 18)"]),
        (
            "def saliency(problem):\n"
            "    scores = problem.parameters[:, :18].clone()\n"
            "    scores[1, 5] = float('nan')\n"
            "    return scores\n",
            ["member 1", "NaN"],
        ),
        (
            "def start_mask(problem):\n    return problem.parameters > 0\n",
            ["mine", "(3, 25)", "(3, 18)"],
        ),
        (
            "def start_mask(problem):\n    return problem.dense.float()\n",
            ["mine", "float32", "bool"],
        ),
    ],
)
def test_scores_and_masks_that_cannot_be_used_are_refused(
    add_method: Add, problem: Problem, source: str, words: list[str]
) -> None:
    add_method(source)
    with refused(*words):
        registry.apply("mine", problem, {})
