"""Racing: who runs, how far, and that what is left of it is the full training."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
import torch

from sparselimit.datasets import cubist_spiral
from sparselimit.ensemble import backends, batched
from sparselimit.ensemble.members import Members, Points
from sparselimit.ensemble.train import batch_order, train
from sparselimit.networks.forward import logits, losses
from sparselimit.networks.mlp import positions
from sparselimit.search.exhaustive import Networks
from sparselimit.search.racing import (
    RUN_COLUMNS,
    Outcome,
    Race,
    _best,
    _initial_parameters,
    race,
)
from sparselimit.sparsity.masks import with_biases
from sparselimit.statistics import wilson
from tests.unit.refusals import refused


def spiral(every: int = 50) -> Points:
    data = cubist_spiral()
    return Points(torch.tensor(data.x[::every]), torch.tensor(data.y[::every]).float())


def halves(n: int = 64) -> Points:
    """An easy task: which side of a line. One path from the right input solves it."""
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return Points(x, (x[:, 1] > 0).float())


SHORT = Race(range(12), 0.1, epochs=6, batch_size=64, rungs=(1, 3), keep=(0.5, 0.2), calibrate=5)


def values(outcome: Outcome, chosen: torch.Tensor | slice) -> list[torch.Tensor]:
    """What became of some of the runs."""
    return [getattr(outcome, name)[chosen] for name in RUN_COLUMNS if name != "calibration"]


# --- What is asked -------------------------------------------------------------------------------


def test_legs_end_at_the_rungs() -> None:
    assert list(Race(range(1)).legs()) == [(0, 4, 0.35), (4, 16, 0.1), (16, 50, 1.0)]
    assert list(Race(range(1), epochs=4).legs()) == [(0, 4, 1.0)]
    assert list(Race(range(1), protocol="published").legs()) == [(0, 50, 1.0)]
    parts = [Race(range(1)).plan(first, end).factors for first, end, _ in Race(range(1)).legs()]
    whole = Race(range(1), rungs=(), keep=()).plan(0, 50)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole.factors)


def test_races_that_cannot_be_are_refused() -> None:
    with refused("2 rungs", "1 shares"):
        Race(range(1), rungs=(1, 2), keep=(0.5,))
    for rungs in ((0, 4), (4, 4), (8, 2)):
        with refused("rungs", "ascending"):
            Race(range(1), rungs=rungs)
    for keep in ((1.1, 0.5), (0.2, 0.5), (0.5, 0.0), (float("nan"), 0.1)):
        with refused("keep", "descending"):
            Race(range(1), keep=keep)


# --- The training itself -------------------------------------------------------------------------


def test_a_race_without_rungs_is_training() -> None:
    networks, points = Networks.shard(7, 0, 3), spiral()
    how = replace(SHORT, rungs=(), keep=(), protocol="published")
    outcome = race(networks, how, points, backend="batched")
    mask = with_biases(networks.frame, torch.tensor(networks.mask)).repeat_interleave(12, dim=0)
    members = Members.of(
        networks.frame, _initial_parameters(networks, how), mask, learning_rate=0.1
    )
    trained = train(members, points, how.plan(0, 6), backend="batched")
    assert torch.equal(outcome.accuracy, trained.accuracy)
    assert torch.equal(outcome.loss, trained.loss)
    assert torch.equal(outcome.parameters, trained.parameters[outcome.best])
    assert (outcome.steps == 6 * (len(points.x) // 64)).all()
    assert (outcome.dropped == -1).all()
    for i, run in enumerate(outcome.best.tolist()):
        own = slice(12 * i, 12 * i + 12)
        top = trained.accuracy[own].max()
        assert trained.accuracy[run] == top
        assert trained.loss[run] == trained.loss[own][trained.accuracy[own] == top].min()


def losses_by_torch(
    networks: Networks, how: Race, points: Points, end: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and parameters of all runs after so many epochs, none dropped; float64.

    By torch's optimiser, which knows nothing of legs, on the batches that legs see.
    """
    frame = networks.frame
    mask = with_biases(frame, torch.tensor(networks.mask))
    mask = mask.repeat_interleave(len(how.starts), dim=0)
    values = torch.where(mask, _initial_parameters(networks, how), 0.0).double()
    values.requires_grad_()
    optimiser = torch.optim.SGD([values], how.learning_rate, momentum=0.9, weight_decay=5e-4)
    factors = how.plan(0, how.epochs).factors[0]
    x, y = points.x.double(), points.y.double()
    for first, last, _ in how.legs():
        for epoch in range(first, min(last, end)):
            optimiser.param_groups[0]["lr"] = how.learning_rate * float(factors[epoch])
            for batch in batch_order(len(x), how.batch_size, seed=first, epoch=epoch - first):
                optimiser.zero_grad()
                losses(logits(frame, values, x[batch]), y[batch]).sum().backward()
                assert values.grad is not None
                values.grad[~mask] = 0
                optimiser.step()
    return losses(logits(frame, values.detach(), x), y), values.detach()


