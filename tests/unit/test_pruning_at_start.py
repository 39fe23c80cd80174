"""Pruning before training: published vectors, exact counts, and each saliency by other means."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import ModuleType

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, linear

from sparselimit.ensemble.batched import activations, gradients
from sparselimit.ensemble.members import Points
from sparselimit.networks.forward import logits, losses
from sparselimit.networks.mlp import MLP
from sparselimit.plugins import Value
from sparselimit.pruning import force, grasp, iter_snip, prospr, registry, snip, synflow
from sparselimit.pruning import problem as problem_module
from sparselimit.pruning.problem import Problem
from sparselimit.pruning.published import decayed_count, keep_above_next
from sparselimit.sparsity.connectivity import effective_mask
from sparselimit.sparsity.masks import with_biases
from tests.unit import reference
from tests.unit.refusals import refused

METHODS = ["magnitude", "snip", "grasp", "synflow", "iter_snip", "force", "prospr"]
PUBLISHED: dict[str, ModuleType] = {
    "grasp": grasp,
    "synFlow": synflow,
    "iter_snip": iter_snip,
    "FORCE": force,
    "prospr": prospr,
}


def problem(
    network: MLP,
    targets: Sequence[int],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    protocol: str = "exact",
    count: str = "weights",
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """One network for each target, the seeds and three learning rates in turn."""
    rng = torch.Generator().manual_seed(0)
    n, drawn = len(targets), torch.rand(8, network.n_parameters, generator=rng, dtype=dtype)
    x = torch.randn(64, 2, generator=rng, dtype=dtype)
    seed = torch.tensor([seeds[i % len(seeds)] for i in range(n)])
    scale = torch.tensor(1 / np.sqrt(network.fan_in)).to(dtype)
    return Problem(
        network=network,
        parameters=(2 * drawn[seed] - 1) * scale,
        target=torch.tensor(targets),
        seed=seed,
        learning_rate=torch.tensor([(0.05, 0.2, 0.1)[i % 3] for i in range(n)]).double(),
        points=Points(x, (x.norm(dim=1) > 1.2).to(dtype)),
        batch_size=16,
        steps=100,
        protocol=protocol,
        count=count,
    )


def start_mask(method: str, problem: Problem, **options: Value) -> Tensor:
    return registry.apply(method, problem, options)[1]


def plain_loss(network: MLP, parameters: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Loss of one network [n_parameters], layer by layer."""
    for weight, bias in zip(network.weights(parameters), network.biases(parameters), strict=True):
        outputs = linear(x, weight, bias)
        x = outputs.relu()
    return binary_cross_entropy_with_logits(outputs[:, 0], y)


