"""The engine on batched torch: against autograd, torch.optim and the published trainings."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sparselimit.ensemble import batched
from sparselimit.ensemble import train as engine
from sparselimit.ensemble.members import SCHEDULES, Members, Plan, Points, rate_factors
from sparselimit.ensemble.state import Event, State
from sparselimit.networks.mlp import MLP
from sparselimit.sparsity.masks import with_biases
from tests.unit import reference
from tests.unit.refusals import refused

NETWORK = MLP((2, 4, 3, 1))

train = partial(engine.train, backend="batched")


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def points(n: int, inputs: int = 2) -> Points:
    x = normal(n, inputs, seed=1)
    return Points(x, (x[:, 0] * x[:, -1] > 0.1).double())


def masks(network: MLP, n: int, density: float = 0.6) -> Tensor:
    kept = torch.rand(n, network.n_weights, generator=torch.Generator().manual_seed(2)) < density
    return with_biases(network, kept)


def module(network: MLP, flat: Tensor) -> nn.Sequential:
    """The same network as a torch module in double precision."""
    layers: list[nn.Module] = []
    for weight, bias in zip(network.weights(flat), network.biases(flat), strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def flat(module: nn.Module) -> Tensor:
    """Its parameters in the engine's order: weights, then biases."""
    weights = [p.detach().flatten() for p in module.parameters() if p.ndim == 2]
    biases = [p.detach() for p in module.parameters() if p.ndim == 1]
    return torch.cat([*weights, *biases])


# --- One step ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    hidden=st.lists(st.integers(1, 5), max_size=3),
    inputs=st.integers(1, 3),
    n=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_gradients_are_those_of_autograd(hidden: list[int], inputs: int, n: int, seed: int) -> None:
    network = MLP((inputs, *hidden, 1))
    parameters = normal(3, network.n_parameters, seed=seed).requires_grad_()
    x, y = normal(n, inputs, seed=seed + 1), (normal(n, seed=seed + 2) > 0).double()
    losses = []
    for member in parameters:
        signal = x
        layers = list(zip(network.weights(member), network.biases(member), strict=True))
        for weight, bias in layers[:-1]:
            signal = torch.relu(signal @ weight.T + bias)
        logits = signal @ layers[-1][0].T + layers[-1][1]
        losses.append(binary_cross_entropy_with_logits(logits[:, 0], y))
    (expected,) = torch.autograd.grad(torch.stack(losses).sum(), parameters)
    found = batched.gradients(network, parameters.detach(), x, y)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


def test_a_dead_neuron_has_no_gradient() -> None:
    """At exactly zero ReLU has slope zero, as torch has it."""
    network = MLP((1, 1, 1))
    parameters = torch.tensor([[0.0, 2.0, 0.0, 0.0]])
    found = batched.gradients(network, parameters, torch.ones(3, 1), torch.ones(3))
    assert found.tolist() == [[0, 0, 0, -0.5]]


def test_evaluation_conventions() -> None:
    """A logit of exactly zero is class 0, NaN is wrong, and the loss is the mean over points."""
    network = MLP((1, 1))
    x = torch.tensor([[-1.0], [0.0], [0.0], [2.0], [3.0]])
    y = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0])
    parameters = torch.tensor([[1.0, 0.0], [torch.nan, 0.0], [0.0, 0.0], [0.0, 30.0]])
    accuracy, loss = batched.evaluate(network, parameters, Points(x, y))
    assert accuracy.tolist() == pytest.approx([3 / 5, 0, 3 / 5, 2 / 5])
    logits = torch.tensor([-1.0, 0, 0, 2, 3])
    assert loss[0].item() == pytest.approx(binary_cross_entropy_with_logits(logits, y).item())
    assert loss[1].isnan()
    assert loss[2:].tolist() == pytest.approx([np.log(2), 3 / 5 * 30])
    assert accuracy.dtype == loss.dtype == torch.float64


def test_evaluation_does_not_depend_on_its_blocks() -> None:
    data = points(4100)
    parameters = normal(66, NETWORK.n_parameters)
    accuracy, loss = batched.evaluate(NETWORK, parameters, data)
    for member in (0, 63, 64, 65):
        logits = module(NETWORK, parameters[member])(data.x)[:, 0]
        right = ((logits > 0) == (data.y > 0)).double().mean()
        assert accuracy[member].item() == pytest.approx(right.item(), abs=1e-12)
        expected = binary_cross_entropy_with_logits(logits, data.y).item()
        assert loss[member].item() == pytest.approx(expected, rel=1e-8)


# --- Whole trainings -----------------------------------------------------------------------------


