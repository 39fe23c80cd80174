"""Hessian and generalised Gauss-Newton products of a torch module's mean loss on a fixed sample.

Lanczos iteration needs one and the same matrix at every step, so the objective is fixed: one
sample in one order, evaluation mode, batch normalisation by its running statistics.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from itertools import chain, islice
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vjp, vmap

from sparselimit.curvature.convolutions import SecondOrder
from sparselimit.ensemble.checkpoint import identity_of
from sparselimit.errors import InputError, in_one_line

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Operator: TypeAlias = Literal["hessian", "ggn"]
Product: TypeAlias = Callable[[Tensor], Tensor]  # vectors [D] or [P, D] to as many
Named: TypeAlias = dict[str, Tensor]  # the parameters, or a direction in their space

_REPEATABLE = 1e-6  # relative difference of two evaluations that summation order on a GPU explains
_ALONE = 1e-3  # relative difference of outputs that other kernels for other batch sizes explain
# Activations in bytes, that is what outputs keep for their gradient: of a batch, unless told
# otherwise; and of the probes that go through it together (measured: more do not pay on a CPU).
_AT_ONCE = {"cpu": 256 << 20, "cuda": 4 << 30}
_TOGETHER = {"cpu": 8 << 20, "cuda": 4 << 30}
_TWICE = 2  # times as much a batch keeps to be differentiated twice (measured: 0.9 to 1.8)


class Objective:
    """The mean loss of a module over a fixed sample, as a function of its D trainable parameters.

    The parameters form one flat vector [D], in the order of `module.named_parameters()`; frozen
    parameters and buffers stay as they are. The module itself is never changed.

    Args:
        module: in evaluation mode; maps a batch of inputs to one output (logits) per sample.
        loss: maps (outputs, targets) to the mean loss of a batch, for example
            `torch.nn.functional.cross_entropy`, `binary_cross_entropy_with_logits`, `mse_loss`.
        inputs, targets: [N, ...] each, on the module's device.
        batch_size: samples evaluated at a time, else as many as have moderate activations; it
            bounds memory and changes no result, except those of `batch_losses`.

    Raises:
        InputError: the module is in training mode, the sample is empty or ill-shaped, the loss is
            not one finite number, two evaluations differ, or a sample's output depends on others.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int | None = None,
    ) -> None:
        if any(part.training for part in module.modules()):
            raise InputError(
                "the module is in training mode, where dropout and batch normalisation make the "
                "loss another function at every call: call module.eval() first"
            )
        sizes_fit = len(inputs) == len(targets) > 0 and (batch_size is None or batch_size > 0)
        if not sizes_fit:
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
        self._inputs, self._targets = inputs, targets
        self._given_batch_size = batch_size is not None
        fitting = max(1, _AT_ONCE[self._device] // self._activations(1))
        self._batch_size = batch_size or min(len(inputs), fitting)
        self._check()

    def _check(self) -> None:
        x, y = next(self._batches())
        with torch.no_grad():
            outputs = self._outputs(self._named(), x)
            # Losses between real numbers broadcast silently: [N, 1] against [N] means N^2 pairs.
            if y.is_floating_point() and outputs.shape != y.shape:
                raise InputError(
                    f"outputs have shape {tuple(outputs.shape)} and targets {tuple(y.shape)}: "
                    "reshape the targets"
                )
            if self._loss(outputs, y).ndim:
                raise InputError("the loss must be the mean over a batch: use reduction='mean'")
            alone = self._outputs(self._named(), x[:1])
        first, second = self.value(), self.value()
        if not math.isfinite(first):
            raise InputError(f"the loss of the module is {first}: its training has diverged")
        if abs(first - second) > _REPEATABLE * abs(first):
            raise InputError(
                f"two evaluations of the loss differ ({first:.9g} and {second:.9g}): remove the "
                "randomness from the module's forward pass"
            )
        if (alone - outputs[:1]).abs().max() > _ALONE * outputs.abs().max():
            raise InputError(
                "the output of a sample depends on the others of its batch: give batch "
                "normalisation running statistics (track_running_stats=True)"
            )

    @property
    def _device(self) -> str:
        return self.parameters.device.type

    @property
    def dimension(self) -> int:
        """D, the number of trainable parameters."""
        return self.parameters.numel()

    @property
    def identity(self) -> list[object]:
        """What tells it from other objectives with the same loss."""
        return [*identity_of(self._module), *self.shapes, self._inputs, self._targets]

    def batch_losses(self, at: Tensor | None = None) -> np.ndarray:
        """The mean loss of each batch in order, the last one possibly short: float64 [batches]."""
        w = self._named(at)
        with torch.no_grad():
            losses = [self._batch_loss(w, x, y).double() for x, y in self._batches()]
        return torch.stack(losses).cpu().numpy()

    def value(self, at: Tensor | None = None) -> float:
        """The mean loss at parameters `at` [D], else at those of the module."""
        sizes = [len(y) for _, y in self._batches()]
        return float(np.average(self.batch_losses(at), weights=sizes))

    def gradient(self, at: Tensor | None = None) -> Tensor:
        """The gradient [D] of the mean loss."""
        w = self._named(at)
        slope = grad(self._batch_loss)
        return self._mean(_flat(slope(w, x, y)) for x, y in self._batches())

    def product(self, operator: Operator, at: Tensor | None = None, memory: int = 0) -> Product:
        """The map v -> H v or v -> G v, for one vector [D] or each row of [P, D].

        G, the generalised Gauss-Newton matrix, is the mean over samples of J^T (d^2 loss /
        d outputs^2) J with J = d outputs / d w (Schraudolph, 2002): positive semi-definite for a
        loss convex in the outputs.

        The linear map of a batch is built once for all rows of a call, and for all calls where it
        can be kept in `memory` bytes: to build one takes about as long as to apply it. It is in
        reverse mode alone, which every layer and loss has. Rows whose activations are small go
        through `torch.vmap` together, others one after another. A product that does not fit in a
        GPU's memory is done again with less of all this at a time.

        Raises InputError when not even one row and sample at a time fit, or no fewer samples than
        the batch size that was asked for.
        """
        w = self._named(at)
        of_batch = {"hessian": self._hessian_of_batch, "ggn": self._ggn_of_batch}[operator]
        activations = self._activations(self._batch_size)
        together = max(1, _TOGETHER[self._device] // activations)
        samples = self._batch_size
        kept: list[Product] = []

        def maps(start: int, stop: int | None = None) -> Iterator[Product]:
            return (of_batch(w, x, y) for x, y in islice(self._batches(samples), start, stop))

        def once(vectors: Tensor) -> Tensor:
            every = chain(kept, maps(len(kept)))
            return self._mean((_on_rows(part, vectors, together) for part in every), samples)

        def product(vectors: Tensor) -> Tensor:
            nonlocal together, samples
            while True:
                try:
                    return once(vectors)
                except torch.OutOfMemoryError as error:
                    together = min(together, len(vectors)) if vectors.ndim > 1 else 1
                    if kept:
                        kept.clear()
                    elif together > 1:
                        together //= 2
                    elif samples > 1 and not self._given_batch_size:
                        samples = -(-samples // 2)
                    else:
                        raise InputError(
                            f"a product with {samples} samples at a time does not fit in the GPU's "
                            f"memory ({in_one_line(error)}); see that no other process uses it, or "
                            "use --device cpu"
                        ) from error
                logging.warning(
                    "a product did not fit in the GPU's memory: now %d rows and %d samples at once",
                    *(together, samples),
                )
                torch.cuda.empty_cache()

        try:
            with torch.no_grad():
                kept.extend(maps(0, memory // (_TWICE * activations)))
        except torch.OutOfMemoryError:
            kept.clear()
        return product

    def _hessian_of_batch(self, w: Named, x: Tensor, y: Tensor) -> Product:
        """Reverse over reverse mode: H is the transpose of the Jacobian of the gradient."""

        def loss(p: Named) -> Tensor:
            return self._batch_loss(p, x, y)

        with SecondOrder():
            pull_back = _transposed_jacobian(grad(loss), w)

        def product(v: Tensor) -> Tensor:
            return _flat(pull_back(self._named(v)))

        return product

    def _ggn_of_batch(self, w: Named, x: Tensor, y: Tensor) -> Product:
        """J^T B J, where J v is the transpose of u -> J^T u."""

        def outputs(p: Named) -> Tensor:
            return self._outputs(p, x)

        def transposed(u: Tensor) -> Named:
            named: Named = _transposed_jacobian(outputs, w)(u)
            return named

        def loss(z: Tensor) -> Tensor:
            return self._loss(z, y)

        with SecondOrder():
            z, pull_back = vjp(outputs, w)[:2]
            push_forward = _transposed_jacobian(transposed, torch.zeros_like(z))
        curve = _transposed_jacobian(grad(loss), z)

        def product(v: Tensor) -> Tensor:
            return _flat(pull_back(curve(push_forward(self._named(v))))[0])

        return product

    def exact_hessian(self, at: Tensor | None = None) -> Tensor:
        """H [D, D], row by row: for small networks."""

        def slope(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return grad(lambda w: self._batch_loss(self._named(w), x, y))(w)

        w = self._point(at)
        rows = jacrev(slope, chunk_size=64)
        return self._mean(rows(w, x, y) for x, y in self._batches())

    def exact_ggn(self, at: Tensor | None = None) -> Tensor:
        """G [D, D] from every sample's Jacobian: for small networks."""
        w = self._point(at)

        def outputs(p: Tensor, x: Tensor) -> Tensor:
            return self._outputs(self._named(p), x[None])[0].flatten()

        def of_batch(x: Tensor, y: Tensor) -> Tensor:
            shape = self._outputs(self._named(w), x).shape

            def loss(z: Tensor, target: Tensor) -> Tensor:
                return self._loss(z.view(1, *shape[1:]), target[None])

            jacobians = vmap(jacrev(outputs), in_dims=(None, 0))(w, x)  # [n, outputs, D]
            logits = vmap(outputs, in_dims=(None, 0))(w, x)
            inner = vmap(jacrev(grad(loss)))(logits, y)  # [n, outputs, outputs]
            weighted = torch.einsum("nij,njd->nid", inner, jacobians)
            return jacobians.flatten(0, 1).T @ weighted.flatten(0, 1) / len(y)

        return self._mean(of_batch(x, y) for x, y in self._batches())

    def _point(self, at: Tensor | None) -> Tensor:
        return self.parameters if at is None else at.to(self.parameters)

    def _named(self, flat: Tensor | None = None) -> Named:
        """The parts of a flat vector, else of the parameters, by name and in their shapes."""
        parts = self._point(flat).split([shape.numel() for shape in self.shapes.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def _batches(self, samples: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of so many samples, else of the objective's own."""
        size = samples or self._batch_size
        yield from zip(self._inputs.split(size), self._targets.split(size), strict=True)

    def _outputs(self, w: Named, x: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._module, w, (x,))
        return outputs

    def _batch_loss(self, w: Named, x: Tensor, y: Tensor) -> Tensor:
        return self._loss(self._outputs(w, x), y)

    def _activations(self, samples: int) -> int:
        """Bytes that the outputs of so many samples keep for their gradient.

        Parameters and inputs, which are there anyway, do not count.
        """
        x = self._inputs[:samples]
        leaf = self.parameters.clone().requires_grad_()
        kept: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            self._outputs(self._named(leaf), x)
        for known in (leaf, x):
            kept.pop(known.untyped_storage().data_ptr(), None)
        return max(1, sum(kept.values()))

    def _mean(self, of_batches: Iterable[Tensor], samples: int | None = None) -> Tensor:
        """The average of a tensor of each batch, weighted by their sizes."""
        total = len(self._targets)
        with torch.no_grad():
            weighted = (
                tensor.mul_(len(y) / total)
                for tensor, (_, y) in zip(of_batches, self._batches(samples), strict=True)
            )
            return reduce(torch.Tensor.add_, weighted)


def restricted(product: Product, entries: Tensor) -> Product:
    """The matrix's block of some entries (bool [D], d of them): a map of [d] or rows [P, d]."""

    def of_entries(vectors: Tensor) -> Tensor:
        whole = vectors.new_zeros(*vectors.shape[:-1], len(entries))
        whole[..., entries] = vectors
        return product(whole)[..., entries]

    return of_entries


def _transposed_jacobian(function: Callable[..., Any], at: Tensor | Named) -> Callable[..., Any]:
    """The map u -> J^T u, J the Jacobian of `function` at a point."""
    pull_back = vjp(function, at)[1]
    return lambda u: pull_back(u)[0]


def _flat(named: Named) -> Tensor:
    return torch.cat([part.flatten() for part in named.values()])


def _on_rows(product: Product, vectors: Tensor, together: int) -> Tensor:
    if vectors.ndim == 1:
        return product(vectors)
    if len(vectors) == 1 or together == 1:
        return torch.stack([product(vector) for vector in vectors])
    return vmap(product, chunk_size=together)(vectors)
