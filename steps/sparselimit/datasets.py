"""Data sets: the Cubist Spiral, scikit-learn's digits, and CIFAR from a folder of the user's.

Every data set comes as arrays x [n, ...], y [n] and split [n], where split names what a point may
be used for: `fit` to train on, `calibration` for curvature, `validation` to choose a threshold,
`test` to report. The Cubist Spiral has a single split, as its study has.
"""

import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparselimit.errors import InputError
from sparselimit.seeds import generator

SPLITS = ("fit", "calibration", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """x [n, ...] features, y int64 [n] labels, split int64 [n] indices into SPLITS."""

    x: np.ndarray
    y: np.ndarray
    split: np.ndarray

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
    """scikit-learn's 1,797 digits (8x8 pixels in [0, 1], ten classes), split by class.

    `sizes` gives the number of points of calibration, validation and test; the rest is for fit.
    Raises InputError when nothing would be left to fit.
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    split = stratified_split(y, seed, sizes)
    return Dataset((x / 16.0).astype(np.float32), y.astype(np.int64), split)


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


def cifar(name: str, folder: Path, *, download: bool, seed: int, sizes: dict[str, int]) -> Dataset:
    """CIFAR-10 or CIFAR-100 from a folder, pixels as uint8 [n, 3, 32, 32].

    The published test images are the test split; `sizes` gives calibration and validation, taken
    from the training images. Raises InputError when the folder lacks the data set and `download`
    was not asked for, or when the download fails.
    """
    reader = getattr(_torchvision_datasets(), name)
    try:
        train = reader(folder, train=True, download=download)
        test = reader(folder, train=False)
    except (RuntimeError, OSError) as error:
        remedy = (
            "it could not be downloaded; fetch it on a machine with network"
            if download
            else "put the unpacked archive there, or set download: true"
        )
        reason = str(error).splitlines()[0]
        raise InputError(f"{name} is not to be had from '{folder}' ({reason}): {remedy}") from error
    y = np.asarray(train.targets)
    split = stratified_split(y, seed, sizes)
    return Dataset(
        np.concatenate([train.data, test.data]).transpose(0, 3, 1, 2),
        np.concatenate([y, np.asarray(test.targets)]).astype(np.int64),
        np.concatenate([split, np.full(len(test.data), SPLITS.index("test"))]),
    )


def _torchvision_datasets() -> types.ModuleType:
    """torchvision.datasets, also where torch is a CPU build and torchvision is not.

    Such a pair lacks the compiled operators (non-maximum suppression and the like) and torchvision
    fails when it registers their shapes. Data sets need none of them, so that step is skipped.
    """
    try:
        import torchvision.datasets
    except RuntimeError:
        for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[module]
        sys.modules["torchvision._meta_registrations"] = types.ModuleType("_meta_registrations")
        import torchvision.datasets
    return torchvision.datasets
