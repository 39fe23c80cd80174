"""Lanczos iteration on a symmetric operator given by its products.

Rounding destroys the orthogonality of the plain three-term recurrence, and with it the meaning of
the quadrature near zero, where a pruning limit is decided: every vector is orthogonalised against
all earlier ones, twice, with inner products in float64. These vectors, the basis, are what takes
memory; where not even those of one start vector fit, they lie in a file.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from sparselimit.console import progress_bar
from sparselimit.curvature.quadrature import BREAKDOWN, Tridiagonal
from sparselimit.ensemble.checkpoint import CHECKPOINT_SECONDS, Checkpoint
from sparselimit.errors import InputError

MEMORY = 8 << 30  # bytes that a basis may take unless told otherwise
# Cosine of two vectors that count as orthogonal. The square root of the rounding unit, 1.5e-8, is
# enough for alpha and beta to have full precision (Simon, 1984).
_ORTHOGONAL = 1e-8
# Numbers of the basis turned to float64 at a time: on a CPU they stay in its cache (measured).
_BLOCK = {"cpu": 1 << 16, "cuda": 1 << 25}


def rademacher(
    dimension: int,
    generators: Iterable[np.random.Generator],
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Random signs, one probe vector from each generator: [probes, dimension]."""
    signs = (torch.from_numpy(generator.integers(0, 2, dimension)) for generator in generators)
    return torch.stack([(2 * row - 1).to(dtype) for row in signs])