def gradient(value: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    at = at.detach().clone().requires_grad_()
    return torch.autograd.grad(value(at), at)[0]


def finite_differences(value: Callable[[Tensor], Tensor], at: Tensor, step: float) -> Tensor:
    """Central differences of a scalar function by each entry."""
    slopes = [
        (value(at + step * e) - value(at - step * e)) / (2 * step) for e in torch.eye(len(at))
    ]
    return torch.stack(slopes)


# --- Published vectors ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_masks_and_scores(
    name: str, cubist: h5py.File, spiral: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mask, and counts and scores of every round, of all ten cases."""
    order = cubist["atinit_batches/seed0/seq"][()].astype(np.int64)
    monkeypatch.setattr(problem_module, "batch_order", lambda *_: order)
    rounds: list[tuple[Tensor, Tensor]] = []
    keep = Problem.keep

    def recorded(self: Problem, scores: Tensor, k: Tensor, **how: object) -> Tensor:
        rounds.append((scores, k))
        return keep(self, scores, k, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Problem, "keep", recorded)
    cases = [
        case for case in cubist[f"atinit/seq/{name}/seed0"].values() if "weights" in case.attrs
    ]
    assert len(cases) == 10
    for case in cases:
        rounds.clear()
        weights = cubist["atinit_weights"][case.attrs["weights"]]
        network = reference.network(weights)
        asked = Problem(
            network,
            reference.parameters(weights),
            torch.tensor([int(case.attrs["target"])]),
            torch.tensor([0]),
            torch.tensor([case.attrs["lr"]], dtype=torch.float64),
            spiral,
            batch_size=128,
            steps=19_500,
            protocol="published",
        )
        mask = with_biases(network, PUBLISHED[name].start_mask(asked))
        expected = reference.mask(case)
        # The vectors leave out the first rounds of SynFlow where they prune nothing.
        recent = rounds[-len(case["k"]) :]
        assert all(int(k) == network.n_weights for _, k in rounds[: -len(case["k"])])
        counted = torch.cat([k for _, k in recent])
        if name in ("grasp", "synFlow"):  # these count what they remove
            counted = network.n_weights - counted
        assert counted.tolist() == case["k"][()].tolist()
        scores = torch.cat([scores for scores, _ in recent])
        if name == "grasp":
            scores = -scores / (scores.sum().abs() + 1e-10)
        stored = torch.tensor(case["scores"][()])
        torch.testing.assert_close(scores, stored, rtol=1e-4, atol=1e-6 * stored.abs().max().item())
        if case.attrs["exact_mask_equality_expected"]:
            torch.testing.assert_close(mask, expected)
        else:
            # ProsPr where fewer weights have a score than are kept: which of the others is chance.
            assert name == "prospr"
            scored = stored > 0
            kept, theirs = (m[:, : network.n_weights] for m in (mask, expected))
            assert torch.equal(kept[scored], theirs[scored])
            assert kept.sum() == theirs.sum() == case.attrs["weight_nnz"]


def test_the_points_of_grasp(
    cubist: h5py.File, spiral: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = cubist["atinit_batches/seed0/seq"][()].astype(np.int64)
    monkeypatch.setattr(problem_module, "batch_order", lambda *_: order)
    seen: list[Tensor] = []

    def watched(network: MLP, parameters: Tensor, x: Tensor) -> Tensor:
        seen.append(x)
        return logits(network, parameters, x)

    monkeypatch.setattr(grasp, "logits", watched)
    grasp.saliency(replace(problem(MLP.spiral(3), [10]), points=spiral, batch_size=128))
    chosen = cubist["atinit/seq/grasp/seed0/selected_indices"][()].astype(np.int64)
    assert [x.tolist() for x in seen] == [spiral.x[chosen].tolist()]


@pytest.mark.parametrize(("width", "target"), [(16, 15), (16, 33), (3, 15), (64, 15), (64, 33)])
def test_published_schedules(cubist: h5py.File, width: int, target: int) -> None:
    asked = problem(MLP.spiral(width), [target], protocol="published")
    expected = cubist[f"schedules/w{width}_t{target}"]
    by_round = [int(decayed_count(asked, done, 10)) for done in range(1, 11)]
    assert by_round == expected["force_itersnip_k"][()].tolist()
    by_round = [int(synflow.weights_left(asked, done, 100)) for done in range(1, 101)]
    assert by_round == (asked.network.n_weights - expected["synflow_prune_index"][()]).tolist()


@settings(deadline=None)
@given(width=st.integers(3, 40), rounds=st.integers(1, 30), data=st.data())
def test_published_decay_ends_at_the_target_or_one_below(
    width: int, rounds: int, data: st.DataObject
) -> None:
    n = MLP.spiral(width).n_weights
    target = data.draw(st.integers(1, n - 1))
    asked = problem(MLP.spiral(width), [target], protocol="published")
    left = [int(decayed_count(asked, i, rounds)) for i in range(1, rounds + 1)]
    assert left == sorted(left, reverse=True)
    assert left[0] < n
    assert target - left[-1] in (0, 1)


def test_published_threshold_of_grasp_drops_ties() -> None:
    scores = torch.tensor([[5.0, 3.0, 3.0, 3.0, 1.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    assert keep_above_next(scores, torch.tensor([2, 2])).sum(dim=1).tolist() == [1, 2]
    assert keep_above_next(scores, torch.tensor([4, 4])).sum(dim=1).tolist() == [4, 4]
    assert keep_above_next(scores, torch.tensor([5, 5])).all()


def test_snip_and_grasp_draw_the_same_weights() -> None:
    asked = problem(MLP.spiral(5), [20, 20], protocol="published")
    start = grasp.start_parameters(asked)
    assert torch.equal(start, snip.start_parameters(asked))
    assert not torch.isclose(start[:, :65], asked.weights).any()


# --- Exact counts --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=10)
@given(width=st.integers(3, 9), data=st.data())
def test_every_target_is_met_and_members_do_not_mix(
    method: str, width: int, data: st.DataObject
) -> None:
    """Exactly, for any target; and a member alone gets the mask that it gets among others."""
    network = MLP.spiral(width)
    targets = data.draw(st.lists(st.integers(1, network.n_weights), min_size=2, max_size=4))
    seeds = data.draw(st.permutations(range(3)))
    asked = problem(network, targets, seeds=seeds, dtype=torch.float64)
    mask = start_mask(method, asked)
    assert mask.sum(dim=1).tolist() == targets
    one = data.draw(st.integers(0, len(targets) - 1))
    columns = ("parameters", "target", "seed", "learning_rate")
    alone = replace(asked, **{name: getattr(asked, name)[one : one + 1] for name in columns})
    assert torch.equal(start_mask(method, alone)[0], mask[one])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("width", [16, 256])
def test_every_target_is_met_in_wide_networks(method: str, width: int) -> None:
    options = {"rounds": 5} if method == "synflow" else {}
    mask = start_mask(method, problem(MLP.spiral(width), [15, 65]), **options)
    assert mask.sum(dim=1).tolist() == [15, 65]


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_scores_keeps_the_first_weights(method: str) -> None:
    """All weights zero: no method has anything to go by, and none gives up."""
    asked = problem(MLP.spiral(4), [15, 20])
    mask = start_mask(method, replace(asked, parameters=torch.zeros_like(asked.parameters)))
    assert mask.tolist() == [[i < k for i in range(44)] for k in (15, 20)]


@pytest.mark.parametrize("method", METHODS)
def test_effective_counts(method: str) -> None:
    asked = problem(MLP.spiral(6), [10, 25, 60], count="effective")
    mask = start_mask(method, asked)
    assert torch.equal(effective_mask(asked.network, mask), mask)
    assert (mask.sum(dim=1) <= asked.target).all()
    assert mask.any()


@pytest.mark.parametrize("method", METHODS)
def test_scores_do_not_depend_on_the_memory_there_is(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = problem(MLP.spiral(6), range(20, 45), dtype=torch.float64)
    together = start_mask(method, asked)
    monkeypatch.setattr(problem_module, "CHUNK_BYTES", 1)
    assert torch.equal(start_mask(method, asked), together)


@pytest.mark.parametrize("method", ["synflow", "iter_snip", "force"])
def test_rounds_fall_geometrically(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the nearest count. Masks are nested, but for FORCE; also where no weight that is left has
    a score, as without biases when a layer is empty."""
    masks: list[Tensor] = []
    keep = Problem.keep

    def recorded(self: Problem, scores: Tensor, k: Tensor, **how: object) -> Tensor:
        masks.append(keep(self, scores, k, **how))  # type: ignore[arg-type]
        return masks[-1]

    monkeypatch.setattr(Problem, "keep", recorded)
    asked = problem(MLP.spiral(8), [1, 15, 33, 100])
    n = asked.network.n_weights
    asked.parameters[:, n:] = 0
    start_mask(method, asked, rounds=7)
    for done, mask in enumerate(masks, start=1):
        expected = [n * (t / n) ** (done / 7) for t in asked.target.tolist()]
        assert abs(mask.sum(dim=1) - torch.tensor(expected)).max() <= 0.5 + 1e-4
    nested = all((later <= earlier).all() for earlier, later in pairwise(masks))
    assert nested == (method != "force")
    assert len(masks) == 7


def test_batches_before_training_go_on_into_earlier_epochs() -> None:
    asked = problem(MLP.spiral(3), [10])
    batches = asked.batches(0, 10)
    assert batches.shape == (10, 16)
    first, second = batches[:4].flatten().tolist(), batches[4:8].flatten().tolist()
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second
    assert torch.equal(asked.batches(0, 5), batches[:5])


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("snip", "batches", 0),
        ("grasp", "per_class", 0),
        ("grasp", "temperature", 0.0),
        ("synflow", "rounds", 0),
        ("iter_snip", "rounds", -1),
        ("force", "rounds", 0),
        ("prospr", "steps", 0),
    ],
)
def test_options_that_are_not_positive_are_refused(method: str, option: str, value: Value) -> None:
    with refused(method, f"{option} is {value}", "above zero"):
        start_mask(method, problem(MLP.spiral(3), [10]), **{option: value})


