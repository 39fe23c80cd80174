"""Curvature products against finite differences, dense matrices, closed forms and curvlinops."""

import curvlinops
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparselimit.curvature.products import Objective

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
            vectors, objective.hessian_product(vectors, at=point), strict=True
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
        (objective.hessian_product, objective.exact_hessian(), curvlinops.HessianLinearOperator),
        (objective.ggn_product, objective.exact_ggn(), curvlinops.GGNLinearOperator),
    ):
        second_opinion = operator(module, criterion, list(module.parameters()), data)
        torch.testing.assert_close(product(vectors), vectors @ dense, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(product(vectors[0]), dense @ vectors[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(product(vectors[:1]), product(vectors)[:1])
        torch.testing.assert_close(
            product(vectors), (second_opinion @ vectors.T).T, rtol=1e-9, atol=1e-12
        )


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


def test_frozen_parameters_stay_out_and_the_module_unchanged() -> None:
    module, loss, _, x, y = problem("convolution")
    module[0].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    objective = Objective(module, loss, x, y)
    assert objective.dimension == 3 + 3 + 12 * 3 + 3
    weight = objective.entries_of(["5.weight"])
    torch.testing.assert_close(objective.parameters[weight], module[5].weight.flatten())
    objective.hessian_product(probes(objective))
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"'0.weight'.*there are 1.weight"):
        objective.entries_of(["0.weight"])


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
