"""Masks: exact counts, the biases that go with them, and the paths that they leave."""

from itertools import product

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from sparselimit.ensemble.batched import activations
from sparselimit.networks.forward import logits
from sparselimit.networks.mlp import MLP
from sparselimit.sparsity.connectivity import connectivity, effective_mask, path_count
from sparselimit.sparsity.masks import keep_largest, with_biases
from tests.unit.refusals import refused

few_values = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf])
scores = nps.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=few_values
)


@settings(deadline=None)
@given(scores=scores, data=st.data())
def test_exactly_as_many_as_asked_for_are_kept(scores: np.ndarray, data: st.DataObject) -> None:
    """The largest, and of equal ones those of lowest index; ties abound in these scores."""
    n = scores.shape[1]
    k = [data.draw(st.integers(0, n)) for _ in scores]
    kept = keep_largest(torch.tensor(scores), torch.tensor(k))
    for row, mask, count in zip(scores, kept, k, strict=True):
        ranked = sorted(range(n), key=lambda i: (-row[i], i))
        assert set(mask.nonzero()[:, 0].tolist()) == set(ranked[:count])


def test_what_cannot_be_ranked_is_refused() -> None:
    values = torch.zeros(3, 4)
    values[2, 1] = torch.nan
    with refused("member 2", "NaN"):
        keep_largest(values, torch.tensor([1, 1, 1]))


def test_biases_follow_outgoing_weights() -> None:
    network = MLP((1, 2, 2, 1))
    #             W1          W2 [out, in]      W3
    masks = {
        (1, 1, 1, 1, 1, 1, 1, 1): (1, 1, 1, 1, 1),
        (1, 1, 1, 0, 1, 0, 0, 1): (1, 0, 0, 1, 1),  # the second neuron has no reader
        (0, 0, 1, 1, 1, 1, 0, 0): (1, 1, 0, 0, 1),  # without inputs it is still a constant
        (0, 0, 0, 0, 0, 0, 0, 0): (0, 0, 0, 0, 1),  # the output bias always stays
    }
    weights = torch.tensor(list(masks), dtype=torch.bool)
    expected = torch.tensor([[*w, *b] for w, b in masks.items()], dtype=torch.bool)
    assert torch.equal(with_biases(network, weights), expected)
    assert torch.equal(with_biases(network, weights[0]), expected[0])


def paths(network: MLP, mask: np.ndarray, start: int = 0) -> dict[tuple[int, ...], list[int]]:
    """Every path of a masked network from a layer of neurons to the outputs, by trying them all.

    Paths by the neurons they visit: the indices of their weights.
    """
    layers = network.weights(np.where(mask, np.arange(network.n_weights), -1))[start:]
    found = {}
    for neurons in product(*map(range, network.sizes[start:])):
        steps = zip(layers, neurons, neurons[1:], strict=False)
        indices = [int(layer[out, into]) for layer, into, out in steps]
        if min(indices, default=0) >= 0:
            found[neurons] = indices
    return found


networks = given(
    sizes=st.lists(st.integers(1, 3), min_size=2, max_size=5).map(tuple),
    seed=st.integers(0, 999),
    density=st.floats(0.1, 1),
)


@settings(deadline=None)
@networks
def test_paths_are_those_found_one_by_one(
    sizes: tuple[int, ...], seed: int, density: float
) -> None:
    network = MLP(sizes)
    masks = np.random.default_rng(seed).random((3, network.n_weights)) < density
    counts = path_count(network, torch.tensor(masks))
    effective = effective_mask(network, torch.tensor(masks))
    assert effective.dtype == torch.bool
    for mask, count, on_path in zip(masks, counts.tolist(), effective, strict=True):
        found = paths(network, mask)
        assert count == len(found)
        assert set(on_path.nonzero()[:, 0].tolist()) == {i for path in found.values() for i in path}


@settings(deadline=None)
@networks
def test_classes_of_neurons_are_those_of_the_paths_found_one_by_one(
    sizes: tuple[int, ...], seed: int, density: float
) -> None:
    network = MLP(sizes)
    masks = np.random.default_rng(seed).random((3, network.n_weights)) < density
    found = connectivity(network, torch.tensor(masks))
    assert all(count.dtype == torch.int64 for count in found.values())
    for member, mask in enumerate(masks):
        whole = paths(network, mask)
        for layer in range(network.n_layers):
            names = [("weights", i) for i in layer_weights(network, mask, layer)]
            on_path = {path[layer] for path in whole.values()}
            names += [("effective_weights", i) for i in on_path]
            names += [
                (neuron_class(network, mask, whole, layer + 1, neuron), neuron)
                for neuron in range(sizes[layer + 1])
            ]
            for name, counts in found.items():
                assert counts[member, layer] == sum(have == name for have, _ in names), name


