"""Pruning methods for classifiers: counts, masks, and what is trained, on small networks."""

import copy
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import ceil, log
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import sparselimit.pruning.classifiers
from sparselimit import store, training
from sparselimit.curvature.products import Objective
from sparselimit.ensemble.checkpoint import Stopped
from sparselimit.networks.classifier import evaluate
from sparselimit.networks.network import Design, Network
from sparselimit.pruning.classifiers import masks, rare_gems, registry, smart_ratio
from sparselimit.pruning.classifiers.problem import Problem, Pruned, layers_of, weight_of
from sparselimit.pruning.classifiers.registry import Choice
from sparselimit.pruning.classifiers.results import (
    content,
    in_rounds,
    kept_parameters,
    one_shot_weights,
    stored_networks,
)
from sparselimit.training import Recipe
from tests.unit.refusals import refused
from tests.unit.test_training import blobs, pictures

RECIPE = Recipe(epochs=6, batch_size=16, learning_rate=0.1)


def problem(
    *densities: float,
    architecture: str = "fc",
    widths: tuple[int, ...] = (12, 8),
    shape: tuple[int, ...] = (2,),
    recipe: Recipe = RECIPE,
    protocol: str = "exact",
    checkpoint: Path | None = None,
) -> Problem:
    """Three classes around three points, or two of small images, and a network trained on them."""
    images = len(shape) == 3
    data = pictures if images else blobs
    samples = {
        split: data(n, seed)
        for seed, (split, n) in enumerate({"fit": 60, "validation": 30, "test": 30}.items())
    }
    made = Design(architecture, widths, shape, 2 if images else 3, np.zeros(1), np.ones(1))
    found = Problem(Network(made), samples, recipe, densities, protocol, 0.05, checkpoint)
    everything = torch.ones(len(found.weights), dtype=torch.bool)
    trained = found.start()
    replace(found, checkpoint=None).train(trained, everything, "dense")
    return replace(found, trained=trained)


def made(method: str, given: Problem, **options: object) -> list[Pruned]:
    choice = Choice.of(method, options)  # type: ignore[arg-type]
    return list(registry.networks(choice, given))


def check_consistent(given: Problem, found: list[Pruned]) -> None:
    """Pruned weights are 0, others are not; the network is in evaluation mode."""
    for pruned in found:
        values = given.values(pruned.network)
        assert torch.equal(values != 0, pruned.mask)
        assert not pruned.network.training


# --- Iterative magnitude pruning -----------------------------------------------------------------


def test_rounds_of_imp_are_nested_and_exact() -> None:
    given = problem(0.3)
    found = made("imp", given, fraction=0.25)
    n = len(given.weights)
    expected = [n]
    while expected[-1] > given.count(0.3):
        expected.append(expected[-1] - ceil(0.25 * expected[-1]))
    assert [int(pruned.mask.sum()) for pruned in found] == expected
    assert len(found) > 4
    for before, after in pairwise(found):
        assert not (after.mask & ~before.mask).any()
        dropped = before.mask & ~after.mask
        values = given.values(before.network).abs()
        assert values[dropped].max() <= values[after.mask].min()
    assert {pruned.epochs for pruned in found} == {6.0}
    check_consistent(given, found)


def test_the_first_round_of_imp_is_the_dense_network() -> None:
    given = problem(0.9)
    first = made("imp", given)[0]
    for name, value in given.trained.state_dict().items():
        assert torch.equal(first.network.state_dict()[name], value)


def test_imp_rewinds_to_the_initial_values_under_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    given, starts = problem(0.5), _starts(monkeypatch)
    found = made("imp", given, fraction=0.3)
    initial = given.values(given.start())
    for pruned, (values, steps) in zip(found, starts, strict=True):
        assert torch.equal(values, torch.where(pruned.mask, initial, 0.0))
        assert steps in (None, range(18))


