"""Proofs that a start is dead: each step of them by other means, and the whole against training."""

from itertools import chain, combinations, pairwise

import numpy as np
import pytest
import torch

from sparselimit.datasets import cubist_spiral
from sparselimit.ensemble import batched
from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.train import train
from sparselimit.networks.mlp import MLP
from sparselimit.search.dead import _cut_off, _shut, least_factor, provably_dead
from sparselimit.search.exhaustive import Networks
from sparselimit.search.racing import Race, _initial_parameters
from sparselimit.sparsity.masks import with_biases


def few_points() -> Points:
    data = cubist_spiral()
    return Points(torch.tensor(data.x[::100]), torch.tensor(data.y[::100], dtype=torch.float32))


def starts(weights: int, n: int) -> tuple[MLP, torch.Tensor, torch.Tensor]:
    """Initial values and masks of n starts of all networks of so many weights."""
    networks = Networks.shard(weights, 0, 1)
    mask = with_biases(networks.frame, torch.tensor(networks.mask)).repeat_interleave(n, dim=0)
    return networks.frame, _initial_parameters(networks, Race(range(n))), mask


def outputs(network: MLP, parameters: torch.Tensor, points: Points) -> list[torch.Tensor]:
    return batched.activations(network, parameters, points.x.to(parameters))


def constant(network: MLP, parameters: torch.Tensor, points: Points) -> np.ndarray:
    logits = outputs(network, parameters, points)[-1][:, 0]
    return (logits == logits[:, :1]).all(dim=1).numpy()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_decay_alone_is_torchs(momentum: float) -> None:
    """A parameter without a gradient, under torch's own optimiser and a falling rate."""
    rates = np.array([0.3, 0.2, 0.05])
    parameter = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([parameter], 1.0, momentum=momentum, weight_decay=0.02)
    values = [1.0]
    for rate in rates.repeat(40):
        optimiser.param_groups[0]["lr"] = float(rate)
        parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
        values.append(parameter.item())
    least = least_factor(rates, 40, momentum=momentum, weight_decay=0.02)
    assert least == pytest.approx(min(values), rel=1e-12)


def test_the_studys_decay_does_not_change_signs() -> None:
    rates = 0.05 * Plan.of(["cosine"], 50).factors[0]
    assert 0.05 < least_factor(rates, 390) < 0.1


def test_where_decay_changes_signs_nothing_is_proved() -> None:
    assert least_factor(np.full(5, 30.0), 10, momentum=0.9, weight_decay=0.1) < 0
    network, parameters, mask = starts(6, 4)
    x = few_points().x.numpy()
    assert not provably_dead(network, parameters.numpy(), mask.numpy(), x, -0.1, 50).any()


def test_shut_units_stay_shut_under_any_factors() -> None:
    network, parameters, mask = starts(10, 5)
    points, least, slack = few_points(), 0.1, 1e-3
    boxes = np.array_split(points.x.numpy(), 32)
    low, high = (
        np.stack([bound(box) for box in boxes], axis=1)
        for bound in (lambda box: box.min(axis=0), lambda box: box.max(axis=0))
    )
    kept = torch.where(mask, parameters, 0.0).double()
    shut = _shut(network, kept.numpy(), low, high, least, slack)
    never = [np.ones_like(layer) for layer in shut]
    rng = np.random.default_rng(0)
    for common in (least, 0.3, 0.7, 1.0):
        own = torch.tensor(rng.uniform(1 - slack, 1 + slack, kept.shape))
        *hidden, _ = outputs(network, common * own * kept, points)
        for silent, found, proved in zip(never, hidden, shut, strict=True):
            silent &= (found.relu() == 0).all(dim=2).numpy()
            assert not (proved & ~silent).any()
    # Most of what was shut in all these trials is proved to be.
    for silent, proved in zip(never, shut, strict=True):
        assert proved.sum() > 0.8 * silent.sum() > 100


