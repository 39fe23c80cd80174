"""Beam search from above: what removals lead to, what is trained from where, and what is kept."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sparselimit import spiral, store
from sparselimit.ensemble import batched
from sparselimit.ensemble.members import Members, Points
from sparselimit.ensemble.state import State
from sparselimit.ensemble.train import Trained, train
from sparselimit.networks.initial import Fixed, drawn
from sparselimit.networks.mlp import MLP, positions
from sparselimit.search import beam
from sparselimit.search.ancestors import best_networks
from sparselimit.search.beam import INHERITED, Beam, Level, Network, search_down
from sparselimit.search.counting import count_networks
from sparselimit.search.enumeration import canonical_form, sparse_networks
from sparselimit.search.exhaustive import initial_values
from sparselimit.sparsity.connectivity import effective_mask
from sparselimit.sparsity.masks import with_biases
from sparselimit.store import Stored
from tests.unit.refusals import refused

FEW = Beam(least_weights=4, width=3, epochs=6, batch_size=8)
SHAPE = MLP((2, 2, 2, 1, 1))


def halves(n: int = 64) -> Points:
    """An easy task: which side of a line. One path from the right input solves it."""
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return Points(x, (x[:, 1] > 0).float())


def dense(shape: MLP = SHAPE, seed: int = 0, ancestor: int = 0) -> Network:
    """All weights kept, and all values positive, so that no neuron is dead."""
    mask = np.ones(shape.n_weights, dtype=bool)
    return Network(shape, mask, drawn(shape, [seed])[0].abs().numpy(), ancestor)


def search(given: list[Network], how: Beam, **engine: object) -> list[Level]:
    return search_down(given, how, halves(), backend="batched", **engine)  # type: ignore[arg-type]


def trained_alone(network: Network, how: Beam) -> torch.Tensor:
    """The training of one network as the search should do it, [n_parameters]."""
    mask = with_biases(network.shape, torch.tensor(network.mask)[None])
    members = Members.of(
        network.shape,
        torch.tensor(network.parameters)[None],
        mask,
        learning_rate=how.learning_rate,
        order_seed=network.weights,
    )
    return train(members, halves(), how.plan, backend="batched").parameters[0]


def accuracy(network: Network) -> float:
    values = torch.tensor(network.parameters)[None]
    return batched.evaluate(network.shape, values, halves())[0].item()


# --- Removals ------------------------------------------------------------------------------------


def test_every_removal_is_tried_and_nothing_idle_is_left() -> None:
    """Against the effective weights of every mask with one weight less."""
    rng = np.random.default_rng(0)
    fell_by: set[int] = set()
    for widths, masks in sparse_networks(9):
        shape = MLP((2, *widths, 1))
        for mask in masks[::7]:
            parent = Network(shape, mask, rng.random(shape.n_parameters, np.float32), 5)
            expected = []
            for weight in np.flatnonzero(mask):
                less = torch.tensor(mask)[None].clone()
                less[0, weight] = False
                left = effective_mask(shape, less)[0].numpy()
                if left.any():
                    expected.append(canonical_form(left, widths))
            children = list(parent.children())
            assert [child.form for child in children] == [(w, m.tobytes()) for w, m in expected]
            assert {(child.ancestor, child.start) for child in children} <= {(5, INHERITED)}
            fell_by |= {9 - child.weights for child in children}
    assert fell_by == {1, 2, 3, 4, 5}


def test_a_child_computes_what_its_parent_did_without_the_weight() -> None:
    parent, x = dense(MLP((2, 2, 1, 2, 1))), halves().x
    for weight, child in zip(range(parent.weights), parent.children(), strict=True):
        values = parent.parameters.copy()
        values[weight] = 0
        expected = batched.activations(parent.shape, torch.tensor(values)[None], x)[-1]
        found = batched.activations(child.shape, torch.tensor(child.parameters)[None], x)[-1]
        torch.testing.assert_close(found, expected)


def test_a_beam_of_any_width_meets_every_network_inside() -> None:
    """All that there are within the shape, up to permutation: as many as a count in closed form."""
    levels = search([dense()], Beam(4, width=1000, epochs=1, batch_size=64))
    inside = [
        count_networks(widths, SHAPE.n_weights)
        for widths in product(*map(range, (1, 1, 1), (3, 3, 2)))
    ]
    assert [level.best.weights for level in levels] == list(range(4, 12))
    assert [level.networks for level in levels] == np.sum(inside, axis=0)[4:].tolist()
    assert [level.runs for level in levels] == [level.networks for level in levels]


# --- Training ------------------------------------------------------------------------------------


def test_an_easy_task_is_solved_down_to_a_single_path() -> None:
    how = Beam(4, width=4, epochs=20, batch_size=8)
    levels = search([dense(seed=seed, ancestor=seed) for seed in range(4)], how)
    assert [level.best.weights for level in levels] == list(range(4, 12))
    assert all(accuracy(level.best) > 0.95 for level in levels)
    assert levels[0].best.mask.tolist() == [False, True, True, True, True]


def test_a_run_is_that_of_the_network_alone() -> None:
    """Whatever frame and company it was trained in."""
    kept = []
    for level in search([dense()], FEW):
        alone = trained_alone(level.initial, FEW)
        kept.append(np.array_equal(level.best.parameters, level.initial.parameters))
        if not kept[-1]:
            torch.testing.assert_close(torch.tensor(level.best.parameters), alone)
    assert not all(kept)


def test_the_best_of_a_beam_go_on() -> None:
    """A beam of width 1 is a chain: each level's networks are the children of the one above."""
    levels = search([dense()], Beam(4, width=1, epochs=2, batch_size=16))[::-1]
    waiting = {dense().form}
    for level in levels:
        here = {form for form in waiting if sum(form[1]) == level.best.weights}
        assert level.best.form in here
        assert level.networks == len(here)
        waiting |= {child.form for child in level.best.children()}