def test_imp_rewinds_to_an_early_step_and_goes_on_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After 5 of 18 steps, with batch statistics as they were then; the dense network is whole."""
    given = problem(0.5, architecture="conv", widths=(3, 4), shape=(1, 8, 8))
    early = given.start()
    given.train(early, torch.ones(len(given.weights), dtype=torch.bool), "early", steps=range(5))
    starts = _starts(monkeypatch)
    found = made("imp", given, fraction=0.3, rewind=5)
    assert [steps for _, steps in starts] == [range(5), None, *[range(5, 18)] * (len(found) - 1)]
    for pruned, (values, _) in zip(found[1:], starts[2:], strict=True):
        assert torch.equal(values, torch.where(pruned.mask, given.values(early), 0.0))
        assert pruned.epochs == 13 / 3
    assert torch.equal(given.values(found[0].network), given.values(given.trained))


def _starts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, range | None]]:
    """The weights that each training starts from, and its steps, as they come."""
    seen: list[tuple[Tensor, range | None]] = []
    fit = Problem.fit

    def noted(self: Problem, module: nn.Module, *args: object, **options: object) -> float:
        steps = options.get("steps")
        assert steps is None or isinstance(steps, range)
        seen.append((self.values(module).clone(), steps))
        return fit(self, module, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Problem, "fit", noted)
    return seen


def test_published_imp_drops_the_threshold_too_and_rewinds_weights_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, starts = problem(0.4, protocol="published"), _starts(monkeypatch)
    found = made("imp", given)
    counts = [int(pruned.mask.sum()) for pruned in found]
    for before, after in pairwise(counts):
        assert after == before - ceil(0.2 * before) - 1
    initial = given.values(given.start())
    for pruned, (values, steps) in zip(found, starts, strict=True):
        assert torch.equal(values, torch.where(pruned.mask, initial, 0.0))
        assert steps is None
    biases = [next(iter(layers_of(pruned.network))).get_parameter("bias") for pruned in found]
    assert not torch.equal(biases[0], biases[-1])


def test_imp_may_leave_the_last_layer_whole() -> None:
    given = problem(0.1)
    found = made("imp", given, fraction=0.5, output=False)
    assert all(pruned.mask[-given.sizes[-1] :].all() for pruned in found)
    others = [int(pruned.mask.sum()) - given.sizes[-1] for pruned in found]
    assert others[0] == sum(given.sizes[:-1])
    assert others[1:] == [left // 2 for left in others[:-1]]


# --- Rare Gems -----------------------------------------------------------------------------------


def test_the_share_dropped_is_the_published_one() -> None:
    found = [rare_gems.drop_rate(d, epochs=150, period=5) for d in (0.0372, 0.0144, 0.0059)]
    assert found == pytest.approx([0.1073, 0.1360, 0.1622], abs=5e-5)
    assert found[0] == pytest.approx(1 - np.exp(log(0.0372) / 29))


@pytest.mark.parametrize("protocol", ["exact", "published"])
def test_gems_have_the_density_asked_for(protocol: str) -> None:
    given = problem(0.6, 0.2, protocol=protocol, recipe=replace(RECIPE, epochs=12))
    found = made("rare_gems", given, period=2, l2=0.001)
    for pruned, density in zip(found, (0.6, 0.2), strict=True):
        count = int(pruned.mask.sum())
        if protocol == "exact":
            assert count == given.count(density)
        else:  # rounded up at each of five prunings, and ties go
            assert density * len(given.weights) - 12 < count <= density * len(given.weights)
        assert pruned.epochs == 24
    check_consistent(given, found)


@pytest.mark.parametrize("method", ["rare_gems", "fine_tuned"])
def test_trainings_of_a_method_minimise_the_loss_alone(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the dense network was trained by."""
    given = problem(0.5)
    odd = {"optimizer": "adam", "momentum": 0.5, "weight_decay": 0.1, "l1": 0.1, "warmup": 2}
    given = replace(given, recipe=given.with_recipe(**odd, protocol="published"))
    recipes: list[Recipe] = []
    fit = Problem.fit

    def noted(self: Problem, module: nn.Module, name: str, recipe: Recipe, **more: object) -> float:
        recipes.append(recipe)
        return fit(self, module, name, recipe, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Problem, "fit", noted)
    options = {"rare_gems": {"period": 2}, "fine_tuned": {"steps": 4, "refine": 0}}[method]
    made(method, given, **options)
    assert [(r.weight_decay, r.l1, r.warmup, r.protocol) for r in recipes] == [
        (0, 0, 0, "exact")
    ] * len(recipes)
    optimizers = [(r.optimizer, r.momentum) for r in recipes if r.optimizer == "sgd"]
    assert optimizers == ([("sgd", 0.9)] * 2 if method == "rare_gems" else [])
    assert recipes[-1].schedule == ("step" if method == "rare_gems" else "cosine")