@pytest.mark.parametrize("density", [1.0, 0.6])
def test_training_is_that_of_torch_optim(density: float) -> None:
    """Members of all schedules, several rates and orders, each against a loop of its own."""
    data, epochs = points(50), 7
    plan = Plan.of(SCHEDULES, epochs, batch_size=8)
    initial = normal(6, NETWORK.n_parameters)
    mask = masks(NETWORK, 6, density)
    rates, order = [0.1, 0.1, 0.1, 0.3, 0.02, 0.1], [0, 0, 0, 1, 1, 5]
    schedule = [0, 1, 2, 0, 1, 2]
    members = Members.of(
        NETWORK, initial, mask, learning_rate=rates, schedule=schedule, order_seed=order
    )
    trained = train(members, data, plan)
    for i in range(6):
        alone = _trained_by_torch(
            initial[i], mask[i], data, rates[i], plan.factors[schedule[i]], order[i]
        )
        torch.testing.assert_close(trained.parameters[i], alone, rtol=1e-10, atol=1e-10)
    accuracy, loss = batched.evaluate(NETWORK, trained.parameters, data)
    torch.testing.assert_close(trained.accuracy, accuracy)
    torch.testing.assert_close(trained.loss, loss)
    assert torch.equal(trained.mask, mask)
    assert trained.diverged_at.tolist() == [-1] * 6


def _trained_by_torch(
    initial: Tensor, mask: Tensor, data: Points, rate: float, factors: np.ndarray, order_seed: int
) -> Tensor:
    network = module(NETWORK, torch.where(mask, initial, 0.0))
    kept = module(NETWORK, mask.double())
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: factors[e % len(factors)])
    for epoch in range(len(factors)):
        for batch in engine.batch_order(len(data.x), 8, order_seed, epoch):
            optimizer.zero_grad()
            logits = network(data.x[batch])[:, 0]
            binary_cross_entropy_with_logits(logits, data.y[batch]).backward()
            optimizer.step()
            with torch.no_grad():
                for value, keep in zip(network.parameters(), kept.parameters(), strict=True):
                    value.mul_(keep)
        schedule.step()
    return flat(network)


