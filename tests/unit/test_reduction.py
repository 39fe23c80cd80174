"""A network without what does nothing in it computes the same."""

import numpy as np
import pytest
import torch

from sparselimit.ensemble.batched import activations
from sparselimit.networks.mlp import MLP
from sparselimit.sparsity.connectivity import connectivity, effective_mask
from sparselimit.sparsity.reduction import effective_part, folded


def reduced(
    network: MLP, mask: np.ndarray, parameters: np.ndarray
) -> tuple[MLP, np.ndarray, np.ndarray] | None:
    """Shape, mask and parameters of a network's effective weights alone."""
    part = effective_part(network, mask)
    if part is None:
        return None
    shape, kept, places = part
    return shape, kept, folded(network, mask, parameters, places)


def outputs(network: MLP, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    values = activations(network, torch.tensor(parameters)[None], torch.tensor(x))
    return values[-1][0].numpy()


def test_by_hand() -> None:
    """In the second hidden layer one neuron is fed, one is constant and one leads nowhere."""
    network = MLP((2, 2, 3, 1))
    weights = [[[0, 2], [0, 0]], [[3, 5], [0, -4], [7, 0]], [[11, 13, 0]]]
    biases = [[0.5, 0.25], [1, 2, 3], [-1]]
    parameters = np.concatenate([np.array(part, float).ravel() for part in (*weights, *biases)])
    mask = parameters[: network.n_weights] != 0
    left = reduced(network, mask, parameters)
    assert left is not None
    shape, kept, values = left
    assert shape == MLP((2, 1, 1, 1))
    assert kept.tolist() == [False, True, True, True]
    # relu(0.25) goes on by 5 and -4; then relu(2 - 1) by 13.
    assert values.tolist() == [0, 2, 3, 11, 0.5, 1 + 5 * 0.25, -1 + 13 * (2 - 4 * 0.25)]


@pytest.mark.parametrize("sizes", [(2, 3, 4, 3, 1), (2, 5, 1, 4, 1), (3, 4, 4, 2), (2, 1)], ids=str)
def test_outputs_are_the_same(sizes: tuple[int, ...]) -> None:
    network = MLP(sizes)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, sizes[0]))
    seen = np.zeros(3, dtype=int)
    for density in rng.uniform(0.1, 0.8, 150):
        parameters = rng.standard_normal(network.n_parameters)
        mask = rng.random(network.n_weights) < density
        whole = parameters.copy()
        whole[: network.n_weights][~mask] = 0
        expected = outputs(network, whole, x)
        # Values outside of the mask do not matter.
        left = reduced(network, mask, parameters)
        if left is None:
            assert np.ptp(expected, axis=1).max() == 0
            continue
        shape, kept, values = left
        np.testing.assert_allclose(outputs(shape, values, x), expected, rtol=1e-12, atol=1e-12)
        assert (values[: shape.n_weights] != 0).tolist() == kept.tolist()
        found = {n: v.sum() for n, v in connectivity(network, torch.tensor(mask)[None]).items()}
        seen += [found["constant"] > 0, found["dead"] > 0, 1]
        assert kept.sum() == found["effective_weights"]
        assert effective_mask(shape, torch.tensor(kept)[None]).sum() == kept.sum()
        assert [layer.any(axis=1).all() for layer in shape.weights(kept)[:-1]] == [True] * (
            shape.n_layers - 1
        )
    assert (seen > 0).all() or sizes == (2, 1)


def test_a_network_of_effective_weights_stays_as_it_is() -> None:
    network = MLP((2, 3, 3, 1))
    parameters = np.random.default_rng(0).standard_normal(network.n_parameters).astype(np.float32)
    left = reduced(network, np.ones(network.n_weights, dtype=bool), parameters)
    assert left is not None
    shape, kept, values = left
    assert shape == network
    assert kept.all()
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, parameters)


def test_without_a_path_nothing_is_left() -> None:
    network = MLP((2, 2, 2, 1))
    mask = np.ones(network.n_weights, dtype=bool)
    mask[network.weight_slices[1]] = False
    assert reduced(network, mask, np.ones(network.n_parameters)) is None