def test_a_unit_that_opens_as_its_layers_shrink_is_not_proved_shut() -> None:
    """Second layer: 1 - 4 c h1 with h1 >= 0.5 is negative at c = 1 and positive at c = 0.1."""
    network = MLP((1, 1, 1, 1, 1))
    parameters = np.array([[1.0, -4.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0]], dtype=np.float32)
    mask = np.ones_like(parameters, dtype=bool)
    x = np.linspace(0.5, 1, 20, dtype=np.float32)[:, None]
    assert provably_dead(network, parameters, mask, x, 0.9, 100)
    assert not provably_dead(network, parameters, mask, x, 0.1, 100)


def reachable_cut(layers: list[np.ndarray], shut: list[np.ndarray]) -> bool:
    """Whether some of the shut units are a cut of which no unit hangs on one above: by trying all.

    A neuron is (layer, index); the inputs are layer 0.
    """
    edges = [
        ((depth, i), (depth + 1, o))
        for depth, layer in enumerate(layers)
        for o, i in np.argwhere(layer)
    ]
    output = (len(layers), 0)
    candidates = [(d, u) for d, units in enumerate(shut, start=1) for u in np.flatnonzero(units)]

    def closure(start: set, pairs: list) -> set:
        found = set(start)
        for _ in layers:
            found |= {b for a, b in pairs if a in found}
        return found

    upwards = [(b, a) for a, b in edges]
    subsets = chain.from_iterable(
        combinations(candidates, size) for size in range(len(candidates) + 1)
    )
    for cut in map(set, subsets):
        above = closure({output}, [(b, a) for b, a in upwards if a not in cut])
        if any(depth == 0 for depth, _ in above):
            continue
        ancestors = closure(cut, upwards)
        if not ancestors & above:
            return True
    return False


def test_cuts_are_those_that_exist() -> None:
    rng = np.random.default_rng(0)
    found = []
    for sizes in ((2, 2, 3, 2, 1), (1, 3, 2, 3, 1), (2, 4, 4, 1)):
        for _ in range(100):
            layers = [rng.random((rows, columns)) < 0.5 for columns, rows in pairwise(sizes)]
            shut = [rng.random(width) < 0.5 for width in sizes[1:-1]]
            ours = _cut_off([layer[None] for layer in layers], [units[None] for units in shut])
            assert ours.shape == (1,)
            assert ours[0] == reachable_cut(layers, shut)
            found.append(ours[0])
    assert 0.2 < np.mean(found) < 0.8


def test_a_long_chain_of_reasons_is_followed_to_its_end() -> None:
    """Unit i of the second layer is fed by units i and i + 1 of the first; only 0 sees the input.

    If all of the second layer is shut, that is a cut. If the last unit is not, the last of the
    first layer is trained, so the unit before cannot be relied on, and so on down to the first.
    """
    n = 6
    first = np.eye(n, 1, dtype=bool)
    second = np.eye(n, dtype=bool) | np.eye(n, k=1, dtype=bool)
    layers = [first[None], second[None], np.ones((1, 1, n), bool)]
    none, all_units = np.zeros((1, n), bool), np.ones((1, n), bool)
    assert _cut_off(layers, [none, all_units])[0]
    assert not _cut_off(layers, [none, all_units & (np.arange(n) < n - 1)])[0]


def test_proved_starts_never_come_to_life() -> None:
    """Until decay has shrunk them tenfold. Some that began constant do come to life."""
    network, parameters, mask = starts(9, 12)
    points, plan = few_points(), Plan.of(["cosine"], 45, batch_size=100)
    momentum, weight_decay = 0.9, 0.02
    per_epoch = plan.steps_per_epoch(len(points.x))
    least = least_factor(
        0.1 * plan.factors[0], per_epoch, momentum=momentum, weight_decay=weight_decay
    )
    assert 0.05 < least < 0.1
    columns = parameters.numpy(), mask.numpy(), points.x.numpy()
    proved = provably_dead(network, *columns, least, plan.epochs * per_epoch)
    began = constant(network, torch.where(mask, parameters, 0.0), points)
    assert not (proved & ~began).any()
    assert proved.sum() > 0.8 * began.sum() > 100
    members = Members.of(
        network,
        parameters,
        mask,
        learning_rate=0.1,
        momentum=momentum,
        weight_decay=weight_decay,
    )
    trained = train(members, points, plan, backend="batched")
    ended = constant(network, trained.parameters, points)
    assert (began & ~ended).any()
    assert ended[proved].all()
