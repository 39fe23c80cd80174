"""Curvature products against finite differences, dense matrices, closed forms and curvlinops."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import curvlinops
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sparselimit.curvature import products
from sparselimit.curvature.convolutions import SecondOrder
from sparselimit.curvature.products import Objective, Operator
from sparselimit.ensemble.checkpoint import Checkpoint
from tests.unit.refusals import refused

SAMPLES = 23


class Noisy(nn.Module):
    """Dropout that forgets evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5, training=True)


def network(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(*parts).double().eval()


def problem(kind: str) -> tuple:
    """(module, loss function, its nn.Module twin, inputs, targets) of one kind, all seeded."""
    torch.manual_seed(0)
    x = torch.randn(SAMPLES, 5, dtype=torch.float64)
    labels = torch.randint(3, (SAMPLES,))
    if kind == "cross entropy":
        module = network(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
        return module, functional.cross_entropy, nn.CrossEntropyLoss(), x, labels
    if kind == "binary":
        module = network(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 1))
        y = (labels > 0).double()[:, None]
        return module, functional.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss(), x, y
    if kind == "regression":
        module = network(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))
        y = torch.randn(SAMPLES, 2, dtype=torch.float64)
        return module, functional.mse_loss, nn.MSELoss(), x, y
    module = network(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(12, 3),
    )  # fmt: skip
    nn.init.normal_(module.get_buffer("1.running_mean"))
    images = torch.randn(SAMPLES, 1, 4, 4, dtype=torch.float64)
    return module, functional.cross_entropy, nn.CrossEntropyLoss(), images, labels


@pytest.fixture(params=["cross entropy", "binary", "regression", "convolution"], scope="module")
def case(request: pytest.FixtureRequest) -> tuple:
    return problem(request.param)


@pytest.fixture(scope="module")
def objective(case: tuple) -> Objective:
    module, loss, _, x, y = case
    return Objective(module, loss, x, y, batch_size=10)  # 10 + 10 + 3: an uneven split


def probes(objective: Objective, count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, objective.dimension, dtype=torch.float64, generator=generator)


def test_value_is_the_mean_loss_of_the_whole_sample(case: tuple, objective: Objective) -> None:
    module, loss, _, x, y = case
    assert objective.value() == pytest.approx(loss(module(x), y).item(), rel=1e-12)
    np.testing.assert_allclose(objective.batch_losses()[2], loss(module(x[20:]), y[20:]).item())


def test_gradient_is_the_slope_of_the_value(objective: Objective) -> None:
    for direction in probes(objective):
        step = 1e-5 * direction
        ahead = objective.value(objective.parameters + step)
        behind = objective.value(objective.parameters - step)
        slope = float(objective.gradient() @ direction)
        assert (ahead - behind) / 2e-5 == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_hessian_product_is_the_slope_of_the_gradient(objective: Objective) -> None:
    vectors = probes(objective)
    elsewhere = objective.parameters + 0.01
    for point in (objective.parameters, elsewhere):
        for direction, product in zip(
            vectors, objective.product("hessian", at=point)(vectors), strict=True
        ):
            step = 1e-5 * direction
            slope = objective.gradient(point + step) - objective.gradient(point - step)
            torch.testing.assert_close(product, slope / 2e-5, rtol=1e-5, atol=1e-7)


def test_products_agree_with_the_dense_matrices_and_with_curvlinops(
    case: tuple, objective: Objective
) -> None:
    module, _, criterion, x, y = case
    vectors = probes(objective)
    data = [(x[:10], y[:10]), (x[10:], y[10:])]
    for product, dense, operator in (
        (objective.product("hessian"), objective.exact_hessian(), curvlinops.HessianLinearOperator),
        (objective.product("ggn"), objective.exact_ggn(), curvlinops.GGNLinearOperator),
    ):
        second_opinion = operator(module, criterion, list(module.parameters()), data)
        torch.testing.assert_close(product(vectors), vectors @ dense, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(product(vectors[0]), dense @ vectors[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(product(vectors[:1]), product(vectors)[:1])
        torch.testing.assert_close(
            product(vectors), (second_opinion @ vectors.T).T, rtol=1e-9, atol=1e-12
        )


def layers(kind: str) -> tuple[nn.Module, Tensor]:
    """Modules whose convolutions and normalisations are all kinds of special, and their inputs."""
    torch.manual_seed(0)
    parts: tuple[nn.Module, ...]
    if kind == "geometry":
        parts = (
            nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2), groups=2),
            nn.BatchNorm2d(4),
            nn.Tanh(),
            nn.Conv2d(4, 3, 2, padding="same", padding_mode="reflect"),
            nn.BatchNorm2d(3, affine=False),
        )
    elif kind == "named padding":
        parts = (nn.Conv2d(2, 3, 3, padding="same"), nn.BatchNorm2d(3), nn.Tanh())
    elif kind == "transposed":
        parts = (nn.ConvTranspose2d(2, 3, 2, stride=2), nn.BatchNorm2d(3), nn.Tanh())
    elif kind == "normalised first":
        parts = (nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, bias=False), nn.Tanh(), nn.Conv2d(3, 2, 2))
    elif kind == "changed in place":
        parts = (nn.Conv2d(2, 3, 3), nn.Hardtanh(-0.3, 0.3, inplace=True), nn.BatchNorm2d(3))
    elif kind == "one axis":
        parts = (nn.Flatten(2), nn.Conv1d(2, 3, 5, stride=2), nn.BatchNorm1d(3), nn.Tanh())
    elif kind == "three axes":
        parts = (nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 2, (1, 3, 3)), nn.BatchNorm3d(2), nn.Tanh())
    else:
        parts = (nn.Flatten(), nn.Linear(50, 4), nn.BatchNorm1d(4), nn.Tanh())
    x = torch.randn(7, 2, 5, 5, dtype=torch.float64)
    body = network(*parts, nn.Flatten())
    module = network(body, nn.Linear(body(x).shape[1], 3))
    for name, buffer in module.named_buffers():
        if name.endswith(("mean", "var")):
            nn.init.uniform_(buffer, 0.5, 2)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.affine:
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return module, x


