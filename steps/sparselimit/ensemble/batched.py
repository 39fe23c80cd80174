"""The batched torch backend: one matrix product per layer for all members, on any device.

Activations are held as [E, neurons, batch], so that the long axis is the contiguous one and the
first layer, whose input all members share, is a single product.
"""

import torch
from torch import Tensor

from sparselimit.ensemble.members import Points
from sparselimit.ensemble.state import State
from sparselimit.networks.mlp import MLP


def activations(network: MLP, parameters: Tensor, x: Tensor) -> list[Tensor]:
    """Outputs of each layer for all members, [E, neurons, n]: ReLU applied, logits last.

    `parameters` [E, n_parameters], `x` [n, inputs].
    """
    weights, biases = network.weights(parameters), network.biases(parameters)
    n_members, inputs = len(parameters), x.T.contiguous()
    first = weights[0].reshape(-1, inputs.shape[0]) @ inputs
    outputs = [first.view(n_members, -1, len(x)).add_(biases[0][:, :, None])]
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        outputs.append(torch.baddbmm(bias[:, :, None], weight, outputs[-1].relu_()))
    return outputs


def gradients(network: MLP, parameters: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of each member's mean BCE-with-logits loss on one batch, [E, n_parameters].

    Not masked: entries that a mask holds at zero have the gradient they would move along.
    """
    weights = network.weights(parameters)
    *hidden, logits = activations(network, parameters, x)
    error = logits.sigmoid_().sub_(y).div_(len(x))
    by_weight: list[Tensor] = []
    by_bias: list[Tensor] = []
    for layer in range(network.n_layers - 1, 0, -1):
        below = hidden[layer - 1]
        by_weight.append(torch.bmm(error, below.transpose(1, 2)).flatten(1))
        by_bias.append(error.sum(dim=2))
        # With one output this is an outer product, for which multiplying is faster than bmm.
        up = weights[layer].transpose(1, 2)
        back = up * error if error.shape[1] == 1 else torch.bmm(up, error)
        # In place: fresh memory for every batch costs more than the arithmetic.
        error = torch.ops.aten.threshold_backward.grad_input(back, below, 0, grad_input=back)
    by_weight.append((error.reshape(-1, len(x)) @ x).view(len(parameters), -1))
    by_bias.append(error.sum(dim=2))
    return torch.cat([*reversed(by_weight), *reversed(by_bias)], dim=1)


def advance(state: State, points: Points, batches: Tensor) -> None:
    """Take one SGD step per row of `batches` (int64 [steps, batch], indices into the points).

    SGD as torch has it: weight decay added to the gradient, heavy-ball momentum without dampening.
    Masked entries take part in nothing: their value and momentum stay zero.
    """
    rate, momentum, decay = (
        column[:, None].to(state.parameters)
        for column in (state.rate, state.momentum, state.weight_decay)
    )
    dropped = ~state.mask
    pruned = bool(dropped.any())
    for batch in batches:
        step = gradients(state.network, state.parameters, points.x[batch], points.y[batch])
        step.addcmul_(decay, state.parameters)
        torch.addcmul(step, momentum, state.velocity, out=state.velocity)
        if pruned:
            # Not a product with the mask: of a member that diverged, that would leave NaN.
            state.velocity.masked_fill_(dropped, 0.0)
        state.parameters.addcmul_(rate, state.velocity, value=-1)


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
