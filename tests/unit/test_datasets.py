"""Data sets: the spiral against the published points, digits, and splits."""

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparselimit import datasets
from sparselimit.datasets import SPLITS, Dataset, cubist_spiral, digits, stratified_split
from tests.unit.refusals import refused

# --- The Cubist Spiral ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spiral_data() -> Dataset:
    return cubist_spiral()


def test_vertices_segments_and_moments_are_the_published_ones(cubist: h5py.File) -> None:
    published = cubist["data"]
    arms = datasets.spiral_arms()
    shifted = arms - arms.min(axis=(0, 1))
    for label in (0, 1):
        np.testing.assert_allclose(
            shifted[label], published[f"vertices_class{label}"][()], rtol=0, atol=1e-12
        )
    lengths = np.linalg.norm(np.diff(arms, axis=1), axis=2)
    np.testing.assert_allclose(lengths, published["segment_lengths"][()], rtol=1e-13)
    counts = datasets.spiral_segment_counts(arms)
    np.testing.assert_array_equal(counts, published["segment_counts"][()])
    np.testing.assert_array_equal(datasets.SPIRAL_MEAN, published["raw_mean"][()])
    np.testing.assert_array_equal(datasets.SPIRAL_STD, published["raw_std_unbiased"][()])


def test_points_are_the_published_ones(cubist: h5py.File, spiral_data: Dataset) -> None:
    published, x, y = cubist["data"], spiral_data.x, spiral_data.y
    assert (x.dtype, x.shape, len(np.unique(x, axis=0))) == (np.float32, (49_982, 2), 49_952)
    np.testing.assert_array_equal(np.bincount(y), [24_991, 24_991])
    assert (np.diff(y) >= 0).all()
    np.testing.assert_array_equal(x.min(axis=0), published["x_min"][()])
    np.testing.assert_array_equal(x.max(axis=0), published["x_max"][()])
    mean, std = x.mean(axis=0, dtype=np.float64), x.std(axis=0, ddof=1, dtype=np.float64)
    np.testing.assert_allclose(mean, published["x_mean"][()], atol=5e-7)
    np.testing.assert_allclose(std, published["x_std"][()], rtol=5e-7)


def test_points_lie_evenly_on_their_segments(spiral_data: Dataset) -> None:
    """From a segment's outer end to its inner one, both included, as double precision has it."""
    arms = datasets.spiral_arms()
    counts = datasets.spiral_segment_counts(arms)
    raw = (spiral_data.x.astype(np.float64) * datasets.SPIRAL_STD) + datasets.SPIRAL_MEAN
    raw += arms.min(axis=(0, 1))
    start = 0
    for arm, arm_counts in zip(arms, counts, strict=True):
        for inner, outer, n in zip(arm, arm[1:], arm_counts, strict=False):
            expected = np.linspace(outer, inner, n)
            np.testing.assert_allclose(raw[start : start + n], expected, atol=1e-4)
            start += n
    assert start == len(raw)


def test_points_are_spaced_as_torch_spaces_them() -> None:
    """To the last bit, but for the odd one where torch was built for another processor."""
    for n in datasets.spiral_segment_counts(datasets.spiral_arms()).ravel().tolist():
        found = datasets._segment(np.zeros(2), np.ones(2), n)[:, 0]
        expected = torch.linspace(0, 1, n).double().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=2**-23)
        assert (found == expected).mean() > 0.99


def test_the_spiral_has_a_single_split_and_no_randomness(spiral_data: Dataset) -> None:
    x, y = spiral_data.of("fit")
    assert len(x) == len(y) == 49_982
    assert len(spiral_data.of("test")[0]) == 0
    np.random.default_rng().normal()
    np.testing.assert_array_equal(cubist_spiral().x, spiral_data.x)


# --- Digits and splits ---------------------------------------------------------------------------

SIZES = {"calibration": 300, "validation": 250, "test": 347}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits_are_split_by_class(seed: int) -> None:
    data = digits(seed, SIZES)
    assert (data.x.dtype, data.x.shape, data.y.dtype) == (np.uint8, (1797, 1, 8, 8), np.int64)
    seen = (data.x - data.mean) / data.std
    assert (seen.min(), seen.max()) == (0, 1)
    whole = np.bincount(data.y) / len(data.y)
    assert len(whole) == 10
    taken = 0
    for name, size in {**SIZES, "fit": 900}.items():
        x, y = data.of(name)
        assert len(x) == len(y) == size
        assert abs(np.bincount(y, minlength=10) - size * whole).max() < 2
        taken += size
    assert taken == 1797


def test_digits_depend_on_the_seed_alone() -> None:
    first, again, other = (digits(seed, SIZES) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.split, again.split)
    np.testing.assert_array_equal(first.x, other.x)
    assert (first.split != other.split).mean() > 0.3


@settings(deadline=None)
@given(
    y=st.lists(st.integers(0, 4), min_size=5, max_size=80),
    shares=st.tuples(st.floats(0, 0.3), st.floats(0, 0.3)),
    seed=st.integers(0, 10),
)
def test_splits_have_their_sizes_and_their_share_of_each_class(
    y: list[int], shares: tuple[float, float], seed: int
) -> None:
    labels = np.array(y)
    sizes = {name: int(share * len(y)) for name, share in zip(SPLITS[1:], shares, strict=False)}
    split = stratified_split(labels, seed, sizes)
    assert {SPLITS[i] for i in split} <= {"fit", *sizes}
    for name, size in sizes.items():
        inside = labels[split == SPLITS.index(name)]
        assert len(inside) == size
        # An interval of the common order ends between two points of every class.
        for label, n in zip(*np.unique(labels, return_counts=True), strict=True):
            share = n / len(labels)
            most = 2 * (1 + share * len(np.unique(labels)))
            assert abs((inside == label).sum() - size * share) <= most


def test_splits_that_leave_nothing_to_fit_are_refused() -> None:
    with refused("'test': 6", "take 10 of 10 points", "none to fit"):
        stratified_split(np.zeros(10, dtype=int), 0, {"validation": 4, "test": 6})