def test_grasp_needs_both_classes() -> None:
    asked = problem(MLP.spiral(3), [10])
    points = Points(asked.points.x, torch.ones(64))
    with refused("grasp", "one class"):
        grasp.saliency(replace(asked, points=points))


# --- Saliencies by other means -------------------------------------------------------------------


def test_the_differentiable_network_is_the_one_that_is_trained() -> None:
    asked = problem(MLP((2, 4, 3, 5, 1)), [10] * 4, dtype=torch.float64)
    network, x, y = asked.network, asked.points.x, asked.points.y
    parameters = asked.parameters.clone().requires_grad_()
    found = logits(network, parameters, x)
    torch.testing.assert_close(found, activations(network, asked.parameters, x)[-1][:, 0, :])
    each = losses(found, y)
    expected = [plain_loss(network, row, x, y) for row in asked.parameters]
    torch.testing.assert_close(each, torch.stack(expected))
    (slope,) = torch.autograd.grad(each.sum(), parameters)
    torch.testing.assert_close(slope, gradients(network, asked.parameters, x, y))


def test_magnitude_keeps_the_largest_weights() -> None:
    asked = problem(MLP.spiral(4), [15, 20, 44])
    mask = start_mask("magnitude", asked)
    for weights, kept, k in zip(asked.weights.abs(), mask, (15, 20, 44), strict=True):
        assert sorted(weights[kept].tolist()) == sorted(weights.tolist())[-k:]


