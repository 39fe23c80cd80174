"""RigL and lottery tickets: published vectors, exact counts, and what an update does to a state."""

import os
import signal
from collections.abc import Sequence
from itertools import pairwise
from math import cos, pi
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sparselimit.ensemble import train as engine
from sparselimit.ensemble.checkpoint import Stopped
from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.state import Event, State
from sparselimit.networks.mlp import MLP
from sparselimit.plugins import Value
from sparselimit.pruning import imp_lth, registry, rigl
from sparselimit.pruning.problem import Problem
from sparselimit.sparsity.connectivity import effective_mask
from sparselimit.sparsity.layerwise import erdos_renyi_counts, erdos_renyi_densities
from sparselimit.sparsity.masks import with_biases
from tests.unit import reference
from tests.unit.refusals import refused

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(lambda h: MLP((2, *h, 1)))


def problem(
    network: MLP,
    targets: Sequence[int],
    *,
    steps: int = 1000,
    protocol: str = "exact",
    count: str = "weights",
    parameters: Tensor | None = None,
) -> Problem:
    """One network for each target, the seeds 0, 1, 2 in turn."""
    rng = torch.Generator().manual_seed(0)
    seeds = [i % 3 for i in range(len(targets))]
    drawn = torch.empty(3, network.n_parameters).uniform_(-0.8, 0.8, generator=rng)
    x = torch.randn(16 * 5 + 3, 2, generator=rng)
    return Problem(
        network=network,
        parameters=drawn[seeds] if parameters is None else parameters,
        target=torch.tensor(targets),
        seed=torch.tensor(seeds),
        learning_rate=torch.full((len(targets),), 0.1, dtype=torch.float64),
        points=Points(x, (x.norm(dim=1) > 1).to(x.dtype)),
        batch_size=16,
        steps=steps,
        protocol=protocol,
        count=count,
    )


def state_of(problem: Problem, weight_mask: Tensor) -> State:
    """The ensemble before a step, with a momentum of one wherever a weight is kept."""
    mask = with_biases(problem.network, weight_mask)
    n = len(mask)
    return State(
        problem.network,
        index=torch.arange(n),
        parameters=torch.where(mask, problem.parameters, 0.0),
        velocity=mask.to(problem.parameters),
        mask=mask,
        rate=torch.ones(n),
        momentum=torch.ones(n),
        weight_decay=torch.ones(n),
        batch=(problem.points.x[:16], problem.points.y[:16]),
    )


def layer_counts(network: MLP, weight_mask: Tensor) -> list[list[int]]:
    """Weights kept by member and layer."""
    layers = [layer.sum(dim=(1, 2)) for layer in network.weights(weight_mask)]
    return torch.stack(layers, dim=1).tolist()


def flat(group: h5py.Group, name: str) -> Tensor:
    """Arrays of the four layers, name0 to name3, as one row."""
    return torch.tensor(np.concatenate([group[f"{name}{layer}"][()].ravel() for layer in range(4)]))


# --- Erdos-Renyi counts --------------------------------------------------------------------------


def test_published_densities_and_counts(cubist: h5py.File) -> None:
    cases = cubist["erk"]
    assert len(cases) == 14
    for name, case in cases.items():
        width, target = (int(part[1:]) for part in name.split("_"))
        network = MLP.spiral(width)
        densities = erdos_renyi_densities(network, target)
        assert densities == case["density"][()].tolist()
        mask = rigl.start_mask(problem(network, [target], protocol="published"))
        assert layer_counts(network, mask) == [case["initial_layer_nnz"][()].tolist()]


def test_counts_of_every_width_sum_to_every_target() -> None:
    for width in range(3, 257):
        network = MLP.spiral(width)
        sizes = [n_out * n_in for n_out, n_in in network.weight_shapes]
        for target in range(15, min(65, network.n_weights) + 1):
            counts = erdos_renyi_counts(network, target)
            quotas = np.multiply(erdos_renyi_densities(network, target), sizes)
            assert sum(counts) == target
            assert (np.abs(counts - quotas) < 1).all()
            assert (counts <= np.array(sizes)).all()