def test_published_gems_of_any_density() -> None:
    """Scores that are cut to [0, 1] tie, and all that tie go: at a low density that is all."""
    recipe = replace(RECIPE, epochs=12)
    given = problem(1.0, 0.01, protocol="published", recipe=recipe)
    (whole,) = made("rare_gems", given, period=1, score_rate=10.0)
    assert whole.density == 1
    assert whole.mask.all()


def test_gems_start_from_signs_and_keep_their_biases() -> None:
    given = problem(0.5)
    start = rare_gems.signed_constant(given)
    for layer, initial in zip(layers_of(start), layers_of(given.start()), strict=True):
        weight = weight_of(layer)
        deviation = (2 / weight.shape[1]) ** 0.5
        assert torch.equal(weight, deviation * weight_of(initial).sign())
    (pruned,) = made("rare_gems", given, period=2)
    for layer in layers_of(pruned.network):
        assert isinstance(layer, nn.Linear)
        assert not layer.bias.any()
    assert not torch.equal(
        given.values(pruned.network)[pruned.mask], given.values(start)[pruned.mask]
    )


def test_scores_are_trained_straight_through() -> None:
    """The gradient of a score is that of the weight it switches, times the weight."""
    given = problem(0.5)
    gem, plain = rare_gems.Gem(given, 0.5, period=2, l2=0.3), rare_gems.signed_constant(given)
    x, y = given.samples["fit"]
    part = gem.parts[1]
    part.left[0, :4] = False
    frozen = [weight_of(layer).detach().clone() for layer in layers_of(plain)]
    for layer, each in zip(layers_of(plain), gem.parts, strict=True):
        weight_of(layer).data.mul_(each.left & (each.scores > 0.5))
    torch.testing.assert_close(gem.network(x), plain(x))
    (cross_entropy(gem.network(x), y) + gem.penalty()).backward()
    cross_entropy(plain(x), y).backward()
    slope = weight_of(layers_of(plain)[1]).grad
    assert slope is not None
    expected = slope * frozen[1] * part.left + 0.6 * part.scores
    torch.testing.assert_close(part.scores.grad, expected)
    trained = [name for name, p in gem.network.named_parameters() if p.grad is not None]
    assert all(name.endswith("scores") for name in trained)
    assert len(trained) == 3


def test_layers_that_share_a_weight_share_its_scores(tmp_path: Path) -> None:
    (tmp_path / "tied.py").write_text(
        "from torch import nn\n"
        "def network():\n"
        "    first, second = nn.Linear(2, 2), nn.Linear(2, 2)\n"
        "    second.weight = first.weight\n"
        "    return nn.Sequential(first, nn.ReLU(), second, nn.Linear(2, 3))\n"
    )
    given = problem(0.5, architecture=f"{tmp_path / 'tied.py'}:network", widths=())
    assert given.sizes == (4, 6)
    gem = rare_gems.Gem(given, 0.5, period=2, l2=0.0)
    assert len(list(gem.network.parameters())) == 5 + 2
    gem.parts[0].left[0] = False
    used = [part.weight for part in gem.network.modules() if isinstance(part, nn.Linear)]
    assert torch.equal(used[0], used[1])
    assert not used[0][0].any()
    (pruned,) = made("rare_gems", given, period=2)
    assert int(pruned.mask.sum()) == 5


