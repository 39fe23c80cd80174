"""Loaders of one's own: what they give is taken as it is, once they give the same twice."""

from pathlib import Path

import numpy as np
import pytest

from sparselimit import loaders
from sparselimit.datasets import SPLITS
from tests.unit.refusals import refused

CODE = """
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, Y = torch.randn(30, 3, 4, 4), torch.arange(30) % 3
PARTS = {"fit": slice(0, 15), "calibration": slice(15, 20), "validation": slice(20, 24),
         "test": slice(24, 30)}

def sets(x=X, y=Y, names=tuple(PARTS)):
    return {name: TensorDataset(x[PARTS[name]], y[PARTS[name]]) for name in names}

def batched(**options):
    return {name: DataLoader(part, batch_size=4, **options) for name, part in sets().items()}

def shuffled():
    return batched(shuffle=True)

def of_one_class():
    return {name: DataLoader(part, shuffle=True) for name, part in sets(y=0 * Y).items()}

def empty():
    return sets() | {"test": []}

class Noisy(TensorDataset):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x + 0.1 * torch.randn_like(x), y

def augmented():
    return sets() | {"validation": Noisy(X[PARTS["validation"]], Y[PARTS["validation"]])}

def features():
    return sets(X.flatten(1).double())

def pixels():
    return sets((X * 50 + 100).to(torch.uint8))

def short():
    return sets(names=("fit", "test"))

def named():
    return sets() | {"train": sets()["fit"]}

def a_list():
    return list(sets().values())

def unlabelled():
    return sets() | {"fit": [X]}

def one_hot():
    return sets(y=torch.nn.functional.one_hot(Y))

def regression():
    return sets(y=Y.float())

def of_two_sizes():
    return sets() | {"test": TensorDataset(X[:4, :, :2, :2], Y[:4])}

def numbers():
    return sets() | {"fit": 3}
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine") / "mine.py"
    path.write_text(CODE)
    return path


@pytest.mark.parametrize("function", ["sets", "batched"])
def test_sets_and_loaders_are_read_split_by_split(code: Path, function: str) -> None:
    data = loaders.read(f"{code}:{function}")
    assert (data.x.dtype, data.x.shape) == (np.float32, (30, 3, 4, 4))
    assert data.y.tolist() == [i % 3 for i in range(30)]
    assert {split: len(data.of(split)[1]) for split in SPLITS} == {
        "fit": 15,
        "calibration": 5,
        "validation": 4,
        "test": 6,
    }
    assert (data.mean.tolist(), data.std.tolist()) == ([0], [1])


def test_features_and_bytes_stay_what_they_are(code: Path) -> None:
    features, pixels = (loaders.read(f"{code}:{name}").x for name in ("features", "pixels"))
    assert (features.dtype, features.shape) == (np.float64, (30, 48))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (30, 3, 4, 4))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("shuffled", ["split fit: two passes", "turn off shuffling"]),
        ("of_one_class", ["split fit: two passes", "turn off shuffling"]),
        ("augmented", ["split validation: two passes", "random augmentation"]),
        ("short", ["returns fit, test", "from fit, validation, test"]),
        ("named", ["train", "from fit, validation, test"]),
        ("a_list", ["returns list", "must return a mapping"]),
        ("unlabelled", ["split fit: gives no batches of inputs and labels"]),
        ("empty", ["split test: gives no batches of inputs and labels"]),
        ("numbers", ["split fit: gives no batches of inputs and labels", "TypeError"]),
        ("one_hot", ["labels of shape (15, 3)", "whole numbers [n]"]),
        ("regression", ["type float32", "whole numbers [n]"]),
        ("of_two_sizes", ["inputs of several shapes", "(3, 2, 2)", "(3, 4, 4)"]),
        ("nothing", ["defines no function nothing"]),
    ],
)
def test_what_a_loader_does_wrong_is_told(code: Path, function: str, words: list[str]) -> None:
    with refused(f"{code}", *words):
        loaders.read(f"{code}:{function}")