def test_legs_are_one_training() -> None:
    networks, points = Networks.shard(8, 0, 8), spiral(200)
    outcome = race(networks, SHORT, points, backend="batched")
    loss, parameters = losses_by_torch(networks, SHORT, points, 6)
    complete = (outcome.steps == outcome.steps.max()).nonzero()[:, 0]
    assert len(complete) > len(networks)
    torch.testing.assert_close(outcome.loss[complete], loss[complete], rtol=1e-4, atol=1e-5)
    sound = torch.isin(outcome.best, complete)
    assert sound.any()
    torch.testing.assert_close(
        outcome.parameters[sound],
        parameters[outcome.best[sound]].float(),
        rtol=1e-3,
        atol=1e-4,
    )


# --- Who is dropped ------------------------------------------------------------------------------


def test_the_best_starts_of_each_network_go_on() -> None:
    networks, points = Networks.shard(9, 1, 5), spiral()
    outcome = race(networks, SHORT, points, backend="batched")
    n, starts = len(networks), 12
    dropped = outcome.dropped.view(n, starts)
    per_epoch = len(points.x) // 64
    alive = dropped != 0
    for rung, (end, share) in enumerate([(1, 0.5), (3, 0.2)], start=1):
        losses_then = losses_by_torch(networks, SHORT, points, end)[0].view(n, starts)
        for i in range(n):
            order = sorted(range(starts), key=lambda s: (not alive[i, s], losses_then[i, s]))
            stay = [s for s in order[: ceil(share * starts)] if alive[i, s]]
            for s in range(starts):
                if alive[i, s]:
                    assert (dropped[i, s] == rung) == (s not in stay)
            alive[i] = torch.tensor([s in stay for s in range(starts)])
    assert torch.equal(alive, dropped == -1)
    # Of the others, those that calibrate run to the end and the rest to their rung.
    calibration = outcome.calibration.view(n, starts)
    assert calibration.tolist() == [[s % 5 == 0 for s in range(starts)]] * n
    ends = torch.tensor([6, 0, 1, 3])[(dropped + 1)]
    ends[calibration & (dropped > 0)] = 6
    assert torch.equal(outcome.steps.view(n, starts), ends * per_epoch)