def test_scores_stay_in_their_range_and_lowest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    given = problem(0.2, recipe=replace(RECIPE, epochs=9))
    seen: list[tuple[Tensor, Tensor]] = []
    drop = rare_gems.Gem._drop

    def noted(self: rare_gems.Gem, number: int) -> None:
        before, scores = self.mask(), torch.cat([p.scores.detach().flatten() for p in self.parts])
        drop(self, number)
        after = self.mask()
        assert not (after & ~before).any()
        assert scores[before & ~after].max() <= scores[after].min()
        seen.append((before, after))

    monkeypatch.setattr(rare_gems.Gem, "_drop", noted)
    n, cut = len(given.weights), rare_gems.Gem.before

    def checked(self: rare_gems.Gem, step: int) -> None:
        cut(self, step)
        assert all(p.scores.min() >= 0 and p.scores.max() <= 1 for p in self.parts)

    monkeypatch.setattr(rare_gems.Gem, "before", checked)
    made("rare_gems", given, period=2, score_rate=3.0)
    counts = [int(after.sum()) for _, after in seen]
    assert counts == [round(n * (given.count(0.2) / n) ** (i / 4)) for i in range(1, 5)]


def test_gems_told_otherwise_do_not_go_on_from_each_others_checkpoint(tmp_path: Path) -> None:
    """The penalty, the rounds and the protocol decide the scores, and no recipe knows them."""
    given = problem(0.3, checkpoint=tmp_path / "out.h5.checkpoint")
    made("rare_gems", given, period=2)
    for options in ({"l2": 0.01, "period": 2}, {"period": 1}):
        with refused("a checkpoint of another run"):
            made("rare_gems", given, **options)
    with refused("a checkpoint of another run"):
        made("rare_gems", replace(given, protocol="published"), period=2)


def test_sanity_checks_keep_the_counts_of_layers() -> None:
    given = problem(0.4)
    gem, new, shuffled, inverted = (
        made("rare_gems", given, period=2, check=check)[0]
        for check in ("none", "reinit", "shuffle", "invert")
    )
    assert torch.equal(new.mask, gem.mask)
    assert not torch.equal(given.values(new.network), given.values(gem.network))
    counts = masks.counts_of_layers(gem.mask, given.sizes)
    assert masks.counts_of_layers(shuffled.mask, given.sizes) == counts
    assert not torch.equal(shuffled.mask, gem.mask)
    assert torch.equal(inverted.mask, ~gem.mask)


def test_the_penalty_lowers_scores() -> None:
    given = problem(0.9, recipe=replace(RECIPE, epochs=20))
    means = []
    for l2 in (0.0, 0.1):
        gem = rare_gems.Gem(given, 0.9, period=19, l2=l2)
        recipe = given.with_recipe(schedule="constant")
        given.fit(gem.network, "scores", recipe, penalty=gem.penalty, before=gem.before)
        means.append(float(torch.cat([part.scores.flatten() for part in gem.parts]).mean()))
    assert means[1] < means[0] - 0.1


# --- Smart-Ratio ---------------------------------------------------------------------------------

RESNET20 = (
    "0.2687 0.2431 0.2188 0.1958 0.1740 0.1536 0.1344 0.1165 0.0998 0.0845 0.0704 0.0576 0.0461 "
    "0.0358 0.0269 0.0192 0.0128 0.0077 0.0038 0.3"
)


def untrained(architecture: str, *widths: int, protocol: str = "exact") -> Problem:
    network = Network(Design(architecture, widths, (3, 16, 16), 10, np.zeros(1), np.ones(1)))
    return Problem(network, {}, RECIPE, (), protocol)


@pytest.mark.parametrize("protocol", ["exact", "published"])
def test_smart_ratios_of_resnet20(protocol: str) -> None:
    """3.72% of the weights, by the formula worked out by hand."""
    given = untrained("resnet20", protocol=protocol)
    counts = smart_ratio.layer_counts(given, 0.0372)
    assert counts is not None
    shares = np.array(counts) / np.array(given.sizes)
    expected = [float(share) for share in RESNET20.split()]
    assert shares == pytest.approx(expected, abs=0.003)
    assert shares[3:19] == pytest.approx(expected[3:19], abs=5e-4)  # layers of many weights
    if protocol == "exact":
        assert sum(counts) == given.count(0.0372)
    else:
        assert 0 <= 0.0372 * sum(given.sizes) - sum(counts) <= 41