@given(network=SHAPES, data=st.data())
def test_counts_follow_the_numbers_of_neurons(network: MLP, data: st.DataObject) -> None:
    """Layers that are not dense share what the dense ones leave, by n_in + n_out."""
    target = data.draw(st.integers(1, network.n_weights))
    densities = np.array(erdos_renyi_densities(network, target))
    shapes = np.array(network.weight_shapes)
    assert (densities <= 1).all()
    assert densities @ shapes.prod(axis=1) == pytest.approx(target)
    per_neuron = (densities * shapes.prod(axis=1) / shapes.sum(axis=1))[densities < 1 - 1e-12]
    assert per_neuron == pytest.approx(per_neuron[:1].repeat(len(per_neuron)))
    assert sum(erdos_renyi_counts(network, target)) == target


def test_largest_remainders_are_rounded_up() -> None:
    """At width 16, 60 weights: quotas 10.9, 19.4, 19.4 and 10.3."""
    assert erdos_renyi_counts(MLP.spiral(16), 60) == [11, 20, 19, 10]
    assert erdos_renyi_counts(MLP.spiral(3), 27) == [6, 9, 9, 3]


# --- RigL: before training -----------------------------------------------------------------------


@pytest.mark.parametrize("width", [3, 5, 16, 64])
def test_start_masks_have_their_counts_at_random_positions(width: int) -> None:
    network = MLP.spiral(width)
    targets = [15, 20, 27, 18, 20, 20]
    mask = rigl.start_mask(problem(network, targets))
    assert layer_counts(network, mask) == [erdos_renyi_counts(network, t) for t in targets]
    assert torch.equal(mask[1], mask[4])  # seed 1, 20 weights, both
    assert (mask[0] <= mask[3]).all()  # seed 0, 15 and 18 weights
    assert not torch.equal(mask[4], mask[5])  # seeds 1 and 2
    alone = rigl.start_mask(problem(network, targets[:1]))
    assert torch.equal(alone[0], mask[0])


def test_start_positions_are_uniform() -> None:
    """Over 400 seeds every position of a layer is taken as often, within five deviations."""
    network = MLP((2, 4, 1))
    many = problem(network, [6] * 400)
    mask = rigl.start_mask(Problem(**{**vars(many), "seed": torch.arange(400)}))
    for layer, n in zip(network.weights(mask), erdos_renyi_counts(network, 6), strict=True):
        share = n / layer[0].numel()
        deviation = (400 * share * (1 - share)) ** 0.5
        assert ((layer.sum(dim=0) - 400 * share).abs() < 5 * deviation).all()


# --- RigL: its updates ---------------------------------------------------------------------------


def test_published_schedule(cubist: h5py.File) -> None:
    expected = cubist["schedules/rigl_step_and_drop_fraction"][()]
    (event,) = rigl.events(problem(MLP.spiral(16), [20], steps=19_500, protocol="published"))
    assert event.replaces_step
    assert [step + 1 for step in event.steps] == expected[:, 0].tolist()
    found = [rigl.drop_fraction(step + 1, 14_625, 0.3) for step in event.steps]
    np.testing.assert_allclose(found, expected[:, 1], rtol=1e-12)


