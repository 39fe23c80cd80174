"""A run that is stopped goes on from its checkpoint to the same numbers; events may look on."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from sparselimit.ensemble import batched
from sparselimit.ensemble import train as engine
from sparselimit.ensemble.checkpoint import Stopped
from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.state import Event, State
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP, initial_parameters
from sparselimit.seeds import generator

NETWORK = MLP((2, 4, 3, 1))
EPOCHS, STEPS = 6, 5


def _points() -> Points:
    x = torch.tensor(generator("points").standard_normal((STEPS * 16 + 3, 2)), dtype=torch.float32)
    return Points(x, (x[:, 0] * x[:, 1] > 0).float())


def _members(n: int = 7) -> Members:
    drawn = [torch.tensor(initial_parameters(NETWORK, generator("init", i))) for i in range(n)]
    seeds = [i % 2 for i in range(n)]
    return Members.of(NETWORK, torch.stack(drawn).float(), learning_rate=0.1, order_seed=seeds)


class Trace:
    """Looks on: accuracy and loss of every member before each of some steps, float64 [E, n]."""

    def __init__(self, n_members: int, points: Points, steps: Sequence[int]) -> None:
        shape = n_members, len(steps)
        self.accuracy, self.loss = torch.full((2, *shape), torch.nan, dtype=torch.float64)
        self.parameters = torch.full((*shape, NETWORK.n_parameters), torch.nan)

        def act(state: State, step: int) -> None:
            place = state.index, list(steps).index(step)
            accuracy, loss = batched.evaluate(NETWORK, state.parameters, points)
            self.accuracy[place], self.loss[place] = accuracy.double(), loss.double()
            self.parameters[place] = state.parameters

        self.event = Event(steps, act, (self.accuracy, self.loss, self.parameters))


def _halve(state: State, _step: int) -> None:
    """An event with an effect that is not undone: it keeps the larger half of the weights."""
    weights = state.parameters[:, : NETWORK.n_weights].abs()
    kept = weights >= weights.median(dim=1, keepdim=True).values
    biases = state.mask[:, NETWORK.n_weights :]
    state.set_mask(state.mask & torch.cat([kept, torch.ones_like(biases)], dim=1))


def _train(
    members: Members, events: list[Event], path: Path | None, backend: str
) -> engine.Trained:
    plan = Plan.of(["cosine"], EPOCHS, batch_size=16)
    return engine.train(members, _points(), plan, events, backend=backend, checkpoint=path)


def _stop_at(step: int) -> Event:
    return Event([step], lambda *_: os.kill(os.getpid(), signal.SIGTERM))


@pytest.mark.parametrize("backend", ["batched", "fused"])
@pytest.mark.parametrize("first_visit", [True, False])
def test_a_stopped_run_goes_on_to_the_same_numbers(
    tmp_path: Path, backend: str, first_visit: bool
) -> None:
    """Stopped in the first or the second chunk (one chunk for each order seed)."""
    members, path = _members(), tmp_path / "run.checkpoint"
    whole_trace = Trace(len(members), _points(), [0, 12, EPOCHS * STEPS])
    halving = Event([17], _halve)
    # The event that stops is part of the run's identity: in the whole run it only passes by.
    whole = _train(
        members, [halving, whole_trace.event, Event([13], lambda *_: None)], None, backend
    )

    visits = []

    def stop(_state: State, _step: int) -> None:
        visits.append(1)
        if len(visits) == (1 if first_visit else 2):
            os.kill(os.getpid(), signal.SIGTERM)

    trace = Trace(len(members), _points(), [0, 12, EPOCHS * STEPS])
    events = [halving, trace.event, Event([13], stop)]
    with pytest.raises(Stopped) as stopped:
        _train(members, events, path, backend)
    assert stopped.value.code == 143
    assert path.exists()

    again = Trace(len(members), _points(), [0, 12, EPOCHS * STEPS])
    events = [halving, again.event, Event([13], lambda *_: None)]
    resumed = _train(members, events, path, backend)
    for name, column in whole.columns().items():
        torch.testing.assert_close(resumed.columns()[name], column, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(again.accuracy, whole_trace.accuracy, rtol=0, atol=0)


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    """Until the caller has its results on disk, the checkpoint gives them without training."""
    members, path = _members(), tmp_path / "run.checkpoint"
    acted = []
    counting = Event([3], lambda *_: acted.append(1))
    trace = Trace(len(members), _points(), [0, 12])
    first = _train(members, [counting, trace.event], path, "batched")
    assert path.exists()
    acted.clear()
    once_more = Trace(len(members), _points(), [0, 12])
    again = _train(members, [counting, once_more.event], path, "batched")
    assert not acted
    for name, column in first.columns().items():
        torch.testing.assert_close(again.columns()[name], column, rtol=0, atol=0)
    torch.testing.assert_close(once_more.loss, trace.loss, rtol=0, atol=0)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    with pytest.raises(Stopped):
        _train(_members(), [_stop_at(3)], path, "batched")
    with pytest.raises(InputError, match="another run; delete it") as refused:
        _train(_members(6), [_stop_at(3)], path, "batched")
    assert str(path) in str(refused.value)
    assert path.exists()


def test_a_checkpoint_of_other_pruning_targets_is_refused(tmp_path: Path) -> None:
    """Members and steps are the same: only what the caller says of itself tells them apart."""
    members, path = _members(), tmp_path / "run.checkpoint"
    plan = Plan.of(["cosine"], EPOCHS, batch_size=16)
    with pytest.raises(Stopped):
        engine.train(
            members, _points(), plan, [_stop_at(3)], checkpoint=path, identity="targets [10]"
        )
    passing = Event([3], lambda *_: None)
    with pytest.raises(InputError, match="another run; delete it"):
        engine.train(members, _points(), plan, [passing], checkpoint=path, identity="targets [12]")
    engine.train(members, _points(), plan, [passing], checkpoint=path, identity="targets [10]")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 truncated"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.checkpoint"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable checkpoint"):
        _train(_members(), [], path, "batched")


@pytest.fixture
def foreground() -> Iterator[None]:
    """Ctrl-C means what it does at a terminal, even where these tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("foreground")