def test_shares_above_one_are_passed_on() -> None:
    """Layers of 10, 10, 20 and 10 weights, the last apart; 36 of 50 are kept."""
    sizes, apart = np.array([10, 10, 20, 10]), np.array([False, False, False, True])
    raw = np.array([12.0, 6.0, 2.0, 0.0])
    # 3 of the last; 33 on 10 * 12, 10 * 6, 20 * 2 of 220: 18, 9 and 6; 8 too many in the first.
    assert smart_ratio._exact(sizes, apart, raw, 36, 0.3) == [10, 10, 13, 3]
    assert smart_ratio._exact(sizes, apart, raw, 25, 0.3) == [10, 8, 4, 3]
    assert smart_ratio._exact(sizes, apart, raw, 50, 0.3) == [10, 10, 20, 10]
    assert smart_ratio._exact(sizes, apart, raw, 5, 0.3) is None


def test_the_published_loop_ends_at_the_first_layer_without_surplus() -> None:
    """What the second layer has too much is lost, as the first has none to pass on."""
    sizes, linear = np.array([10, 10, 20, 10]), np.array([False, False, False, True])
    late = np.array([1.0, 12.0, 1.0, 0.0])
    # int(50 * 0.6) - 3 = 27 on 10, 120 and 20 of 150: 1.8, 21.6 and 3.6.
    assert smart_ratio._published(sizes, linear, late, 0.6, 0.3) == [1, 10, 3, 3]
    early = np.array([12.0, 1.0, 1.0, 0.0])
    # 21.6, 1.8 and 3.6: eleven go on; the second has room for eight, the third takes three.
    assert smart_ratio._published(sizes, linear, early, 0.6, 0.3) == [10, 10, 6, 3]


def test_networks_without_shortcuts_divide_by_the_square_of_the_place() -> None:
    given = untrained("conv", 8, 16, 32)
    counts = smart_ratio.layer_counts(given, 0.2)
    assert counts is not None
    assert sum(counts) == given.count(0.2)
    shares = np.array(counts[:3]) / np.array(given.sizes[:3])
    free = (shares < 1).nonzero()[0]
    raw = np.array([20.0, 12 / 4, 6 / 9])
    assert np.ptp((shares / raw)[free[1:]]) < 0.02 or len(free) == 1
    assert counts[3] == pytest.approx(0.3 * given.sizes[3], abs=1)


def test_networks_without_convolutions_have_the_quadratic_in_all_layers_but_the_last() -> None:
    given = problem(0.5)
    counts = smart_ratio.layer_counts(given, 0.5)
    assert counts is not None
    assert sum(counts) == given.count(0.5)
    assert counts[-1] == pytest.approx(0.3 * given.sizes[-1], abs=1)
    tall = problem(0.2, widths=(30, 30))
    counts = smart_ratio.layer_counts(tall, 0.2)
    assert counts is not None
    assert counts[0] / tall.sizes[0] == pytest.approx(2 * counts[1] / tall.sizes[1], rel=0.05)
    with refused("smart_ratio", "without convolutions", "exact"):
        smart_ratio.layer_counts(replace(given, protocol="published"), 0.5)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("linear", [4, 3, 2]),
        ("cubic", [64, 27, 8]),
        ("ascend", [2, 6, 12]),
        ("uniform", [1, 1, 1]),
        ("quadratic", [20, 12, 6]),
    ],
)
def test_decays(decay: str, expected: list[int]) -> None:
    assert smart_ratio.DECAYS[decay](np.arange(1, 5), 4)[:3].tolist() == expected


@pytest.mark.parametrize("decay", smart_ratio.DECAYS)
def test_counts_are_met_however_steep_the_shares(decay: str) -> None:
    """Also where the last layers are full and the first are not; and by a layer alone."""
    given = untrained("fc", 12, 12, 12)
    for density in (0.3, 0.6, 0.9, 0.95, 0.999, 1.0):
        counts = smart_ratio.layer_counts(given, density, decay=decay)
        assert counts is not None
        assert sum(counts) == given.count(density)
        assert all(0 <= n <= size for n, size in zip(counts, given.sizes, strict=True))
    alone = untrained("fc")
    assert smart_ratio.layer_counts(alone, 0.1, decay=decay) == [alone.count(0.1)]