def test_who_stays_is_what_it_would_have_been() -> None:
    """Those that run to the end do so to the same numbers whoever else runs."""
    networks, points = Networks.shard(9, 0, 6), spiral()
    raced = race(networks, SHORT, points, backend="batched")
    in_full = race(networks, replace(SHORT, calibrate=1), points, backend="batched")
    assert torch.equal(raced.dropped, in_full.dropped)
    complete = raced.steps == raced.steps.max()
    assert 0 < complete.sum() < len(complete)
    assert torch.equal(in_full.steps > 0, in_full.dropped != 0)
    for ours, theirs in zip(values(raced, complete), values(in_full, complete), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_published_trains_every_start() -> None:
    networks, points = Networks.shard(6, 0, 1), spiral()
    how = replace(SHORT, protocol="published", epochs=2)
    outcome = race(networks, how, points, backend="batched")
    assert (outcome.dropped == -1).all()
    assert (outcome.steps == outcome.steps.max()).all()


def test_what_is_dropped_as_dead_would_have_died() -> None:
    networks, points = Networks.shard(9, 0, 3), spiral()
    how = replace(SHORT, rungs=(), keep=())
    outcome = race(networks, how, points, backend="batched")
    dead = outcome.dropped == 0
    assert 0.2 < dead.double().mean() < 0.8
    assert (outcome.steps[dead] == 0).all()
    _, parameters = losses_by_torch(networks, how, points, 6)
    found = logits(networks.frame, parameters, points.x.double())
    assert (found == found[:, :1]).all(dim=1)[dead].all()
    assert outcome.accuracy[dead].unique().tolist() == [0.5]


def test_divergence_is_noted_and_never_best() -> None:
    networks, points = Networks.shard(6, 0, 1), spiral()
    how = replace(SHORT, learning_rate=100.0, keep=(1.0, 1.0))
    outcome = race(networks, how, points, backend="batched")
    lost = outcome.diverged_at >= 0
    assert 0 < lost.sum() < len(lost)
    per_epoch = len(points.x) // 64
    assert (outcome.diverged_at[lost] % per_epoch == 0).all()
    assert (outcome.diverged_at[lost] <= outcome.steps[lost]).all()
    for i, best in enumerate(outcome.best.tolist()):
        assert not lost[best] or lost[12 * i : 12 * i + 12].all()


def test_what_was_given_up_is_not_best() -> None:
    """The best run is one whose end is known, so that training it again comes to the same."""
    networks, points = Networks.shard(8, 0, 6), spiral(25)
    how = Race(range(40), epochs=8, rungs=(2, 4), keep=(0.35, 0.1), calibrate=20)
    outcome = race(networks, how, points, backend="batched")
    unfinished = (outcome.dropped > 0) & ~outcome.calibration
    accuracy = outcome.accuracy.view(-1, 40)
    ended = accuracy.masked_fill(unfinished.view(-1, 40), 0).max(dim=1).values
    assert (accuracy.max(dim=1).values > ended).any()
    assert not unfinished[outcome.best].any()
    assert torch.equal(outcome.accuracy[outcome.best], ended)
    for i, best in enumerate(outcome.best.tolist()):
        start = best % 40
        alone = replace(how, starts=range(start, start + 1))
        again = race(networks.take(np.array([i])), alone, points, backend="batched")
        assert again.accuracy.item() == pytest.approx(ended[i].item(), abs=2 / len(points.x))


def test_what_was_given_up_is_best_where_all_that_ended_diverged() -> None:
    runs = Outcome.empty(2, 3, 1)
    runs.dropped[:] = torch.tensor([1, -1, 2, 1, -1, 2])
    runs.calibration[:] = torch.tensor([False, False, True] * 2)
    runs.accuracy[:] = torch.tensor([0.9, 0.7, 0.6, 0.6, 0.9, 0.8])
    runs.loss[:] = 1.0
    runs.diverged_at[[4, 5]] = 10
    assert _best(runs, 2).tolist() == [1, 3]


# --- Identity ------------------------------------------------------------------------------------


@pytest.mark.skipif(
    backends.FUSED["cpu"].available() is not None, reason="no fused kernel on this machine"
)
def test_a_start_depends_neither_on_shard_nor_frame() -> None:
    points = spiral()
    whole = Networks.shard(8, 0, 1)
    part = whole.take(np.array([3, 11]))
    assert part.frame != whole.frame
    one = race(whole, SHORT, points, backend="fused")
    other = race(part, SHORT, points, backend="fused")
    runs = (torch.tensor([[3], [11]]) * 12 + torch.arange(12)).flatten()
    for ours, theirs in zip(values(one, runs), values(other, slice(None)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    where = torch.tensor(positions(part.frame, whole.frame))
    assert torch.equal(one.parameters[[3, 11]][:, where], other.parameters)


def test_more_starts_only_add() -> None:
    networks, points = Networks.shard(8, 0, 8), spiral()
    how = replace(SHORT, rungs=(), keep=())
    whole = race(networks, how, points, backend="batched")
    later = race(networks, replace(how, starts=range(5, 12)), points, backend="batched")
    runs = (torch.arange(len(networks))[:, None] * 12 + torch.arange(5, 12)).flatten()
    for ours, theirs in zip(values(whole, runs), values(later, slice(None)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7, equal_nan=True)


# --- What it finds -------------------------------------------------------------------------------


def test_an_easy_task_is_solved_by_the_sparsest_network() -> None:
    """There are two of four weights, a path from either input: the right one solves it."""
    networks, points = Networks.shard(4, 0, 1), halves()
    how = Race(range(12), 0.1, epochs=40, batch_size=8, rungs=(5,), keep=(0.25,))
    outcome = race(networks, how, points, backend="batched")
    assert networks.mask[:, :2].tolist() == [[False, True], [True, False]]
    best = outcome.accuracy[outcome.best]
    assert best[0] > 0.95
    assert best[1] < 0.7
    accuracy, loss = batched.evaluate(networks.frame, outcome.parameters, points)
    torch.testing.assert_close(accuracy, best)
    torch.testing.assert_close(loss, outcome.loss[outcome.best], rtol=1e-4, atol=0)


def test_racing_loses_no_more_than_calibration_says() -> None:
    """The bound that one half of the starts gives holds for the other half."""
    networks, points = Networks.shard(7, 0, 1), halves()
    how = replace(SHORT, epochs=30, batch_size=8, calibrate=1)
    found = []
    for starts in (range(60), range(60, 120)):
        outcome = race(networks, replace(how, starts=starts), points, backend="batched")
        reach = outcome.accuracy >= 0.9
        found.append((int((reach & (outcome.dropped > 0)).sum()), int(reach.sum())))
    (lost, reached), (lost_again, reached_again) = found
    _, high = wilson(lost, reached)
    assert 0.1 < lost / reached < high < 0.5
    assert lost_again / reached_again <= high
