"""A classifier as a module: its design, and the layers built from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sparselimit import own
from sparselimit.datasets import Dataset
from sparselimit.errors import InputError, in_one_line
from sparselimit.networks import plain, resnet
from sparselimit.networks.architectures import check

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    builder.__name__: builder
    for builder in (
        *(plain.fc, plain.fc5, plain.fc12, plain.mlpnet, plain.conv, plain.alexnet, plain.vgg16),
        *(resnet.resnet18, resnet.resnet20, resnet.resnet50),
    )
}
PRUNABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Design:
    """All of a network but its parameters.

    architecture  a name of `BUILDERS`, or file.py:function
    widths        that go with it, see `architectures.WIDTHS`
    shape         of one input: (features,), or (channels, height, width)
    classes       number of classes that it must tell
    mean, std     of each channel or feature, or one for all: the layers see (x - mean) / std
    """

    architecture: str
    widths: tuple[int, ...]
    shape: tuple[int, ...]
    classes: int
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, architecture: str, widths: Sequence[int], data: Dataset) -> "Design":
        """The design for a data set. Raises InputError as `architectures.check` does."""
        check(architecture, widths)
        classes = int(data.y.max()) + 1
        return cls(architecture, tuple(widths), data.x.shape[1:], classes, data.mean, data.std)


class Network(nn.Module):
    """A classifier: standardises its inputs, bytes or numbers, and passes them through its layers.

    All parameters are trainable. It is built in evaluation mode. A network of one's own is built by
    running the code that its design names.

    Raises InputError if the layers do not take such inputs, tell too few classes, or if none of
    them has weights that can be pruned.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        per_channel = (-1, *(1 for _ in design.shape[1:]))
        for name, values in (("mean", design.mean), ("std", design.std)):
            tensor = torch.as_tensor(values, dtype=torch.float32).reshape(per_channel)
            self.register_buffer(name, tensor, persistent=False)
        self.layers = _layers(design)
        self.eval().requires_grad_(True)
        self._check()

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of inputs [n, *shape] of any type."""
        if not own.is_own(self.design.architecture):
            return self._logits(x)
        with own.blamed(self.design.architecture):
            return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layers((x.to(self.mean.dtype) - self.mean) / self.std)
        return outputs

    def _check(self) -> None:
        name, shape, classes = self.design.architecture, self.design.shape, self.design.classes
        try:
            with torch.no_grad():
                outputs = self._logits(self.mean.new_zeros(2, *shape))
        except MemoryError:
            raise
        except Exception as error:  # code of one's own raises what it likes
            raise InputError(
                f"{name} does not take inputs of shape {shape} ({in_one_line(error)})"
            ) from error
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        if not (isinstance(found, tuple) and len(found) == 2 and found[0] == 2):
            raise InputError(f"{name} gives {found} for 2 inputs, not logits of shape (2, classes)")
        if found[1] < classes:
            raise InputError(f"{name} tells {found[1]} classes, and the data have {classes}")
        if not any(isinstance(layer, PRUNABLE) for layer in self.modules()):
            raise InputError(f"{name} has no linear or convolutional layer: nothing can be pruned")


def _layers(design: Design) -> nn.Module:
    if design.architecture in BUILDERS:
        return BUILDERS[design.architecture](design.shape, design.classes, *design.widths)
    layers = own.call(design.architecture)
    if not isinstance(layers, nn.Module):
        raise InputError(
            f"{design.architecture} gives a {type(layers).__name__}, not a torch.nn.Module"
        )
    return layers


def prunable(module: nn.Module) -> Tensor:
    """Which entries of the flat parameter vector may be pruned, bool [D], on the CPU.

    These are the weights of linear and convolutional layers, not biases or batch normalisation.
    """
    weights = {id(layer.weight) for layer in module.modules() if isinstance(layer, PRUNABLE)}
    return torch.cat([torch.full((p.numel(),), id(p) in weights) for p in module.parameters()])
