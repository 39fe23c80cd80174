"""The batched torch backend: one matrix product per layer for all members, on any device.

Activations are held as [E, neurons, batch], so that the long axis is the contiguous one and the
first layer, whose input all members share, is a single product.
"""

import torch
from torch import Tensor

from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import State
from sparselimit.networks.mlp import MLP


class _Forward:
    """The forward pass of all members over batches of n samples.

    Parameters [E, n_parameters] are looked at, not copied. Memory and views are made once and serve
    for every batch of a segment: made anew each time, they cost several percent of a step.
    """

    def __init__(self, network: MLP, parameters: Tensor, n: int) -> None:
        self.weights = network.weights(parameters)
        self.biases = [bias[:, :, None] for bias in network.biases(parameters)]
        shapes = [(len(parameters), size, n) for size in network.sizes[1:]]
        self.signals = [parameters.new_empty(shape) for shape in shapes]

    def signals_of(self, inputs: Tensor) -> list[Tensor]:
        """Outputs of each layer for inputs [features, n]: ReLU applied, logits last."""
        n_features, n = inputs.shape
        first = self.signals[0]
        torch.mm(self.weights[0].reshape(-1, n_features), inputs, out=first.view(-1, n))
        first.add_(self.biases[0])
        for layer in range(1, len(self.weights)):
            below = self.signals[layer - 1].relu_()
            torch.bmm(self.weights[layer], below, out=self.signals[layer]).add_(self.biases[layer])
        return self.signals


class _Backward(_Forward):
    """Both passes: gradients of each member's mean BCE-with-logits loss."""

    def __init__(self, network: MLP, parameters: Tensor, n: int) -> None:
        super().__init__(network, parameters, n)
        self.errors = [torch.empty_like(signal) for signal in self.signals[:-1]]
        self.by_weight = [torch.empty_like(weight) for weight in self.weights]
        self.by_bias = parameters.new_empty(len(parameters), network.n_biases)
        self.by_bias_of = self.by_bias.split(network.sizes[1:], dim=1)

    def gradients_of(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """By the weights of each layer, [E, out * in] each, and by all biases, [E, n_biases]."""
        inputs = x.T.contiguous()
        *hidden, logits = self.signals_of(inputs)
        error = logits.sigmoid_().sub_(y).div_(len(x))
        for layer in range(len(hidden), 0, -1):
            below, up = hidden[layer - 1], self.weights[layer].mT
            torch.sum(error, dim=2, out=self.by_bias_of[layer])
            torch.bmm(error, below.mT, out=self.by_weight[layer])
            # With one output this is an outer product, for which multiplying is faster than bmm.
            product = torch.mul if error.shape[1] == 1 else torch.bmm
            back = product(up, error, out=self.errors[layer - 1])
            error = torch.ops.aten.threshold_backward.grad_input(back, below, 0, grad_input=back)
        torch.sum(error, dim=2, out=self.by_bias_of[0])
        # Transposed, which for few features is several times as fast.
        by_input = inputs @ error.view(-1, len(x)).T
        self.by_weight[0].copy_(by_input.view(-1, *error.shape[:2]).permute(1, 2, 0))
        return [*(by_weight.flatten(1) for by_weight in self.by_weight), self.by_bias]


def activations(network: MLP, parameters: Tensor, x: Tensor) -> list[Tensor]:
    """Outputs of each layer for all members, [E, neurons, n]: ReLU applied, logits last.

    `parameters` [E, n_parameters], `x` [n, inputs].
    """
    return _Forward(network, parameters, len(x)).signals_of(x.T.contiguous())


def gradients(network: MLP, parameters: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of each member's mean BCE-with-logits loss on one batch, [E, n_parameters].

    Not masked: entries that a mask holds at zero have the gradient they would move along.
    """
    return torch.cat(_Backward(network, parameters, len(x)).gradients_of(x, y), dim=1)


def advance(state: State, points: Points, batches: Tensor) -> None:
    """Take one SGD step per row of `batches` (int64 [steps, batch], indices into the points).

    SGD as torch has it: weight decay added to the gradient, heavy-ball momentum without dampening.
    Masked entries take part in nothing: their value and momentum stay zero.
    """
    network = state.network
    state.parameters = state.parameters.contiguous()
    rate, momentum, decay = (
        column[:, None].to(state.parameters)
        for column in (state.rate, state.momentum, state.weight_decay)
    )
    dropped = ~state.mask
    pruned = bool(dropped.any())
    parts = [
        (state.parameters[:, where], state.velocity[:, where], dropped[:, where])
        for where in (*network.weight_slices, slice(network.n_weights, None))
    ]
    passes = _Backward(network, state.parameters, batches.shape[1])
    for x, y in zip(points.x[batches], points.y[batches], strict=True):
        for step, part in zip(passes.gradients_of(x, y), parts, strict=True):
            parameters, velocity, outside = part
            step.addcmul_(decay, parameters)
            torch.addcmul(step, momentum, velocity, out=velocity)
            if pruned:
                # Not a product with the mask: of a member that diverged, that would leave NaN.
                velocity.masked_fill_(outside, 0.0)
            parameters.addcmul_(rate, velocity, value=-1)


def evaluate(network: MLP, parameters: Tensor, points: Points) -> tuple[Tensor, Tensor]:
    """Accuracy and mean loss of each member on all points, float64 [E] each.

    A logit of exactly zero counts as class 0; a NaN counts as wrong, whatever the label.
    """
    correct = torch.zeros(len(parameters), dtype=torch.float64, device=parameters.device)
    loss = torch.zeros_like(correct)
    zero = parameters.new_zeros(())
    # Blocks of points and members that stay in cache.
    for x, y in zip(points.x.split(4096), points.y.split(4096), strict=True):
        for members in torch.arange(len(parameters), device=parameters.device).split(64):
            logits = activations(network, parameters[members], x)[-1][:, 0, :]
            right = ((logits > 0) == (y > 0)) & ~logits.isnan()
            correct[members] += right.sum(dim=1)
            loss[members] += torch.logaddexp(logits, zero).sub_(logits * y).sum(dim=1)
    return correct / len(points.x), loss / len(points.x)
