"""The fused CPU backend: one network in each SIMD lane, a whole segment of steps in one call.

`fused_cpu.c` is compiled for each shape and precision when first needed, by the clang in the pip
package ziglang, and kept in the user's cache. Results are bitwise the same for a member alone, in
any company and on any number of threads; across processors only up to rounding.
"""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sparselimit.ensemble.kernels import CompilationError, cached, records, shape_macros
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import State
from sparselimit.networks.mlp import MLP

SOURCE = Path(__file__).with_suffix(".c")
# Contraction to fused multiply-add is the compiler's to choose, within an expression; nothing else
# about the arithmetic is.
FLAGS = (
    *("-O3", "-mcpu=native", "-ffp-contract=on", "-fno-sanitize=undefined"),
    *("-shared", "-fPIC", "-nostdlib"),
)
# Most groups of members in one call, so that a signal is answered within a second or so.
GROUPS_PER_CALL = 32


@cache
def available() -> str | None:
    """Why this machine cannot use the backend, in one line; None if it can."""
    try:
        _kernel(MLP((1, 1)), torch.float32)
    except CompilationError as error:
        return str(error)
    return None


def supports(network: MLP, dtype: torch.dtype) -> bool:
    """Whether the backend trains this shape and precision."""
    return network.sizes[-1] == 1 and dtype in (torch.float32, torch.float64)


def advance(state: State, points: Points, batches: Tensor) -> None:
    """Take one SGD step per row of `batches` (int64 [steps, batch], indices into the points).

    The arithmetic is that of `batched.advance`, but for the order of sums. Members that diverge
    become NaN by themselves; masked entries stay zero even then.
    Raises CompilationError where `available` has a reason.
    """
    dtype = state.parameters.dtype
    kernel = _kernel(state.network, dtype)
    block = _constant(kernel, "samples_per_block")
    n_blocks, samples = records(points, batches, block, 1.0 / batches.shape[1], dtype)
    state.parameters = state.parameters.contiguous()
    state.velocity = state.velocity.contiguous()
    mask = state.mask.contiguous()
    columns = [
        column.to(dtype).contiguous() for column in (state.rate, state.momentum, state.weight_decay)
    ]

    def task(members: slice, scratch: int) -> None:
        kernel.advance(
            scratch,
            samples.data_ptr(),
            len(batches),
            n_blocks,
            members.stop - members.start,
            *(
                column[members].data_ptr()
                for column in (state.parameters, state.velocity, mask, *columns)
            ),
        )

    _for_all(len(mask), kernel, task)


def evaluate(network: MLP, parameters: Tensor, points: Points) -> tuple[Tensor, Tensor]:
    """Accuracy and mean loss of each member on all points, float64 [E] each.

    A logit of exactly zero counts as class 0; a NaN counts as wrong, whatever the label.
    Raises CompilationError where `available` has a reason.
    """
    kernel = _kernel(network, parameters.dtype)
    n_points = len(points.x)
    everything = torch.arange(n_points)[None]
    block = _constant(kernel, "samples_per_block")
    n_blocks, samples = records(points, everything, block, 1.0, parameters.dtype)
    parameters = parameters.contiguous()
    correct, loss = torch.empty(2, len(parameters), dtype=torch.float64)

    def task(members: slice, scratch: int) -> None:
        kernel.evaluate(
            scratch,
            samples.data_ptr(),
            n_blocks,
            members.stop - members.start,
            *(column[members].data_ptr() for column in (parameters, correct, loss)),
        )

    _for_all(len(parameters), kernel, task)
    return correct / n_points, loss / n_points


def _for_all(n_members: int, kernel: ctypes.CDLL, task: Callable[[slice, int], None]) -> None:
    """Run the task for slices of the members, on as many threads as torch has.

    A task gets a slice and the address of a scratch area of its own. The kernel runs without the
    interpreter's lock; several slices per thread let a thread that falls behind do less.
    """
    lanes, alignment = _constant(kernel, "lanes"), _constant(kernel, "scratch_alignment")
    n_threads = torch.get_num_threads()
    n_groups = -(-n_members // lanes)
    length = lanes * max(1, min(GROUPS_PER_CALL, n_groups // (4 * n_threads)))
    slices = [slice(i, min(i + length, n_members)) for i in range(0, n_members, length)]

    def run(members: slice) -> None:
        size = _constant(kernel, "scratch_bytes") + alignment
        scratch = torch.empty(size, dtype=torch.uint8)
        task(members, -(-scratch.data_ptr() // alignment) * alignment)

    if n_threads == 1:
        for members in slices:
            run(members)
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(run, slices))


def _constant(kernel: ctypes.CDLL, name: str) -> int:
    return ctypes.c_int64.in_dll(kernel, name).value


@cache
def _kernel(network: MLP, dtype: torch.dtype) -> ctypes.CDLL:
    """The compiled source for one shape and precision; compiled if the cache does not have it."""
    defines = shape_macros(network, dtype)
    library = _compiled([f"-D{name}={value}" for name, value in defines.items()])
    kernel = ctypes.CDLL(str(library))
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    kernel.advance.argtypes = [pointer, pointer, integer, integer, integer, *[pointer] * 6]
    kernel.advance.restype = None
    kernel.evaluate.argtypes = [pointer, pointer, integer, integer, *[pointer] * 3]
    kernel.evaluate.restype = None
    return kernel


def _compiled(defines: list[str]) -> Path:
    """Path of the shared library for these macros, from the cache or newly made."""
    if importlib.util.find_spec("ziglang") is None:
        raise CompilationError("the Python package ziglang is not installed: pip install ziglang")
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *defines]

    def compile_to(library: Path) -> None:
        # The compiler's own cache goes with the scratch folder: it saves little here, and its locks
        # are not to be trusted on network file systems.
        caches = dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), str(library.parent))
        try:
            subprocess.run(
                [*command, "-o", str(library), str(SOURCE)],
                env=os.environ | caches,
                check=True,
                capture_output=True,
                text=True,
            )
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if "error" in line]
            reason = lines[0] if lines else "no message"
            raise CompilationError(f"ziglang could not compile {SOURCE.name}: {reason}") from error

    version = importlib.metadata.version("ziglang")
    identity = (SOURCE.read_text(), command[3:], version, _processor())
    return cached(identity, ".so", compile_to)


def _processor() -> list[str]:
    """What tells this processor's instruction set from another's."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return [platform.machine(), platform.processor()]
    keys = ("model name", "flags", "Features", "CPU part")
    return sorted({line for line in lines if line.startswith(keys)})