def test_signals_have_their_old_meaning_afterwards(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    _train(_members(), [], tmp_path / "run.checkpoint", "batched")
    interrupt = Event([3], lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped):
        _train(_members(), [interrupt], tmp_path / "other.checkpoint", "batched")
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert after == before


@pytest.mark.usefixtures("foreground")
def test_ctrl_c_saves_the_state_and_a_second_one_ends_at_once(tmp_path: Path) -> None:
    path, seen = tmp_path / "run.checkpoint", []

    def interrupt(_state: State, step: int) -> None:
        seen.append(step)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        _train(_members(), [Event([3], interrupt)], path, "batched")
    assert path.exists()
    with pytest.raises(KeyboardInterrupt):
        _train(_members(), [Event([1, 3], interrupt)], tmp_path / "other.checkpoint", "batched")
    assert seen == [3, 1, 3]


def test_an_ignored_ctrl_c_stays_ignored(tmp_path: Path) -> None:
    """As for a job in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupt = Event([3], lambda *_: os.kill(os.getpid(), signal.SIGINT))
        _train(_members(), [interrupt], tmp_path / "run.checkpoint", "batched")
    finally:
        signal.signal(signal.SIGINT, before)


def test_events_see_what_training_does() -> None:
    members, points = _members(), _points()
    trace = Trace(len(members), points, [0, 7, EPOCHS * STEPS])
    trained = _train(members, [trace.event], None, "batched")
    torch.testing.assert_close(trace.accuracy[:, -1], trained.accuracy)
    torch.testing.assert_close(trace.loss[:, -1], trained.loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(trace.parameters[:, 0], members.parameters)
    torch.testing.assert_close(trace.parameters[:, -1], trained.parameters)
    assert not torch.equal(trace.parameters[:, 1], members.parameters)


def test_events_that_look_on_do_not_disturb() -> None:
    members, points = _members(), _points()
    trace = Trace(len(members), points, range(0, 30, 4))
    alone = _train(members, [], None, "fused")
    observed = _train(members, [trace.event], None, "fused")
    torch.testing.assert_close(observed.parameters, alone.parameters, rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["batched", "fused"])
def test_many_members_are_cut_into_chunks(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small budget gives many chunks, and the fused kernel the same bits."""
    members = _members(40)
    whole = _train(members, [], None, backend)
    monkeypatch.setattr(engine, "CHUNK_BYTES", {"batched": 1 << 16, "fused": 1 << 12})
    cut = _train(members, [], None, backend)
    tolerance = {"batched": 1e-4, "fused": 0.0}[backend]
    torch.testing.assert_close(cut.parameters, whole.parameters, rtol=tolerance, atol=tolerance)
