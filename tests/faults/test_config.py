"""Configurations that are wrong or mean harm: read, or refused in one line; nothing gets out."""

import copy
import shlex
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]

from sparselimit import own, study
from sparselimit.errors import InputError
from tests.unit.refusals import refused

ROOT = Path(__file__).parents[2]
MUTATIONS = 2_000
SECONDS = 20  # in which any configuration is read: most take milliseconds

Config = dict[str, Any]
Rng = np.random.Generator


@cache
def _default() -> Config:
    return yaml.safe_load((ROOT / "config.yaml").read_text())


def config() -> Config:
    return copy.deepcopy(_default())


def deep(levels: int) -> object:
    nested: object = []
    for _ in range(levels):
        nested = [nested]
    return nested


def wide(levels: int) -> object:
    """A list of a thousand million million entries, as YAML makes it from a few anchors."""
    nested: object = ["x"] * 10
    for _ in range(levels):
        nested = [nested] * 10
    return nested


def ascii_of(value: object) -> str:
    """A short name of a case."""
    return ascii(value)[:20] if isinstance(value, str) else "value"


# What a shell, a path, a format string or a terminal could take for something else.
HARMFUL = [
    *("; touch pwned", "$(touch pwned)", "`touch pwned`", "| touch pwned", "a && touch pwned"),
    *("a > pwned", "a\ntouch pwned", "'", '"', "'; touch pwned; '", '"; touch pwned; "', "\\"),
    *("../../etc/passwd", "/etc/passwd", "~root/x", "a/../../b", "..", "{wildcards.method}"),
    *("{0}", "{", "%s", "*", "a b", "#", "!!python/object:os.system", "-rf", "--output=x"),
    *("a\0b", "\x1b[2J", "\u202e", "\ud800", "x" * 100_000, "", " ", "\N{SNOWMAN}", "con"),
]
ODD = [
    *HARMFUL,
    *(None, True, False, 0, -1, 1, 10**9, 10**12, 10**30, 16**6000, -(16**6000), 2**63),
    *(0.0, -0.0, 0.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"), 1j, b"x"),
    *([], {}, [[]], [None], [1, 1], [float("nan")] * 3, {"a": {"a": {}}}, {1: 2}, {None: None}),
    *({"method": "imp"}, {"method": ["imp"]}, {"count": "effective"}, {"__proto__": 1}, set()),
    *(list(range(5000)), deep(5000), wide(15), {"x" * 5000: 1}, ["searched"], "searched"),
]


def place(node: Any, rng: Rng) -> tuple[Any, Any]:
    """Some entry: what it stands in, and its key there."""
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = keys[rng.integers(len(keys))]
        inside = isinstance(node[key], dict | list) and node[key]
        if not inside or rng.random() < 0.2:
            return node, key
        node = node[key]


def mutate(whole: Config, rng: Rng) -> None:
    node, last = place(whole, rng)
    odd = copy.copy(ODD[rng.integers(len(ODD))])
    match rng.integers(6):
        case 0:
            del node[last]
        case 1 if isinstance(node, dict):
            new = odd if not isinstance(odd, list | dict | set) and rng.random() < 0.7 else "new"
            node[new] = node[last] if rng.random() < 0.5 else odd
        case 1:
            node.insert(int(rng.integers(len(node) + 1)), odd)
        case 2 if isinstance(node[last], int | float) and not isinstance(node[last], bool):
            node[last] *= [-1, 0, 2, 10**6, 0.3][rng.integers(5)]
        case 3:
            other, key = place(whole, rng)
            node[last] = copy.copy(other[key])
        case _:
            node[last] = odd


def hangs(*_: object) -> None:
    raise AssertionError(f"no answer after {SECONDS} s")


@pytest.fixture
def no_hang() -> Iterator[Callable[[], None]]:
    """To be called before each thing that must not take long."""
    before = signal.signal(signal.SIGALRM, hangs)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, SECONDS) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_mutated_configurations_are_read_or_refused(no_hang: Callable[[], None]) -> None:
    rng = np.random.default_rng(0)
    refusals: dict[str, int] = {}
    taken = 0
    for _ in range(MUTATIONS):
        whole = config()
        for _ in range(int(rng.choice([1, 1, 2, 5]))):
            mutate(whole, rng)
        no_hang()
        try:
            found = study.read(whole)
        except InputError as error:
            message = str(error)
            assert message.startswith("config: ")
            assert message.isprintable()
            assert len(message) < 1100
            refusals[message] = refusals.get(message, 0) + 1
        else:
            taken += 1
            assert found.search.jobs <= study.MOST_JOBS
            assert_harmless(found)
    # Most are wrong, and each in its own way; some are as good as before.
    assert taken > MUTATIONS / 20
    assert len(refusals) > MUTATIONS / 10