@pytest.mark.parametrize("backend", ["batched", "fused"])
@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_published_trajectory(
    cubist: h5py.File,
    spiral: Points,
    precision: str,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five epochs, 14 updates: equal to 1e-7 in double precision, until chaos in single."""
    case = cubist["training/rigL_w16_t60"]
    order = case["batch_order"][()].astype(np.int64)
    monkeypatch.setattr(engine, "batch_order", lambda _n, _batch, _seed, epoch: order[epoch])
    dtype = torch.float64 if precision == "fp64" else torch.float32
    tolerance = 1e-7 if precision == "fp64" else 1e-5
    points = Points(spiral.x.to(dtype), spiral.y.to(dtype))
    network, initial = reference.network(case["init"]), reference.parameters(case["init"], dtype)
    asked = problem(network, [60], steps=1950, protocol="published", parameters=initial)
    (event,) = rigl.events(asked)
    updates, n = case[precision]["rigl_step"], network.n_weights
    assert [step + 1 for step in event.steps] == [int(name) for name in updates]

    def agree(state: State, update: h5py.Group, when: str) -> None:
        assert torch.equal(state.mask[0, :n], flat(update, f"mask_{when}").bool())
        values = torch.cat([flat(update, f"w_{when}"), flat(update, f"b_{when}")])
        torch.testing.assert_close(state.parameters[0], values, rtol=tolerance, atol=tolerance)
        momentum = flat(update, f"mom_{when}")
        torch.testing.assert_close(state.velocity[0, :n], momentum, rtol=tolerance, atol=tolerance)

    def act(state: State, step: int) -> None:
        update = updates[f"{step + 1:05}"]
        agree(state, update, "before")
        event.act(state, step)
        agree(state, update, "after")
        assert torch.equal(state.mask[0, n:], flat(update, "bias_mask_after").bool())

    start = with_biases(network, flat(updates["00100"], "mask_before").bool()[None])
    members = Members.of(network, initial, start, learning_rate=0.1)
    trained = engine.train(
        members,
        points,
        Plan.of(["cosine"], 5),
        [Event(event.steps, act, replaces_step=True)],
        backend=backend,
    )
    if precision == "fp64":
        final = reference.parameters(case["fp64/final"], dtype)
        torch.testing.assert_close(trained.parameters, final, rtol=1e-7, atol=1e-7)
        assert trained.accuracy.item() == pytest.approx(case["fp64"].attrs["Accuracy"], abs=1e-7)


def plain_update(
    mask: Tensor, values: Tensor, slope: Tensor, fraction: float
) -> tuple[set[int], set[int]]:
    """One layer of one member after an update: the weights kept, and those grown anew."""
    inside = [i for i in range(len(mask)) if mask[i]]
    moved = int(len(inside) * fraction)
    kept = sorted(inside, key=lambda i: (-abs(values[i]), i))[: len(inside) - moved]
    others = [i for i in range(len(mask)) if i not in kept]
    grown = sorted(others, key=lambda i: (-abs(slope[i]), i))[:moved]
    return set(kept) | set(grown), set(grown) - set(inside)


def dense_gradients(state: State) -> Tensor:
    """By autograd, member by member; [E, n_parameters]."""
    assert state.batch is not None
    x, y = state.batch
    slopes = []
    for member in state.parameters:
        member = member.clone().requires_grad_()
        signal = x
        layers = zip(state.network.weights(member), state.network.biases(member), strict=True)
        for weight, bias in layers:
            logits = signal @ weight.T + bias
            signal = torch.relu(logits)
        loss = binary_cross_entropy_with_logits(logits[:, 0], y)
        slopes.append(torch.autograd.grad(loss, member)[0])
    return torch.stack(slopes)


@settings(deadline=None, max_examples=60)
@given(network=SHAPES, drop=st.floats(0, 1), step=st.integers(1, 8), data=st.data())
def test_an_update_moves_weights_and_keeps_their_numbers(
    network: MLP, drop: float, step: int, data: st.DataObject
) -> None:
    """Against a loop over members and layers; values and momentum as the rule says."""
    n = network.n_weights
    targets = data.draw(st.lists(st.integers(1, n), min_size=1, max_size=4))
    pruned = problem(network, targets, steps=20)
    pruned = pruned.with_parameters(pruned.parameters.double())
    x, y = pruned.points.x.double(), pruned.points.y.double()
    state = state_of(pruned, rigl.start_mask(pruned))
    state.batch = (x[:16], y[:16])
    state.parameters[:, ::3] = 0  # as some weights are that were grown where nothing moves them
    mask, values = state.mask, state.parameters
    slope = dense_gradients(state)
    (event,) = rigl.events(pruned, interval=2, end=0.5, drop=drop)
    assert list(event.steps) == [1, 3, 5, 7]  # steps 2 to 8, before the 10th
    event.act(state, step)

    assert layer_counts(network, state.mask[:, :n]) == layer_counts(network, mask[:, :n])
    fraction = drop / 2 * (1 + cos(pi * (step + 1) / 10))
    for e in range(len(targets)):
        for where in network.weight_slices:
            kept, fresh = plain_update(mask[e, where], values[e, where], slope[e, where], fraction)
            assert set(state.mask[e, where].nonzero()[:, 0].tolist()) == kept
            stays = torch.tensor([i in kept - fresh for i in range(len(mask[e, where]))])
            expected = torch.where(stays, values[e, where], 0.0)
            assert torch.equal(state.parameters[e, where], expected)
            assert torch.equal(state.velocity[e, where], stays.double())
    assert torch.equal(state.mask, with_biases(network, state.mask[:, :n]))


def test_a_weight_dropped_and_grown_again_keeps_its_value() -> None:
    """Three weights of one layer, of which the smallest has the largest slope."""
    network = MLP((2, 2, 1))
    pruned = problem(network, [5], steps=100)
    state = state_of(pruned, torch.tensor([[True, True, True, False, True, True]]))
    state.parameters = torch.tensor([[3.0, 2.0, 0.1, 0, 1, 1, 0, 0, 0]])
    x = torch.tensor([[1.0, 0.1], [1.0, 0.1]])
    state.batch = (x, torch.tensor([1.0, 1.0]))
    (event,) = rigl.events(pruned, interval=2, drop=1.0)
    halfway = 36
    assert rigl.drop_fraction(halfway + 1, 75, 1.0) == pytest.approx(0.5, abs=0.02)
    event.act(state, halfway)
    assert state.mask[0, :4].tolist() == [True, True, True, False]
    assert state.parameters[0, 2] == torch.tensor(0.1)
    assert state.velocity[0, 2] == 1
    x[:] = torch.tensor([0.1, 1.0])
    event.act(state, halfway)
    assert state.mask[0, :4].tolist() == [True, True, False, True]
    assert state.parameters[0, 2:4].tolist() == state.velocity[0, 2:4].tolist() == [0, 0]


def test_what_moves_is_rounded_down_in_double_precision() -> None:
    """0.29 of 100 weights are 28: just below 29, which single precision would reach."""
    network = MLP((200, 1))
    pruned = problem(network, [100], steps=200)
    start = rigl.start_mask(pruned)
    state = state_of(pruned, start)
    state.batch = (torch.where(start, 1.0, 2.0), torch.ones(1))
    (event,) = rigl.events(pruned, drop=0.58, end=1.0)
    event.act(state, 99)
    assert int((state.mask[:, :200] & ~start).sum()) == int(0.29 * 100) == 28


@pytest.mark.parametrize("protocol", ["exact", "published"])
@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_counts_hold_where_values_tie_or_are_lost(protocol: str, value: float) -> None:
    network = MLP.spiral(4)
    pruned = problem(network, [15, 20, 40], protocol=protocol)
    start = rigl.start_mask(pruned)
    state = state_of(pruned, start)
    state.parameters = torch.where(state.mask, value, 0.0)
    (event,) = rigl.events(pruned)
    event.act(state, 99)
    assert layer_counts(network, state.mask[:, : network.n_weights]) == layer_counts(network, start)


def test_small_layers_never_change() -> None:
    """A layer of three weights or fewer would drop 0.9 of a weight at most."""
    network = MLP.spiral(16)
    pruned = problem(network, [15] * 3)
    start = rigl.start_mask(pruned)
    state = state_of(pruned, start)
    (event,) = rigl.events(pruned)
    for step in event.steps:
        event.act(state, step)
    for before, after, n in zip(
        network.weights(start),
        network.weights(state.mask[:, : network.n_weights]),
        erdos_renyi_counts(network, 15),
        strict=True,
    ):
        assert torch.equal(before, after) == (n <= 3)


def test_rigl_refuses_what_it_cannot_do() -> None:
    effective = problem(MLP.spiral(4), [20], count="effective")
    for entry in (rigl.start_mask, rigl.events):
        with refused("rigl", "count effective", "use weights"):
            entry(effective)
    plain = problem(MLP.spiral(4), [20])
    wrong: list[dict[str, Any]] = [
        {"interval": 1},
        {"end": 0.0},
        {"end": 1.5},
        {"drop": -0.1},
        {"drop": 2.0},
    ]
    for options in wrong:
        for entry in (rigl.start_mask, rigl.events):
            with refused("rigl", *(f"{name} {value}" for name, value in options.items())):
                entry(plain, **options)


# --- Lottery tickets -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["w16_t15", "w16_t33", "w3_t15", "w64_t15", "w64_t33"])
def test_published_rounds(cubist: h5py.File, case: str) -> None:
    """Of k weights k - 1 survive: those strictly above the threshold."""
    width, target = (int(part[1:]) for part in case.split("_"))
    network = MLP.spiral(width)
    rng = torch.Generator().manual_seed(1)
    parameters = torch.randn(1, network.n_parameters, dtype=torch.float64, generator=rng)
    pruned = problem(network, [target], steps=50, protocol="published", parameters=parameters)
    (event,) = imp_lth.events(pruned)
    state = state_of(pruned, pruned.dense)
    found = []
    for step in event.steps:
        event.act(state, step)
        found.append([step, int(state.mask[:, : network.n_weights].sum()) + 1])
    assert found == cubist[f"schedules/{case}/lth"][()].tolist()


@settings(deadline=None, max_examples=40)
@given(
    network=SHAPES,
    steps=st.integers(1, 9),
    trainings=st.integers(2, 9),
    value=st.sampled_from([None, 0.0, torch.nan, torch.inf]),
    data=st.data(),
)
def test_tickets_are_nested_and_end_at_their_target(
    network: MLP, steps: int, trainings: int, value: float | None, data: st.DataObject
) -> None:
    """Along the geometric schedule, whatever training has made of the weights."""
    n = network.n_weights
    targets = data.draw(st.lists(st.integers(1, n), min_size=1, max_size=4))
    pruned = problem(network, targets, steps=steps)
    (event,) = imp_lth.events(pruned, trainings=trainings)
    assert list(event.steps) == [steps * j for j in range(1, trainings)]
    state = state_of(pruned, pruned.dense)
    masks = [pruned.dense]
    for j, step in enumerate(event.steps, start=1):
        if value is not None and j > 1:
            state.parameters[:] = value
        before = state.parameters[:, :n].abs()
        event.act(state, step)
        mask = state.mask[:, :n]
        geometric = [n * (t / n) ** (j / (trainings - 1)) for t in targets]
        assert (mask.sum(dim=1) - torch.tensor(geometric)).abs().max() <= 0.5 + 1e-9
        if value is None or j == 1:  # the smallest go
            dropped = torch.where(masks[-1] & ~mask, before, 0.0).max(dim=1).values
            assert (dropped <= torch.where(mask, before, torch.inf).min(dim=1).values).all()
        masks.append(mask)
        assert torch.equal(state.mask, with_biases(network, mask))
        assert torch.equal(state.parameters, torch.where(state.mask, pruned.parameters, 0.0))
        assert not state.velocity.any()
    assert all((later <= earlier).all() for earlier, later in pairwise(masks))
    assert masks[-1].sum(dim=1).tolist() == targets


def test_effective_tickets_have_their_targets_on_paths() -> None:
    network = MLP.spiral(5)
    pruned = problem(network, [15, 20, 30], steps=10, count="effective")
    (event,) = imp_lth.events(pruned)
    state = state_of(pruned, pruned.dense)
    for step in event.steps:
        event.act(state, step)
    mask = state.mask[:, : network.n_weights]
    assert torch.equal(effective_mask(network, mask), mask)
    found = mask.sum(dim=1)
    assert (found <= pruned.target).all()
    assert (found > 0).all()


def test_a_last_training_is_one_from_the_initial_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, when it sees the same batches."""
    epochs, own = 4, engine.batch_order
    monkeypatch.setattr(engine, "batch_order", lambda n, b, s, epoch: own(n, b, s, epoch % epochs))
    network = MLP.spiral(6)
    pruned = problem(network, [20, 30, 40], steps=epochs * 5)
    once = Plan.of(["cosine"], epochs, batch_size=16)
    thrice = Plan(np.tile(once.factors, 3), batch_size=16)
    members = Members.of(
        network, pruned.parameters, learning_rate=0.3, order_seed=pruned.seed.tolist()
    )
    tickets = engine.train(
        members, pruned.points, thrice, imp_lth.events(pruned, trainings=3), backend="fused"
    )
    again = Members.of(
        network,
        pruned.parameters,
        tickets.mask,
        learning_rate=0.3,
        order_seed=pruned.seed.tolist(),
    )
    alone = engine.train(again, pruned.points, once, backend="fused")
    assert tickets.mask[:, : network.n_weights].sum(dim=1).tolist() == [20, 30, 40]
    assert torch.equal(alone.parameters, tickets.parameters)
    assert not torch.equal(alone.parameters, torch.where(tickets.mask, pruned.parameters, 0.0))


def test_tickets_need_two_trainings() -> None:
    with refused("imp_lth", "1 trainings", "at least 2"):
        imp_lth.events(problem(MLP.spiral(3), [10]), trainings=1)


# --- Both in a run -------------------------------------------------------------------------------

EPOCHS, STEPS = 6, 5  # RigL sees one training of six epochs, lottery tickets six of one
OPTIONS: dict[str, dict[str, Value]] = {
    "rigl": {"interval": 4, "drop": 0.9, "end": 1.0},
    "imp_lth": {"trainings": EPOCHS},
}


def ensemble(method: str, targets: Sequence[int]) -> Problem:
    return problem(MLP.spiral(6), targets, steps=EPOCHS * STEPS if method == "rigl" else STEPS)


def run(
    method: str,
    pruned: Problem,
    also: Sequence[Event] = (),
    checkpoint: Path | None = None,
    backend: str = "fused",
) -> engine.Trained:
    parameters, mask, events = registry.apply(method, pruned, OPTIONS[method])
    members = Members.of(
        pruned.network,
        parameters,
        with_biases(pruned.network, mask),
        learning_rate=0.3,
        order_seed=pruned.seed,
    )
    plan = Plan.of(["cosine"], EPOCHS, batch_size=16)
    return engine.train(
        members, pruned.points, plan, [*events, *also], backend=backend, checkpoint=checkpoint
    )


@pytest.mark.parametrize("method", OPTIONS)
def test_a_run_alone_is_the_same_as_in_an_ensemble(method: str) -> None:
    """Whatever the targets of the others."""
    whole = run(method, ensemble(method, [15, 20, 30, 40, 45, 54]))
    alone = run(method, ensemble(method, [15]))
    assert torch.equal(alone.mask[0], whole.mask[0])
    assert torch.equal(alone.parameters[0], whole.parameters[0])
    n = MLP.spiral(6).n_weights
    assert whole.mask[:, :n].sum(dim=1).tolist() == [15, 20, 30, 40, 45, 54]
    if method == "rigl":
        start = rigl.start_mask(ensemble(method, [15, 20, 30, 40, 45, 54]))
        assert not torch.equal(start[0], whole.mask[0, :n])


@pytest.mark.parametrize("backend", ["batched", "fused"])
@pytest.mark.parametrize("method", OPTIONS)
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_stopped_run_goes_on_to_the_same_numbers(
    method: str, epoch: int, backend: str, tmp_path: Path
) -> None:
    pruned, path = ensemble(method, [15, 20, 30, 40]), tmp_path / "run.checkpoint"
    stop_at = [epoch * STEPS - 2]
    stop = Event(stop_at, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    pass_by = Event(stop_at, lambda *_: None)
    whole = run(method, pruned, [pass_by], backend=backend)
    with pytest.raises(Stopped):
        run(method, pruned, [stop], path, backend)
    resumed = run(method, pruned, [pass_by], path, backend)
    for name, column in whole.columns().items():
        assert torch.equal(resumed.columns()[name], column), name
