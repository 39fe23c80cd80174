"""Files of a user: code that fails, state dicts and masks that are damaged or mean harm."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparselimit import images, loaders, own, scoring
from sparselimit.datasets import Dataset
from sparselimit.errors import InputError
from sparselimit.networks import classifier, initial
from sparselimit.networks.mlp import MLP
from sparselimit.networks.network import Design, Network
from tests.unit.refusals import refused

MUTATIONS = 600

CODE = """
import sys
import torch
from torch import nn
from torch.utils.data import TensorDataset

class Fussy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        if len(x) > 2:
            raise {error}
        return self.layer(x)

class Broken(TensorDataset):
    def __getitem__(self, index):
        raise {error}

def network():
    return Fussy()

def fails():
    raise {error}

def data():
    whole = TensorDataset(torch.zeros(4, 3), torch.arange(4) % 2)
    return dict(fit=whole, validation=Broken(*whole.tensors), test=whole)

def negative():
    return dict.fromkeys(("fit", "validation", "test"),
                         TensorDataset(torch.zeros(4, 3), torch.arange(4) - 1))

def unreal():
    return dict.fromkeys(("fit", "validation", "test"),
                         TensorDataset(torch.zeros(4, 3) * 1j, torch.arange(4)))
"""
ERRORS = [
    *("KeyError('x\\\\ny')", "IndexError(3)", "AssertionError", "ZeroDivisionError()"),
    *("RecursionError('deep')", "SystemExit(0)", "RuntimeError('\\x1b[31m')"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_code_that_fails_is_named_with_its_line(tmp_path: Path, error: str) -> None:
    """Even code that ends the program: a step must not end well without a result."""
    path = tmp_path / "mine.py"
    path.write_text(CODE.replace("{error}", error))
    kind = error.partition("(")[0]
    with refused(f"{path}:fails fails, line 25: {kind}"):
        own.call(f"{path}:fails")
    with refused(f"{path}:data split validation: gives no batches", "line 19", kind):
        loaders.read(f"{path}:data")
    design = Design(f"{path}:network", (), (3,), 2, np.zeros(1), np.ones(1))
    network = Network(design)  # which it is asked for by two samples
    with refused(f"{path}:network fails, line 14: {kind}"):
        network(torch.zeros(5, 3))
    path.write_text(f"import sys\nraise {error}\n")
    with refused(f"{path}:fails cannot be imported, line 2: {kind}"):
        own.call(f"{path}:fails")


def test_labels_and_inputs_that_cannot_be_learned_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(CODE.replace("{error}", "ValueError"))
    for function in ("negative", "unreal"):
        with refused(f"{path}:{function}, split fit", "real numbers", "whole numbers [n] from 0"):
            loaders.read(f"{path}:{function}")


# --- State dicts and masks -----------------------------------------------------------------------


def refusal(read: Callable[[Path], object], path: Path) -> str:
    """How a file is refused; empty if it is not."""
    try:
        read(path)
    except InputError as error:
        return str(error)
    return ""


def mutated(file: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped, bytes lost, bytes put in."""
    found = bytearray(file)
    match rng.integers(4):
        case 0:
            del found[rng.integers(len(found)) :]
        case 1:
            start = rng.integers(len(found))
            del found[start : start + rng.integers(1, 64)]
        case 2:
            place = rng.integers(len(found))
            found[place:place] = rng.bytes(int(rng.integers(1, 64)))
        case _:
            for place in rng.integers(0, len(found), rng.choice([1, 3, 30])):
                found[place] ^= 1 << rng.integers(8)
    return bytes(found)


