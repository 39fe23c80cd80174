"""Convolutions and batch normalisation whose second derivatives cost no more than they must.

Torch differentiates its convolution a second time at up to twice the price: all products that could
be asked for are computed, and batch normalisation passes over the activations a dozen times. Here
the three products of a convolution, each linear in two arguments, are each other's derivatives;
only those asked for are computed, and the two that share an argument in one call, as they share its
conversion to the layout of the kernels. Normalisation by running statistics is a scale and a shift
per channel, which the convolution before it takes into its weights. Same function of the
parameters, to rounding; a product of a small residual network takes half the time or less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_backward = torch.ops.aten.convolution_backward


class Geometry(NamedTuple):
    """How the kernel of a convolution moves: what `torch.convolution` takes after the bias."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    transposed: bool
    output_padding: Sequence[int]
    groups: int


class _Made(NamedTuple):
    """A convolution's result, as it was made, and from what."""

    output: Tensor
    version: int
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: Geometry

    def is_still(self, tensor: Tensor) -> bool:
        """Whether a tensor is this result, not changed in place since."""
        return tensor is self.output and tensor._version == self.version


class SecondOrder(TorchFunctionMode):
    """While it is active, modules convolve and normalise in the way of this file.

    It replaces `torch.nn.functional.conv1d`, `conv2d`, `conv3d` and, in evaluation mode,
    `batch_norm`, whoever calls them; transposed convolutions and padding by name stay as they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: _Made | None = None

    def __torch_function__(
        self,
        func: Callable[..., Tensor],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        kwargs = kwargs or {}
        if func in (functional.conv1d, functional.conv2d, functional.conv3d):
            return self._convolve(func, *args, **kwargs)
        if func is functional.batch_norm:
            return self._normalise(*args, **kwargs)
        return func(*args, **kwargs)

    def _convolve(
        self,
        original: Callable[..., Tensor],
        input: Tensor,  # noqa: A002 (the names are those of torch)
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Tensor:
        if isinstance(padding, str) or input.ndim != weight.ndim:
            return original(input, weight, bias, stride, padding, dilation, groups)
        axes = weight.ndim - 2
        geometry = Geometry(
            stride=_each(stride, axes),
            padding=_each(padding, axes),
            dilation=_each(dilation, axes),
            transposed=False,
            output_padding=_each(0, axes),
            groups=groups,
        )
        output = _Convolution.apply(input, weight, bias, geometry)
        self._last = _Made(output, output._version, input, weight, bias, geometry)
        return output

    def _normalise(
        self,
        input: Tensor,  # noqa: A002
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if training:
            return functional.batch_norm(
                input, running_mean, running_var, weight, bias, training, momentum, eps
            )
        scale = (running_var + eps).rsqrt()
        if weight is not None:
            scale = scale * weight
        shift = -running_mean * scale
        if bias is not None:
            shift = shift + bias
        made = self._last
        if made is not None and made.is_still(input):
            if made.bias is not None:
                shift = shift + made.bias * scale
            weight = made.weight * scale.view(-1, *[1] * (made.weight.ndim - 1))
            return _Convolution.apply(made.input, weight, shift, made.geometry)
        channels = (-1, *[1] * (input.ndim - 2))
        return torch.addcmul(shift.view(channels), input, scale.view(channels))


def _each(value: int | Sequence[int], axes: int) -> list[int]:
    return [value] * axes if isinstance(value, int) else list(value) * (axes // len(value))


def _laid_out(tensor: Tensor) -> Tensor:
    """With the channels last, where kernels on a CPU are faster so (measured: by a tenth)."""
    if tensor.ndim != 4 or tensor.device.type != "cpu" or is_batchedtensor(tensor):
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)


class _Convolution(Function):
    """y = x * W + b."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        return torch.convolution(_laid_out(x), _laid_out(weight), bias, *geometry)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.geometry = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_input, by_weight, by_bias, _ = ctx.needs_input_grad
        of_bias = gradient.sum((0, *range(2, gradient.ndim))) if by_bias else None
        if by_input and by_weight:
            return *_ByBoth.apply(gradient, x, weight, ctx.geometry), of_bias, None
        return (
            _ByInput.apply(gradient, weight, x.shape, ctx.geometry) if by_input else None,
            _ByWeight.apply(gradient, x, weight.shape, ctx.geometry) if by_weight else None,
            of_bias,
            None,
        )


class _ByBoth(Function):
    """The gradients of <g, x * W> in x, which depends on g and W, and in W, on g and x."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry
    ) -> tuple[Tensor, Tensor]:
        tensors = (_laid_out(gradient), _laid_out(x), _laid_out(weight))
        of_x, of_weight, _ = _backward(*tensors, None, *geometry, [True, True, False])
        return of_x, of_weight

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.geometry = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, along_x: Tensor, along_weight: Tensor) -> tuple[Tensor | None, ...]:
        gradient, x, weight = ctx.saved_tensors
        by_gradient, by_input, by_weight, _ = ctx.needs_input_grad
        of_gradient, of_x, of_weight = None, None, None
        if by_gradient:
            of_gradient = _Convolution.apply(along_x, weight, None, ctx.geometry)
            of_gradient = of_gradient + _Convolution.apply(x, along_weight, None, ctx.geometry)
        if by_input and by_weight:
            of_x, of_weight = _ByBoth.apply(gradient, along_x, along_weight, ctx.geometry)
        elif by_input:
            of_x = _ByInput.apply(gradient, along_weight, x.shape, ctx.geometry)
        elif by_weight:
            of_weight = _ByWeight.apply(gradient, along_x, weight.shape, ctx.geometry)
        return of_gradient, of_x, of_weight, None


class _ByInput(Function):
    """The gradient of <g, x * W> in x, which does not depend on x."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, weight: Tensor, shape: torch.Size, geometry: Geometry) -> Tensor:
        tensors = (_laid_out(gradient), gradient.new_empty(1).expand(shape), _laid_out(weight))
        found: Tensor = _backward(*tensors, None, *geometry, [True, False, False])[0]
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        gradient, weight, _, ctx.geometry = inputs
        ctx.save_for_backward(gradient, weight)

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor | None, ...]:
        gradient, weight = ctx.saved_tensors
        by_gradient, by_weight, _, _ = ctx.needs_input_grad
        return (
            _Convolution.apply(x, weight, None, ctx.geometry) if by_gradient else None,
            _ByWeight.apply(gradient, x, weight.shape, ctx.geometry) if by_weight else None,
            None,
            None,
        )


class _ByWeight(Function):
    """The gradient of <g, x * W> in W, which does not depend on W."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, x: Tensor, shape: torch.Size, geometry: Geometry) -> Tensor:
        tensors = (_laid_out(gradient), _laid_out(x), gradient.new_empty(1).expand(shape))
        found: Tensor = _backward(*tensors, None, *geometry, [False, True, False])[1]
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        gradient, x, _, ctx.geometry = inputs
        ctx.save_for_backward(gradient, x)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        gradient, x = ctx.saved_tensors
        by_gradient, by_input, _, _ = ctx.needs_input_grad
        return (
            _Convolution.apply(x, weight, None, ctx.geometry) if by_gradient else None,
            _ByInput.apply(gradient, weight, x.shape, ctx.geometry) if by_input else None,
            None,
            None,
        )
