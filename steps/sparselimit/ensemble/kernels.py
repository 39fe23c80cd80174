"""What the fused backends share: macros of a shape, records of samples, cache of machine code."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sparselimit.ensemble.members import Points
from sparselimit.networks.mlp import MLP


class CompilationError(RuntimeError):
    """There is no compiled kernel to be had here. The message is one line: why, and the remedy."""


def shape_macros(network: MLP, dtype: torch.dtype) -> dict[str, str | int]:
    """The macros that tell a kernel's source the shape and precision it is compiled for."""
    return {
        "SIZES": ",".join(map(str, network.sizes)),
        "N_INPUTS": network.sizes[0],
        "N_NEURONS": sum(network.sizes),
        "N_PARAMETERS": network.n_parameters,
        "REAL_BITS": dtype.itemsize * 8,
    }


def records(
    points: Points, batches: Tensor, block: int, weight: float, dtype: torch.dtype
) -> tuple[int, Tensor]:
    """Blocks per batch, and the records a kernel reads, [steps, samples, inputs + 2].

    A record is a sample's inputs, sign and weight. The last block of a batch is filled up with
    copies of the last sample that weigh nothing.
    """
    batch = batches.shape[1]
    n_blocks = -(-batch // block)
    filling = batches[:, -1:].expand(-1, n_blocks * block - batch)
    index = torch.cat([batches, filling], dim=1)
    shape = (*index.shape, points.x.shape[1] + 2)
    samples = torch.empty(shape, dtype=dtype, device=points.x.device)
    samples[..., :-2] = points.x[index]
    samples[..., -2] = 2 * points.y[index] - 1
    samples[..., -1] = weight
    samples[:, batch:, -1] = 0.0
    return n_blocks, samples


def cached(identity: object, suffix: str, make: Callable[[Path], None]) -> Path:
    """Path of a file of machine code, from the user's cache or newly made by `make(path)`.

    The name is a hash of `identity`, which is all that the machine code depends on, so a home
    directory may be shared by machines of several kinds. `make` gets a path in a scratch folder of
    its own; the file appears under its name complete: jobs may start at once.
    Raises CompilationError when the cache cannot be written.
    """
    name = hashlib.blake2b(repr(identity).encode(), digest_size=16).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparselimit"
    file = folder / f"{name}{suffix}"
    if file.exists():
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / file.name
            make(made)
            made.replace(file)
    except OSError as error:
        raise CompilationError(
            f"cannot write to the cache {folder} ({error.strerror}): set XDG_CACHE_HOME"
        ) from error
    return file