def assert_harmless(found: study.Study) -> None:
    """Names are plain, and what is given as a path keeps to one word of a command line."""
    for names in (found.networks, found.blocks, found.prune.studies, found.prune.methods):
        assert all(name.isidentifier() and name.isascii() for name in names)
    words = [network.data for network in found.networks.values()]
    words += [network.architecture for network in found.networks.values()]
    words += [network.state_dict or "x" for network in found.networks.values()]
    words += [one.initial for one in (*found.prune.studies.values(), *found.blocks.values())]
    for word in words:
        assert word.isprintable()
        assert shlex.split(shlex.quote(word)) == [word]


def at(way: str, value: object) -> Config:
    """The default study with one entry put in."""
    whole = config()
    node: Any = whole
    *keys, last = way.split(".")
    for key in keys:
        node = node[key]
    node[last] = value
    return whole


@pytest.mark.parametrize("name", HARMFUL, ids=ascii_of)
def test_names_that_mean_harm_are_refused(name: str) -> None:
    default = config()
    for section, entry in {
        "prune.methods": {},
        "prune.studies": default["prune"]["studies"]["optimal_width"],
        "blocks": default["blocks"]["first_phase"],
        "networks": default["networks"]["dense"],
    }.items():
        if name != "con":
            with refused("config: "):
                study.read(at(f"{section}.{name}" if "." not in name else section, {name: entry}))
    for way in ("networks.dense.data", "networks.dense.architecture", "device", "runs.protocol"):
        with refused("config: "):
            study.read(at(way, name))


@pytest.mark.parametrize(
    "way", ["networks.dense.state_dict", "images.folder", "blocks.first_phase.initial"]
)
@pytest.mark.parametrize(
    "path", ["a\nb", "a\0b", "-rf", "--output=x", "\x1b[2J", "", " ", "\ud800"]
)
def test_paths_that_no_command_line_should_have_are_refused(way: str, path: str) -> None:
    with refused(f"config: {way}: "):
        study.read(at(way, path))


@pytest.mark.parametrize(
    ("way", "value", "words"),
    [
        ("search.starts", 10**12, ["search.starts", "less than or equal to"]),
        ("search.weights", [4, 20], ["search: ", " jobs, more than 2,000", "runs_per_job"]),
        ("search.rounds", 10**9, ["search: ", "jobs"]),
        ("search.rounds", 1000, ["search: ", "jobs"]),
        ("blocks.first_phase.runs_per_job", 10**8, ["less than or equal to 10000000"]),
        ("blocks.first_phase.most_parameters", 10**9, []),
        ("runs.seeds", 10**12, ["runs.seeds"]),
        ("runs.epochs", 16**6000, ["a number of thousands of digits"]),
        ("runs.learning_rates", [i + 1.0 for i in range(5000)], ["at most 1000 items"]),
        ("runs.learning_rates", wide(15), ["runs.learning_rates"]),
        ("runs.learning_rates", deep(5000), ["runs.learning_rates"]),
    ],
    ids=ascii_of,
)
def test_more_than_can_be_planned_is_refused(
    no_hang: Callable[[], None], way: str, value: object, words: list[str]
) -> None:
    no_hang()
    if words:
        with refused("config: ", *words):
            study.read(at(way, value))
    else:
        study.read(at(way, value))


def test_loaders_whose_files_would_have_one_name_are_refused() -> None:
    assert own.plain("a/b.py:f") == own.plain("a-b.py:f")
    whole = at("networks.one", {"data": "a/b.py:f", "architecture": "fc5"})
    study.read(whole)
    whole["networks"]["two"] = {"data": "a-b.py:f", "architecture": "fc5"}
    with refused("config: networks.two.data: 'a-b.py:f' is too like 'a/b.py:f'"):
        study.read(whole)


# --- Files of YAML -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("runs: {epochs: 1}\nsweep: {ratios: 2}\nruns: {seeds: 1}\n", ["line 3: 'runs' stands"]),
        ("runs:\n  epochs: 1\n  seeds: 2\n  epochs: 3\n", ["line 4: 'epochs' stands twice"]),
        ("a: [{b: 1, b: 2}]", ["line 1: 'b' stands twice"]),
        ("a: [", ["cannot be read as YAML"]),
        ("a: \x00", ["cannot be read as YAML"]),
        ("[" * 5000, ["cannot be read as YAML"]),
        ("{a: " * 5000, ["cannot be read as YAML"]),
    ],
    ids=ascii_of,
)
def test_files_with_two_meanings_or_none_are_refused(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with refused(str(path), *words):
        study.check_file(path)


def test_files_that_are_in_order_pass(tmp_path: Path, no_hang: Callable[[], None]) -> None:
    for path in (ROOT / "config.yaml", *ROOT.glob("studies/*.yaml")):
        study.check_file(path)
    path = tmp_path / "mine.yaml"
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
    )
    no_hang()
    for text in ("", "# nothing\n", "a: &x {b: 1}\nc: {<<: *x, b: 2}\n", "a: !!python/x 1", bomb):
        path.write_text(text)
        study.check_file(path)
