"""Random numbers keyed by what a run is."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sparselimit.seeds import generator

parts = st.one_of(
    st.text(max_size=3),
    st.integers(-5, 300),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
identities = st.lists(parts, max_size=4).map(tuple)


@settings(deadline=None)
@given(one=identities, other=identities)
def test_streams_are_equal_exactly_where_identities_are(one: tuple, other: tuple) -> None:
    first, second = (generator(*identity).bit_generator.random_raw(2) for identity in (one, other))
    assert (first.tolist() == second.tolist()) == (one == other)


def test_parts_of_an_identity_do_not_run_together() -> None:
    alike = [("a", 12), ("a", 1, 2), ("a1", 2), ("a", "12"), ("a", (1, 2)), ("a", (12,))]
    draws = {int(generator(*identity).bit_generator.random_raw()) for identity in alike}
    assert len(draws) == len(alike)


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    expected = generator("init", (2, 3, 1), 7).normal(size=5)
    generator("init", (2, 3, 1), 6).normal(size=3)
    np.random.default_rng(0).normal()
    np.testing.assert_array_equal(generator("init", (2, 3, 1), 7).normal(size=5), expected)


def test_streams_stay_what_they_are_from_version_to_version() -> None:
    """Published results name their seeds: these numbers must never change."""
    raw = generator("init", (2, 3, 3, 3, 1), 0).bit_generator.random_raw(2)
    assert [hex(number) for number in raw.tolist()] == ["0x30fe9ad79de8ba0b", "0x651d650bfc4491ae"]


def test_streams_of_neighbouring_seeds_are_uniform_and_unrelated() -> None:
    draws = np.array([generator("order", seed).random(500) for seed in range(40)])
    assert abs(draws.mean() - 0.5) < 4 / np.sqrt(12 * draws.size)
    correlations = np.corrcoef(draws)[np.triu_indices(40, 1)]
    assert abs(correlations).max() < 5 / np.sqrt(500)
