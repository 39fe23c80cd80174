"""`protocol: published` against masks and trajectories computed with the published code."""

import re

import h5py
import numpy as np
import pytest
import torch

from sparselimit.ensemble import train as engine
from sparselimit.ensemble.members import Members, Plan, Points
from sparselimit.ensemble.state import Event, State
from sparselimit.networks.mlp import MLP
from sparselimit.pruning import imp, snip
from sparselimit.pruning.problem import Problem
from sparselimit.pruning.published import keep_above
from sparselimit.sparsity.masks import with_biases
from tests.unit import reference


def _problem(network: MLP, parameters: torch.Tensor, target: int, points: Points) -> Problem:
    return Problem(
        network,
        parameters,
        torch.tensor([target]),
        torch.tensor([0]),
        torch.tensor([0.1], dtype=torch.float64),
        points,
        batch_size=128,
        steps=19_500,
        protocol="published",
    )


def test_snip_masks(cubist: h5py.File, spiral: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    order = cubist["atinit_batches/seed0/seq"][()].astype(np.int64)
    monkeypatch.setattr("sparselimit.pruning.problem.batch_order", lambda *_: order)
    cases = cubist["atinit/seq/snip/seed0"]
    assert len(cases) == 10
    for case in cases.values():
        weights = cubist["atinit_weights"][case.attrs["weights"]]
        network, parameters = reference.network(weights), reference.parameters(weights)
        problem = _problem(network, parameters, int(case.attrs["target"]), spiral)
        found = with_biases(network, snip.start_mask(problem))
        assert case.attrs["exact_mask_equality_expected"]
        torch.testing.assert_close(found, reference.mask(case))


def test_magnitude_masks(cubist: h5py.File) -> None:
    for name, case in cubist["magnitude"].items():
        weights = case["weights"] if "weights" in case else _named_weights(cubist, name)
        network = reference.network(weights)
        magnitude = reference.parameters(weights)[:, : network.n_weights].abs()
        kept = keep_above(magnitude, torch.tensor([int(case.attrs["k"])]))
        assert int(kept.sum()) == case.attrs["kept"]
        torch.testing.assert_close(with_biases(network, kept), reference.mask(case))


def _named_weights(cubist: h5py.File, name: str) -> h5py.Group:
    width, seed = re.fullmatch(r"w(\d+)_t\d+_s(\d+)", name).groups()  # type: ignore[union-attr]
    return cubist[f"atinit_weights/default_w{width}_s{seed}"]


@pytest.mark.parametrize(("width", "target"), [(16, 15), (16, 33), (3, 15), (64, 15), (64, 33)])
def test_imp_schedule(cubist: h5py.File, width: int, target: int, spiral: Points) -> None:
    network = MLP.spiral(width)
    (event,) = imp.events(_problem(network, torch.zeros(1, 1), target, spiral))
    expected = cubist[f"schedules/w{width}_t{target}/imp"][()]
    assert list(event.steps) == list(expected[:, 0])


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_imp_trajectory(
    cubist: h5py.File, spiral: Points, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs, 86 prunings: equal to 1e-7 in double precision, until chaos in single."""
    case = cubist["training/imp_w16_t33"]
    order = case["batch_order"][()].astype(np.int64)
    monkeypatch.setattr(engine, "batch_order", lambda _n, _batch, _seed, epoch: order[epoch])
    dtype = torch.float64 if precision == "fp64" else torch.float32
    points = Points(spiral.x.to(dtype), spiral.y.to(dtype))
    network, initial = reference.network(case["init"]), reference.parameters(case["init"], dtype)
    problem = _problem(network, initial, 33, points)
    (event,) = imp.events(Problem(**{**vars(problem), "steps": 5 * 390}))

    seen: dict[int, torch.Tensor] = {}
    kept: list[int] = []

    def record(state: State, step: int) -> None:
        seen[step] = state.parameters.clone()

    def prune(state: State, step: int) -> None:
        event.act(state, step)
        kept.append(int(state.mask[:, : network.n_weights].sum()))

    wanted = [10, 50, 100, 390, 780]
    members = Members.of(network, initial, learning_rate=0.1)
    plan = Plan.of(["constant"], 3)
    events = [Event(wanted, record), Event(event.steps, prune)]
    engine.train(members, points, plan, events)

    expected = case[precision]["magnitude_prunings"][()]
    done = expected[expected[:, 0] <= 3 * 390]
    for step in wanted:
        before = reference.parameters(case[precision][f"params_before_iteration/{step}"], dtype)
        tolerance = 1e-7 if precision == "fp64" else 1e-4
        if precision == "fp64" or step < case.attrs["first_iteration_reldiff_gt_1e-5"]:
            torch.testing.assert_close(seen[step], before, rtol=tolerance, atol=tolerance)
    assert kept == list(done[:, 2])
