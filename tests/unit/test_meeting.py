"""Limits of dense networks on the spiral: what they are given, their minimum, what is predicted."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import brentq

from sparselimit import spiral, store
from sparselimit.curvature.products import Operator
from sparselimit.ensemble.checkpoint import Checkpoint, Stopped
from sparselimit.ensemble.members import Points
from sparselimit.limits import meeting
from sparselimit.limits.meeting import Dense, Matrix, Minimum
from sparselimit.networks.initial import drawn
from sparselimit.networks.mlp import MLP, positions
from sparselimit.statistics import ACCURACIES
from sparselimit.store import Stored
from tests.unit.refusals import refused

SMALL = MLP((2, 3, 3, 3, 1))
DECAY = 1e-3


def clouds(n: int = 200) -> Points:
    """Two classes that a line nearly separates."""
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0)).double()
    noise = torch.randn(n, generator=torch.Generator().manual_seed(1))
    return Points(x, (x[:, 0] + x[:, 1] + 0.4 * noise > 0).double())


def loss_of(network: MLP, parameters: np.ndarray, points: Points) -> float:
    """Mean binary cross-entropy in numpy."""
    signal = points.x.numpy().T
    for weight, bias in zip(network.weights(parameters), network.biases(parameters), strict=True):
        outputs = weight @ signal + bias[:, None]
        signal = outputs.clip(min=0)
    margin = np.where(points.y.numpy() > 0, 1, -1) * outputs[0]
    return float(np.log1p(np.exp(-margin)).mean())


def dense(seed: int = 0, width: int = 3) -> Dense:
    network = MLP.spiral(width)
    row: dict[Any, Any] = {"network": f"w{width}", "seed": seed, "learning_rate": 0.1}
    row |= {"schedule": "cosine", "d1": width, "d2": width, "d3": width}
    return Dense(row, network, drawn(network, [seed])[0].double())


# --- Truth ---------------------------------------------------------------------------------------


def test_sample_is_some_of_the_points_and_always_the_same() -> None:
    points = Points(torch.arange(40.0).view(20, 2), torch.arange(20.0) % 2)
    chosen = meeting.sample(points, 7)
    assert chosen.x.dtype == chosen.y.dtype == torch.float64
    place = (chosen.x[:, 0] / 2).long()
    assert len(set(place.tolist())) == 7
    assert torch.equal(chosen.x, points.x[place].double())
    assert torch.equal(chosen.y, points.y[place].double())
    assert torch.equal(meeting.sample(points, 7).x, chosen.x)
    for everything in (None, 20, 99):
        assert torch.equal(meeting.sample(points, everything).x, points.x.double())


def networks_file(kind: str, rows: list[tuple[int, float]], seed: int) -> dict[str, Any]:
    """Networks 2-2-1-1-1 in a wider frame, of so many weights and, by claim, such accuracies."""
    frame, own = MLP((2, 3, 2, 1, 1)), MLP((2, 2, 1, 1, 1))
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rows, columns=["weights", "accuracy"])
    table = table.assign(network=range(len(rows)), start=0, d1=2, d2=1, d3=1)
    values = np.zeros((len(rows), frame.n_parameters), dtype=np.float32)
    values[:, positions(own, frame)] = rng.normal(size=(len(rows), own.n_parameters))
    mask = np.zeros((len(rows), frame.n_weights), dtype=bool)
    part = "known_" if kind == "known" else ""
    name = "known" if kind == "known" else "by_weights"
    return {
        "sizes": np.array(frame.sizes),
        name: table.assign(reached=table.accuracy),
        part + "mask": mask,
        part + "parameters": values,
        part + "initial": values,
    }


def test_sparsest_known() -> None:
    """Of networks with the fewest weights the one of least loss, not of those with more."""
    points, own, frame = clouds(), MLP((2, 2, 1, 1, 1)), MLP((2, 3, 2, 1, 1))
    searched = networks_file("search", [(5, 0.7), (7, 0.85)], 0)
    known = networks_file("known", [(7, 0.81), (7, 0.82)], 1)
    above = networks_file("beam", [(7, 0.8), (9, 0.96), (30, 1.0)], 2)
    frontier = Stored(Path("f.h5"), searched | known, {"kind": "frontier"})
    beam = Stored(Path("b.h5"), above, {"kind": "beam"})
    table = meeting.sparsest_known(frontier, beam, points)
    assert table.accuracy.tolist() == list(ACCURACIES)
    assert table.weights.tolist() == [7, 9, 9, 30, 30]

    def loss(values: np.ndarray) -> float:
        return loss_of(own, values[positions(own, frame)].astype(float), points)

    of_seven = {
        "search": [loss(v) for v in (searched["parameters"][1], *known["known_parameters"])],
        "beam": [loss(above["parameters"][0])],
    }
    best = min(of_seven, key=lambda source: min(of_seven[source]))
    assert table.source[0] == best
    assert table.loss[0] == pytest.approx(min(of_seven[best]))
    assert table.loss[3] == pytest.approx(loss(above["parameters"][2]))

    by_search = meeting.sparsest_known(frontier, beam, points, "searched")
    assert by_search.weights.tolist() == table.weights.tolist()
    assert by_search.loss[0] == pytest.approx(min(of_seven["search"]))
    assert by_search.source.tolist() == ["search", "", "", "", ""]
    assert by_search.loss[1:].isna().all()

    nothing = Stored(Path("b.h5"), networks_file("beam", [(9, 0.7)], 2), {"kind": "beam"})
    unknown = meeting.sparsest_known(frontier, nothing, points).iloc[1]
    assert (unknown.weights, unknown.source) == (-1, "")
    assert np.isnan(unknown.loss)


# --- Dense networks ------------------------------------------------------------------------------


def runs_file(rows: list[tuple[tuple[int, int, int], int, float, int]]) -> Stored:
    """Dense runs: hidden widths, seed, loss, step of divergence."""
    runs = [
        {"network": "-".join(map(str, widths)), "seed": seed, "loss": loss, "diverged_at": step}
        | dict(zip(("d1", "d2", "d3"), widths, strict=True))
        for widths, seed, loss, step in rows
    ]
    shapes = [MLP((2, *widths, 1)) for widths, *_ in rows]
    content: dict[str, Any] = {
        "runs": pd.DataFrame(runs),
        "mask": np.ones(sum(shape.n_weights for shape in shapes), bool),
        "parameters": np.concatenate(
            [np.full(shape.n_parameters, i, np.float32) for i, shape in enumerate(shapes)]
        ),
    }
    return Stored(Path("spiral.h5"), content, {"kind": "spiral-runs"})


def test_dense_networks_are_the_best_runs_of_each_seed() -> None:
    square, wide, uneven = (3, 3, 3), (8, 8, 8), (3, 4, 3)
    file = runs_file(
        [
            (wide, 0, 0.1, -1),
            (square, 1, 0.3, -1),
            (square, 0, 0.5, -1),
            (square, 0, 0.4, -1),
            (square, 0, 0.1, 7),  # diverged
            (uneven, 0, 0.1, -1),
            (square, 2, 0.1, -1),
        ]
    )
    found = meeting.dense_networks(file, seeds=2, most_parameters=100)
    assert [(one.network.sizes[1:-1], one.run["seed"]) for one in found] == [
        (square, 0),
        (square, 1),
    ]
    assert [one.parameters.unique().tolist() for one in found] == [[3], [1]]
    assert len(meeting.dense_networks(file, 3, 1000)) == 4
    with refused("spiral.h5", "no sound dense network", "at most 20 parameters"):
        meeting.dense_networks(file, 2, 20)


def test_minimum_is_stationary_and_its_curvature_that_of_the_loss() -> None:
    points, given = clouds(), dense()
    start = given.parameters.numpy()
    found = Minimum.of(given, points, DECAY, 500)

    def penalised(values: np.ndarray) -> float:
        return loss_of(SMALL, values, points) + DECAY / 2 * values @ values

    assert penalised(found.parameters) < penalised(start) - 0.01
    assert found.loss == pytest.approx(loss_of(SMALL, found.parameters, points))
    # Where neurons switch, the gradient jumps: it need not vanish at a minimum. But nothing nearby
    # is lower.
    least, rng = penalised(found.parameters), np.random.default_rng(0)
    for away in rng.normal(size=(200, len(start))):
        assert penalised(found.parameters + 0.01 * away / np.linalg.norm(away)) > least - 1e-5
    rough = Minimum.of(given, points, DECAY, 3)
    assert rough.decayed_gradient > 2 * found.decayed_gradient
    # Away from the kinks, gradient and Hessian by differences of the loss.
    step = 1e-5 * np.eye(len(start))
    slope = np.array(
        [
            loss_of(SMALL, rough.parameters + h, points)
            - loss_of(SMALL, rough.parameters - h, points)
            for h in step
        ]
    )
    assert rough.gradient == pytest.approx(np.linalg.norm(slope / 2e-5), rel=1e-3)
    hessian = rough.matrices["hessian"].values
    pairs = list(product((0, 5, 20, 28), (1, 9, 25, 36)))
    h = 1e-4 * np.eye(len(start))
    for i, j in pairs:
        corners = [
            a * b * loss_of(SMALL, rough.parameters + a * h[i] + b * h[j], points)
            for a, b in product((1, -1), (1, -1))
        ]
        assert hessian[i, j] == pytest.approx(sum(corners) / 4e-8, abs=2e-3)
    assert rough.matrices["ggn"].eigenvalues[0] > -1e-12
    assert Minimum.of(given, points, 0.1, 500).gradient > found.gradient  # held away further


# --- Predictions ---------------------------------------------------------------------------------


def with_curvature(matrix: np.ndarray, seed: int = 0, hessian: np.ndarray | None = None) -> Minimum:
    """The network 2-1-1-1-1, 5 weights and 4 biases, at a minimum of such curvature."""
    network = MLP((2, 1, 1, 1, 1))
    values = np.random.default_rng(seed).normal(size=network.n_parameters)
    matrices: dict[Operator, Matrix] = {
        "ggn": Matrix(matrix),
        "hessian": Matrix(matrix if hessian is None else hessian),
    }
    return Minimum(network, values, 0.9, 0.1, 0.0, 0.0, matrices)


def positive(seed: int) -> np.ndarray:
    rng = np.random.default_rng([7, seed])
    basis = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    return basis @ np.diag(10.0 ** rng.uniform(-4, 1, 9)) @ basis.T


def removable(found: Minimum, m: int, budget: float, formula: str) -> float:
    """The removable share at m removed weights, from the equations of the formulas."""
    eigenvalues, vectors = np.linalg.eigh(found.matrices["ggn"].values)
    smallest = np.argsort(abs(found.weights))[:m]
    offset = np.zeros(9)
    offset[smallest] = found.parameters[smallest]
    length = np.linalg.norm(offset)
    if not length:
        return 1.0
    u = (vectors.T @ offset / length) ** 2
    e = 2 * budget / length**2

    def g(tau: float) -> float:
        stiff, soft = (u * eigenvalues / (eigenvalues + tau)).sum(), (u / (eigenvalues + tau)).sum()
        return {"published": tau, "A": tau * stiff, "B": stiff / soft}[formula]

    if g(1e12) <= e:
        return 1.0
    if g(1e-12) >= e:
        return 0.0
    tau = np.exp(brentq(lambda log: g(np.exp(log)) - e, np.log(1e-12), np.log(1e12)))
    return float((tau / (eigenvalues + tau)).mean())


@pytest.mark.parametrize("formula", ["published", "A", "B"])
def test_predictions_solve_the_equations_of_the_formulas(formula: Any) -> None:
    """Of the fixed points of the share over counts, by trying all, the one that is returned."""
    kept = []
    for seed, budget in product(range(12), (1e-4, 1e-3, 1e-2, 0.1, 1.0)):
        found = with_curvature(positive(seed), seed)
        enough = [removable(found, m, budget, formula) >= m / 9 for m in range(6)]
        told = meeting.predict(found, "ggn", "psd", formula, budget)
        assert told["refused"] == ""
        m = 5 - int(str(told["kept"]))
        assert enough[m]
        assert m == 5 or not enough[m + 1]
        kept.append(m)
    assert len(set(kept)) > 4


def test_reoptimised_is_the_least_that_keeps_within_the_budget() -> None:
    """Against the block formula of the exact minimum over the kept parameters."""
    kept = []
    for seed, budget in product(range(8), (1e-4, 1e-3, 1e-2, 0.1)):
        found = with_curvature(positive(seed), seed)
        order = np.argsort(abs(found.weights))
        inverse = np.linalg.inv(found.matrices["ggn"].values)
        rises = [0.0]
        for m in range(1, 6):
            gone = order[:m]
            block = np.linalg.inv(inverse[np.ix_(gone, gone)])
            rises.append(float(found.parameters[gone] @ block @ found.parameters[gone] / 2))
        told = meeting.predict(found, "ggn", "psd", "reoptimised", budget)
        kept.append(told["kept"])
        removed = max(m for m in range(6) if rises[m] <= budget)
        assert told["kept"] == 5 - removed
        radius = np.linalg.norm(found.parameters[order[:removed]])
        assert told["radius"] == pytest.approx(radius)
    assert len(set(kept)) > 3


@pytest.mark.parametrize("lowest", [-0.5, -1e-5])
def test_every_refusal_says_why(lowest: float) -> None:
    saddle = np.diag([1.0] * 8 + [lowest])
    found = with_curvature(np.eye(9), hessian=saddle)
    known = pd.DataFrame({"accuracy": [0.8, 0.9, 0.95], "loss": [0.2, 0.1, np.nan]})
    table = pd.DataFrame(meeting.predictions(found, known))
    assert table.refused[table.accuracy == 0.9].tolist() == ["budget"] * 7  # a budget of 0
    assert table.refused[table.accuracy == 0.95].tolist() == ["unknown"] * 7
    first = table[table.accuracy == 0.8]
    needs_positive = (first.operator == "hessian") & (first.negative == "psd")
    assert first.refused[needs_positive].tolist() == ["indefinite"]
    assert first.refused[~needs_positive].tolist() == [""] * 6
    assert ((table.kept == -1) == (table.refused != "")).all()
    assert table.budget[:7].tolist() == pytest.approx([0.1] * 7)


# --- The file ------------------------------------------------------------------------------------

KNOWN = pd.DataFrame(
    {"accuracy": [0.8, 0.9], "weights": [7, -1], "loss": [0.5, np.nan], "source": ["beam", ""]}
)


def test_content_is_what_its_kind_declares(tmp_path: Path) -> None:
    points, given = clouds(), [dense(), dense(1), dense(0, 2)]
    content = meeting.content(given, KNOWN, points, DECAY, 50)
    store.write(tmp_path / "limits.h5", "spiral-limits", content, config={})
    file = store.read(tmp_path / "limits.h5", "spiral-limits")
    networks, limits = file.table("networks"), file.table("limits")
    assert networks.network.tolist() == ["w3", "w3", "w2"]
    assert networks.parameters.tolist() == [37, 37, 21]
    assert limits.groupby("place").size().tolist() == [14, 14, 14]
    assert (networks.loss < networks.trained_loss).all()
    ends = np.cumsum([0, *networks.parameters])
    for row, first, last in zip(networks.to_dict("records"), ends, ends[1:], strict=False):
        values = file.array("parameters")[first:last]
        assert loss_of(MLP.spiral(row["d1"]), values, points) == pytest.approx(row["loss"])
        assert file.array("hessian")[first] == row["lowest_curvature"]
        assert file.array("ggn")[first:last].min() > -1e-12


def test_content_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, given, where = clouds(), [dense(), dense(1)], tmp_path / "limits.checkpoint"
    whole = meeting.content(given, KNOWN, points, DECAY, 20)
    calls = []
    of = meeting._result

    def stopping(one: Dense, *rest: Any) -> dict[str, Any]:
        calls.append(one.run["seed"])
        return of(one, *rest)

    monkeypatch.setattr(meeting, "_result", stopping)
    monkeypatch.setattr(Checkpoint, "due", lambda keeper: len(calls) == 1)
    original = Checkpoint.__init__

    def asked(keeper: Any, *args: Any) -> None:
        original(keeper, *args)
        keeper.asked_to_stop = True

    monkeypatch.setattr(Checkpoint, "__init__", asked)
    with pytest.raises(Stopped):
        meeting.content(given, KNOWN, points, DECAY, 20, where)
    assert where.exists()
    monkeypatch.setattr(Checkpoint, "__init__", original)
    found = meeting.content(given, KNOWN, points, DECAY, 20, where)
    assert calls == [0, 1]
    for name, value in whole.items():
        other = found[name]
        if isinstance(other, pd.DataFrame) and isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(other, value)
        else:
            np.testing.assert_array_equal(other, value)
    with refused("another run"):
        meeting.content(given[::-1], KNOWN, points, DECAY, 20, where)


def test_stored_dense_runs_are_read_in_their_order(tmp_path: Path) -> None:
    """A real file of trained networks, as the step that trains them writes it."""
    points = clouds(64)
    points = Points(points.x.float(), points.y.float())
    grid = spiral.Grid([27], [0.1], ["cosine"], seeds=2, epochs=1, batch_size=16)
    runs = grid.runs("w3").assign(method="dense")
    trained = spiral.train_runs(
        *(SMALL, grid, runs, points, drawn(SMALL, [0, 1]), torch.ones(2, 27).bool()),
        backend="batched",
    )
    store.write(tmp_path / "s.h5", "spiral-runs", spiral.content([trained]), config={})
    found = meeting.dense_networks(store.read(tmp_path / "s.h5", "spiral-runs"), 2, 100)
    for one, parameters in zip(found, trained.parameters, strict=True):
        assert torch.equal(one.parameters, parameters.double())