@pytest.mark.parametrize("case", ["dense333_cosine", "sparse333_in16_cosine"])
def test_published_trainings(
    cubist: h5py.File, spiral: Points, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs in double precision, to 1e-7."""
    published = cubist["training"][case]
    order = published["batch_order"][()].astype(np.int64)
    monkeypatch.setattr(engine, "batch_order", lambda _n, _batch, _seed, epoch: order[epoch])
    buffers = published["fp64/final_buffers"]
    parts = [
        buffers[f"mask_{kind}_param_{i}"][()].ravel()
        for kind in ("weight", "bias")
        for i in range(4)
    ]
    members = Members.of(
        reference.network(published["init"]),
        reference.parameters(published["init"], torch.float64),
        torch.tensor(np.concatenate(parts) > 0)[None],
        learning_rate=0.05,
    )
    seen: dict[int, Tensor] = {}

    def look(state: State, step: int) -> None:
        seen[step] = state.parameters.clone()

    wanted = [1, 2, 10, 100, 390, 780]
    plan = Plan(Plan.of(["cosine"], 5).factors[:, :3])
    train(members, Points(spiral.x.double(), spiral.y.double()), plan, [Event(wanted, look)])
    for step in wanted:
        expected = reference.parameters(
            published[f"fp64/params_before_iteration/{step}"], torch.float64
        )
        torch.testing.assert_close(seen[step], expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("schedule", "name"),
    [("cosine", "cosine"), ("step", "milestones"), ("constant", "constant")],
)
def test_learning_rates_are_the_published_ones(cubist: h5py.File, schedule: str, name: str) -> None:
    for rate in (0.05, 0.1, 0.2):
        expected = cubist[f"schedules/lr_by_epoch/{name}_{rate}"][()]
        np.testing.assert_allclose(rate * rate_factors(schedule, 50), expected, rtol=1e-12)


def test_steps_of_the_learning_rate_scale_with_the_run() -> None:
    assert rate_factors("step", 10).tolist() == pytest.approx([1] * 3 + [0.1] * 3 + [0.01] * 4)
    assert [len(rate_factors(name, 1)) for name in SCHEDULES] == [1, 1, 1]
    assert all(rate_factors(name, 1)[0] == 1 for name in ("cosine", "constant"))


# --- Members are independent ---------------------------------------------------------------------


def test_masked_entries_never_move_and_do_not_matter() -> None:
    data, plan = points(40), Plan.of(["constant"], 4, batch_size=8)
    mask, initial = masks(NETWORK, 5), normal(5, NETWORK.n_parameters)
    seen: list[Tensor] = []
    look = Event(range(20), lambda state, _: seen.append(state.parameters.clone()))
    trained = train(Members.of(NETWORK, initial, mask, learning_rate=0.2), data, plan, [look])
    assert all((values[~mask] == 0).all() for values in [*seen, trained.parameters])
    assert not torch.isclose(trained.parameters, initial)[mask].any()
    other = torch.where(mask, initial, 1e6)
    again = train(Members.of(NETWORK, other, mask, learning_rate=0.2), data, plan)
    assert torch.equal(again.parameters, trained.parameters)


def test_a_member_that_diverges_is_recorded_and_disturbs_no_other() -> None:
    data, plan = points(40), Plan.of(["constant"], 6, batch_size=8)
    initial = normal(4, NETWORK.n_parameters)
    rates = [0.1, 0.1, 1e200, 0.1]
    spoilt = initial.clone()
    spoilt[1, 3] = torch.nan
    found = train(Members.of(NETWORK, spoilt, learning_rate=rates), data, plan)
    sound = train(Members.of(NETWORK, initial, learning_rate=0.1), data, plan)
    for name in ("parameters", "accuracy", "loss"):
        for member in (0, 3):
            torch.testing.assert_close(getattr(found, name)[member], getattr(sound, name)[member])
    assert found.diverged_at.tolist()[::3] == [-1, -1]
    assert found.diverged_at[1] == 5
    assert found.diverged_at[2] in (5, 10, 15, 20, 25, 30)
    assert found.accuracy[1] == 0
    assert found.loss[1].isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_do_not_depend_on_chunks(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor on the company: seeds are mixed here and a chunk has one; each member comes back."""
    data, plan = points(40), Plan.of(["cosine"], 3, batch_size=8)
    members = Members.of(
        NETWORK,
        normal(9, NETWORK.n_parameters).to(dtype),
        masks(NETWORK, 9),
        learning_rate=torch.linspace(0.05, 0.2, 9),
        order_seed=[0, 2, 0, 1, 1, 0, 2, 0, 1],
    )
    seen: list[list[int]] = []
    look = Event([0], lambda state, _: seen.append(state.index.tolist()))
    together = train(members, data, plan, [look])
    assert sorted(map(len, seen)) == [2, 3, 4]
    seen.clear()
    monkeypatch.setattr(engine, "CHUNK_BYTES", {"batched": 1, "fused": 1})
    apart = train(members, data, plan, [look])
    assert sorted(seen) == [[i] for i in range(9)]
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for name in ("parameters", "accuracy", "loss"):
        torch.testing.assert_close(
            getattr(apart, name), getattr(together, name), rtol=tolerance, atol=tolerance
        )
    alone = train(members.take(torch.tensor([6])), data, plan)
    torch.testing.assert_close(alone.parameters[0], apart.parameters[6], rtol=0, atol=0)


def test_batches_are_permutations_without_an_incomplete_end() -> None:
    orders = {
        (seed, epoch): engine.batch_order(50, 8, seed, epoch)
        for seed in range(3)
        for epoch in range(-1, 3)
    }
    assert all(order.shape == (6, 8) for order in orders.values())
    assert all(len(np.unique(order)) == 48 for order in orders.values())
    assert len({order.tobytes() for order in orders.values()}) == len(orders)
    assert np.array_equal(engine.batch_order(50, 8, 1, 2), orders[1, 2])


def test_events_act_before_their_steps() -> None:
    """On a state that they may change, in the order given, with the rate of the coming epoch."""
    data, plan = points(16), Plan.of(["cosine"], 3, batch_size=4)
    seen: list[tuple[str, int, float]] = []

    def look(name: str) -> Callable[[State, int], None]:
        return lambda state, step: seen.append((name, step, float(state.rate[0])))

    def drop_all(state: State, _: int) -> None:
        state.set_mask(torch.zeros_like(state.mask))

    members = Members.of(NETWORK, normal(2, NETWORK.n_parameters), learning_rate=0.1)
    events = [Event([0, 5, 11, 99], look("a")), Event([5], look("b")), Event([7], drop_all)]
    trained = train(members, data, plan, events)
    rates = (0.1 * plan.factors[0]).tolist()
    assert [(name, step) for name, step, _ in seen] == [("a", 0), ("a", 5), ("b", 5), ("a", 11)]
    assert [rate for *_, rate in seen] == pytest.approx([rates[0], rates[1], rates[1], rates[2]])
    assert not trained.mask.any()
    assert not trained.parameters.any()
    assert trained.loss.tolist() == pytest.approx([np.log(2)] * 2)


def test_a_new_mask_takes_momentum_with_it() -> None:
    mask, one = torch.tensor([[True, False, True]]), torch.ones(1)
    state = State(
        MLP((2, 1)),
        index=torch.tensor([0]),
        parameters=torch.ones(1, 3),
        velocity=torch.tensor([[1.0, torch.nan, 2.0]]),
        mask=torch.ones(1, 3, dtype=torch.bool),
        rate=one,
        momentum=one,
        weight_decay=one,
    )
    state.set_mask(mask)
    assert state.mask is mask
    assert state.parameters.tolist() == [[1, 0, 1]]
    assert state.velocity.tolist() == [[1, 0, 2]]


# --- Bad input -----------------------------------------------------------------------------------

GOOD = Members.of(NETWORK, normal(3, NETWORK.n_parameters), learning_rate=0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parameters": normal(3, 5)}, ["parameters of shape (3, 5)", "(2, 4, 3, 1)", "(3, 31)"]),
        ({"parameters": normal(31)}, ["parameters of shape (31,)"]),
        ({"parameters": normal(0, 31)}, ["no members"]),
        ({"mask": GOOD.mask[:2]}, ["mask of shape (2, 31)"]),
        ({"mask": GOOD.mask.float()}, ["mask of type torch.float32", "booleans"]),
        ({"learning_rate": torch.tensor([0.1, -0.1, 0.1])}, ["learning_rate", "non-negative"]),
        ({"learning_rate": torch.tensor([0.1, torch.nan, 0.1])}, ["learning_rate", "finite"]),
        ({"learning_rate": torch.tensor([0.1])}, ["learning_rate", "per member (3)"]),
        ({"weight_decay": torch.tensor([0.1, torch.inf, 0.1])}, ["weight_decay", "finite"]),
        ({"momentum": torch.tensor([-0.9] * 3)}, ["momentum", "non-negative"]),
        ({"schedule": torch.tensor([0, 0])}, ["schedule", "per member (3)"]),
        ({"order_seed": torch.tensor([0, 0])}, ["order_seed", "per member (3)"]),
        ({"network": MLP((2, 4, 3, 2))}, ["one-logit"]),
    ],
)
def test_members_that_cannot_be_trained_are_refused(change: dict, words: list[str]) -> None:
    with refused(*words):
        replace(GOOD, **change)


