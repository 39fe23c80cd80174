"""Paths through a mask: which weights and neurons can carry a signal from an input to an output."""

import torch
from torch import Tensor

from sparselimit.networks.mlp import MLP


def effective_mask(network: MLP, weight_mask: Tensor) -> Tensor:
    """The weights that lie on some path from an input to an output.

    `weight_mask` bool [E, n_weights]; returns bool of the same shape. Its row sums are the
    effective weights of Vysogorets & Kempe (2023).
    """
    layers = network.weights(weight_mask)
    on_path = _effective(layers, _reached(layers), _read(layers))
    return torch.cat([layer.flatten(1) for layer in on_path], dim=1)


def path_count(network: MLP, weight_mask: Tensor) -> Tensor:
    """Number of input-to-output paths of each member, float64 [E] (exact up to 2**53)."""
    layers = network.weights(weight_mask.double())
    paths = torch.ones_like(layers[0][:, 0, :])
    for layer in layers:
        paths = torch.einsum("eoi,ei->eo", layer, paths)
    return paths.sum(dim=1)


def connectivity(network: MLP, weight_mask: Tensor) -> dict[str, Tensor]:
    """What the kept weights of each member connect, counted in each layer; int64 [E, layers] each.

    `weight_mask` bool [E, n_weights]. A layer is a weight matrix with the neurons it leads to, so
    the neurons of the last are the outputs.

    weights            weights kept
    effective_weights  of these, on a path from an input to an output

    Each neuron belongs to one class; together they make up the layer's width:

    active    on a path from an input to an output
    constant  a path leads on to an output but none arrives from an input: what it emits comes from
              biases alone and is the same for every point (Zhang & Papyan 2024 speak of
              disconnected paths)
    dead      has kept weights, incoming or outgoing, but no path leads on to an output: whatever it
              emits, no output depends on it
    unused    has no kept weight

    An output is active if a path arrives there, else constant; it is never dead or unused.
    """
    layers = network.weights(weight_mask)
    reached, read = _reached(layers), _read(layers)
    neurons = list(zip(reached[1:], read[1:], _used(layers), strict=True))
    return {
        "weights": _counts(layers),
        "effective_weights": _counts(_effective(layers, reached, read)),
        "active": _counts([arrives & leads_on for arrives, leads_on, _ in neurons]),
        "constant": _counts([~arrives & leads_on for arrives, leads_on, _ in neurons]),
        "dead": _counts([~leads_on & used for _, leads_on, used in neurons]),
        "unused": _counts([~leads_on & ~used for _, leads_on, used in neurons]),
    }


def _reached(layers: list[Tensor]) -> list[Tensor]:
    """Neurons to which a path leads from an input, bool [E, neurons], inputs to outputs."""
    reached = [torch.ones_like(layers[0][:, 0, :])]
    for layer in layers:
        reached.append((layer & reached[-1][:, None, :]).any(dim=2))
    return reached


def _read(layers: list[Tensor]) -> list[Tensor]:
    """Neurons from which a path leads to an output, bool [E, neurons], inputs to outputs."""
    read = [torch.ones_like(layers[-1][:, :, 0])]
    for layer in reversed(layers):
        read.append((layer & read[-1][:, :, None]).any(dim=1))
    return read[::-1]


def _used(layers: list[Tensor]) -> list[Tensor]:
    """Neurons with a kept weight, bool [E, neurons], from the first hidden layer to the outputs."""
    incoming = [layer.any(dim=2) for layer in layers]
    outgoing = [layer.any(dim=1) for layer in layers[1:]]
    return [into | out for into, out in zip(incoming, outgoing, strict=False)] + incoming[-1:]


def _effective(layers: list[Tensor], reached: list[Tensor], read: list[Tensor]) -> list[Tensor]:
    """The weights of each layer that lie on a path, bool [E, out, in]."""
    return [
        layer & source[:, None, :] & sink[:, :, None]
        for layer, source, sink in zip(layers, reached[:-1], read[1:], strict=True)
    ]


def _counts(layers: list[Tensor]) -> Tensor:
    """How many entries of each layer are set, int64 [E, layers]."""
    counts = [layer.flatten(1).sum(dim=1, dtype=torch.int32) for layer in layers]  # twice as fast
    return torch.stack(counts, dim=1).long()
