"""Data sets: the Cubist Spiral and scikit-learn's digits; how a data set is split.

Every data set comes as arrays x [n, ...], y [n] and split [n], where split names what a point may
be used for: `fit` to train on, `calibration` for curvature, `validation` to choose a threshold,
`test` to report. The Cubist Spiral has a single split, as its study has.
"""

from dataclasses import dataclass, field

import numpy as np

from sparselimit.errors import InputError
from sparselimit.seeds import generator

SPLITS = ("fit", "calibration", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """x [n, ...] features, y int64 [n] labels, split int64 [n] indices into SPLITS.

    Networks are to see (x - mean) / std, one number for each channel of an image, or one for all.
    """

    x: np.ndarray
    y: np.ndarray
    split: np.ndarray
    mean: np.ndarray = field(default_factory=lambda: np.zeros(1))
    std: np.ndarray = field(default_factory=lambda: np.ones(1))

    def of(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The features and labels of one split."""
        chosen = self.split == SPLITS.index(split)
        return self.x[chosen], self.y[chosen]


POINTS_PER_ARM = 25_000
# Moments of the raw points as the published code finds them, summed in single precision: the mean
# is one unit in the last place off. Kept as they are, so that the points have the published bits.
SPIRAL_MEAN = np.array([145.14052, 182.72206], dtype=np.float32)
SPIRAL_STD = np.array([86.02452, 82.99504], dtype=np.float32)


def spiral_arms() -> np.ndarray:
    """Vertices of the two arms, float64 [class, 17, 2], before shift and normalisation.

    Zhang & Papyan (2024): the arms are polygons at radius 10 theta + pi, offset by +-15.
    """
    theta = np.linspace(np.pi, 5 * np.pi, 17) + 0.4 * np.pi
    radius = 10 * theta + np.pi
    direction = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    return np.stack([direction * (radius + offset)[:, None] for offset in (15, -15)])


def spiral_segment_counts(arms: np.ndarray) -> np.ndarray:
    """Points on each segment, int64 [class, 16]: in proportion to length, rounded down."""
    lengths = np.linalg.norm(np.diff(arms, axis=1), axis=2)
    return (POINTS_PER_ARM * lengths / lengths.sum(axis=1, keepdims=True)).astype(np.int64)


SPIRAL_POINTS = int(spiral_segment_counts(spiral_arms()).sum())


def cubist_spiral() -> Dataset:
    """The 49,982 points of the Cubist Spiral, float32, normalised to mean 0 and deviation 1.

    Each segment is sampled at equal distances from its outer to its inner end, both included, so
    that inner vertices occur twice. Class 0 comes first. There is no noise and no randomness.
    """
    arms = spiral_arms()
    counts = spiral_segment_counts(arms)
    arms = arms - arms.min(axis=(0, 1))
    points = [
        _segment(arm[i + 1], arm[i], n)
        for arm, arm_counts in zip(arms, counts, strict=True)
        for i, n in enumerate(arm_counts)
    ]
    x = np.concatenate(points).astype(np.float32)
    x = (x - SPIRAL_MEAN) / SPIRAL_STD
    y = np.repeat([0, 1], counts.sum(axis=1))
    return Dataset(x, y, np.zeros(len(x), dtype=np.int64))


def _segment(start: np.ndarray, end: np.ndarray, n: int) -> np.ndarray:
    """n points from start to end, float64 [n, 2].

    The positions along the segment are in single precision and counted from the nearer end, as
    torch.linspace makes them for the published code: the reference trainings tell the difference.
    """
    step = float(np.float32(1) / np.float32(n - 1))
    i = np.arange(n)
    t = np.where(i < n // 2, step * i, 1 - step * (n - 1 - i)).astype(np.float32)[:, None]
    return t * end + (np.float32(1) - t) * start


def digits(seed: int, sizes: dict[str, int]) -> Dataset:
    """scikit-learn's 1,797 digits, split by class: images [1, 8, 8] of pixels 0 to 16, ten classes.

    Networks see them as pixels from 0 to 1. `sizes` gives the number of points of calibration,
    validation and test; the rest is for fit. Raises InputError when nothing would be left to fit.
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    split = stratified_split(y, seed, sizes)
    images = x.astype(np.uint8).reshape(-1, 1, 8, 8)
    return Dataset(images, y.astype(np.int64), split, std=np.full(1, 16.0))


def stratified_split(y: np.ndarray, seed: int, sizes: dict[str, int]) -> np.ndarray:
    """Assign every point a split, int64 [n]; each split has the classes in equal proportion.

    Points of each class are shuffled and laid out evenly over [0, 1); splits are consecutive
    intervals of that order, so their sizes are exact and their class counts off by one or two.
    """
    if sum(sizes.values()) >= len(y):
        raise InputError(
            f"splits {sizes} take {sum(sizes.values())} of {len(y)} points: none to fit"
        )
    rng = generator("split", seed)
    place = np.empty(len(y))
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    order = np.argsort(place, kind="stable")
    split = np.full(len(y), SPLITS.index("fit"))
    start = 0
    for name, size in sizes.items():
        split[order[start : start + size]] = SPLITS.index(name)
        start += size
    return split