def test_smart_ratio_draws_its_masks_and_leaves_out_what_it_cannot_do() -> None:
    given = problem(0.6, 0.3, 0.01)
    found = made("smart_ratio", given)
    assert [pruned.density for pruned in found] == [0.6, 0.3]
    check_consistent(given, found)
    for pruned, density in zip(found, (0.6, 0.3), strict=True):
        counts = smart_ratio.layer_counts(given, density)
        assert masks.counts_of_layers(pruned.mask, given.sizes) == counts
    other = replace(given, recipe=replace(RECIPE, seed=1))
    again, new = (smart_ratio.start_mask(p, 0.3) for p in (given, other))
    assert again is not None
    assert new is not None
    assert torch.equal(again, found[1].mask)
    assert not torch.equal(new, again)
    hybrid = smart_ratio.start_mask(given, 0.3, hybrid=True)
    assert hybrid is not None
    first = slice(0, given.sizes[0])
    values = given.values(given.trained).abs()[first]
    assert values[hybrid[first]].min() >= values[~hybrid[first]].max()


# --- Fine-tuning ---------------------------------------------------------------------------------


def test_fine_tuning_mends_what_pruning_broke_and_finds_the_threshold() -> None:
    given = problem(0.6, 0.3, 0.02)
    found = made("fine_tuned", given, steps=40, learning_rate=0.01, refine=4)
    check_consistent(given, found)
    asked = [pruned.density for pruned in found]
    assert asked[:3] == [0.6, 0.3, 0.02]
    good = [d for d, p in zip(asked, found, strict=True) if given.good_enough(p.network) and d]
    bad = [d for d, p in zip(asked, found, strict=True) if not given.good_enough(p.network) and d]
    ratio = min(good) / max(d for d in bad if d < min(good))
    assert ratio == pytest.approx((0.3 / 0.02) ** (1 / 16), rel=0.01) or len(asked) == 7
    magnitude = given.values(given.trained).abs()
    for pruned in found:
        assert magnitude[pruned.mask].min() >= magnitude[~pruned.mask].max()
    cut = given.start()
    cut.load_state_dict(given.trained.state_dict())
    given.set_values(cut, torch.where(found[1].mask, given.values(cut), 0.0))
    fit = given.samples["fit"]
    assert evaluate(found[1].network, fit)[0] < evaluate(cut, fit)[0]
    assert found[0].epochs == 40 / 3


