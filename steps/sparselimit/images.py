"""Data sets of images from a folder of the user's: MNIST, CIFAR-10, CIFAR-100, TinyImageNet.

The folder is laid out as torchvision lays it out: MNIST/raw, cifar-10-batches-py, cifar-100-python;
beside them tiny-imagenet-200. Nothing is downloaded unless that is asked for.
"""

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparselimit.datasets import SPLITS, Dataset, stratified_split
from sparselimit.errors import InputError

Labelled = tuple[np.ndarray, np.ndarray]  # uint8 [n, channels, height, width], int64 [n]

_TINY = "tiny-imagenet-200"
_TINY_URL = f"http://cs231n.stanford.edu/{_TINY}.zip"
_TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"


def read(name: str, folder: Path, *, download: bool, seed: int, sizes: dict[str, int]) -> Dataset:
    """A data set of `SOURCES` from the folder, pixels as uint8 [n, channels, height, width].

    The published test images are the test split, of TinyImageNet its validation images, for the
    labels of the others were never given out. `sizes` gives calibration and validation, taken from
    the training images. Raises InputError when the folder lacks the data set and `download` was not
    asked for, or when the download fails.
    """
    source = SOURCES[name]
    try:
        train, test = source.read(folder, download)
    except Exception as error:  # readers raise many types for damaged files
        remedy = (
            "it could not be downloaded; fetch it on a machine with network"
            if download
            else "put the unpacked archive there, or set download: true"
        )
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} is not to be had from '{folder}' ({reason}): {remedy}") from error
    split = stratified_split(train[1], seed, sizes)
    return Dataset(
        np.concatenate([train[0], test[0]]),
        np.concatenate([train[1], test[1]]),
        np.concatenate([split, np.full(len(test[1]), SPLITS.index("test"))]),
        255 * np.array(source.mean),
        255 * np.array(source.std),
    )


def _mnist(folder: Path, download: bool) -> tuple[Labelled, Labelled]:
    def part(train: bool) -> Labelled:
        data = _torchvision_datasets().MNIST(folder, train=train, download=download)
        return data.data.numpy()[:, None], data.targets.numpy()

    return part(True), part(False)


def _cifar(name: str) -> Callable[[Path, bool], tuple[Labelled, Labelled]]:
    def both(folder: Path, download: bool) -> tuple[Labelled, Labelled]:
        return part(folder, download, True), part(folder, download, False)

    def part(folder: Path, download: bool, train: bool) -> Labelled:
        data = getattr(_torchvision_datasets(), name)(folder, train=train, download=download)
        return data.data.transpose(0, 3, 1, 2), np.asarray(data.targets, dtype=np.int64)

    return both


def _tiny_imagenet(folder: Path, download: bool) -> tuple[Labelled, Labelled]:
    """Classes are numbered in the order of wnids.txt."""
    base = folder / _TINY
    if download and not base.is_dir():
        _torchvision_datasets().utils.download_and_extract_archive(
            _TINY_URL, str(folder), md5=_TINY_MD5
        )
    number = {name: i for i, name in enumerate((base / "wnids.txt").read_text().split())}
    train = [
        (file, label)
        for name, label in number.items()
        for file in sorted((base / "train" / name / "images").glob("*.JPEG"))
    ]
    lines = (base / "val" / "val_annotations.txt").read_text().splitlines()
    columns = [line.split("\t") for line in lines]
    test = [(base / "val" / "images" / file, number[name]) for file, name, *_ in columns]
    return _decoded(train), _decoded(test)


def _decoded(files: list[tuple[Path, int]]) -> Labelled:
    from PIL import Image

    if not files:
        raise OSError("there are no images in it")
    images = []
    for path, _ in files:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    return np.stack(images), np.array([label for _, label in files])


@dataclass(frozen=True)
class Source:
    """How a data set is read (training and test images), and moments of its pixels from 0 to 1."""

    read: Callable[[Path, bool], tuple[Labelled, Labelled]]
    mean: tuple[float, ...]
    std: tuple[float, ...]


# Moments as in the code of Zhang et al. (2024), which has none for TinyImageNet.
SOURCES = {
    "mnist": Source(_mnist, (0.1307,), (0.3081,)),
    "cifar10": Source(_cifar("CIFAR10"), (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    "cifar100": Source(_cifar("CIFAR100"), (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
    "tinyimagenet": Source(_tiny_imagenet, (0.480, 0.448, 0.398), (0.277, 0.269, 0.282)),
}


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
