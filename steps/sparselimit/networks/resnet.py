"""Residual networks (He et al. 2016) for small images: a 3x3 convolution first, and no pooling.

Parameters lie in the order of torchvision's networks of the same names.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sparselimit.networks.plain import image


class Residual(nn.Module):
    """ReLU of the sum of a residual function and a shortcut."""

    def __init__(self, residual: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.residual, self.shortcut = residual, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class Subsample(nn.Module):
    """A shortcut without parameters: every second pixel, and zeros for the further channels."""

    def __init__(self, further: int) -> None:
        super().__init__()
        self.further = further

    def forward(self, x: Tensor) -> Tensor:
        return pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.further))


# Builds a block from the channels that come in, its width and its stride.
Block = Callable[[int, int, int], Residual]


def _normalised(n_in: int, n_out: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(n_out)


def _projection(n_in: int, n_out: int, stride: int) -> nn.Module:
    """The shortcut of 1x1 convolutions, where the shape changes."""
    if stride == 1 and n_in == n_out:
        return nn.Identity()
    return nn.Sequential(*_normalised(n_in, n_out, 1, stride))


def _pair(n_in: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        *_normalised(n_in, width, 3, stride), nn.ReLU(), *_normalised(width, width, 3)
    )


def _basic(n_in: int, width: int, stride: int) -> Residual:
    return Residual(_pair(n_in, width, stride), _projection(n_in, width, stride))


def _padded(n_in: int, width: int, stride: int) -> Residual:
    shortcut = nn.Identity() if stride == 1 else Subsample(width - n_in)
    return Residual(_pair(n_in, width, stride), shortcut)


def _bottleneck(n_in: int, width: int, stride: int) -> Residual:
    residual = nn.Sequential(
        *(*_normalised(n_in, width, 1), nn.ReLU()),
        *(*_normalised(width, width, 3, stride), nn.ReLU()),
        *_normalised(width, 4 * width, 1),
    )
    return Residual(residual, _projection(n_in, 4 * width, stride))


def _resnet(
    shape: tuple[int, ...],
    classes: int,
    block: Block,
    stages: tuple[tuple[int, int], ...],
    growth: int = 1,
) -> nn.Sequential:
    """Stages of so many blocks of a width; a block gives out `growth` times its width."""
    n_in = stages[0][0]
    layers: list[nn.Module] = [*_normalised(image(shape)[0], n_in, 3), nn.ReLU()]
    for stage, (width, depth) in enumerate(stages):
        for place in range(depth):
            layers.append(block(n_in, width, 2 if stage and not place else 1))
            n_in = growth * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, classes))


def resnet18(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """ResNet18 with the first layer of Zhang et al. (2024)."""
    return _resnet(shape, classes, _basic, ((64, 2), (128, 2), (256, 2), (512, 2)))


def resnet50(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """ResNet50 with the first layer of Zhang et al. (2024)."""
    stages = ((64, 3), (128, 4), (256, 6), (512, 3))
    return _resnet(shape, classes, _bottleneck, stages, growth=4)


def resnet20(shape: tuple[int, ...], classes: int, width: int = 16) -> nn.Sequential:
    """ResNet20 of He et al. for CIFAR: three stages, shortcuts without parameters."""
    return _resnet(shape, classes, _padded, ((width, 3), (2 * width, 3), (4 * width, 3)))