@pytest.mark.filterwarnings("ignore")
def test_damaged_state_dicts_are_read_or_refused(tmp_path: Path) -> None:
    path, rng = tmp_path / "mine.pt", np.random.default_rng(3)
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    data = Dataset(np.zeros((4, 2), np.float32), np.arange(4) % 2, np.zeros(4, np.int64))
    network = Network(Design.of("fc", [3], data))
    for valid in (module.state_dict(), network.layers.state_dict()):
        torch.save(valid, path)
        whole = path.read_bytes()
        for _ in range(MUTATIONS // 2):
            path.write_bytes(mutated(whole, rng))
            for read in (initial.read, lambda path: classifier.load_state(network, path)):
                told = refusal(read, path)
                assert not told or told.startswith(str(path))


@pytest.mark.filterwarnings("ignore")
def test_state_dicts_of_odd_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    data = Dataset(np.zeros((4, 2), np.float32), np.arange(4) % 2, np.zeros(4, np.int64))
    network = Network(Design.of("fc", [3], data))
    valid = network.layers.state_dict()
    name, value = next(iter(valid.items()))
    for odd in (
        value.to_sparse(),
        value.to(torch.complex64),
        value.to("meta"),
        torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        (value * torch.nan).to(torch.float8_e4m3fn),
        torch.full_like(value, torch.inf),
    ):
        torch.save({**valid, name: odd}, path)
        with refused(str(path), name):
            classifier.load_state(network, path)
        torch.save({"0.weight": odd, "0.bias": torch.zeros(len(value))}, path)
        with refused(str(path)):
            initial.read(path)
    huge = torch.full((3, 2), 1e300, dtype=torch.float64)
    torch.save({"0.weight": huge, "0.bias": torch.zeros(3)}, path)
    with refused(str(path), "single precision"):
        initial.read(path)


@pytest.mark.filterwarnings("ignore")
def test_damaged_masks_are_read_or_refused(tmp_path: Path) -> None:
    path, rng = tmp_path / "mine.npz", np.random.default_rng(4)
    network = MLP((2, 3, 2, 2, 1))
    masks: dict[str, Any] = {
        f"mask_{i}": np.ones(shape) for i, shape in enumerate(network.weight_shapes)
    }
    for save in (np.savez, np.savez_compressed):
        save(path, **masks)
        whole = path.read_bytes()
        for _ in range(MUTATIONS // 2):
            path.write_bytes(mutated(whole, rng))
            told = refusal(scoring.read_candidate, path)
            assert not told or told.startswith(str(path))


class Harmful:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object]]:
        return Path.touch, (self.path,)


def test_no_code_is_run_from_a_file(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    path = tmp_path / "mine"
    data = Dataset(np.zeros((4, 2), np.float32), np.arange(4) % 2, np.zeros(4, np.int64))
    network = Network(Design.of("fc", [3], data))
    torch.save({"0.weight": Harmful(harm)}, path)
    for read in (initial.read, lambda path: classifier.load_state(network, path)):
        with refused(str(path)):
            read(path)
    np.savez(tmp_path / "mine.npz", mask_0=np.array([Harmful(harm)], dtype=object))
    with refused("mine.npz", "allow_pickle"):
        scoring.read_candidate(tmp_path / "mine.npz")
    # The images of CIFAR come as pickles; any but the published files are refused unread.
    for folder, names in {
        "cifar-10-batches-py": [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"],
        "cifar-100-python": ["train", "test"],
    }.items():
        (tmp_path / folder).mkdir()
        for name in (*names, "meta", "batches.meta"):
            (tmp_path / folder / name).write_bytes(pickle.dumps(Harmful(harm)))
    for name in ("cifar10", "cifar100"):
        with refused(name, str(tmp_path)):
            images.read(name, tmp_path, download=False, seed=0, sizes={})
    assert not harm.exists()


def test_damaged_images_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    header = b"".join(n.to_bytes(4, "big") for n in (0x0803, 2, 28, 28))
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + bytes(2 * 28 * 28))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x02\0\x01")
    files = sorted(raw.iterdir())
    wholes = [file.read_bytes() for file in files]
    refusals = 0
    for number in range(60):
        file, whole = files[number % 4], wholes[number % 4]
        file.write_bytes(whole[: rng.integers(len(whole))] + rng.bytes(int(rng.integers(30))))
        told = refusal(partial(images.read, "mnist", download=False, seed=0, sizes={}), tmp_path)
        assert not told or told.startswith("mnist is not to be had")
        refusals += bool(told)
        file.write_bytes(whole)
    assert refusals > 30
