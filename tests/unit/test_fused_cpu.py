"""The fused CPU backend against batched torch, autograd, closed forms and reference trainings."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparselimit.ensemble import batched, fused_cpu
from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import State
from sparselimit.networks.mlp import MLP
from tests.unit import ensembles, reference

pytestmark = pytest.mark.skipif(
    fused_cpu.available() is not None, reason=str(fused_cpu.available())
)

SHAPES = [(2, 3, 3, 3, 1), (2, 7, 3, 3, 1), (2, 16, 16, 16, 1), (3, 5, 1), (2, 1)]


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_agrees_with_batched(sizes: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    """Batches of 50 fill no whole number of blocks, 37 members no whole number of groups."""
    points = ensembles.points(300, sizes[0], dtype)
    batches = ensembles.batches(300, 40, 50)
    found, expected = ensembles.state(sizes, 37, dtype), ensembles.state(sizes, 37, dtype)
    fused_cpu.advance(found, points, batches)
    batched.advance(expected, points, batches)
    assert_close = partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)
    assert_close(found.parameters, expected.parameters)
    assert_close(found.velocity, expected.velocity)

    # Evaluated on the same parameters: an accuracy has no tolerance.
    accuracy, loss = fused_cpu.evaluate(found.network, expected.parameters, points)
    logits = batched.activations(found.network, expected.parameters, points.x)[-1][:, 0]
    labels = points.y.expand_as(logits)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    expected_loss = cross_entropy(logits, labels, reduction="none").double().mean(dim=1)
    expected_accuracy = ((logits > 0) == (labels > 0)).double().mean(dim=1)
    assert torch.equal(accuracy, expected_accuracy)
    assert_close(loss, expected_loss)


def test_gradient_is_that_of_autograd() -> None:
    points, batch = ensembles.points(100, 2), ensembles.batches(100, 1, 30)
    state = ensembles.state((2, 7, 3, 3, 1), 5, density=1.0)
    leaf = state.parameters.clone().requires_grad_()
    weights, biases = state.network.weights(leaf), state.network.biases(leaf)
    losses = []
    for member in range(5):
        signal = points.x[batch[0]]
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            signal = (signal if layer == 0 else signal.relu()) @ weight[member].T + bias[member]
        losses.append(
            torch.nn.functional.binary_cross_entropy_with_logits(signal[:, 0], points.y[batch[0]])
        )
    torch.stack(losses).sum().backward()
    state.weight_decay.zero_()
    fused_cpu.advance(state, points, batch)
    torch.testing.assert_close(state.velocity, leaf.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 4 * 2.0**-52), (torch.float32, 4 * 2.0**-23)]
)
def test_error_and_loss_of_a_logit(dtype: torch.dtype, tolerance: float) -> None:
    """Both keep their relative accuracy far into the tails: networks of one weight, at x = 1."""
    logits = torch.linspace(-50, 50, 2001, dtype=dtype)
    exact = logits.double().numpy()
    for label, sign in ((0.0, 1.0), (1.0, -1.0)):
        state = ensembles.state((1, 1), len(logits), dtype, density=1.0)
        state.parameters = torch.stack([logits, torch.zeros_like(logits)], dim=1)
        state.weight_decay.zero_()
        points = Points(torch.ones(1, 1, dtype=dtype), torch.tensor([label], dtype=dtype))
        _, loss = fused_cpu.evaluate(state.network, state.parameters, points)
        fused_cpu.advance(state, points, torch.zeros(1, 1, dtype=torch.int64))
        error = state.velocity[:, 1].double().numpy()
        np.testing.assert_allclose(error, sign / (1 + np.exp(-sign * exact)), rtol=tolerance)
        np.testing.assert_allclose(loss, np.logaddexp(0, sign * exact), rtol=tolerance)


def _reference_mask(final: h5py.Group) -> Tensor:
    parts = [
        final[f"mask_{part}_param_{layer}"][()] for part in ("weight", "bias") for layer in range(4)
    ]
    return torch.tensor(np.concatenate([part.ravel() for part in parts]) != 0)[None]


@pytest.mark.parametrize("precision", ["fp64", "fp32"])
@pytest.mark.parametrize("name", ["dense333_cosine", "sparse333_in16_cosine"])
def test_reference_training(cubist: h5py.File, spiral: Points, name: str, precision: str) -> None:
    """Five epochs of the published code: equal to 1e-7 in double precision, 1e-4 in single."""
    case = cubist["training"][name]
    dtype = torch.float64 if precision == "fp64" else torch.float32
    tolerance = 1e-7 if precision == "fp64" else 1e-4
    points = Points(spiral.x.to(dtype), spiral.y.to(dtype))
    network = reference.network(case["init"])
    mask = _reference_mask(case[precision]["final_buffers"])
    parameters = torch.where(mask, reference.parameters(case["init"], dtype), 0.0)
    state = State(
        network,
        torch.zeros(1, dtype=torch.int64),
        parameters,
        torch.zeros_like(parameters),
        mask,
        *(torch.tensor([value], dtype=torch.float64) for value in (0.05, 0.9, 5e-4)),
    )
    expected = case[precision]
    # In single precision rounding grows until, from here on, nothing can be compared.
    drift = case.attrs["first_iteration_reldiff_gt_1e-5"]
    end = drift if precision == "fp32" and drift >= 0 else 5 * 390
    stops = [int(step) for step in expected["params_before_iteration"] if int(step) < end]
    for epoch, batches in enumerate(torch.tensor(case["batch_order"][()].astype(np.int64))):
        state.rate = torch.tensor([0.05 * (1 + np.cos(np.pi * epoch / 5)) / 2])
        first = epoch * len(batches)
        inner = {step - first for step in stops if first < step < first + len(batches)}
        for begin, following in pairwise(sorted({0, *inner, len(batches)})):
            if first + begin in stops:
                before = expected[f"params_before_iteration/{first + begin}"]
                wanted = reference.parameters(before, dtype)
                torch.testing.assert_close(state.parameters, wanted, rtol=tolerance, atol=tolerance)
                batch = Points(points.x[batches[begin]], points.y[batches[begin]])
                _, loss = fused_cpu.evaluate(network, state.parameters, batch)
                wanted_loss = expected["loss_every_iteration"][first + begin]
                assert float(loss) == pytest.approx(wanted_loss, rel=tolerance)
            fused_cpu.advance(state, points, batches[begin:following])
    if end == 5 * 390:
        final = reference.parameters(expected["final"], dtype)
        torch.testing.assert_close(state.parameters, final, rtol=tolerance, atol=tolerance)
        accuracy, _ = fused_cpu.evaluate(network, state.parameters, points)
        assert float(accuracy) == pytest.approx(expected.attrs["Accuracy"], abs=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bitwise_alone_in_any_company_and_order(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, batches = ensembles.points(200, 2, dtype), ensembles.batches(200, 30, 40)
    initial = ensembles.state((2, 7, 3, 3, 1), 67, dtype)
    everyone = list(range(67))
    expected = ensembles.take(initial, everyone)
    fused_cpu.advance(expected, points, batches)
    _, expected_loss = fused_cpu.evaluate(initial.network, expected.parameters, points)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for index in ([0], [66], [17, 3, 40], everyone[::-1], everyone[5:50]):
        state = ensembles.take(initial, index)
        # In two segments: where training pauses does not matter either.
        fused_cpu.advance(state, points, batches[:13])
        fused_cpu.advance(state, points, batches[13:])
        assert torch.equal(state.parameters, expected.parameters[index])
        assert torch.equal(state.velocity, expected.velocity[index])
        _, loss = fused_cpu.evaluate(initial.network, state.parameters, points)
        assert torch.equal(loss, expected_loss[index])


@pytest.fixture
def narrow_vectors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernels compiled for 256-bit vectors, as on processors without AVX-512."""
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("needs a processor with AVX2")
    flags = ["-mcpu=x86_64_v3" if flag == "-mcpu=native" else flag for flag in fused_cpu.FLAGS]
    monkeypatch.setattr(fused_cpu, "FLAGS", flags)
    fused_cpu._kernel.cache_clear()
    yield
    fused_cpu._kernel.cache_clear()