def test_a_fall_of_exactly_the_tolerance_is_good_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.95 - 0.94 > 0.01 in floating point."""
    given = replace(problem(0.5), tolerance=0.01)
    accuracy = {given.trained: 0.95}
    monkeypatch.setattr(
        "sparselimit.pruning.classifiers.problem.evaluate", lambda n, _: (0.0, accuracy[n])
    )
    for lower, enough in ((0.94, True), (0.93, False)):
        network = given.start()
        accuracy[network] = lower
        assert given.good_enough(network) == enough


def test_reoptimised_weights_minimise_the_quadratic_model_without_training() -> None:
    """By the normal equations on what is kept, biases too; far better than cutting alone."""
    given = problem(0.7, 0.4, recipe=replace(RECIPE, epochs=20))
    found = made("reoptimised", given, damping=0.01, refine=2)
    check_consistent(given, found)
    assert [pruned.epochs for pruned in found] == [0.0] * len(found)
    network = copy.deepcopy(given.trained).double()
    objective = Objective(network, cross_entropy, *given.samples["fit"], batch_size=60)
    curvature = objective.exact_ggn() + 0.01 * torch.eye(objective.dimension)
    flat = objective.parameters
    for pruned, density in zip(found, (0.7, 0.4), strict=False):
        mask = masks.largest(given.values(given.trained).abs(), given.count(density))
        assert torch.equal(pruned.mask, mask)
        kept = kept_parameters(given.weights, mask, len(flat))
        right = curvature[kept] @ flat
        expected = torch.zeros_like(flat)
        expected[kept] = torch.linalg.solve(curvature[kept][:, kept], right)
        moved = nn.utils.parameters_to_vector(pruned.network.parameters()).detach().double()
        torch.testing.assert_close(moved, expected, atol=1e-4, rtol=1e-4)
    cut = copy.deepcopy(given.trained)
    given.set_values(cut, torch.where(found[1].mask, given.values(cut), 0.0))
    fit = given.samples["fit"]
    assert evaluate(found[1].network, fit)[0] < evaluate(cut, fit)[0]
    assert made("reoptimised", given, most_parameters=50) == []


# --- Methods of one's own ------------------------------------------------------------------------


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a method `mine` beside those there are."""
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    monkeypatch.setattr(sparselimit.pruning.classifiers, "__path__", [str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, f"{registry.PACKAGE}.mine", raising=False)

    def add(source: str) -> None:
        (tmp_path / "mine.py").write_text(source)

    return add


def test_a_method_of_ones_own_is_one_file_with_one_function(add: Callable[[str], None]) -> None:
    add(
        "def start_mask(problem, density, *, last: bool = False):\n"
        '    """last: keep the last ones"""\n'
        "    import torch\n"
        "    k = problem.count(density)\n"
        "    place = torch.arange(len(problem.weights))\n"
        "    return place >= len(place) - k if last else place < k\n"
    )
    assert registry.methods().known() == ["mine"]
    given = problem(0.5, 0.25)
    found = made("mine", given, last=True)
    assert [int(pruned.mask.sum()) for pruned in found] == [given.count(0.5), given.count(0.25)]
    assert found[0].mask[-given.count(0.5) :].all()
    check_consistent(given, found)
    with refused("no option 'first'", "last"):
        Choice.of("mine", {"first": True})


def test_a_mask_of_the_wrong_shape_is_refused(add: Callable[[str], None]) -> None:
    add("def start_mask(problem, density):\n    import torch\n    return torch.ones(3)\n")
    with refused("mine", "start_mask of shape (3,)", "torch.bool"):
        made("mine", problem(0.5))


def test_densities_are_dealt_out_unless_networks_follow_from_each_other() -> None:
    densities = [0.5, 0.3, 0.2, 0.1, 0.05]
    assert Choice.of("smart_ratio", {}).parts(densities, 2) == [[0.5, 0.3], [0.2, 0.1], [0.05]]
    assert Choice.of("smart_ratio", {}).parts(densities, None) == [densities]
    assert Choice.of("imp", {}).parts(densities, 2) == [densities]


# --- Results -------------------------------------------------------------------------------------


def test_a_result_file_holds_every_network(tmp_path: Path) -> None:
    given = problem(0.5, 0.2, architecture="conv", widths=(3, 4), shape=(1, 8, 8))
    found = made("smart_ratio", given)
    path = tmp_path / "net" / "smart_ratio" / "part.h5"
    store.write(path, "pruned-networks", content(given, iter(found)), config={})
    stored = store.read(path, "pruned-networks")
    runs = stored.table("runs")
    assert runs.weights.tolist() == [int(pruned.mask.sum()) for pruned in found]
    assert runs.asked.tolist() == [0.5, 0.2][: len(found)]
    networks = stored_networks(stored, given.trained)
    for row, again, pruned in zip(runs.itertuples(), networks, found, strict=True):
        kept = kept_parameters(given.weights, pruned.mask, len(again.kept))
        assert torch.equal(again.kept, kept)
        for name, value in pruned.network.state_dict().items():
            assert torch.equal(again.network.state_dict()[name], value)
        assert (row.test_loss, row.test_accuracy) == evaluate(again.network, given.samples["test"])
    assert not list(in_rounds(stored, given.trained))
    with refused("part.h5", "prunable weights", "pruned from"):
        list(stored_networks(stored, problem(0.5).trained))
    layers = stored.table("layers")
    assert layers.groupby("run").kept.sum().tolist() == runs.weights.tolist()
    assert layers.weights[layers.run == 0].tolist() == list(given.sizes)


def test_the_one_shot_threshold_of_a_pruned_network_is_that_of_its_own_sweep() -> None:
    given = replace(problem(0.7, recipe=replace(RECIPE, epochs=20)), tolerance=0.04)
    (pruned,) = made("fine_tuned", given, steps=30, refine=0)
    enough = one_shot_weights(given, pruned)
    values, validation = given.values(pruned.network), given.samples["validation"]
    own = evaluate(pruned.network, validation)[1]

    def lost(kept: int) -> float:
        cut = copy.deepcopy(pruned.network)
        given.set_values(cut, torch.where(masks.largest(values.abs(), kept), values, 0.0))
        return own - evaluate(cut, validation)[1]

    total = int(pruned.mask.sum())
    assert 1 < enough < total
    step = ceil(total / 100)
    assert all(lost(kept) <= 0.04 + 1e-9 for kept in range(enough, total + 1, step))
    assert lost(enough - step) > 0.04
    assert torch.equal(given.values(pruned.network), values)


def test_no_network_at_all_is_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.h5"
    store.write(path, "pruned-networks", content(problem(0.001), iter([])), config={})
    assert store.read(path, "pruned-networks").table("runs").empty


# --- Cost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options", "exact"),
    [
        ("imp", {"fraction": 0.25}, True),
        ("rare_gems", {"period": 2}, True),
        ("smart_ratio", {}, True),
        ("reoptimised", {}, True),
        ("fine_tuned", {"steps": 20, "refine": 2}, False),
    ],
)
def test_a_method_takes_the_steps_that_it_says(
    method: str, options: dict, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = problem(0.5, 0.3)
    taken = _counted(monkeypatch, -1)
    made(method, given, **options)
    number, each = Choice.of(method, options).trainings(given.densities, given.steps())
    assert len(taken) == number * each if exact else 0 < len(taken) <= number * each


def test_a_method_of_ones_own_says_what_it_costs(add: Callable[[str], None]) -> None:
    """By a function that is run without the rest of its file; one training where it has none."""
    pruned = "def pruned(problem, density, *, warm: int = 2, share: float = 0.5):\n    pass\n"
    add("import no_such_module\n" + pruned)
    assert Choice.of("mine", {}).trainings([0.5, 0.1], 7) == (2, 7)
    add(
        f"import no_such_module\n{pruned}"
        "def trainings(densities: no_such_module.List, steps, *, warm):\n"
        "    return len(densities) * ceil(sqrt(warm)), steps + 1\n"
    )
    assert Choice.of("mine", {"warm": 8}).trainings([0.5, 0.1], 7) == (6, 8)
    with refused("mine.py: trainings fails for warm -8, share 0.5 (ValueError: "):
        Choice.of("mine", {"warm": -8}).trainings([0.5], 7)
    for said in ("-1, steps", "1.5, steps", "steps", "'many', 3", "None"):
        add(f"{pruned}def trainings(densities, steps):\n    return {said}\n")
        with refused("mine.py: trainings", "two whole numbers"):
            Choice.of("mine", {}).trainings([0.5], 7)
    for wrong in ("def trainings():\n    pass", "def trainings(a, b, *, cold):\n    return 1, 1"):
        add(pruned + wrong)
        with refused("mine.py: trainings fails"):
            Choice.of("mine", {}).trainings([0.5], 7)


# --- Stopping and going on -----------------------------------------------------------------------


@pytest.mark.parametrize(("method", "step"), [("imp", 25), ("rare_gems", 16), ("fine_tuned", 30)])
def test_a_stopped_method_goes_on_to_the_same_networks(
    method: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its second training; the first is not done again."""
    options = {"rare_gems": {"period": 2}, "fine_tuned": {"steps": 20, "refine": 1}}.get(method, {})
    given = problem(0.5, 0.3)
    with monkeypatch.context() as patch:
        whole = _counted(patch, -1)
        made(method, given, **options)
    kept = replace(given, checkpoint=tmp_path / "out.h5.checkpoint")
    taken = _counted(monkeypatch, step)
    with pytest.raises(Stopped):
        made(method, kept, **options)
    assert len(taken) == step
    found = made(method, kept, **options)
    expected = made(method, given, **options)
    assert len(taken) == 2 * len(whole)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.mask, other.mask)
        for name, value in other.network.state_dict().items():
            assert torch.equal(one.network.state_dict()[name], value)


def _counted(monkeypatch: pytest.MonkeyPatch, stop_at: int) -> list[int]:
    """Grows with every step of a training; in the one of this number the run is asked to stop."""
    taken: list[int] = []
    step = training._Run._step

    def noted(run: training._Run, number: int, batch: np.ndarray, rate: float) -> None:
        taken.append(number)
        if len(taken) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        step(run, number, batch, rate)

    monkeypatch.setattr(training._Run, "_step", noted)
    return taken
