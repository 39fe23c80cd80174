"""Masks: exact counts, the biases that go with them, and the paths that they leave."""

from itertools import product

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from sparselimit.ensemble.batched import activations
from sparselimit.networks.mlp import MLP
from sparselimit.sparsity.connectivity import effective_mask, path_count
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


def paths(network: MLP, mask: np.ndarray) -> list[list[int]]:
    """Every path of a masked network as the indices of its weights, by trying all of them."""
    layers = network.weights(np.where(mask, np.arange(network.n_weights), -1))
    found = []
    for neurons in product(*map(range, network.sizes)):
        steps = zip(layers, neurons, neurons[1:], strict=False)
        indices = [int(layer[out, into]) for layer, into, out in steps]
        if min(indices) >= 0:
            found.append(indices)
    return found


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3), min_size=2, max_size=4).map(tuple),
    seed=st.integers(0, 999),
    density=st.floats(0.2, 1),
)
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
        assert set(on_path.nonzero()[:, 0].tolist()) == {i for path in found for i in path}


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
