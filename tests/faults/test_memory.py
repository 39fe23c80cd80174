"""A GPU that runs out of memory, pretended on a CPU: less at a time, and at last one clear line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparselimit import cli, training
from sparselimit.curvature import products
from sparselimit.ensemble import batched
from sparselimit.ensemble import train as engine
from sparselimit.ensemble.checkpoint import Checkpoint, Stopped
from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.state import Event, State
from sparselimit.networks.mlp import MLP
from tests.unit.refusals import refused

NETWORK, EPOCHS = MLP((2, 3, 3, 1)), 3


def drawn(*shape: int) -> Tensor:
    return torch.tensor(np.random.default_rng(0).normal(size=shape), dtype=torch.float32)


def lacking(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has ...")


# --- The engine ----------------------------------------------------------------------------------


def trained(path: Path | None = None) -> tuple[engine.Trained, Tensor]:
    """Eleven members of two order seeds; and what an event has counted of each."""
    x = drawn(64, 2)
    seeds = [0] * 7 + [1] * 4
    members = Members.of(
        NETWORK, drawn(11, NETWORK.n_parameters), learning_rate=0.1, order_seed=seeds
    )
    counts = torch.zeros(11)

    def count(state: State, _step: int) -> None:
        counts[state.index] += 1

    found = engine.train(
        members,
        Points(x, (x[:, 0] > 0).float()),
        Plan.of(["cosine"], EPOCHS, 16),
        [Event([0, 3, 5, 9], count, (counts,))],
        backend="batched",
        checkpoint=path,
    )
    return found, counts


@pytest.fixture
def room_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Makes memory for so many members, which is noticed in the second epoch; tells chunk sizes."""
    advance = batched.advance

    def limit(most: int) -> list[int]:
        sizes: list[int] = []

        def limited(state: State, points: Points, batches: Tensor) -> None:
            sizes.append(len(state.index))
            if len(state.index) > most and not torch.equal(state.velocity, 0 * state.velocity):
                lacking()
            advance(state, points, batches)

        monkeypatch.setattr(batched, "advance", limited)
        return sizes

    return limit


@pytest.mark.parametrize("most", [1, 2, 3, 6])
def test_members_that_do_not_fit_are_trained_in_smaller_chunks(
    room_for: Callable[[int], list[int]], most: int
) -> None:
    whole, counts = trained()
    sizes = room_for(most)
    cut, again = trained()
    assert max(sizes) == 7
    assert max(sizes[-3 * EPOCHS :]) <= most
    for name, column in whole.columns().items():
        torch.testing.assert_close(cut.columns()[name], column, rtol=1e-4, atol=1e-5)
    # What the failed attempts had counted was taken back.
    assert again.tolist() == counts.tolist() == [4.0] * 11


def test_a_member_that_does_not_fit_alone_is_told(room_for: Callable[[int], list[int]]) -> None:
    room_for(0)
    with refused("(2, 3, 3, 1)", "a single one does not fit", "2 GiB", "--device cpu"):
        trained()


def test_a_cut_run_goes_on_from_its_checkpoint_to_the_same_numbers(
    room_for: Callable[[int], list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(3)
    whole, counts = trained()
    save, saves = Checkpoint.save, []

    def stopping(keeper: Checkpoint, *arguments: object) -> None:
        saves.append(1)
        keeper.asked_to_stop = len(saves) == 4
        save(keeper, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(Checkpoint, "save", stopping)
    with pytest.raises(Stopped):
        trained(tmp_path / "run")
    again, recounted = trained(tmp_path / "run")
    torch.testing.assert_close(again.parameters, whole.parameters, rtol=0, atol=0)
    assert recounted.tolist() == counts.tolist()
    # What was saved half-way through cannot be cut.
    (tmp_path / "run").unlink()
    saves.clear()
    with pytest.raises(Stopped):
        trained(tmp_path / "run")
    room_for(0)
    with refused("what the checkpoint holds does not fit"):
        trained(tmp_path / "run")


# --- Curvature and classifiers -------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_products_that_do_not_fit_are_made_of_less_at_a_time(
    operator: products.Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double().eval()
    x, y = drawn(20, 3).double(), torch.arange(20) % 2
    objective = products.Objective(module, cross_entropy, x, y)
    vectors = drawn(8, objective.dimension).double()
    whole = objective.product(operator, memory=1 << 30)(vectors)
    on_rows, batches = products._on_rows, products.Objective._batches
    tried: list[tuple[int, int]] = []
    fits = [2, 5]  # rows and samples at once

    def limited(product: products.Product, rows: Tensor, together: int) -> Tensor:
        samples = size[-1]
        tried.append((together, samples))
        if together > fits[0] or samples > fits[1]:
            lacking()
        return on_rows(product, rows, together)

    size = [20]

    def noted(self: products.Objective, samples: int | None = None) -> object:
        size.append(samples or self._batch_size)
        return batches(self, samples)

    monkeypatch.setattr(products, "_on_rows", limited)
    monkeypatch.setattr(products.Objective, "_batches", noted)
    product = objective.product(operator, memory=1 << 30)
    torch.testing.assert_close(product(vectors), whole, rtol=1e-12, atol=1e-14)
    assert tried[-1][0] <= 2
    assert tried[-1][1] == 5
    before = len(tried)
    product(vectors)  # what fits is known by now
    assert len(tried) == before + 4
    fits[:] = [0, 0]
    with refused("a product with 1 samples at a time does not fit", "--device cpu"):
        product(vectors)


def test_a_batch_that_was_asked_for_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Linear(3, 2).eval()
    objective = products.Objective(module, cross_entropy, drawn(20, 3), torch.arange(20) % 2, 10)
    monkeypatch.setattr(products, "_on_rows", lacking)
    with refused("a product with 10 samples at a time does not fit"):
        objective.product("hessian")(torch.ones(objective.dimension))


def test_a_training_batch_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module, sample = nn.Linear(3, 2), (drawn(20, 3), torch.arange(20) % 2)
    monkeypatch.setattr(nn.Linear, "forward", lacking)
    with refused("a batch of 10 does not fit", "2 GiB", "lower batch_size"):
        training.train(module, sample, sample, training.Recipe(epochs=1, batch_size=10))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("2 GiB\nmore"), MemoryError("9 TiB")])
def test_any_other_lack_of_memory_is_told_in_one_line(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With exit code 1: the input may be good, and the same on a larger machine will do."""

    def step(_: object) -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["step.py", "--output", str(tmp_path / "a.h5")])
    with pytest.raises(SystemExit) as end:
        cli.run(step, cli.Parser("test", computes=False))
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("step.py: out of memory (")
    assert str(error).split("\n")[0] in told
    assert told.count("\n") == 1
