"""The fused CUDA backend against batched torch and closed forms.

Its source is compiled for the CPU, where a block's threads run in turn (`emulated_cuda.cpp`), and
by the CUDA compiler where there is one. On a machine with a GPU the same checks run there too.
"""

import contextlib
import ctypes
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparselimit.ensemble import backends, batched, fused_cpu, fused_cuda
from sparselimit.ensemble.kernels import CompilationError
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import State
from sparselimit.errors import InputError
from sparselimit.networks.mlp import MLP
from tests.unit import ensembles

pytestmark = pytest.mark.skipif(
    fused_cpu.available() is not None, reason=str(fused_cpu.available())
)

EMULATOR = Path(__file__).with_name("emulated_cuda.cpp")
HOPPER_BYTES = 227 * 1024  # shared memory of a block

# One of one warp and several; of 32 and 64 samples at once; with and without padding.
SHAPES = [
    *((2, 3, 3, 3, 1), (2, 7, 3, 3, 1), (2, 16, 16, 16, 1), (3, 5, 1), (2, 1)),
    *((2, 21, 6, 1), (5, 40, 37, 1)),
]


class Emulated:
    """Stands in for a kernel on a GPU."""

    backwards = False

    def __init__(self, network: MLP, dtype: torch.dtype, folder: Path) -> None:
        self.layout = fused_cuda.Layout.of(network, dtype)
        file = folder / f"{len(list(folder.iterdir()))}.so"
        subprocess.run(
            [
                *(sys.executable, "-m", "ziglang", "c++", "-std=c++17", "-O1", "-mcpu=native"),
                # The C library has an `advance` of its own.
                *("-shared", "-Wl,-Bsymbolic", "-fPIC", "-nostdlib"),
                *("-fno-exceptions", "-fno-sanitize=undefined"),
                *fused_cuda._macros(network, dtype),
                *("-I", str(fused_cuda.SOURCE.parent), "-o", str(file), str(EMULATOR)),
            ],
            env=os.environ
            | {"ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder)},
            check=True,
        )
        self.library = ctypes.CDLL(str(file))

    def launch(self, name: str, members: int, *arguments: Tensor | int) -> None:
        self.library.set_backwards(ctypes.c_bool(self.backwards))
        getattr(self.library, f"launch_{name}")(
            -(-members // self.layout.members_per_block),
            *fused_cuda._by_address(members, *arguments),
        )


Compiled = Callable[[fused_cuda.Layout, MLP, torch.dtype], Emulated]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The emulated kernels; each is compiled once for all tests."""

    @cache
    def kernel(layout: fused_cuda.Layout, network: MLP, dtype: torch.dtype) -> Emulated:
        return Emulated(network, dtype, tmp_path_factory.mktemp("kernel"))

    return kernel


@pytest.fixture
def emulation(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fused_cuda` runs on the CPU."""

    def kernel(network: MLP, dtype: torch.dtype, device: torch.device) -> Emulated:
        return compiled(fused_cuda.Layout.of(network, dtype), network, dtype)

    monkeypatch.setattr(fused_cuda, "_kernel", kernel)


@pytest.fixture(params=["a thread", "a block"])
def both_layouts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks, trained by a thread as usual and by a block like larger ones."""
    if request.param == "a block":
        monkeypatch.setattr(fused_cuda, "MOST_BYTES_IN_REGISTERS", 0)


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Where the kernels run: emulated on the CPU, and on a GPU if there is one."""
    if request.param == "cpu":
        request.getfixturevalue("emulation")
    return str(request.param)


def _on(device: str, state: State) -> State:
    columns: dict[str, Any] = {
        name: value.to(device) for name, value in vars(state).items() if isinstance(value, Tensor)
    }
    return replace(state, **columns)


def _moved(device: str, points: Points) -> Points:
    return Points(points.x.to(device), points.y.to(device))


def _advance(device: str, state: State, points: Points, batches: Tensor) -> State:
    """The state after the batches, by the fused kernel on the device."""
    state = _on(device, ensembles.take(state, list(range(len(state.mask)))))
    fused_cuda.advance(state, _moved(device, points), batches.to(device))
    return _on("cpu", state)


def _evaluate(
    device: str, network: MLP, parameters: Tensor, points: Points
) -> tuple[Tensor, Tensor]:
    found = fused_cuda.evaluate(network, parameters.to(device), _moved(device, points))
    return found[0].cpu(), found[1].cpu()


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_agrees_with_batched(
    device: str, sizes: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    """Batches of 50 fill no whole number of blocks, 37 members no whole number of warps."""
    points, batches = ensembles.points(300, sizes[0], dtype), ensembles.batches(300, 40, 50)
    expected = ensembles.state(sizes, 37, dtype)
    found = _advance(device, expected, points, batches)
    batched.advance(expected, points, batches)
    assert_close = partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)
    assert_close(found.parameters, expected.parameters)
    assert_close(found.velocity, expected.velocity)
    assert not found.parameters[~found.mask].any()

    # Evaluated on the same parameters: an accuracy has no tolerance.
    accuracy, loss = _evaluate(device, found.network, expected.parameters, points)
    expected_accuracy, expected_loss = batched.evaluate(found.network, expected.parameters, points)
    assert torch.equal(accuracy, expected_accuracy)
    assert_close(loss, expected_loss)


@pytest.mark.parametrize("sizes", [(2, 7, 3, 3, 1), (2, 16, 16, 16, 1), (2, 21, 6, 1)])
def test_results_do_not_depend_on_company_or_segments(device: str, sizes: tuple[int, ...]) -> None:
    points, batches = ensembles.points(200, 2, torch.float32), ensembles.batches(200, 20, 40)
    initial = ensembles.state(sizes, 67, torch.float32)
    together = _advance(device, initial, points, batches)
    _, expected_loss = _evaluate(device, initial.network, together.parameters, points)
    for index in ([0], [66], [17, 3, 40], list(range(67))[::-1]):
        part = _advance(device, ensembles.take(initial, index), points, batches[:13])
        part = _advance(device, part, points, batches[13:])
        assert torch.equal(part.parameters, together.parameters[index])
        assert torch.equal(part.velocity, together.velocity[index])
        _, loss = _evaluate(device, initial.network, part.parameters, points)
        assert torch.equal(loss, expected_loss[index])


@pytest.mark.usefixtures("emulation")
@pytest.mark.parametrize("sizes", SHAPES)
def test_no_race(sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two synchronisations the order of a block's threads does not matter."""
    points, batches = ensembles.points(200, sizes[0], torch.float32), ensembles.batches(200, 5, 70)
    initial = ensembles.state(sizes, 3, torch.float32)

    def run() -> list[Tensor]:
        state = _advance("cpu", initial, points, batches)
        found = _evaluate("cpu", initial.network, state.parameters, points)
        return [state.parameters, state.velocity, *found]

    forwards = run()
    monkeypatch.setattr(Emulated, "backwards", True)
    assert all(map(torch.equal, run(), forwards))


@pytest.mark.usefixtures("both_layouts")
def test_divergence_stays_with_its_member(device: str) -> None:
    points, batches = ensembles.points(200, 2, torch.float32), ensembles.batches(200, 60, 50)
    initial = ensembles.state((2, 7, 3, 3, 1), 16, torch.float32)
    healthy = [member for member in range(16) if member not in (4, 9)]
    alone = _advance(device, ensembles.take(initial, healthy), points, batches)
    initial.rate[4] = 1e30
    initial.parameters[9, 0] = torch.nan
    initial.mask[9, 0] = True
    state = initial
    for part in batches.split(30):
        state = _advance(device, state, points, part)
        # Once not finite, always so; and masked entries stay zero even then.
        assert not state.parameters[[4, 9]].isfinite().all(dim=1).any()
        assert not state.parameters[~state.mask].any()
        assert not state.velocity[~state.mask].any()
    assert torch.equal(state.parameters[healthy], alone.parameters)
    accuracy, loss = _evaluate(device, state.network, state.parameters, points)
    assert accuracy[9] == 0
    assert loss[[4, 9]].isnan().all()
    assert loss[healthy].isfinite().all()


@pytest.mark.usefixtures("both_layouts")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 6 * 2.0**-52), (torch.float32, 6 * 2.0**-23)]
)
def test_error_and_loss_of_a_logit(device: str, dtype: torch.dtype, tolerance: float) -> None:
    """Both keep their relative accuracy far into the tails: networks of one weight, at x = 1."""
    logits = torch.linspace(-50, 50, 401, dtype=dtype)
    exact = logits.double().numpy()
    for label, sign in ((0.0, 1.0), (1.0, -1.0)):
        state = ensembles.state((1, 1), len(logits), dtype, density=1.0)
        state.parameters = torch.stack([logits, torch.zeros_like(logits)], dim=1)
        state.weight_decay = torch.zeros(len(logits))
        points = Points(torch.ones(1, 1, dtype=dtype), torch.tensor([label], dtype=dtype))
        accuracy, loss = _evaluate(device, state.network, state.parameters, points)
        # A logit of zero is class 0.
        assert torch.equal(accuracy, ((logits > 0) == (label > 0)).double())
        np.testing.assert_allclose(loss, np.logaddexp(0, sign * exact), rtol=tolerance)
        state = _advance(device, state, points, torch.zeros(1, 1, dtype=torch.int64))
        error = state.velocity[:, 1].double().numpy()
        np.testing.assert_allclose(error, sign / (1 + np.exp(-sign * exact)), rtol=tolerance)