def test_training_that_makes_worse_does_not_count() -> None:
    """At a rate at which all runs diverge, every network stays what it inherited."""
    how = Beam(9, width=100, learning_rate=1e30, epochs=1, batch_size=16)
    levels = search([dense()], how)
    before = {11: [dense()], 10: list(dense().children())}
    before[9] = [child for network in before[10] for child in network.children()]
    for level in levels:
        np.testing.assert_array_equal(level.best.parameters, level.initial.parameters)
        most = max(accuracy(network) for network in before[level.best.weights])
        assert accuracy(level.best) == most


def test_given_networks_join_at_their_own_weights() -> None:
    """Solved networks come up where they belong; of equal networks the given one counts."""
    path = MLP((2, 1, 1, 1, 1))
    values = np.array([0, 9, 1, 1, 9, 0, 0, 0, -0.01], dtype=np.float32)
    solved = Network(path, np.array([False, *[True] * 4]), values, ancestor=7)
    levels = search([dense(), solved], FEW)
    assert (levels[0].best.weights, levels[0].best.ancestor) == (4, 7)
    assert levels[0].networks <= 2
    assert {level.best.ancestor for level in levels[1:]} == {0}


def test_masks_of_a_given_network_start_from_its_values() -> None:
    """Every network is the training of its own mask from the given values, told apart by label."""
    origin = drawn(SHAPE, [5])[0].abs().numpy()
    how = replace(FEW, width=20)
    levels = search([replace(dense(), origin=origin)], how)
    shapes = {shape_and_origin(level.best): level for level in levels}
    assert len(shapes) == len(levels) == 8
    for level in levels:
        best, start = level.best, level.initial
        assert best.origin is not None
        np.testing.assert_array_equal(start.parameters, best.origin)
        # The values are those of neurons of the given network, layer by layer.
        assert np.isin(best.origin, origin).all()
        alone = trained_alone(start, how)
        if accuracy(best) > accuracy(start):
            np.testing.assert_allclose(best.parameters, alone, rtol=1e-5, atol=1e-6)
    # Each of 8 weights of the first two layers can go alone; up to permutation those are 3 ways.
    assert levels[-2].networks == 8
    assert search([dense()], how)[-2].networks == 3


def shape_and_origin(network: Network) -> tuple[tuple[int, ...], bytes, int]:
    assert network.origin is not None
    return network.shape.sizes, network.origin.tobytes(), network.weights


def test_fresh_starts_are_those_of_the_exhaustive_search() -> None:
    """Given a network that is dead, they are better, and the best of them is kept."""
    dead = Network(SHAPE, dense().mask, np.full(SHAPE.n_parameters, -1, np.float32), 3)
    how = Beam(11, width=2, starts=5, epochs=2, batch_size=16)
    (level,) = search([dead], how)
    assert (level.networks, level.runs) == (1, 6)
    widths, mask = canonical_form(dead.mask, SHAPE.sizes[1:-1])
    assert widths == SHAPE.sizes[1:-1]
    values = initial_values(SHAPE, mask, range(5), "exact").astype(np.float32)
    start = level.best.start
    assert level.best.ancestor == 3
    np.testing.assert_array_equal(level.initial.parameters, values[start])
    ends = [trained_alone(Network(SHAPE, mask, value, 3), how) for value in values]
    scores = [
        (found[0].item(), -found[1].item())
        for found in (batched.evaluate(SHAPE, end[None], halves()) for end in ends)
    ]
    assert start == scores.index(max(scores))