@pytest.mark.parametrize("sizes", [(2, 7, 3, 3, 1), (2, 16, 16, 16, 1)])
@pytest.mark.usefixtures("narrow_vectors")
def test_narrow_vectors(sizes: tuple[int, ...]) -> None:
    points, batches = ensembles.points(200, 2), ensembles.batches(200, 20, 40)
    found, expected = ensembles.state(sizes, 21), ensembles.state(sizes, 21)
    fused_cpu.advance(found, points, batches)
    batched.advance(expected, points, batches)
    torch.testing.assert_close(found.parameters, expected.parameters, rtol=1e-12, atol=1e-12)


def test_divergence_stays_in_its_lane() -> None:
    points, batches = ensembles.points(200, 2, torch.float32), ensembles.batches(200, 60, 32)
    state = ensembles.state((2, 7, 3, 3, 1), 16, torch.float32)
    healthy = [member for member in range(16) if member not in (4, 9)]
    alone = ensembles.take(state, healthy)
    state.rate[4] = 1e30
    state.parameters[9, 0] = torch.nan
    state.mask[9, 0] = True
    fused_cpu.advance(alone, points, batches)
    for part in batches.split(30):
        fused_cpu.advance(state, points, part)
        # Once not finite, always so; and masked entries stay zero even then.
        assert not state.parameters[[4, 9]].isfinite().all(dim=1).any()
        assert not state.parameters[~state.mask].any()
    assert torch.equal(state.parameters[healthy], alone.parameters)
    accuracy, loss = fused_cpu.evaluate(state.network, state.parameters, points)
    assert accuracy[9] == 0
    assert loss[[4, 9]].isnan().all()
    assert loss[healthy].isfinite().all()


