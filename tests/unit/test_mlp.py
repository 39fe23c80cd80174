"""The flat layout of a network's parameters."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparselimit.networks.mlp import (
    MLP,
    cropped,
    initial_parameters,
    positions,
    xavier_normal_weights,
)
from tests.unit.refusals import refused

sizes = st.lists(st.integers(1, 6), min_size=2, max_size=5).map(tuple)


def output(network: MLP, flat: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The logits [n, outputs], worked out layer by layer."""
    for weight, bias in zip(network.weights(flat), network.biases(flat), strict=True):
        logits = x @ weight.T + bias
        x = np.maximum(logits, 0)
    return logits


@settings(deadline=None)
@given(sizes=sizes)
def test_layout(sizes: tuple[int, ...]) -> None:
    """Weights first, layer by layer and row-major [out, in]; then the biases."""
    network = MLP(sizes)
    flat = np.arange(network.n_parameters)
    weights, biases = network.weights(flat), network.biases(flat)
    assert [w.shape for w in weights] == list(zip(sizes[1:], sizes, strict=False))
    assert [b.shape for b in biases] == [(n,) for n in sizes[1:]]
    np.testing.assert_array_equal(np.concatenate([p.ravel() for p in [*weights, *biases]]), flat)
    assert sum(w.size for w in weights) == network.n_weights
    assert sum(b.size for b in biases) == network.n_biases == sum(sizes[1:])
    assert network.n_layers == len(weights)


def test_parts_are_views_whatever_stands_before() -> None:
    network = MLP((2, 3, 1))
    flat = torch.zeros(4, 5, network.n_parameters)
    network.weights(flat)[1][1, 2, 0, 1] = 7.0
    network.biases(flat)[0][3, 4, 2] = 8.0
    assert flat[1, 2, 3 * 2 + 1] == 7
    assert flat[3, 4, network.n_weights + 2] == 8
    assert flat.count_nonzero() == 2
    only_weights = np.zeros(network.n_weights)
    assert [w.shape for w in network.weights(only_weights)] == [(3, 2), (1, 3)]


def test_numbers_of_weights_of_the_study() -> None:
    widths = (3, 4, 5, 6, 7, 8, 16, 32, 64, 128, 256)
    counts = (27, 44, 65, 90, 119, 152, 560, 2144, 8384, 33152, 131840)
    assert tuple(MLP.spiral(width).n_weights for width in widths) == counts


@settings(deadline=None)
@given(sizes=sizes)
def test_fan_in_is_the_number_of_inputs_of_a_neuron(sizes: tuple[int, ...]) -> None:
    network = MLP(sizes)
    fan_in = network.fan_in
    assert fan_in.shape == (network.n_parameters,)
    for n_in, weight, bias in zip(
        sizes, network.weights(fan_in), network.biases(fan_in), strict=False
    ):
        assert set(weight.ravel()) == set(bias) == {n_in}


@pytest.mark.parametrize("wrong", [(), (2,), (2, 0, 1), (2, -3, 1)])
def test_sizes_that_are_no_network_are_refused(wrong: tuple[int, ...]) -> None:
    with refused(str(wrong)):
        MLP(wrong)


# --- Initial values ------------------------------------------------------------------------------


def test_initial_values_are_uniform_as_torch_draws_them() -> None:
    """Within 1/sqrt(fan_in), of mean 0 and variance 1/(3 fan_in), up to both ends of the range."""
    network = MLP((4, 150, 100, 1))
    values = initial_parameters(network, np.random.default_rng(0)) * np.sqrt(network.fan_in)
    assert values.dtype == np.float64
    assert 0.999 < abs(values).max() <= 1
    parts = [*network.weights(values), *network.biases(values)]
    for part in (p.ravel() for p in parts if p.size >= 100):
        assert abs(part.mean()) < 4 / np.sqrt(3 * part.size)
        assert abs(part.var() - 1 / 3) < 4 * np.sqrt(4 / 45 / part.size)
    limit = 1 / np.sqrt(150)
    assert torch.nn.Linear(150, 100).weight.abs().max() <= limit
    assert abs(network.weights(values / np.sqrt(network.fan_in))[1]).max() <= limit


def test_xavier_weights_have_their_deviation() -> None:
    network = MLP((50, 120, 80, 1))
    values = xavier_normal_weights(network, np.random.default_rng(0))
    assert values.shape == (network.n_weights,)
    for weight, n_in, n_out in zip(
        network.weights(values)[:2], network.sizes, network.sizes[1:], strict=False
    ):
        standardised = weight.ravel() / np.sqrt(2 / (n_in + n_out))
        assert abs(standardised.mean()) < 4 / np.sqrt(weight.size)
        assert abs(standardised.std() - 1) < 4 / np.sqrt(2 * weight.size)
        assert abs(standardised).max() > 3


# --- Networks inside wider ones ------------------------------------------------------------------


@settings(deadline=None)
@given(data=st.data(), sizes=sizes, seed=st.integers(0, 99))
def test_an_embedded_network_computes_the_same(
    data: st.DataObject, sizes: tuple[int, ...], seed: int
) -> None:
    """With zeros around it."""
    more = [data.draw(st.integers(0, 3)) for _ in sizes[1:-1]]
    wide_sizes = (sizes[0], *(n + m for n, m in zip(sizes[1:-1], more, strict=True)), sizes[-1])
    small, large = MLP(sizes), MLP(wide_sizes)
    rng = np.random.default_rng(seed)
    flat, x = rng.normal(size=small.n_parameters), rng.normal(size=(7, sizes[0]))
    where = positions(small, large)
    assert len(np.unique(where)) == small.n_parameters
    wide = np.zeros(large.n_parameters)
    wide[where] = flat
    np.testing.assert_allclose(output(large, wide, x), output(small, flat, x), atol=1e-12)


def test_a_crop_has_the_neurons_asked_for_in_their_order() -> None:
    """Neurons that are left out add nothing if no weight leads on from them."""
    network, x = MLP((2, 4, 3, 5, 1)), np.random.default_rng(1).standard_normal((20, 2))
    flat = np.random.default_rng(0).standard_normal(network.n_parameters)
    neurons = list(map(np.array, ([0, 1], [3, 0, 1], [2, 0], [4, 1, 0, 3], [0])))
    for layer, kept in zip(network.weights(flat)[1:], neurons[1:], strict=False):
        layer[:, np.setdiff1d(np.arange(layer.shape[1]), kept)] = 0
    shape, places = cropped(network, neurons)
    assert shape == MLP((2, 3, 2, 4, 1))
    np.testing.assert_allclose(output(shape, flat[places], x), output(network, flat, x), rtol=1e-12)


def test_positions_are_the_first_neurons_of_each_layer() -> None:
    small, large = MLP((1, 2, 1)), MLP((1, 3, 1))
    #                                   W1: 0 1 2   W2: 3 4 5   b1: 6 7 8   b2: 9
    assert positions(small, large).tolist() == [0, 1, 3, 4, 6, 7, 9]