@pytest.mark.parametrize("numbers", [(0, 8, 1), (4, 0, 1), (4, 8, -1)])
def test_what_makes_no_beam_is_refused(numbers: tuple[int, int, int]) -> None:
    with refused("least_weights={}, width={}, starts={}".format(*numbers), "at least 1, 1 and 0"):
        Beam(*numbers)


# --- Going on ------------------------------------------------------------------------------------


def same(one: list[Level], other: list[Level]) -> bool:
    return [level.networks for level in one] == [level.networks for level in other] and all(
        a.best.form == b.best.form and np.array_equal(a.best.parameters, b.best.parameters)
        for a, b in zip(one, other, strict=True)
    )


def test_a_second_call_goes_on_where_the_first_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Levels that were finished are not trained again."""
    expected = search([dense()], FEW)
    reached: list[int] = []

    def stopped(members: Members, *rest: Any, **options: Any) -> Trained:
        reached.append(int(members.order_seed[0]))
        if reached[-1] == 7:
            raise KeyboardInterrupt
        return train(members, *rest, **options)

    monkeypatch.setattr(beam, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        search([dense()], FEW, checkpoint=tmp_path / "beam.h5.checkpoint")
    assert reached == [11, 10, 9, 8, 7]

    epochs = 0
    advance = batched.advance

    def counted(state: State, *rest: Any) -> None:
        nonlocal epochs
        epochs += 1
        advance(state, *rest)

    monkeypatch.setattr(beam, "train", train)
    monkeypatch.setattr(batched, "advance", counted)
    found = search([dense()], FEW, checkpoint=tmp_path / "beam.h5.checkpoint")
    assert same(found, expected)
    assert epochs == 4 * FEW.epochs
    names = {path.name.split("-")[1] for path in tmp_path.iterdir()}
    assert names == {str(weights) for weights in range(4, 12)}


def test_polish_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = search([dense()], FEW)
    done: list[int] = []

    def twice(
        network: MLP, parameters: torch.Tensor, mask: torch.Tensor, _: Points
    ) -> torch.Tensor:
        assert mask.sum() == levels[len(done)].best.weights + sum(network.sizes[1:])
        if len(done) == stop_at:
            raise KeyboardInterrupt
        done.append(network.n_parameters)
        return 2 * parameters

    monkeypatch.setattr(beam, "polished", twice)
    where, stop_at = tmp_path / "beam.h5.checkpoint", 5
    with pytest.raises(KeyboardInterrupt):
        beam.polish(levels, halves(), checkpoint=where)
    stop_at = -1
    found = beam.polish(levels, halves(), checkpoint=where)
    assert len(done) == len(levels)
    for network, level in zip(found, levels, strict=True):
        np.testing.assert_array_equal(network.parameters, 2 * level.best.parameters)


# --- Files ---------------------------------------------------------------------------------------


def pruned_runs(path: Path) -> Stored:
    """A file of pruned networks, one of which diverged and one of which has idle weights."""
    wide, narrow = MLP((2, 3, 2, 2, 1)), MLP((2, 2, 2, 1, 1))
    rng = np.random.default_rng(0)
    shapes = [wide, wide, wide, narrow, narrow]
    dropped = [[3], [0, 1], [], [], [1, 2, 3, 5, 6, 7, 9]]  # the second has a constant neuron
    masks = [~np.isin(np.arange(s.n_weights), d) for s, d in zip(shapes, dropped, strict=True)]
    values = []
    for shape, mask in zip(shapes, masks, strict=True):
        full = with_biases(shape, torch.tensor(mask)[None])[0].numpy()
        values.append(np.where(full, rng.standard_normal(shape.n_parameters), 0))
    table = pd.DataFrame(
        {
            "method": "imp",
            "network": ["w"] * 3 + ["n"] * 2,
            "target": 1,
            "d1": [3, 3, 3, 2, 2],
            "d2": 2,
            "d3": [2, 2, 2, 1, 1],
            "learning_rate": 0.1,
            "schedule": "cosine",
            "seed": 0,
            "steps": 10,
            "weights": [mask.sum() for mask in masks],
            "effective_weights": [
                int(effective_mask(s, torch.tensor(m)[None]).sum())
                for s, m in zip(shapes, masks, strict=True)
            ],
            "paths": 1.0,
            "accuracy": [0.9, 0.8, 0.99, 0.7, 0.6],
            "loss": 0.1,
            "diverged_at": [-1, -1, 10, -1, -1],
        }
    )
    layers = ["run", "when", "layer", "weights", "effective_weights", "active", "constant"]
    empty = pd.DataFrame({name: np.zeros(0, int) for name in [*layers, "dead", "unused"]})
    store.write(
        path,
        "spiral-runs",
        {
            "runs": table,
            "layers": empty.astype({"when": str}),
            "mask": np.concatenate(masks),
            "parameters": np.concatenate(values).astype(np.float32),
        },
        config={},
    )
    return store.read(path, "spiral-runs")


def test_the_best_networks_of_files_are_what_they_were(tmp_path: Path) -> None:
    """The diverged run is left out, idle weights are gone, and the outputs are the same."""
    file = pruned_runs(tmp_path / "imp.h5")
    runs = file.table("runs")
    assert (runs.effective_weights < runs.weights).any()
    table, networks = best_networks([file], 4, 40, width=5)
    expected = runs[runs.diverged_at < 0].sort_values(
        ["effective_weights", "accuracy"], ascending=False
    )
    assert table.row.tolist() == expected.index.tolist()
    assert table.weights.tolist() == expected.effective_weights.tolist()
    assert [network.ancestor for network in networks] == list(range(len(table)))
    stored = list(spiral.stored_networks(file))
    for row, network in zip(table.row, networks, strict=True):
        assert network.weights == runs.effective_weights[row]
        whole, _, values = stored[row]
        of_stored = batched.activations(whole, torch.tensor(values)[None], halves().x)[-1]
        of_network = batched.activations(
            network.shape, torch.tensor(network.parameters)[None], halves().x
        )[-1]
        torch.testing.assert_close(of_network, of_stored)


def test_as_many_networks_as_the_beam_is_wide_of_each_size(tmp_path: Path) -> None:
    file = pruned_runs(tmp_path / "imp.h5")
    table, networks = best_networks([file, file], 4, 40, width=1)
    assert table.weights.is_unique
    assert len(networks) == len(table) == 4
    with refused("2 to 3 effective weights", "they have 4 to 17"):
        best_networks([file], 2, 3, 1)


def test_networks_of_files_are_masks_of_a_given_network(tmp_path: Path) -> None:
    file = pruned_runs(tmp_path / "imp.h5")
    whole = MLP((2, 4, 4, 4, 1))
    start = Fixed(whole, np.arange(1.0, whole.n_parameters + 1))
    _, networks = best_networks([file], 4, 40, width=5, start=start)
    for network in networks:
        assert network.origin is not None
        assert network.origin.shape == network.parameters.shape
        assert np.isin(network.origin, start.parameters).all()
        assert (np.diff(network.origin[: network.shape.sizes[1] * 2]) > 0).all()


def test_a_file_of_the_search_can_be_gone_on_from(tmp_path: Path) -> None:
    """What is written is what was found, and a second search starts from it."""
    levels = search([dense(), dense(seed=1, ancestor=1)], FEW)
    ancestors = pd.DataFrame({"file": "a", "row": [3, 4], "weights": 11, "accuracy": 0.5})
    final = [level.best for level in levels]
    written = beam.content(levels, final, FEW, halves(), ancestors)
    store.write(tmp_path / "beam.h5", "beam", written, config={})
    file = store.read(tmp_path / "beam.h5", "beam")
    rows = file.table("by_weights")
    assert rows.weights.tolist() == list(range(4, 12))
    assert rows.steps.tolist() == [level.runs * 6 * 8 for level in levels]
    assert not rows.polished.any()
    frame = MLP(tuple(file.array("sizes").tolist()))
    for i, level in enumerate(levels):
        shape = MLP((2, *rows[["d1", "d2", "d3"]].iloc[i].tolist(), 1))
        assert shape == level.best.shape
        where = positions(shape, frame)
        assert file.array("mask")[i].sum() == rows.weights[i]
        assert file.array("mask")[i, where[: shape.n_weights]].sum() == rows.weights[i]
        for name, network in (("parameters", level.best), ("initial", level.initial)):
            values = file.array(name)[i]
            np.testing.assert_array_equal(values[where], network.parameters)
            assert np.count_nonzero(values) == np.count_nonzero(network.parameters)
        assert rows.accuracy[i] == rows.sgd_accuracy[i] == pytest.approx(accuracy(level.best))
    table, networks = best_networks([file], 5, 8, width=9)
    assert table.weights.tolist() == [8, 7, 6, 5]
    assert [network.form for network in networks] == [level.best.form for level in levels[4:0:-1]]


def test_polish_stands_beside_training(tmp_path: Path) -> None:
    levels = search([dense()], FEW)
    final = beam.polish(levels, halves())
    ancestors = pd.DataFrame({"file": "a", "row": [0], "weights": 11, "accuracy": 0.5})
    written = beam.content(levels, final, FEW, halves(), ancestors)
    store.write(tmp_path / "beam.h5", "beam", written, config={})
    rows = store.read(tmp_path / "beam.h5", "beam").table("by_weights")
    assert rows.polished.tolist() == (rows.accuracy > rows.sgd_accuracy).tolist()
    assert rows.polished.any()
    assert rows.accuracy.tolist() == pytest.approx([accuracy(network) for network in final])