@pytest.mark.parametrize(
    ("sizes", "dtype", "fits"),
    [
        ((2, 64, 64, 64, 1), torch.float32, True),
        ((2, 64, 64, 64, 1), torch.float64, False),
        ((2, 48, 48, 48, 1), torch.float64, True),
        ((2, 1000, 1), torch.float32, False),
        ((2, 3, 3, 3, 2), torch.float32, False),
        ((2, 3, 3, 3, 1), torch.float16, False),
    ],
)
def test_supports_what_fits_a_block(
    sizes: tuple[int, ...], dtype: torch.dtype, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_cuda, "_most_shared_bytes", lambda: HOPPER_BYTES)
    assert fused_cuda.supports(MLP(sizes), dtype) == fits


CUDA = torch.device("cuda")


def _choose(name: str) -> object:
    return backends.choose(name, MLP((2, 3, 3, 3, 1)), torch.float32, CUDA)


@pytest.fixture
def forgetful() -> Iterator[None]:
    """Whether a backend can be had is asked anew."""
    caches = backends._obstacle_here, backends._obstacle_to_fused
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.usefixtures("forgetful")
def test_chosen_where_it_can_be_had(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fused_cuda, "available", lambda: None)
    monkeypatch.setattr(fused_cuda, "_most_shared_bytes", lambda: HOPPER_BYTES)
    monkeypatch.setattr(backends, "_disagreement", lambda *_: None)
    with caplog.at_level(logging.INFO):
        assert _choose("auto") is _choose("fused") is fused_cuda
        assert _choose("batched") is batched
    assert not caplog.messages