@pytest.mark.parametrize("member", range(3))
@pytest.mark.parametrize("per_class", [6, 100])
@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_grasp_is_the_change_of_the_gradient_norm(
    member: int, per_class: int, temperature: float
) -> None:
    """w d(|g|^2 / 2)/dw by finite differences; 100 points of a class are more than there are."""
    asked = problem(MLP.spiral(3), [10] * 3, dtype=torch.float64)
    network, n = asked.network, asked.network.n_weights
    weights, biases = asked.parameters[member].split([n, network.n_biases])
    order = asked.batches(int(asked.seed[member]), 4).flatten()
    x, y = asked.points.x[order], asked.points.y[order]
    # Dividing logits by a temperature is dividing the last layer.
    scale = torch.ones(network.n_parameters, dtype=torch.float64)
    scale[network.weight_slices[-1]] = scale[network.bias_slices[-1]] = 1 / temperature

    def loss(weights: Tensor) -> Tensor:
        whole = torch.cat([weights, biases]) * scale
        first, second = (
            plain_loss(network, whole, x[y == c][:per_class], y[y == c][:per_class]) for c in (0, 1)
        )
        return first + second

    def half_square(weights: Tensor) -> Tensor:
        return gradient(loss, weights).square().sum() / 2

    found = grasp.saliency(asked, per_class=per_class, temperature=temperature)[member]
    expected = weights * finite_differences(half_square, weights, 1e-6)
    largest = expected.abs().max().item()
    assert largest > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * largest)


@pytest.mark.parametrize("member", range(3))
@pytest.mark.parametrize("steps", [1, 3])
def test_prospr_is_the_slope_of_the_loss_after_training(member: int, steps: int) -> None:
    """By finite differences of trainings that start from weights times a mask near one. Their first
    momentum buffer is that of the mask of ones."""
    asked = problem(MLP.spiral(3), [10] * 3, dtype=torch.float64)
    asked = replace(asked, parameters=2 * asked.parameters, learning_rate=4 * asked.learning_rate)
    network, rate = asked.network, asked.learning_rate[member]
    weights, biases = asked.parameters[member].split([network.n_weights, network.n_biases])
    batches = asked.batches(int(asked.seed[member]), steps + 1)

    def loss(step: int, at: Tensor) -> Tensor:
        batch = batches[step]
        return plain_loss(network, at, asked.points.x[batch], asked.points.y[batch])

    first_buffer = gradient(partial(loss, 0), asked.parameters[member])

    def after_training(mask: Tensor) -> Tensor:
        at, velocity = torch.cat([mask * weights, biases]), first_buffer
        for step in range(steps):
            if step > 0:
                velocity = 0.9 * velocity + gradient(partial(loss, step), at)
            at = at - rate * velocity
        return loss(steps, at)

    found = prospr.saliency(asked, steps=steps)[member]
    expected = finite_differences(after_training, torch.ones_like(weights), 1e-6).abs()
    assert expected.max() > 0.001
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


