"""Hessian and generalised Gauss-Newton products of a torch module's mean loss on a fixed sample.

Lanczos iteration needs one and the same matrix at every step, so the objective is fixed: one
sample in one order, evaluation mode, batch normalisation by its running statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vjp, vmap

from sparselimit.errors import InputError

Loss = Callable[[Tensor, Tensor], Tensor]

_REPEATABLE = 1e-6  # relative difference of two evaluations that summation order on a GPU explains


class Objective:
    """The mean loss of a module over a fixed sample, as a function of its D trainable parameters.

    The parameters form one flat vector [D], in the order of `module.named_parameters()`; frozen
    parameters and buffers stay as they are. The module itself is never changed.

    Args:
        module: in evaluation mode; maps a batch of inputs to one output (logits) per sample.
        loss: maps (outputs, targets) to the mean loss of a batch, for example
            `torch.nn.functional.cross_entropy`, `binary_cross_entropy_with_logits`, `mse_loss`.
        inputs, targets: [N, ...] each, on the module's device.
        batch_size: samples evaluated at a time; it bounds memory and changes no result, except
            those of `batch_losses`.

    Raises:
        InputError: the module is in training mode, the sample is empty or ill-shaped, the loss is
            not one finite number, or two evaluations differ.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int = 1024,
    ) -> None:
        if any(part.training for part in module.modules()):
            raise InputError(
                "the module is in training mode, where dropout and batch normalisation make the "
                "loss another function at every call: call module.eval() first"
            )
        if not len(inputs) or len(inputs) != len(targets) or batch_size < 1:
            raise InputError(
                f"an objective needs as many targets as inputs, and a positive batch size: got "
                f"{len(inputs)} inputs, {len(targets)} targets, batch size {batch_size}"
            )
        trainable = {n: p.detach() for n, p in module.named_parameters() if p.requires_grad}
        if not trainable:
            raise InputError("the module has no trainable parameter: set requires_grad on some")
        self.shapes = {name: parameter.shape for name, parameter in trainable.items()}
        self.parameters = torch.cat([parameter.flatten() for parameter in trainable.values()])
        self._module, self._loss = module, loss
        self._inputs, self._targets, self._batch_size = inputs, targets, batch_size
        self._check()

    def _check(self) -> None:
        x, y = next(self._batches())
        with torch.no_grad():
            outputs = self._outputs(self.parameters, x)
            # Losses between real numbers broadcast silently: [N, 1] against [N] means N^2 pairs.
            if y.is_floating_point() and outputs.shape != y.shape:
                raise InputError(
                    f"outputs have shape {tuple(outputs.shape)} and targets {tuple(y.shape)}: "
                    "reshape the targets"
                )
            if self._loss(outputs, y).ndim:
                raise InputError("the loss must be the mean over a batch: use reduction='mean'")
        first, second = self.value(), self.value()
        if not math.isfinite(first):
            raise InputError(f"the loss of the module is {first}: its training has diverged")
        if abs(first - second) > _REPEATABLE * abs(first):
            raise InputError(
                f"two evaluations of the loss differ ({first:.9g} and {second:.9g}): remove the "
                "randomness from the module's forward pass"
            )

    @property
    def dimension(self) -> int:
        """D, the number of trainable parameters."""
        return self.parameters.numel()

    def entries_of(self, names: Collection[str]) -> Tensor:
        """Where the named parameters stand in the flat vector: bool [D]."""
        if unknown := set(names) - set(self.shapes):
            raise InputError(
                f"no trainable parameter is named {sorted(unknown)[0]!r}: there are "
                f"{', '.join(self.shapes)}"
            )
        return torch.cat(
            [
                torch.full((shape.numel(),), name in names, device=self.parameters.device)
                for name, shape in self.shapes.items()
            ]
        )

    def batch_losses(self, at: Tensor | None = None) -> np.ndarray:
        """The mean loss of each batch in order, the last one possibly short: float64 [batches]."""
        w = self._point(at)
        with torch.no_grad():
            losses = [self._batch_loss(w, x, y).double() for x, y in self._batches()]
        return torch.stack(losses).cpu().numpy()

    def value(self, at: Tensor | None = None) -> float:
        """The mean loss at parameters `at` [D], else at those of the module."""
        sizes = [len(y) for _, y in self._batches()]
        return float(np.average(self.batch_losses(at), weights=sizes))

    def gradient(self, at: Tensor | None = None) -> Tensor:
        """The gradient [D] of the mean loss."""
        w = self._point(at)
        return self._mean(lambda x, y: grad(self._batch_loss)(w, x, y))

    def hessian_product(self, vectors: Tensor, at: Tensor | None = None) -> Tensor:
        """H v for one vector [D], or for each row of [P, D].

        Reverse over reverse mode, H being symmetric: forward mode is not implemented for every
        layer and loss. Several rows go through `torch.vmap` together; a module that it cannot
        treat takes its vectors one at a time.
        """
        w = self._point(at)

        def of_batch(x: Tensor, y: Tensor) -> Tensor:
            slope = grad(lambda p: self._batch_loss(p, x, y))
            return _on_rows(_transposed_jacobian(slope, w), vectors)

        return self._mean(of_batch)

    def ggn_product(self, vectors: Tensor, at: Tensor | None = None) -> Tensor:
        """G v for one vector [D] or each row of [P, D], G the generalised Gauss-Newton matrix.

        G is the mean over samples of J^T (d^2 loss / d outputs^2) J with J = d outputs / d w
        (Schraudolph, 2002): positive semi-definite for a loss convex in the outputs. J v is the
        transpose of u -> J^T u, so this too is in reverse mode alone.
        """
        w = self._point(at)

        def of_batch(x: Tensor, y: Tensor) -> Tensor:
            def outputs(p: Tensor) -> Tensor:
                return self._outputs(p, x)

            z = outputs(w)
            pull_back = _transposed_jacobian(outputs, w)
            push_forward = _transposed_jacobian(
                lambda u: _transposed_jacobian(outputs, w)(u), torch.zeros_like(z)
            )
            curve = _transposed_jacobian(grad(lambda z: self._loss(z, y)), z)
            return _on_rows(lambda v: pull_back(curve(push_forward(v))), vectors)

        return self._mean(of_batch)

    def exact_hessian(self, at: Tensor | None = None) -> Tensor:
        """H [D, D], row by row: for small networks."""
        w = self._point(at)
        return self._mean(lambda x, y: jacrev(grad(self._batch_loss), chunk_size=64)(w, x, y))

    def exact_ggn(self, at: Tensor | None = None) -> Tensor:
        """G [D, D] from every sample's Jacobian: for small networks."""
        w = self._point(at)

        def outputs(p: Tensor, x: Tensor) -> Tensor:
            return self._outputs(p, x[None])[0].flatten()

        def of_batch(x: Tensor, y: Tensor) -> Tensor:
            shape = self._outputs(w, x).shape

            def loss(z: Tensor, target: Tensor) -> Tensor:
                return self._loss(z.view(1, *shape[1:]), target[None])

            jacobians = vmap(jacrev(outputs), in_dims=(None, 0))(w, x)  # [n, outputs, D]
            logits = vmap(outputs, in_dims=(None, 0))(w, x)
            inner = vmap(jacrev(grad(loss)))(logits, y)  # [n, outputs, outputs]
            weighted = torch.einsum("nij,njd->nid", inner, jacobians)
            return jacobians.flatten(0, 1).T @ weighted.flatten(0, 1) / len(y)

        return self._mean(of_batch)

    def _point(self, at: Tensor | None) -> Tensor:
        return self.parameters if at is None else at.to(self.parameters)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(
            self._inputs.split(self._batch_size),
            self._targets.split(self._batch_size),
            strict=True,
        )

    def _outputs(self, w: Tensor, x: Tensor) -> Tensor:
        parts = w.split([shape.numel() for shape in self.shapes.values()])
        named = {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        outputs: Tensor = functional_call(self._module, named, (x,))
        return outputs

    def _batch_loss(self, w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self._loss(self._outputs(w, x), y)

    def _mean(self, of_batch: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The average over batches of a tensor of each, weighted by their sizes."""
        total = len(self._targets)
        with torch.no_grad():
            return reduce(torch.add, (len(y) / total * of_batch(x, y) for x, y in self._batches()))


def _transposed_jacobian(
    function: Callable[[Tensor], Tensor], at: Tensor
) -> Callable[[Tensor], Tensor]:
    """The map u -> J^T u, J the Jacobian of `function` at a point."""
    pull_back = vjp(function, at)[1]
    return lambda u: pull_back(u)[0]


def _on_rows(product: Callable[[Tensor], Tensor], vectors: Tensor) -> Tensor:
    if vectors.ndim == 1:
        return product(vectors)
    if len(vectors) == 1:
        return product(vectors[0])[None]
    return vmap(product)(vectors)
