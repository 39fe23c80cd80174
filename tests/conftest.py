"""Fixtures shared by all tests."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
import torch

from sparselimit.datasets import cubist_spiral
from sparselimit.ensemble.members import Points

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="session")
def cubist() -> Iterator[h5py.File]:
    """Reference vectors computed with the published code of the Cubist Spiral study."""
    with h5py.File(REFERENCE / "cubist.h5") as file:
        yield file


@pytest.fixture(scope="session")
def spiral() -> Points:
    """The Cubist Spiral in single precision."""
    data = cubist_spiral()
    return Points(torch.tensor(data.x), torch.tensor(data.y, dtype=torch.float32))