def test_prospr_looks_ahead_at_the_rate_of_each_run() -> None:
    asked = problem(MLP.spiral(5), [20] * 3, seeds=[0])
    assert asked.learning_rate.unique().numel() == 3
    scores = prospr.saliency(asked)
    assert not torch.isclose(scores[0], scores[1], rtol=1e-3)[scores[0] > 0].all()
    # Where nothing moves, the loss of the last batch is all there is.
    still = prospr.saliency(replace(asked, learning_rate=torch.zeros(3).double()))
    expected = (asked.weights * asked.slopes(3)).abs()
    torch.testing.assert_close(still, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["iter_snip", "force"])
def test_one_round_is_snip(method: str) -> None:
    asked = problem(MLP.spiral(7), [15, 30, 60, 90])
    assert torch.equal(start_mask(method, asked, rounds=1), start_mask("snip", asked))


@pytest.mark.parametrize("method", ["iter_snip", "force"])
def test_the_second_round_scores_the_pruned_network(method: str) -> None:
    """On its own batch, with all biases; FORCE by initial values, also where pruned."""
    asked = problem(MLP.spiral(4), [15, 20, 30], dtype=torch.float64)
    network, n = asked.network, asked.network.n_weights
    first = asked.keep(snip.saliency(asked), asked.geometric(0.5), published=keep_above_next)
    scores = []
    for parameters, kept, seed in zip(asked.parameters, first, asked.seed.tolist(), strict=True):
        batch = asked.batches(seed, 2)[1]
        pruned = parameters.clone()
        pruned[:n][~kept] = 0
        loss = partial(plain_loss, network, x=asked.points.x[batch], y=asked.points.y[batch])
        weights = parameters if method == "force" else pruned
        scores.append((gradient(loss, pruned) * weights).abs()[:n])
    within = None if method == "force" else first
    expected = asked.keep(
        torch.stack(scores), asked.target, published=keep_above_next, within=within
    )
    assert torch.equal(start_mask(method, asked, rounds=2), expected)


# --- SynFlow -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    density=st.floats(0.2, 1.0),
    number=st.integers(0, 999),
)
def test_flow_is_conserved(sizes: list[int], density: float, number: int) -> None:
    """Through each hidden neuron, its bias included; and it is what autograd finds."""
    network = MLP((2, *sizes, 1))
    rng = torch.Generator().manual_seed(number)
    shape = (3, network.n_parameters)
    kept = torch.rand(shape, generator=rng) < density
    parameters = torch.where(kept, torch.randn(shape, generator=rng), 0.0).double()
    found = synflow.flow(network, parameters)
    magnitude = parameters.abs().requires_grad_()
    output = logits(network, magnitude, torch.ones(1, 2).double())
    (slope,) = torch.autograd.grad(output.sum(), magnitude)
    flow = (slope * magnitude).detach()
    torch.testing.assert_close(found, flow[:, : network.n_weights])

    by_weight, by_bias = network.weights(found), network.biases(flow)
    for lower, upper, bias in zip(by_weight[:-1], by_weight[1:], by_bias[:-1], strict=True):
        torch.testing.assert_close(lower.sum(dim=2) + bias, upper.sum(dim=1))

    parameters[:, network.n_weights :] = 0
    layers = [layer.sum(dim=(1, 2)) for layer in network.weights(synflow.flow(network, parameters))]
    torch.testing.assert_close(layers, [layers[0]] * network.n_layers)


def test_synflow_counts_on_flows_below_single_precision() -> None:
    """Without biases the order of flows does not change with scale; of 2^-40 to the fourth power
    nothing is left in single precision."""
    asked = problem(MLP.spiral(8), [15, 30, 60])
    whole = asked.parameters.clone()
    whole[:, asked.network.n_weights :] = 0
    tiny = replace(asked, parameters=whole * math.ldexp(1, -40))
    assert (synflow.flow(asked.network, tiny.parameters) == 0).all()
    mask = synflow.start_mask(tiny)
    assert torch.equal(mask, synflow.start_mask(replace(asked, parameters=whole)))
    # What Tanaka et al. prove: no layer is emptied while others have more to give.
    assert all(layer.any(dim=(1, 2)).all() for layer in asked.network.weights(mask))


def test_synflow_needs_no_data() -> None:
    asked = problem(MLP.spiral(6), [15, 30, 60])
    other = replace(asked, seed=asked.seed + 1, points=Points(-asked.points.x, asked.points.y))
    assert torch.equal(synflow.start_mask(asked), synflow.start_mask(other))
