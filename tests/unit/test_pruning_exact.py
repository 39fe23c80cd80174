"""Pruning methods by `protocol: exact`: every target is met, for every network, and why."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import Event, State
from sparselimit.ensemble.train import batch_order
from sparselimit.networks.initial import Fixed, Initial, drawn
from sparselimit.networks.mlp import MLP
from sparselimit.pruning import imp, registry, snip
from sparselimit.pruning.problem import Problem, magnitudes
from sparselimit.pruning.published import keep_above, keep_at_least, rounded_count
from sparselimit.pruning.runs import possible_targets, prune_and_train, random_like
from sparselimit.sparsity.masks import with_biases
from sparselimit.spiral import Grid
from tests.unit.refusals import refused

TARGETS = range(15, 66)


def problem(
    network: MLP, targets: Sequence[int], steps: int = 100, protocol: str = "exact"
) -> Problem:
    """One network for each target, the seeds 0, 1, 2 in turn."""
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    seeds = [i % 3 for i in range(len(targets))]
    return Problem(
        network,
        drawn(network, seeds),
        torch.tensor(targets),
        torch.tensor(seeds),
        torch.full((len(seeds),), 0.1, dtype=torch.float64),
        Points(x, (x.norm(dim=1) > 1).float()),
        batch_size=16,
        steps=steps,
        protocol=protocol,
    )


def state_of(problem: Problem) -> State:
    """The ensemble before the first step."""
    n = len(problem.target)
    return State(
        problem.network,
        index=torch.arange(n),
        parameters=problem.parameters.clone(),
        velocity=torch.zeros_like(problem.parameters),
        mask=torch.ones_like(problem.parameters, dtype=torch.bool),
        rate=torch.ones(n),
        momentum=torch.ones(n),
        weight_decay=torch.ones(n),
    )


def masks_after(event: Event, state: State) -> list[Tensor]:
    """The weight masks after each pruning, with nothing trained in between."""
    found = []
    for step in event.steps:
        event.act(state, step)
        found.append(state.mask[:, : state.network.n_weights])
    return found


# --- Every target is met -------------------------------------------------------------------------


@pytest.mark.parametrize("method", registry.known())
@pytest.mark.parametrize("width", [3, 4, 5, 8, 16])
def test_every_target_is_met(method: str, width: int) -> None:
    """Trained for 120 steps, all targets that a width allows in one ensemble."""
    network = MLP.spiral(width)
    targets = [k for k in TARGETS if k < network.n_weights]
    data = problem(network, [1]).points
    grid = Grid(targets, [0.1], ["cosine"], seeds=1, epochs=30, batch_size=16)
    choice = registry.Choice.of(method, {})
    (found,) = prune_and_train(choice, "net", network, drawn, grid, data)
    runs, mask, parameters = found.table, found.mask, found.parameters
    assert runs.target.tolist() == runs.weights.tolist() == targets
    assert mask.sum(dim=1).tolist() == targets
    assert (parameters[~with_biases(network, mask)] == 0).all()
    assert (runs.effective_weights <= runs.weights).all()
    assert ((runs.paths > 0) == (runs.effective_weights > 0)).all()
    assert (runs.steps == 120 * int(choice.options.get("trainings", 1))).all()


@pytest.mark.parametrize("method", registry.known())
@pytest.mark.parametrize("width", [6, 32, 64, 128, 256])
def test_every_width_meets_targets(method: str, width: int) -> None:
    """The other widths of the study, with the extreme targets and one between, in a few steps."""
    network = MLP.spiral(width)
    targets = [15, 40, 65]
    data = problem(network, [1]).points
    grid = Grid(targets, [0.1], ["cosine"], seeds=1, epochs=2, batch_size=16)
    choice = registry.Choice.of(method, {})
    (found,) = prune_and_train(choice, "net", network, drawn, grid, data)
    assert found.table.weights.tolist() == targets


def test_effective_counts_come_close_from_below() -> None:
    """All that is kept is on a path, never more than asked for, and nearly as much."""
    network, targets = MLP.spiral(8), list(TARGETS)
    data = problem(network, [1]).points
    grid = Grid(targets, [0.1], ["cosine"], seeds=1, epochs=4, batch_size=16)
    for name in ("imp", "snip"):
        choice = registry.Choice.of(f"{name}_effective", {"method": name, "count": "effective"})
        (found,) = prune_and_train(choice, "net", network, drawn, grid, data)
        runs = found.table
        assert (runs.weights == runs.effective_weights).all()
        assert (runs.weights <= runs.target).all()
        assert (runs.target - runs.weights).median() <= 2
        assert (runs.paths > 0).all()


def test_the_control_has_the_same_counts_in_every_layer() -> None:
    """Other positions, the same initial values, the same training; and alone, the same masks."""
    network = MLP.spiral(6)
    data = problem(network, [1]).points
    grid = Grid([15, 30], [0.1], ["cosine"], seeds=2, epochs=1, batch_size=16)
    choice = registry.Choice.of("snip", {})
    pruned, control = prune_and_train(choice, "net", network, drawn, grid, data, control=True)
    assert control.table.method.unique().tolist() == ["random_snip"]
    settings = ["target", "learning_rate", "schedule", "seed", "steps", "weights"]
    pd.testing.assert_frame_equal(control.table[settings], pruned.table[settings])
    for layer in network.weight_slices:
        counts = [runs.mask[:, layer].sum(dim=1).tolist() for runs in (pruned, control)]
        assert counts[0] == counts[1]
    assert (pruned.mask != control.mask).any(dim=1).all()
    again = random_like(network, pruned.mask[2:], pruned.table.seed.tolist()[2:])
    assert torch.equal(again, control.mask[2:])


@pytest.mark.parametrize("method", ["snip", "grasp"])
def test_a_given_network_is_not_drawn_anew(method: str) -> None:
    """By the published protocol; where weights are drawn anew, the control starts from the same."""
    network = MLP.spiral(6)
    own = drawn(network, [0, 1])
    starts: list[Initial] = [drawn, Fixed(network, own[0].double().numpy())]
    for initial in starts:
        found = prune_and_train(
            registry.Choice.of(method, {}),
            "net",
            network,
            initial,
            # Too low a rate for any parameter to move.
            Grid([50], [1e-30], ["constant"], seeds=2, epochs=1, batch_size=16),
            problem(network, [1]).points,
            protocol="published",
            control=True,
        )
        both = found[0].mask & found[1].mask
        assert both.sum() > 20
        pruned, control = (runs.parameters[:, : network.n_weights][both] for runs in found)
        assert torch.equal(pruned, control)
        common = initial(network, [0, 1])[:, : network.n_weights][both]
        assert (pruned == common).all() if initial is not drawn else (pruned != common).all()


def test_targets_that_cannot_be_met_are_refused() -> None:
    network = MLP.spiral(3)
    data = problem(network, [1]).points
    for target in (0, 28):
        grid = Grid([10, target], [0.1], ["cosine"], seeds=1, epochs=1, batch_size=16)
        with refused(f"target {target}", "27 weights", "from 1 to 27"):
            prune_and_train(registry.Choice.of("imp", {}), "w3", network, drawn, grid, data)


def test_targets_above_a_networks_own_count_can_be_left_out() -> None:
    network = MLP.spiral(3)
    assert possible_targets([10, 27, 28], network, leave_out=True) == [10, 27]
    with refused("target 0", "from 1 to 27"):
        possible_targets([0, 10, 40], network, leave_out=True)
    with refused("target 40", "from 1 to 27"):
        possible_targets([40, 50], network, leave_out=True)


def test_all_methods_start_alike() -> None:
    """From values that shape and seed decide, whatever the target; another seed, other values."""
    network = MLP.spiral(4)
    pruned = problem(network, [20, 30, 40, 25])
    starts = [registry.apply(method, pruned, {})[0] for method in registry.known()]
    for start in starts:
        assert torch.equal(start, drawn(network, [0, 1, 2, 0]))
    assert torch.equal(starts[0][0], starts[0][3])
    assert not torch.isclose(starts[0][0], starts[0][1]).any()
    assert (starts[0].abs() <= torch.tensor(1 / np.sqrt(network.fan_in))).all()


# --- IMP -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    steps=st.integers(2, 400),
    prunings=st.integers(2, 250),
    targets=st.lists(st.integers(1, 65), min_size=1, max_size=4),
)
def test_imp_ends_at_its_target_whatever_its_schedule(
    steps: int, prunings: int, targets: list[int]
) -> None:
    """Before the last step, through nested masks, along the cubic."""
    pruned = problem(MLP.spiral(5), targets, steps)
    (event,) = imp.events(pruned, prunings=prunings)
    assert min(event.steps) > 0
    assert max(event.steps) < steps
    masks = masks_after(event, state_of(pruned))
    assert len(masks) == min(prunings - 1, steps - 1)
    dense, n = pruned.dense, pruned.network.n_weights
    for earlier, later in pairwise([dense, *masks]):
        assert (later <= earlier).all()
    for j, mask in enumerate(masks, start=1):
        cubic = [t + (n - t) * (1 - j / len(masks)) ** 3 for t in targets]
        assert abs(mask.sum(dim=1) - torch.tensor(cubic)).max() <= 0.5 + 1e-9
    assert masks[-1].sum(dim=1).tolist() == targets


def test_imp_removes_the_smallest_and_momentum_with_them() -> None:
    pruned = problem(MLP((2, 3, 1)), [4], steps=2)
    state = state_of(pruned)
    values = torch.tensor([[3.0, -9.0, 0.5, 4.0, -0.1, 8.0, 1.0, -7.0, 2.0]])
    state.parameters[:, :9] = values
    state.velocity[:] = 1.0
    (event,) = imp.events(pruned, prunings=2)
    (mask,) = masks_after(event, state)
    assert mask.tolist() == [[False, True, False, True, False, True, False, True, False]]
    assert torch.equal(state.parameters[:, :9], torch.where(mask, values, 0.0))
    #                                 bias of hidden neurons: only the second is read
    assert state.velocity.tolist() == [[0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1]]


def test_lost_values_rank_first() -> None:
    """Infinite ones as NaN, and both before the largest number there is."""
    largest = torch.finfo(torch.float32).max
    values = torch.tensor([torch.nan, torch.inf, -torch.inf, -largest, 1.0])
    assert magnitudes(values).tolist() == [torch.inf, torch.inf, torch.inf, largest, 1.0]


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_imp_counts_exactly_where_magnitudes_tie(value: float) -> None:
    """All weights zero, or lost: kept ones stay kept, and of equals those of lowest index."""
    pruned = problem(MLP.spiral(4), [15, 20], steps=50)
    state = state_of(pruned)
    state.parameters[:] = value
    (event,) = imp.events(pruned)
    masks = masks_after(event, state)
    assert masks[-1].sum(dim=1).tolist() == [15, 20]
    assert all((later <= earlier).all() for earlier, later in pairwise(masks))
    if value == 0:
        assert masks[-1][0].tolist() == [True] * 15 + [False] * 29


def test_imp_does_not_exchange_kept_weights_that_became_zero() -> None:
    pruned = problem(MLP.spiral(4), [15, 20], steps=50)
    state = state_of(pruned)
    (event,) = imp.events(pruned, prunings=4)
    first, *others = event.steps
    event.act(state, first)
    kept = state.mask[:, : pruned.network.n_weights]
    assert not kept[:, :15].all()
    state.parameters[:] = 0
    (*_, last) = masks_after(Event(others, event.act), state)
    assert (last <= kept).all()
    assert last.sum(dim=1).tolist() == [15, 20]


def test_imp_needs_two_prunings_and_two_steps() -> None:
    with refused("imp", "1 prunings", "at least 2"):
        imp.events(problem(MLP.spiral(3), [10], steps=50), prunings=1)
    with refused("imp", "in 1 steps"):
        imp.events(problem(MLP.spiral(3), [10], steps=1))


@pytest.mark.parametrize("target", [15, 33])
def test_imp_as_published_ends_two_below_its_target(target: int) -> None:
    """201 prunings of 19,500 steps; at the 199th one is lost to the strict threshold, then two."""
    pruned = problem(MLP.spiral(16), [target], 19_500, "published")
    (event,) = imp.events(pruned)
    counts = [int(mask.sum()) for mask in masks_after(event, state_of(pruned))]
    assert len(counts) == 201
    assert counts[198:] == [target - 1, target - 2, target - 2]


# --- SNIP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 3])
def test_snip_scores_are_those_of_autograd(batches: int) -> None:
    pruned = problem(MLP.spiral(4), [15, 20, 30, 40])
    scores = snip.saliency(pruned, batches=batches)
    network = pruned.network
    for member, seed, found in zip(
        pruned.parameters.double(), pruned.seed.tolist(), scores, strict=True
    ):
        member.requires_grad_()
        signal = pruned.points.x[pruned.batches(seed, batches).flatten()].double()
        y = pruned.points.y[pruned.batches(seed, batches).flatten()].double()
        assert len(y) == 16 * batches
        for weight, bias in zip(network.weights(member), network.biases(member), strict=True):
            logits = signal @ weight.T + bias
            signal = torch.relu(logits)
        (slope,) = torch.autograd.grad(binary_cross_entropy_with_logits(logits[:, 0], y), member)
        expected = (slope * member).abs()[: network.n_weights].float()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_batches_before_training_are_those_of_no_epoch() -> None:
    """Of the member's own order, and disjoint."""
    pruned = problem(MLP.spiral(3), [10])
    drawn = {seed: pruned.batches(seed, 3) for seed in (0, 1)}
    for seed, batches in drawn.items():
        assert batches.shape == (3, 16)
        assert len(batches.unique()) == 48
        for epoch in range(3):
            assert batches.tolist() != batch_order(64, 16, seed, epoch)[:3].tolist()
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(pruned.batches(0, 1), drawn[0][:1])


