"""The fused CUDA backend: networks that stay on the chip, a whole segment of steps in one launch.

`fused_cuda.cu` is compiled for each shape, precision and kind of GPU when first needed, by the
NVRTC that torch brings along, and kept in the user's cache. Results are bitwise the same for a
member alone and in any company; across kinds of GPU only up to rounding.
"""

import ctypes
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sparselimit.ensemble.kernels import CompilationError, cached, records, shape_macros
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import State
from sparselimit.networks.mlp import MLP

SOURCE = Path(__file__).with_suffix(".cu")
WARP = 32
# Parameters and gradient of a network that a thread trains in its registers, 255 of 4 bytes, with
# its activations and the operands.
MOST_BYTES_IN_REGISTERS = 90 * 2 * 4
MOST_THREADS = 256

# Of the driver's interface (cuda.h).
_ATTRIBUTE_MAX_SHARED_BYTES_OF_DEVICE = 97
_ATTRIBUTE_MAX_SHARED_BYTES_OF_KERNEL = 8
_OUT_OF_MEMORY = 2


class DriverError(RuntimeError):
    """A call of the CUDA driver failed. The message is one line: which, and the driver's reason."""


@dataclass(frozen=True)
class Layout:
    """How the networks of a shape are laid out on the GPU.

    one_thread    a thread trains a network in registers; else a block does, in shared memory
    threads       of a block
    samples       that go through a network together
    shared_bytes  of a block
    """

    one_thread: bool
    threads: int
    samples: int
    shared_bytes: int

    @classmethod
    def of(cls, network: MLP, dtype: torch.dtype) -> "Layout":
        real = dtype.itemsize
        if 2 * network.n_parameters * real <= MOST_BYTES_IN_REGISTERS:
            # As `struct slow_memory` has it: momentum and mask.
            return cls(True, WARP, 1, network.n_parameters * WARP * (real + 1))
        rows = [_padded(size) for size in network.sizes]
        widest = max(rows)
        samples = 32 if widest <= 32 else 64
        # One thread for each tile of 4 x 4 in the widest layer's output.
        warps = -(-widest * samples // (16 * WARP))
        # As `struct network` has it.
        places = sum(_padded(n) * (_padded(m) + 4) for n, m in network.weight_shapes)
        places += sum(rows[1:])
        numbers = 3 * places + sum(rows) * (samples + 4) + 2 * samples
        used = numbers * real + 2 * samples * 8 + places
        return cls(False, min(warps * WARP, MOST_THREADS), samples, -(-used // 16) * 16)

    @property
    def members_per_block(self) -> int:
        return self.threads if self.one_thread else 1


@cache
def available() -> str | None:
    """Why this machine cannot use the backend, in one line; None if it can."""
    if torch.version.cuda is None or not torch.cuda.is_available():
        return "torch finds no CUDA GPU"
    try:
        _kernel(MLP((1, 1)), torch.float32, torch.device("cuda", torch.cuda.current_device()))
    except (CompilationError, DriverError) as error:
        return str(error)
    return None


def supports(network: MLP, dtype: torch.dtype) -> bool:
    """Whether the backend trains this shape and precision: a network must fit one block of threads.

    Raises DriverError where there is no GPU to ask.
    """
    if network.sizes[-1] != 1 or dtype not in (torch.float32, torch.float64):
        return False
    return Layout.of(network, dtype).shared_bytes <= _most_shared_bytes()


def advance(state: State, points: Points, batches: Tensor) -> None:
    """Take one SGD step per row of `batches` (int64 [steps, batch], indices into the points).

    The arithmetic is that of `batched.advance`, but for the order of sums. Members that diverge
    become NaN by themselves; masked entries stay zero even then.
    Raises CompilationError or DriverError where `available` has a reason.
    """
    dtype, device = state.parameters.dtype, state.parameters.device
    kernel = _kernel(state.network, dtype, device)
    n_blocks, samples = records(
        points, batches, kernel.layout.samples, 1.0 / batches.shape[1], dtype
    )
    state.parameters = state.parameters.contiguous()
    state.velocity = state.velocity.contiguous()
    columns = [
        column.to(dtype).contiguous() for column in (state.rate, state.momentum, state.weight_decay)
    ]
    mask = state.mask.contiguous()
    kernel.launch(
        "advance",
        len(mask),
        *(samples, len(batches), n_blocks),
        *(state.parameters, state.velocity, mask, *columns),
    )


def evaluate(network: MLP, parameters: Tensor, points: Points) -> tuple[Tensor, Tensor]:
    """Accuracy and mean loss of each member on all points, float64 [E] each.

    A logit of exactly zero counts as class 0; a NaN counts as wrong, whatever the label.
    Raises CompilationError or DriverError where `available` has a reason.
    """
    dtype, device = parameters.dtype, parameters.device
    kernel = _kernel(network, dtype, device)
    n_points = len(points.x)
    everything = torch.arange(n_points, device=device)[None]
    n_blocks, samples = records(points, everything, kernel.layout.samples, 1.0, dtype)
    correct, loss = torch.empty(2, len(parameters), dtype=torch.float64, device=device)
    kernel.launch(
        "evaluate", len(parameters), samples, n_blocks, parameters.contiguous(), correct, loss
    )
    return correct / n_points, loss / n_points


def _padded(n: int) -> int:
    return -(-n // 4) * 4


class _Kernel:
    """The compiled source for one shape and precision, loaded on one GPU."""

    def __init__(self, network: MLP, dtype: torch.dtype, device: torch.device) -> None:
        self.layout = Layout.of(network, dtype)
        self.device = device
        major, minor = torch.cuda.get_device_capability(device)
        image = _compiled(network, dtype, f"sm_{major}{minor}").read_bytes()
        # The driver acts on the thread's current context, which torch makes with the first tensor.
        with torch.cuda.device(device):
            torch.empty(1, device=device)
            self._module = ctypes.c_void_p()
            _call_driver("cuModuleLoadData", ctypes.byref(self._module), image)
            self._functions = {name: self._function(name) for name in ("advance", "evaluate")}

    def _function(self, name: str) -> ctypes.c_void_p:
        function = ctypes.c_void_p()
        _call_driver("cuModuleGetFunction", ctypes.byref(function), self._module, name.encode())
        _call_driver(
            "cuFuncSetAttribute",
            *(function, _ATTRIBUTE_MAX_SHARED_BYTES_OF_KERNEL, self.layout.shared_bytes),
        )
        return function

    def launch(self, name: str, members: int, *arguments: Tensor | int) -> None:
        """Run a function on torch's current stream; tensors are passed by address."""
        if members == 0:
            return
        values = _by_address(members, *arguments)
        addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        n_blocks = -(-members // self.layout.members_per_block)
        with torch.cuda.device(self.device):
            stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
            _call_driver(
                "cuLaunchKernel",
                self._functions[name],
                *(n_blocks, 1, 1),
                *(self.layout.threads, 1, 1),
                *(self.layout.shared_bytes, stream, addresses, None),
            )


_kernel = cache(_Kernel)


def _by_address(*arguments: Tensor | int) -> list[ctypes.c_void_p | ctypes.c_longlong]:
    """Arguments as the kernels take them."""
    return [
        ctypes.c_longlong(value) if isinstance(value, int) else ctypes.c_void_p(value.data_ptr())
        for value in arguments
    ]


def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DriverError(f"the CUDA driver cannot be loaded: {error}") from error


def _call_driver(function: str, *arguments: object) -> None:
    """Call a function of the driver; DriverError if it fails, for lack of memory torch's own."""
    status = getattr(_driver(), function)(*arguments)
    if status == _OUT_OF_MEMORY:
        raise torch.OutOfMemoryError(f"CUDA driver, {function}: out of memory")
    if status != 0:
        message = ctypes.c_char_p()
        _driver().cuGetErrorString(status, ctypes.byref(message))
        reason = (message.value or b"unknown error").decode()
        raise DriverError(f"CUDA driver, {function}: {reason}")


@cache
def _most_shared_bytes() -> int:
    """Shared memory that one block may have on every GPU here."""
    _call_driver("cuInit", 0)
    found = []
    for device in range(torch.cuda.device_count()):
        value = ctypes.c_int()
        _call_driver(
            "cuDeviceGetAttribute",
            *(ctypes.byref(value), _ATTRIBUTE_MAX_SHARED_BYTES_OF_DEVICE, device),
        )
        found.append(value.value)
    return min(found)


def _macros(network: MLP, dtype: torch.dtype) -> list[str]:
    """Options that define what the source expects."""
    layout = Layout.of(network, dtype)
    macros = shape_macros(network, dtype) | {
        "ONE_THREAD": int(layout.one_thread),
        "THREADS": layout.threads,
        "SAMPLES": layout.samples,
        "SHARED_BYTES": layout.shared_bytes,
    }
    return [f"-D{name}={value}" for name, value in macros.items()]


def _options(network: MLP, dtype: torch.dtype, architecture: str) -> list[str]:
    return [*_macros(network, dtype), f"--gpu-architecture={architecture}", "--std=c++17"]


def _compiled(network: MLP, dtype: torch.dtype, architecture: str) -> Path:
    """Path of the machine code for a kind of GPU (as sm_90), from the cache or newly made."""
    compiler = _nvrtc(str(torch.version.cuda).split(".")[0])
    major, minor = ctypes.c_int(), ctypes.c_int()
    compiler.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    options = _options(network, dtype, architecture)
    identity = (SOURCE.read_text(), options, major.value, minor.value)

    def compile_to(file: Path) -> None:
        file.write_bytes(_machine_code(compiler, options))

    return cached(identity, ".cubin", compile_to)


@cache
def _nvrtc(major: str) -> ctypes.CDLL:
    """The run-time compiler of a major CUDA version: of a pip package, or else of the system."""
    name = f"libnvrtc.so.{major}"
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else None
    packaged = [file for folder in folders or [] for file in Path(folder).glob(f"*/lib/{name}")]
    for candidate in (*packaged, Path(name)):
        try:
            # A part of the compiler that it looks for on the system's search path alone, unless it
            # has been loaded before.
            for builtins in candidate.parent.glob(f"libnvrtc-builtins.so.{major}.*"):
                ctypes.CDLL(str(builtins))
            return ctypes.CDLL(str(candidate))
        except OSError:
            continue
    raise CompilationError(f"{name}, the CUDA run-time compiler, is missing: reinstall torch")


def _machine_code(compiler: ctypes.CDLL, options: list[str]) -> bytes:
    """The source compiled by NVRTC; CompilationError with its first complaint."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    source = SOURCE.read_text().encode()
    encoded = [option.encode() for option in options]
    compiler.nvrtcCreateProgram(ctypes.byref(program), source, SOURCE.name.encode(), 0, None, None)
    try:
        status = compiler.nvrtcCompileProgram(
            program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded)
        )
        if status != 0:
            compiler.nvrtcGetProgramLogSize(program, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            compiler.nvrtcGetProgramLog(program, log)
            lines = [line for line in log.value.decode().splitlines() if "error" in line]
            reason = lines[0] if lines else f"status {status}"
            raise CompilationError(f"NVRTC could not compile {SOURCE.name}: {reason}")
        compiler.nvrtcGetCUBINSize(program, ctypes.byref(size))
        code = ctypes.create_string_buffer(size.value)
        compiler.nvrtcGetCUBIN(program, code)
        return code.raw
    finally:
        compiler.nvrtcDestroyProgram(ctypes.byref(program))