def lanczos(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    steps: int,
    *,
    memory: int = MEMORY,
    checkpoint: Path | None = None,
    identity: Sequence[object] = (),
    label: str = "lanczos",
) -> list[Tridiagonal]:
    """Run `steps` Lanczos steps from each row of `start`.

    product: maps vectors [P, D] to H vectors [P, D], with one fixed symmetric H.
    start: [P, D], any non-zero rows; its dtype, float32 or float64, is that of the products and of
        the basis.
    steps: at most; a row ends early where its Krylov space does (beta < 1e-12 max|alpha|).
    memory: bytes for the basis, which takes steps * D numbers for each row: as many rows run at
        once as fit. If not even one does, its basis lies in a file that is mapped into memory.
    checkpoint: where the state is saved now and then, on a signal (which then ends the run by
        `Stopped`) and at the end; the same call goes on from it to the same numbers. The basis is
        saved beside it, under its name and a suffix. To remove them is for the caller.
    identity: what decides the operator, to tell its checkpoint from others.

    Returns one `Tridiagonal` per row.

    Raises InputError for bad start vectors, a product that is not finite, and a checkpoint that is
    damaged or of another run.
    """
    if start.ndim != 2 or steps < 1:
        raise InputError(
            f"lanczos needs start vectors [P, D] and at least one step, got shape "
            f"{tuple(start.shape)} and {steps} steps"
        )
    length = start.double().norm(dim=1)
    if not bool(((length > 0) & length.isfinite()).all()):
        raise InputError("a start vector of the Lanczos iteration is zero or not finite")
    steps = min(steps, start.shape[1])
    each = steps * start.shape[1] * start.element_size()
    state = _State.of(len(start), steps, max(1, memory // each))
    keeper = None
    if checkpoint is not None:
        keeper = Checkpoint(checkpoint, [*identity, start, steps], CHECKPOINT_SECONDS)
        state.restore(keeper.load())
    with (
        progress_bar(label, len(start) * steps, "step") as progress,
        keeper.listening() if keeper else nullcontext(),
    ):
        progress.update(int(state.taken.sum()))
        while state.first < len(start):
            rows = slice(state.first, state.first + state.together)
            path = checkpoint and checkpoint.with_name(f"{checkpoint.name}.basis-{state.first}")
            basis = _Basis(start[rows], steps, each > memory, path, state.step)
            while state.step < steps and state.running[rows].any():
                progress.update(_advance(product, basis, state, rows))
                if keeper and keeper.due():
                    keeper.save(state.saved(), partial(basis.save, state.step + 1))
            state.first, state.step = rows.stop, 0
            if keeper:
                keeper.save(state.saved())
            basis.remove()
    return state.tridiagonals()


@dataclass
class _State:
    """What is known of all runs, and how far those under way have come.

    alpha, beta: float64 [P, steps].  taken: int64 [P].  running: bool [P].
    together: rows that run at once, those of the first call: the basis that is saved has them all,
        however much memory a later one finds.
    first: the first row of those under way.  step: the one that they take next.
    """

    alpha: Tensor
    beta: Tensor
    taken: Tensor
    running: Tensor
    together: int
    first: int = 0
    step: int = 0

    @classmethod
    def of(cls, probes: int, steps: int, together: int) -> _State:
        alpha = torch.zeros(probes, steps, dtype=torch.float64)
        taken = torch.zeros(probes, dtype=torch.int64)
        running = torch.ones(probes, dtype=torch.bool)
        return cls(alpha, alpha.clone(), taken, running, min(together, probes))

    def saved(self) -> dict[str, Tensor | int]:
        return dict(vars(self))

    def restore(self, saved: dict[str, Tensor | int] | None) -> None:
        vars(self).update(saved or {})

    def tridiagonals(self) -> list[Tridiagonal]:
        return [
            Tridiagonal(alpha[:size].numpy(), beta[:size].numpy())
            for alpha, beta, size in zip(self.alpha, self.beta, self.taken.tolist(), strict=True)
        ]


def _advance(product: Callable[[Tensor], Tensor], basis: _Basis, state: _State, rows: slice) -> int:
    """One step of the rows under way; returns how many of them took it."""
    step, running = state.step, state.running[rows]  # a view
    vectors = basis.vectors[step].to(basis.device)
    image = product(vectors).double()
    state.alpha[rows, step] = (image * vectors).sum(dim=1).cpu()
    for i, vector in enumerate(image):
        _orthogonalise(vector, basis.vectors[: step + 1, i])
    residual = image.norm(dim=1, keepdim=True)
    state.beta[rows, step] = residual[:, 0].cpu()
    if not state.beta[rows, step].isfinite().all():
        raise InputError(f"the operator returned a value that is not finite at step {step + 1}")
    state.taken[rows] += running
    taken = int(running.sum())
    running &= state.beta[rows, step] > BREAKDOWN * state.alpha[rows].abs().amax(dim=1)
    if step + 1 < len(basis.vectors):
        onward = running.to(basis.device)[:, None]
        basis.vectors[step + 1] = torch.where(onward, image / residual, 0)
    state.step += 1
    return taken


def _orthogonalise(vector: Tensor, basis: Tensor) -> None:
    """Remove from a float64 vector [D], in place and twice, its components along basis [k, D].

    The second components are measured as soon as the first are removed, block by block, so that the
    basis is read three times and not four; and twice, where they are too small to matter.
    """
    width = max(1, _BLOCK[vector.device.type] // len(basis))
    ready = basis.dtype == vector.dtype and basis.device == vector.device
    buffer = vector.new_empty(0 if ready else width * len(basis))
    known = found = vector.new_zeros(len(basis))
    for sweep in range(3):
        known, found = found, torch.zeros_like(found)
        if sweep == 2 and known.abs().max() <= _ORTHOGONAL * vector.norm():
            break
        for part, columns in zip(vector.split(width), basis.split(width, dim=1), strict=True):
            if ready:
                block = columns
            else:
                block = buffer[: columns.numel()].view(columns.shape).copy_(columns)
            if sweep > 0:
                part.addmv_(block.T, known, alpha=-1)
            if sweep < 2:
                found.addmv_(block, part)


class _Basis:
    """The Lanczos vectors of some rows: `vectors` [steps, P, D], in memory or mapped from a file.

    path: the file, which then outlives the process; without one, a mapped basis has a temporary
        file.
    step: the step to go on from, when the file holds the vectors up to it.
    """

    def __init__(
        self, start: Tensor, steps: int, mapped: bool, path: Path | None, step: int
    ) -> None:
        self.device = start.device
        self._path, self._mapped = path, None
        self._saved = step + 1 if step else 0  # vectors in the file
        shape = (steps, *start.shape)
        dtype = start[:0].cpu().numpy().dtype
        known = min(self._saved, steps) * start.numel()
        if path and known and (not path.exists() or path.stat().st_size < known * dtype.itemsize):
            raise InputError(
                f"{path}: incomplete, and the checkpoint beside it needs it; delete both to start "
                "from the beginning"
            )
        if mapped:
            with _opened(path) if path else tempfile.TemporaryFile() as file:
                _reserve(file, math.prod(shape) * dtype.itemsize)
                self._mapped = np.memmap(file, dtype, "r+", shape=shape)
            self.vectors = torch.from_numpy(self._mapped)
        else:
            self.vectors = start.new_empty(shape)
            if path and known:
                stored = torch.from_numpy(np.fromfile(path, dtype, known))
                self.vectors.view(-1)[:known] = stored
        if not known:
            self.vectors[0] = start / start.double().norm(dim=1, keepdim=True)

    def save(self, count: int) -> None:
        """Bring the first `count` vectors to the file; those that it has are not written again."""
        if self._mapped is not None:
            self._mapped.flush()
        elif self._path:
            new = self.vectors[self._saved : count].cpu().numpy()
            with _opened(self._path) as file:
                file.seek(self._saved * self.vectors[0].nbytes)
                new.tofile(file)
                file.flush()
                os.fsync(file.fileno())
            self._saved += len(new)

    def remove(self) -> None:
        if self._path:
            self._path.unlink(missing_ok=True)


def _reserve(file: BinaryIO, size: int) -> None:
    """Make room for so many bytes: a disk that fills up under a mapped file ends the process."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise InputError(
            f"no room on the disk for {size / 1e9:.1f} GB of Lanczos vectors ({error.strerror}): "
            "free some, give more --memory, or take fewer --steps"
        ) from error


def _opened(path: Path) -> BinaryIO:
    """A file for reading and writing, made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path.open("r+b")