@pytest.mark.parametrize(
    "kind",
    [
        "geometry", "named padding", "transposed", "normalised first", "changed in place",
        "one axis", "three axes", "linear",
    ],
)  # fmt: skip
def test_convolutions_and_normalisations_are_those_of_torch(kind: str) -> None:
    """The dense matrices come from torch's own layers."""
    module, x = layers(kind)
    y = torch.arange(7) % 3
    objective = Objective(module, functional.cross_entropy, x, y, batch_size=4)
    vectors = probes(objective, 3)
    for product, dense in (
        (objective.product("hessian"), objective.exact_hessian()),
        (objective.product("ggn"), objective.exact_ggn()),
    ):
        torch.testing.assert_close(product(vectors), vectors @ dense, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(product(vectors[0]), dense @ vectors[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "needed", [(True, True, True), (True, True, False), (True, False, False), (False, True, True)]
)
def test_second_derivatives_of_a_convolution_are_right_whatever_is_asked_for(
    needed: tuple[bool, bool, bool],
) -> None:
    """By finite differences, of the output in any of input, weight and bias, and of that again."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 2, 4, 3), (3, 2, 2, 2), (3,))
    given = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    for tensor, ask in zip(given, needed, strict=True):
        tensor.requires_grad_(ask)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with SecondOrder():
            return functional.conv2d(x, weight, bias, stride=(2, 1), padding=1)

    assert torch.autograd.gradcheck(convolve, given)
    assert torch.autograd.gradgradcheck(convolve, given)


class Convolutions(TorchDispatchMode):
    """Counts convolutions and the products that make their gradients, and calls for these."""

    count, calls = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.count += 1
        if func is torch.ops.aten.convolution_backward.default:
            self.calls += 1
            by_input, by_weight, _ = args[-1]
            self.count += by_input + by_weight
        return func(*args, **(kwargs or {}))


def test_a_product_takes_no_more_convolutions_than_it_must() -> None:
    """For each layer the gradient takes three, the Hessian six, and the Gauss-Newton matrix four.

    Less at the first layer, whose inputs are data: a gradient in them is not asked for. Products
    that share an argument are made in one call.
    """
    module, loss, _, x, y = problem("convolution")
    deeper = network(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1), module)
    objective = Objective(deeper, loss, x, y)
    v = probes(objective, 1)[0]

    def count(work: Callable[[], object]) -> tuple[int, int]:
        with Convolutions() as mode:
            work()
        return mode.count, mode.calls

    assert count(objective.gradient) == (2 + 3 + 3, 3)
    kept = {name: objective.product(name, memory=1 << 30) for name in ("hessian", "ggn")}
    assert count(lambda: kept["hessian"](v)) == (3 + 6 + 6 - 1, 2 + 2 + 1)
    assert count(lambda: kept["ggn"](v)) == (2 + 4 + 4, 3)


@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_memory_and_batching_change_no_product(
    case: tuple, objective: Objective, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No map, the map of one batch of three, or all kept; rows in turn or together; odd batches."""
    module, loss, _, x, y = case
    vectors = probes(objective, 5)
    expected = objective.product(operator)(vectors)
    calls: list[int] = []
    of_batch = f"_{operator}_of_batch"
    build = getattr(Objective, of_batch)

    def counted(self: Objective, w: products.Named, x: Tensor, y: Tensor) -> products.Product:
        calls.append(len(y))
        return build(self, w, x, y)

    monkeypatch.setattr(Objective, of_batch, counted)
    one = 2 * objective._activations(10)
    for memory, again in ((0, [10, 10, 3]), (one, [10, 3]), (1 << 30, [])):
        product = objective.product(operator, memory=memory)
        for together in (1, 2, 100):
            monkeypatch.setitem(products._TOGETHER, "cpu", together * one // 2)
            torch.testing.assert_close(product(vectors), expected)
            torch.testing.assert_close(objective.product(operator)(vectors), expected)
        calls.clear()
        product(vectors)
        assert calls == again
    for at_once, size in ((1 << 30, SAMPLES), (one // 2, 10), (1, 1)):
        monkeypatch.setitem(products._AT_ONCE, "cpu", at_once)
        automatic = Objective(module, loss, x, y)
        calls.clear()
        torch.testing.assert_close(automatic.product(operator)(vectors), expected)
        assert size - 1 <= max(calls) <= size  # buffers take some of the room


def test_gauss_newton_matrix_is_psd_and_differs_from_the_hessian(objective: Objective) -> None:
    ggn, hessian = objective.exact_ggn(), objective.exact_hessian()
    assert torch.linalg.eigvalsh(ggn)[0] > -1e-12
    assert (ggn - hessian).abs().max() > 1e-3


def test_linear_regression_has_its_normal_matrix_as_hessian_and_gauss_newton_matrix() -> None:
    torch.manual_seed(2)
    x, y = torch.randn(40, 4, dtype=torch.float64), torch.randn(40, 1, dtype=torch.float64)
    objective = Objective(
        network(nn.Linear(4, 1, bias=False)), functional.mse_loss, x, y, batch_size=7
    )
    normal = 2 * x.T @ x / 40
    torch.testing.assert_close(objective.exact_hessian(), normal)
    torch.testing.assert_close(objective.exact_ggn(), normal)
    unit = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(objective.product("hessian")(unit), normal)
    torch.testing.assert_close(objective.product("ggn")(unit), normal)


def test_frozen_parameters_stay_out_and_the_module_unchanged() -> None:
    module, loss, _, x, y = problem("convolution")
    module[0].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    objective = Objective(module, loss, x, y)
    assert objective.dimension == 3 + 3 + 12 * 3 + 3
    trained = [p.flatten() for p in module.parameters() if p.requires_grad]
    torch.testing.assert_close(objective.parameters, torch.cat(trained), rtol=0, atol=0)
    objective.product("hessian")(probes(objective))
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_samples_that_depend_on_each_other_are_refused() -> None:
    module, loss, _, x, y = problem("convolution")
    module[1] = nn.BatchNorm2d(3, track_running_stats=False).double().eval()
    with refused("depends on the others", "track_running_stats=True"):
        Objective(module, loss, x, y)


def test_unusable_objectives_are_refused() -> None:
    module, loss, _, x, y = problem("cross entropy")
    diverged = network(nn.Linear(5, 3))
    nn.init.constant_(diverged.get_parameter("0.weight"), float("nan"))
    frozen = network(nn.Linear(5, 3)).requires_grad_(False)
    for arguments, message in (
        ((nn.Linear(5, 3).double(), loss, x, y), "call module.eval"),
        ((nn.Sequential(module, nn.Dropout()), loss, x, y), "call module.eval"),
        ((network(module, Noisy()), loss, x, y), "two evaluations"),
        ((diverged, loss, x, y), "loss of the module is nan"),
        ((frozen, loss, x, y), "no trainable parameter"),
        ((module, loss, x, y[:-1]), "23 inputs, 22 targets"),
        ((module, loss, x[:0], y[:0]), "0 inputs"),
        ((module, loss, x, y, 0), "batch size 0"),
        ((module, functional.mse_loss, x, x[:, 0]), "reshape the targets"),
        ((module, nn.CrossEntropyLoss(reduction="none"), x, y), "reduction='mean'"),
    ):
        with pytest.raises(ValueError, match=message):
            Objective(*arguments)


def test_objectives_are_told_from_each_other_by_all_that_decides_them() -> None:
    """Frozen parameters, statistics and layers without parameters too, on which products depend."""

    def identity(change: Callable[[Any], object], y: int = 0) -> str:
        torch.manual_seed(0)
        module: Any = network(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2))
        module[3].bias.requires_grad_(False)
        change(module)
        objective = Objective(
            module, functional.cross_entropy, torch.ones(4, 2).double(), torch.full((4,), y)
        )
        return Checkpoint(Path("x"), objective.identity, interval=1).identity

    changes: list[Callable[[Any], object]] = [
        lambda module: None,
        lambda module: module[0].weight.data.add_(1e-9),
        lambda module: module[3].bias.data.add_(1e-9),
        lambda module: module[3].bias.requires_grad_(True),
        lambda module: module[1].running_mean.add_(1e-9),
        lambda module: module.__setitem__(2, nn.Sigmoid().eval()),
    ]
    found = [identity(change) for change in changes]
    assert len({*found, identity(changes[0], y=1)}) == 7
    assert identity(changes[0]) == found[0]