def _ten_times_too_far(state: State, points: Points, batches: Tensor) -> None:
    state.rate = 10 * state.rate
    batched.advance(state, points, batches)


def _fails(*_: object) -> None:
    raise RuntimeError("an illegal instruction\nand more lines")


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(
    ("advance", "word"), [(_ten_times_too_far, "disagrees with torch"), (_fails, "illegal")]
)
def test_a_kernel_that_is_wrong_here_is_not_used(
    advance: Callable[..., None],
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(fused_cpu, "advance", advance)
    cpu = torch.device("cpu")
    with caplog.at_level(logging.INFO):
        assert backends.choose("auto", MLP((2, 3, 1)), torch.float32, cpu) is batched
    assert word in caplog.text
    with pytest.raises(InputError, match="use auto or batched"):
        backends.choose("fused", MLP((2, 3, 1)), torch.float32, cpu)


@pytest.mark.usefixtures("forgetful")
def test_batched_torch_serves_where_it_cannot(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fused_cuda, "available", lambda: "the compiler is on leave")
    with caplog.at_level(logging.INFO):
        assert _choose("auto") is _choose("auto") is batched
    assert len(caplog.messages) == 1
    assert "the compiler is on leave" in caplog.messages[0]
    with pytest.raises(InputError, match="the compiler is on leave; use auto or batched"):
        _choose("fused")


def test_says_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert fused_cuda.available.__wrapped__() == "torch finds no CUDA GPU"


def test_says_that_the_compiler_is_missing() -> None:
    with pytest.raises(CompilationError, match=r"libnvrtc\.so\.0.* is missing"):
        fused_cuda._nvrtc("0")


def _nvrtc_versions() -> list[str]:
    """The major versions of CUDA for which the compiler is found here."""
    found = []
    for major in ("12", "13"):
        with contextlib.suppress(CompilationError):
            fused_cuda._nvrtc(major)
            found.append(major)
    return found


# No GPU is needed to compile for one.
if VERSIONS := _nvrtc_versions():

    @pytest.fixture(params=VERSIONS)
    def cuda_version(
        request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A CUDA build of torch, and an empty cache."""
        monkeypatch.setattr(torch.version, "cuda", f"{request.param}.0")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    @pytest.mark.usefixtures("cuda_version")
    @pytest.mark.parametrize("sizes", [(2, 7, 3, 3, 1), (2, 16, 16, 16, 1), (2, 64, 64, 64, 1)])
    @pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
    def test_compiles_for_gpus(sizes: tuple[int, ...], architecture: str) -> None:
        code = fused_cuda._compiled(MLP(sizes), torch.float32, architecture).read_bytes()
        assert code.startswith(b"\x7fELF")
        assert all(name in code for name in (b".text.advance", b".text.evaluate"))

    @pytest.mark.usefixtures("cuda_version")
    def test_says_what_does_not_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = tmp_path / "broken.cu"
        broken.write_text("__device__ int f() { return undeclared; }")
        monkeypatch.setattr(fused_cuda, "SOURCE", broken)
        with pytest.raises(CompilationError, match="undeclared") as caught:
            fused_cuda._compiled(MLP((1, 1)), torch.float32, "sm_90")
        assert "\n" not in str(caught.value)


if torch.cuda.is_available():

    def test_to_be_had_here() -> None:
        assert fused_cuda.available() is None
        assert _choose("auto") is fused_cuda