def test_columns_of_another_length_are_refused() -> None:
    with refused("learning_rate: 2 values for 3 members"):
        Members.of(NETWORK, GOOD.parameters, learning_rate=[0.1, 0.2])


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (normal(4), normal(4), ["x (4,)", "[N, inputs]"]),
        (normal(4, 2), torch.zeros(3), ["y (3,)"]),
        (normal(4, 2), torch.zeros(4, 1), ["y (4, 1)"]),
        (normal(0, 2), torch.zeros(0), ["at least one point"]),
        (torch.full((4, 2), torch.inf), torch.zeros(4), ["NaN or infinity"]),
        (normal(4, 2), torch.tensor([0.0, 1.0, 2.0, 0.0]), ["0 or 1"]),
        (normal(4, 2), torch.tensor([-1, 1, 1, -1]), ["0 or 1"]),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(x: Tensor, y: Tensor, words: list[str]) -> None:
    with refused(*words):
        Points(x, y)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (lambda: Plan.of(["cosin"], 3), ["'cosin' is unknown", "cosine, step, constant"]),
        (lambda: Plan.of(["cosine"], 0), ["epochs: 0"]),
        (lambda: Plan.of(["cosine"], 3, 0), ["batch_size: 0"]),
    ],
)
def test_plans_that_make_no_sense_are_refused(plan: Callable[[], Plan], words: list[str]) -> None:
    with refused(*words):
        plan()


def test_what_does_not_fit_together_is_refused() -> None:
    plan = Plan.of(["cosine", "step"], 3, batch_size=8)
    with refused("batch size 8", "7 points"):
        train(GOOD, points(7), plan)
    for schedule in (2, -1):
        with refused(f"schedule {schedule}"):
            train(replace(GOOD, schedule=torch.full((3,), schedule)), points(8), plan)
    with refused("3 features", "network (2, 4, 3, 1) takes 2"):
        train(GOOD, points(8, inputs=3), plan)


def test_members_can_be_picked() -> None:
    members = Members.of(NETWORK, normal(4, 31), learning_rate=[0.1, 0.2, 0.3, 0.4], order_seed=7)
    picked = members.take(torch.tensor([2, 0]))
    assert (len(members), len(picked)) == (4, 2)
    assert picked.learning_rate.tolist() == [0.3, 0.1]
    assert picked.order_seed.tolist() == [7, 7]
    assert torch.equal(picked.parameters, members.parameters[[2, 0]])
    assert picked.network == NETWORK