def layer_weights(network: MLP, mask: np.ndarray, layer: int) -> list[int]:
    """The kept weights of a layer."""
    where = network.weight_slices[layer]
    return [i for i in np.flatnonzero(mask).tolist() if where.start <= i < where.stop]


def neuron_class(
    network: MLP, mask: np.ndarray, whole: dict[tuple[int, ...], list[int]], layer: int, neuron: int
) -> str:
    """The class of a neuron by explicit paths; neuron layers count from the inputs, 0."""
    if any(visited[layer] == neuron for visited in whole):
        return "active"
    if any(visited[0] == neuron for visited in paths(network, mask, layer)):
        return "constant"
    into, *out = network.weights(mask)[layer - 1 : layer + 1]
    return "dead" if into[neuron].any() or any(w[:, neuron].any() for w in out) else "unused"


def test_every_class_of_neurons() -> None:
    """A network whose first hidden layer has one neuron of each class, and a chain of constants."""
    network = MLP((2, 4, 3, 1))
    layers = [
        # to:   active  constant  dead    unused
        [[1, 0], [0, 0], [1, 1], [0, 0]],
        # to:   active (from the first two), constant (from the second), dead (from the third)
        [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
        [[1, 1, 0]],
    ]
    cut = [layers[0], layers[1], [[0, 1, 0]]]  # without the path: the output itself is constant
    flat = [np.concatenate([np.ravel(w) for w in weights]) for weights in (layers, cut)]
    mask = torch.tensor(np.stack(flat), dtype=torch.bool)
    found = connectivity(network, mask)
    assert {name: counts.tolist() for name, counts in found.items()} == {
        "weights": [[3, 4, 2], [3, 4, 1]],
        "effective_weights": [[1, 1, 1], [0, 0, 0]],
        "active": [[1, 1, 1], [0, 0, 0]],
        "constant": [[1, 1, 0], [1, 1, 1]],
        "dead": [[1, 1, 0], [2, 2, 0]],
        "unused": [[1, 0, 0], [1, 0, 0]],
    }


def test_neurons_behave_as_their_class_says() -> None:
    """Constants emit the same for every point, and no output depends on dead neurons."""
    network = MLP((2, 6, 6, 6, 1))
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(200, network.n_weights, generator=generator) < 0.2
    found = connectivity(network, mask)
    assert min(int(count.sum()) for count in found.values()) > 0
    # All positive, so that no ReLU cuts off what a path carries.
    x = torch.rand(50, 2, generator=generator, dtype=torch.float64)
    values = torch.rand(200, network.n_parameters, generator=generator, dtype=torch.float64)
    parameters = torch.where(with_biases(network, mask), values, 0.0)
    outputs = activations(network, parameters, x)
    parameters.requires_grad_()
    (gradient,) = torch.autograd.grad(logits(network, parameters, x).sum(), parameters)
    for layer, bias_gradient in enumerate(network.biases(gradient)):
        varies = outputs[layer].std(dim=2) > 1e-9
        matters = bias_gradient != 0
        assert torch.equal((varies & matters).sum(dim=1), found["active"][:, layer])
        assert torch.equal((~varies & matters).sum(dim=1), found["constant"][:, layer])


def test_path_counts_are_exact_at_full_size() -> None:
    network = MLP.spiral(256)
    assert path_count(network, torch.ones(1, network.n_weights, dtype=torch.bool)).item() == (
        2 * 256**3
    )


def test_weights_on_no_path_do_not_matter_without_biases() -> None:
    network = MLP((2, 4, 4, 4, 1))
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(20, network.n_weights, generator=generator) < 0.3
    effective = effective_mask(network, mask)
    assert (effective <= mask).all()
    assert 0 < int(effective.sum()) < int(mask.sum())
    parameters = torch.randn(20, network.n_parameters, generator=generator)
    parameters[:, network.n_weights :] = 0
    x = torch.randn(5, 2, generator=generator)
    logits = [
        activations(network, torch.where(pad(kept, network), parameters, 0.0), x)[-1]
        for kept in (mask, effective)
    ]
    torch.testing.assert_close(*logits)


def pad(weight_mask: torch.Tensor, network: MLP) -> torch.Tensor:
    """A mask over weights extended by none of the biases."""
    return torch.nn.functional.pad(weight_mask, (0, network.n_biases))