def test_a_logit_of_zero_is_class_0() -> None:
    points = Points(torch.zeros(5, 2), torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0]))
    accuracy, loss = fused_cpu.evaluate(MLP((2, 1)), torch.zeros(1, 3), points)
    assert float(accuracy) == 0.6
    assert float(loss) == pytest.approx(np.log(2), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.sampled_from([*SHAPES, (2, 6, 2, 5, 1), (1, 1)]),
    n_members=st.integers(1, 40),
    density=st.floats(0.0, 1.0),
    steps=st.integers(0, 6),
    batch=st.integers(1, 40),
)
def test_masked_entries_never_move(
    sizes: tuple[int, ...], n_members: int, density: float, steps: int, batch: int
) -> None:
    points, batches = ensembles.points(60, sizes[0]), ensembles.batches(60, steps, batch)
    found = ensembles.state(sizes, n_members, density=density)
    expected = ensembles.state(sizes, n_members, density=density)
    fused_cpu.advance(found, points, batches)
    batched.advance(expected, points, batches)
    assert not found.parameters[~found.mask].any()
    assert not found.velocity[~found.mask].any()
    torch.testing.assert_close(found.parameters, expected.parameters, rtol=1e-10, atol=1e-12)


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache in the file system, and none in memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fused_cpu._kernel.cache_clear()
    yield tmp_path / "sparselimit"
    fused_cpu._kernel.cache_clear()


def _reason() -> str:
    reason = fused_cpu.available.__wrapped__()
    assert reason is not None
    assert "\n" not in reason
    return str(reason)


def test_compiled_once_by_jobs_that_start_together(fresh_cache: Path) -> None:
    shape = {"SIZES": "1,1", "N_INPUTS": 1, "N_NEURONS": 2, "N_PARAMETERS": 2, "REAL_BITS": 32}
    defines = [f"-D{name}={value}" for name, value in shape.items()]
    with ThreadPoolExecutor(3) as pool:
        libraries = set(pool.map(fused_cpu._compiled, [defines] * 3))
    assert list(fresh_cache.iterdir()) == list(libraries)


@pytest.mark.usefixtures("fresh_cache")
def test_says_that_the_compiler_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install ziglang" in _reason()


@pytest.mark.usefixtures("fresh_cache")
def test_says_what_does_not_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("int f(void) { return undeclared; }")
    monkeypatch.setattr(fused_cpu, "SOURCE", broken)
    assert "undeclared" in _reason()


@pytest.mark.usefixtures("fresh_cache")
def test_says_that_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "set XDG_CACHE_HOME" in _reason()