def test_snip_keeps_the_most_salient() -> None:
    pruned = problem(MLP.spiral(4), [15, 20, 30, 40])
    scores, mask = snip.saliency(pruned), snip.start_mask(pruned)
    for row, kept, target in zip(scores, mask, pruned.target.tolist(), strict=True):
        assert int(kept.sum()) == target
        assert row[kept].min() >= row[~kept].max()


def test_snip_counts_exactly_where_scores_vanish() -> None:
    """The exact protocol keeps its target. The published one keeps everything where fewer weights
    have a score, as with two dead neurons in the last hidden layer, and nothing where none has."""
    network = MLP.spiral(3)
    for dead, as_published in ((2, 27), (3, 0)):
        for protocol, count in (("exact", 20), ("published", as_published)):
            pruned = problem(network, [20], protocol=protocol)
            pruned.parameters[:] = 0.1
            network.biases(pruned.parameters)[2][:, :dead] = -100
            assert int((snip.saliency(pruned) > 0).sum()) < 20
            assert int(snip.start_mask(pruned).sum()) == count


def test_snip_as_published_draws_weights_anew() -> None:
    """By Xavier, from the seed alone; biases stay."""
    pruned = problem(MLP.spiral(16), [30, 30, 30, 60], protocol="published")
    n = pruned.network.n_weights
    start = snip.start_parameters(pruned)
    assert torch.equal(start[:, n:], pruned.parameters[:, n:])
    assert torch.equal(start[0], start[3])
    assert not torch.isclose(start[0, :n], pruned.parameters[0, :n]).any()
    assert not torch.isclose(start[0, :n], start[1, :n]).any()
    hidden = torch.stack(pruned.network.weights(start)[1:3])[:, :3]
    assert hidden.std().item() == pytest.approx(0.25, rel=0.05)
    exact = problem(MLP.spiral(16), [30])
    assert snip.start_parameters(exact) is exact.parameters


# --- Published counting --------------------------------------------------------------------------


def test_published_thresholds_keep_or_drop_ties() -> None:
    scores = torch.tensor([[5.0, 3.0, 3.0, 3.0, 1.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    k = torch.tensor([2, 2])
    assert keep_at_least(scores, k).sum(dim=1).tolist() == [4, 2]
    assert keep_above(scores, k).sum(dim=1).tolist() == [1, 1]
    assert keep_above(scores, torch.tensor([5, 7])).all()
    assert not keep_at_least(scores * torch.nan, k).any()


@settings(deadline=None)
@given(n=st.integers(1, 3000), data=st.data())
def test_published_counts_are_the_target_or_one_less(n: int, data: st.DataObject) -> None:
    target = data.draw(st.integers(1, n))
    low, all_of_them = rounded_count(n, torch.tensor([target, n])).tolist()
    assert low == int(n * (target / n))
    assert target - low in (0, 1)
    assert all_of_them == n
