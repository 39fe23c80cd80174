"""Initial values: drawn by seed, cut from a given network, taken from what the search found."""

import pickle
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sparselimit.ensemble.batched import activations
from sparselimit.networks.initial import Fixed, drawn, read
from sparselimit.networks.mlp import MLP, positions
from sparselimit.search.sparsest import given_start, sparsest_start
from sparselimit.store import Stored
from tests.unit.refusals import refused

WIDE = MLP((2, 5, 4, 6, 1))
VALUES = np.arange(1.0, WIDE.n_parameters + 1)


def test_drawn_values_depend_on_shape_and_seed_alone() -> None:
    three = drawn(MLP.spiral(4), [0, 7, 0])
    assert torch.equal(three[0], three[2])
    assert torch.equal(three[1], drawn(MLP.spiral(4), [7])[0])
    assert not torch.isclose(three[0], three[1]).any()


def test_a_narrower_network_is_cut_from_the_first_neurons() -> None:
    small = MLP((2, 3, 2, 2, 1))
    values = Fixed(WIDE, VALUES)(small, [0, 1])
    assert torch.equal(values[0], values[1])
    for layer, (found, whole) in enumerate(
        zip(small.weights(values[0]), WIDE.weights(torch.tensor(VALUES)), strict=True)
    ):
        n_out, n_in = small.weight_shapes[layer]
        assert torch.equal(found, whole[:n_out, :n_in].float())
    for bias, of_whole in zip(small.biases(values[0]), WIDE.biases(VALUES), strict=True):
        assert bias.tolist() == of_whole[: len(bias)].tolist()


def test_a_crop_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    fixed = Fixed(WIDE, VALUES)
    fixed(WIDE, [0])
    fixed(MLP.spiral(6), [0])
    assert not caplog.records
    for _ in range(2):
        fixed(MLP((2, 6, 4, 5, 1)), [0])
    (record,) = caplog.records
    assert "2-5-4-6-1 is cropped to the first neurons of 2-6-4-5-1" in record.message


def test_a_wider_network_has_it_at_its_first_neurons() -> None:
    """What surrounds it is drawn at the wider network's own scale, the same for every seed."""
    large = MLP.spiral(8)
    values = Fixed(WIDE, VALUES)(large, [0, 5])
    assert torch.equal(values[0], values[1])
    inside = positions(WIDE, large)
    assert values[0, inside].tolist() == VALUES.tolist()
    outside = np.setdiff1d(np.arange(large.n_parameters), inside)
    around = values[0, outside].numpy() * np.sqrt(large.fan_in[outside])
    assert abs(around).max() <= 1
    assert around.std() == pytest.approx(1 / np.sqrt(3), rel=0.2)


def test_another_depth_is_refused() -> None:
    with refused("initial network (2, 5, 4, 6, 1)", "number of layers"):
        Fixed(WIDE, VALUES)(MLP((2, 3, 1)), [0])


# --- Files ---------------------------------------------------------------------------------------


def test_a_state_dict_is_the_network_that_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 6), nn.ReLU(),
        nn.Linear(6, 1),
    )  # fmt: skip
    torch.save(module.state_dict(), tmp_path / "net.pt")
    given = read(tmp_path / "net.pt")
    x = torch.randn(9, 2)
    (ours,) = activations(given.whole, given(WIDE, [3]), x)[-1]
    torch.testing.assert_close(ours[0], module(x)[:, 0], rtol=1e-5, atol=1e-6)


class Harmful:
    """What it would do on loading, a file must not be able to do."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("harm"),)


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (None, ["no such file"]),
        (b"text", ["not a state dict of linear layers"]),
        (pickle.dumps(Harmful()), ["not a state dict of linear layers"]),
        ({"a.weight": torch.zeros(3, 2)}, ["not a state dict of linear layers"]),
        (
            {"a.weight": torch.zeros(3, 2), "a.bias": torch.zeros(3),
             "b.weight": torch.zeros(1, 4), "b.bias": torch.zeros(1)},
            ["do not follow one another", "(1, 4)"],
        ),
        ({"a.weight": torch.full((1, 2), torch.nan), "a.bias": torch.zeros(1)}, ["NaN"]),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: object, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.pt"
    if isinstance(saved, bytes):
        path.write_bytes(saved)
    elif saved is not None:
        torch.save(saved, path)
    with refused("net.pt", *words):
        read(path)
    assert not Path("harm").exists()


# --- What the search found -----------------------------------------------------------------------


def frontier() -> Stored:
    table = pd.DataFrame(
        {
            "weights": [6, 4, 5],
            "accuracy": [0.9, 0.6, 0.85],
            "sgd_accuracy": [0.9, 0.6, 0.8],
            "d1": [2, 1, 2],
            "d2": [1, 1, 1],
            "d3": [1, 1, 2],
        }
    )
    frame = MLP((2, 2, 1, 2, 1))
    initial = np.arange(3.0 * frame.n_parameters).reshape(3, -1)
    content: dict[str, np.ndarray | pd.DataFrame] = {
        "by_weights": table,
        "sizes": np.array(frame.sizes),
        "initial": initial,
    }
    return Stored(Path("frontier.h5"), content, {"kind": "frontier"})


@pytest.mark.parametrize(("accuracy", "row"), [(0.5, 1), (0.61, 2), (0.8, 2), (0.85, 0), (0.95, 0)])
def test_the_sparsest_network_of_an_accuracy_is_taken(
    accuracy: float, row: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Where none reaches it, the most accurate, and that is told."""
    file = frontier()
    start = sparsest_start(file, accuracy)
    best = file.table("by_weights").iloc[row]
    assert start.whole.sizes == (2, best.d1, best.d2, best.d3, 1)
    where = positions(start.whole, MLP((2, 2, 1, 2, 1)))
    assert start.parameters.tolist() == file.array("initial")[row, where].tolist()
    assert ("no network reaches 0.95" in caplog.text) == (accuracy > 0.9)


def test_an_accuracy_that_polish_alone_reached_is_none_to_start_for() -> None:
    file = frontier()
    file.table("by_weights")["sgd_accuracy"] = [0.7, np.nan, 0.6]
    assert sparsest_start(file, 0.65).whole.sizes == (2, 2, 1, 1, 1)  # of 6 weights
    assert sparsest_start(file, 0.8).whole.sizes == (2, 2, 1, 1, 1)  # of none; trained best


def test_the_search_must_be_given_to_be_used() -> None:
    arguments = Namespace(initial="searched", frontier=None, accuracy=0.9)
    with refused("give the file of the search by --frontier"):
        given_start(arguments)
    assert given_start(Namespace(initial="random")) is None
