"""What a pruning method is given to work on a classifier, and what it makes of it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sparselimit import training
from sparselimit.errors import InputError
from sparselimit.networks.classifier import Sample, evaluate
from sparselimit.networks.network import PRUNABLE, Network, prunable
from sparselimit.statistics import keeps_accuracy
from sparselimit.training import Recipe


@dataclass(frozen=True)
class Pruned:
    """A network that a method has made.

    network  in evaluation mode; its pruned weights are 0
    mask     which of the prunable weights are kept, bool [N], on the CPU
    epochs   that were spent on it, beyond those of the network before it
    density  that was asked for, if one was
    """

    network: Network
    mask: Tensor
    epochs: float
    density: float | None = None


@dataclass(frozen=True)
class Problem:
    """A classifier, its data, and how it is trained.

    trained     the dense network, trained
    samples     fit, validation and test
    recipe      by which `trained` was made and pruned networks are
    densities   shares of the prunable weights to be kept, descending
    protocol    exact, or published: to the letter of each method's code
    tolerance   loss of validation accuracy that counts as none
    checkpoint  beside which trainings keep their state, if anywhere
    """

    trained: Network
    samples: dict[str, Sample]
    recipe: Recipe
    densities: tuple[float, ...]
    protocol: str = "exact"
    tolerance: float = 0.01
    checkpoint: Path | None = None

    # --- The network -----------------------------------------------------------------------------

    @cached_property
    def weights(self) -> Tensor:
        """Where the N prunable weights lie in the flat vector of all D parameters, int64 [N]."""
        return prunable(self.trained).nonzero()[:, 0]

    @cached_property
    def layers(self) -> tuple[nn.Module, ...]:
        """The layers whose weights are prunable, in the order of the weights."""
        return tuple(layers_of(self.trained))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of weights of each of these layers."""
        return tuple(weight_of(layer).numel() for layer in self.layers)

    def count(self, density: float) -> int:
        """How many weights a density is, at least one."""
        return max(1, round(density * len(self.weights)))

    def start(self) -> Network:
        """The network with the initial values that training starts from."""
        # A network of one's own may draw initial values as it is built.
        torch.manual_seed(self.recipe.seed)
        network = Network(self.trained.design)
        training.initialise(network, self.recipe.seed)
        return network.to(self.samples["fit"][1].device)

    def values(self, network: nn.Module) -> Tensor:
        """The prunable weights of a network, [N], on the CPU."""
        flat = parameters_to_vector(network.parameters()).detach().cpu()
        return flat[self.weights]

    def set_values(self, network: nn.Module, values: Tensor) -> None:
        """Give the prunable weights of a network the values [N]."""
        flat = parameters_to_vector(network.parameters()).detach()
        flat[self.weights.to(flat.device)] = values.to(flat)
        vector_to_parameters(flat, network.parameters())

    # --- Training --------------------------------------------------------------------------------

    def train(
        self,
        network: nn.Module,
        mask: Tensor,
        name: str,
        recipe: Recipe | None = None,
        *,
        weights_only: bool = False,
        steps: range | None = None,
    ) -> float:
        """Set what the mask drops to 0 and train the others in place; returns the epochs it took.

        name          tells this training from the others of the step, for its checkpoint
        recipe        if it is not the network's own
        weights_only  all parameters but the prunable weights keep their values
        steps         those of the recipe that are done, if not all
        """
        recipe = recipe or self.recipe
        self.set_values(network, torch.where(mask, self.values(network), 0.0))
        fixed = torch.full((sum(p.numel() for p in network.parameters()),), weights_only)
        fixed[self.weights] = ~mask
        return self.fit(network, name, recipe, fixed=fixed, steps=steps)

    def fit(
        self,
        module: nn.Module,
        name: str,
        recipe: Recipe,
        *,
        fixed: Tensor | None = None,
        steps: range | None = None,
        penalty: Callable[[], Tensor] | None = None,
        before: Callable[[int], None] | None = None,
        identity: Sequence[object] = (),
    ) -> float:
        """Train any module on the network's data, see `training.train`; returns the epochs."""
        logging.info("training %s", name)
        checkpoint = self.checkpoint
        if checkpoint is not None:
            checkpoint = checkpoint.with_name(f"{checkpoint.name}-{name}")
        fit, validation = self.samples["fit"], self.samples["validation"]
        training.train(
            module,
            fit,
            validation,
            recipe,
            checkpoint,
            fixed=fixed,
            steps=steps,
            penalty=penalty,
            before=before,
            identity=identity,
        )
        done = range(self.steps(recipe)) if steps is None else steps
        return len(done) / recipe.per_epoch(len(fit[1]))

    def steps(self, recipe: Recipe | None = None) -> int:
        """Number of steps of a recipe on the data that are fitted."""
        return (recipe or self.recipe).steps(len(self.samples["fit"][1]))

    def good_enough(self, network: nn.Module) -> bool:
        """Whether validation accuracy is that of the dense network, within the tolerance."""
        validation = self.samples["validation"]
        accuracy, dense = (evaluate(n, validation)[1] for n in (network, self.trained))
        return bool(keeps_accuracy(accuracy, dense, self.tolerance))

    def refined(self, make: Callable[[float], Pruned], refine: int) -> Iterator[Pruned]:
        """What is made of all densities, and then of some between: a threshold by bisection.

        Between the last density up to which all are good enough and the next, `refine` more.
        """
        good, bad = 1.0, None
        for density in self.densities:
            made = make(density)
            yield made
            if bad is None and self.good_enough(made.network):
                good = density
            elif bad is None:
                bad = density
        for _ in range(refine if bad is not None else 0):
            assert bad is not None
            middle = sqrt(good * bad)
            made = make(middle)
            yield made
            if self.good_enough(made.network):
                good = middle
            else:
                bad = middle

    def with_recipe(self, **changes: object) -> Recipe:
        """The network's recipe with some of its fields changed."""
        return replace(self.recipe, **changes)  # type: ignore[arg-type]

    def plain_recipe(self, **changes: object) -> Recipe:
        """A recipe of a method's own: of the network's it has epochs, batches, crops and the seed.

        SGD with momentum 0.9 on the loss alone, its rate on a cosine, unless changed.
        """
        plain = {
            "optimizer": "sgd",
            "momentum": 0.9,
            "weight_decay": 0.0,
            "l1": 0.0,
            "schedule": "cosine",
            "milestones": (),
            "warmup": 0,
            "protocol": "exact",
        }
        return self.with_recipe(**plain | changes)

    # --- What methods give -----------------------------------------------------------------------

    def check_mask(self, method: str, mask: Tensor) -> None:
        """Raises InputError for what is no mask over the prunable weights."""
        if mask.shape != self.weights.shape or mask.dtype != torch.bool:
            raise InputError(
                f"method {method}: start_mask of shape {tuple(mask.shape)} and type {mask.dtype}, "
                f"expected {tuple(self.weights.shape)} and torch.bool"
            )

    def leave_out(self, method: str, density: float) -> None:
        """Say that a method has no network of a density."""
        logging.info(
            "%s has no network of density %g with these layers: it is left out", method, density
        )


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The layers whose weights are prunable, in the order in which their parameters lie."""
    by_weight = {
        id(layer.weight): layer for layer in network.modules() if isinstance(layer, PRUNABLE)
    }
    return [by_weight[id(p)] for p in network.parameters() if id(p) in by_weight]


def weight_of(layer: nn.Module) -> Tensor:
    """The weight matrix or kernel of a layer."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight
