"""Data sets of one's own: what a function that loads them gives, fixed once and for all."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from sparselimit import own
from sparselimit.datasets import SPLITS, Dataset
from sparselimit.errors import InputError

_NEEDED = ("fit", "validation", "test")


def read(name: str) -> Dataset:
    """The data set that the function `file.py:function` loads, as the network is to see it.

    It returns a mapping from `fit`, `validation` and `test`, and `calibration` if there is one, to
    a torch data loader (batches of inputs and labels) or data set (pairs of them). Inputs are
    features [n, features] or images [n, channels, height, width], of any type.

    Raises InputError when a split is missing or unknown, has no such batches, or two passes over it
    differ: curvature is that of a fixed loss.
    """
    splits = own.call(name)
    if not isinstance(splits, Mapping) or not set(_NEEDED) <= set(splits) <= set(SPLITS):
        has = ", ".join(map(str, splits)) if isinstance(splits, Mapping) else type(splits).__name__
        raise InputError(
            f"{name}: returns {has or 'nothing'}; it must return a mapping from "
            f"{', '.join(_NEEDED)}, and calibration if there is one, to data loaders"
        )
    parts = {split: _fixed(name, split, splits[split]) for split in splits}
    shapes = {x.shape[1:] for x, _ in parts.values()}
    if len(shapes) > 1:
        raise InputError(f"{name}: inputs of several shapes, {sorted(shapes)}")
    x, y = (np.concatenate([part[i] for part in parts.values()]) for i in range(2))
    sizes = [len(part[1]) for part in parts.values()]
    return Dataset(x, y, np.repeat([SPLITS.index(split) for split in parts], sizes))


def _fixed(name: str, split: str, loader: Any) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels of a loader. Raises InputError when a second pass brings others."""
    if isinstance(loader, TorchDataset):
        loader = DataLoader(loader, batch_size=256)
    first, second = (_collected(name, split, loader) for _ in range(2))
    x, y = (np.array_equal(first[i], second[i], equal_nan=True) for i in range(2))
    if not (x and y):
        raise InputError(
            f"{name}, split {split}: two passes over the loader differ; turn off shuffling and "
            "random augmentation"
        )
    return first


def _collected(name: str, split: str, loader: Any) -> tuple[np.ndarray, np.ndarray]:
    with own.blamed(name, f"split {split}: gives no batches of inputs and labels"):
        batches = [(torch.as_tensor(x), torch.as_tensor(y)) for x, y in loader]
        x, y = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
    fits = x.ndim in (2, 4) and x.dtype.kind in "fiub" and y.shape == (len(x),)
    if not (fits and y.dtype.kind in "iu" and y.min() >= 0):
        raise InputError(
            f"{name}, split {split}: inputs of shape {x.shape} and type {x.dtype} and labels of "
            f"shape {y.shape} and type {y.dtype}; expected real numbers [n, features] or [n, "
            "channels, height, width], and whole numbers [n] from 0"
        )
    return x, y.astype(np.int64)
