"""Many networks at once as a function that can be differentiated, any number of times.

Training has its own in-place version (`ensemble.batched`); this one is for what looks further than
a gradient. Members are independent, so the gradient of the sum of a value over members holds each
member's own: one backward pass serves all.
"""

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sparselimit.networks.mlp import MLP


def logits(network: MLP, parameters: Tensor, x: Tensor) -> Tensor:
    """Logits of all members [E, n] from `parameters` [E, n_parameters] and shared x [n, inputs].

    The network has one output.
    """
    signal = x.T
    for weight, bias in zip(network.weights(parameters), network.biases(parameters), strict=True):
        outputs = weight @ signal + bias[:, :, None]
        signal = outputs.relu()
    return outputs[:, 0, :]


def losses(logits: Tensor, y: Tensor) -> Tensor:
    """Mean BCE-with-logits loss of each member [E] from its logits [E, n] and labels y [n]."""
    each = binary_cross_entropy_with_logits(logits, y.expand_as(logits), reduction="none")
    return each.mean(dim=1)


class Member(nn.Module):
    """One network as a module: `flat` [n_parameters] is its only parameter, logits [n] its output.

    It is for what takes modules, as `curvature.products` does, and is in evaluation mode.
    """

    def __init__(self, network: MLP, parameters: Tensor) -> None:
        super().__init__()
        self.network, self.flat = network, nn.Parameter(parameters)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return logits(self.network, self.flat[None], x)[0]
