"""Images from a folder: each data set in its published format, as small as can be."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparselimit import images
from sparselimit.datasets import SPLITS, Dataset
from tests.unit.refusals import refused

SIZES = {"calibration": 2, "validation": 3}
TINY_CLASSES = ("n02", "n03", "n01")

Written = tuple[np.ndarray, np.ndarray]  # images as they are to be read, and labels


def _random(n: int, *shape: int) -> Written:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), rng.integers(0, 3, n)


def _write_mnist(folder: Path) -> Written:
    """Bytes behind a header: type and number of dimensions, then the sizes."""
    pixels, labels = _random(50, 1, 28, 28)
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, part in (("train", slice(40)), ("t10k", slice(40, 50))):
        for kind, array in (("images-idx3", pixels[part, 0]), ("labels-idx1", labels[part])):
            header = np.array([0x800 + array.ndim, *array.shape], dtype=">i4").tobytes()
            (raw / f"{name}-{kind}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())
    return pixels, labels


def _write_cifar(folder: Path, name: str) -> Written:
    """Pickled dictionaries, ten images a file."""
    pixels, labels = _random(60, 3072)
    if name == "cifar10":
        base, prefix, meta = folder / "cifar-10-batches-py", "", "batches.meta"
        batches = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    else:
        base, prefix, meta = folder / "cifar-100-python", "fine_", "meta"
        batches = ["train", "test"]
    base.mkdir(parents=True)
    for i, batch in enumerate(batches):
        part = slice(10 * i, 10 * i + 10)
        content = {"data": pixels[part], f"{prefix}labels": labels[part].tolist()}
        (base / batch).write_bytes(pickle.dumps(content))
    (base / meta).write_bytes(pickle.dumps({f"{prefix}label_names": ["a", "b", "c"]}))
    n = 10 * len(batches)
    return pixels[:n].reshape(-1, 3, 32, 32), labels[:n]


def _write_tiny_imagenet(folder: Path) -> Written:
    """A folder for each class, a list for the test images; some are grey. Lossless in here."""
    pixels, labels = _random(40, 3, 64, 64)
    pixels[3] = pixels[3, :1]
    labels = np.concatenate([np.sort(labels[:30]), labels[30:]])
    base = folder / "tiny-imagenet-200"
    base.mkdir(parents=True)
    (base / "wnids.txt").write_text("\n".join(TINY_CLASSES) + "\n")
    lines = []
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        name = TINY_CLASSES[label]
        place = base / "train" / name / "images" if i < 30 else base / "val" / "images"
        file = place / f"{name}_{i:02}.JPEG"
        place.mkdir(parents=True, exist_ok=True)
        grey = (image == image[0]).all()
        Image.fromarray(image[0] if grey else image.transpose(1, 2, 0)).save(file, format="png")
        if i >= 30:
            lines.append(f"{file.name}\t{name}\t0\t0\t62\t62\n")
    (base / "val" / "val_annotations.txt").write_text("".join(lines))
    return pixels, labels


def write(name: str, folder: Path) -> Written:
    if name == "mnist":
        return _write_mnist(folder)
    return _write_tiny_imagenet(folder) if name == "tinyimagenet" else _write_cifar(folder, name)


def read(name: str, folder: Path, *, download: bool = False) -> Dataset:
    return images.read(name, folder, download=download, seed=0, sizes=SIZES)


@pytest.fixture
def _any_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[images._torchvision_datasets().CIFAR10.__module__]
    monkeypatch.setattr(module, "check_integrity", lambda path, _md5: Path(path).is_file())


@pytest.mark.usefixtures("_any_checksum")
@pytest.mark.parametrize("name", images.SOURCES)
def test_images_are_read_from_a_folder(tmp_path: Path, name: str) -> None:
    pixels, labels = write(name, tmp_path)
    data, n_test = read(name, tmp_path), 10
    np.testing.assert_array_equal(data.x, pixels)
    np.testing.assert_array_equal(data.y, labels)
    assert (data.x.dtype, data.y.dtype, data.split.dtype) == (np.uint8, np.int64, np.int64)
    n_fit = len(pixels) - n_test - sum(SIZES.values())
    assert {split: len(data.of(split)[1]) for split in SPLITS} == {
        "fit": n_fit,
        **SIZES,
        "test": n_test,
    }
    assert (data.split[-n_test:] == SPLITS.index("test")).all()


@pytest.mark.usefixtures("_any_checksum")
@pytest.mark.parametrize("name", images.SOURCES)
def test_networks_see_pixels_by_their_moments(tmp_path: Path, name: str) -> None:
    """Black and white come about as far from zero as deviations of a half say."""
    pixels, _ = write(name, tmp_path)
    data = read(name, tmp_path)
    assert data.mean.shape == data.std.shape == (pixels.shape[1],)
    black, white = -data.mean / data.std, (255 - data.mean) / data.std
    assert (black > -2.2).all()
    assert (black < 0).all()
    assert (white > 1.8).all()
    assert (white < 3).all()


@pytest.mark.parametrize("name", images.SOURCES)
def test_what_is_not_there_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    with refused(name, str(tmp_path), "put the unpacked archive there", "download: true"):
        read(name, tmp_path)
    assert not list(tmp_path.rglob("*.*"))


def test_a_data_set_without_images_is_told_in_one_line(tmp_path: Path) -> None:
    base = tmp_path / "tiny-imagenet-200"
    (base / "val").mkdir(parents=True)
    (base / "wnids.txt").write_text("n01\n")
    (base / "val" / "val_annotations.txt").write_text("")
    with refused("tinyimagenet", "there are no images in it"):
        read("tinyimagenet", tmp_path)


@pytest.mark.parametrize("name", images.SOURCES)
def test_what_cannot_be_fetched_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host\nat all")

    torchvision = images._torchvision_datasets()
    places = [sys.modules[getattr(torchvision, c).__module__] for c in ("MNIST", "CIFAR10")]
    for module in (*places, torchvision.utils):
        monkeypatch.setattr(module, "download_and_extract_archive", no_network)
    # MNIST reports the failures of its mirrors on the way, and ends with an error of its own.
    with refused(name, "could not be downloaded"):
        read(name, tmp_path, download=True)


# --- torchvision ---------------------------------------------------------------------------------


@pytest.fixture
def _no_torchvision_yet() -> Iterator[None]:
    """Whatever of torchvision is loaded is put aside, and back after the test."""

    def pop() -> dict[str, object]:
        names = [name for name in sys.modules if name.split(".")[0] == "torchvision"]
        return {name: sys.modules.pop(name) for name in names}

    loaded = pop()
    yield
    pop()
    sys.modules.update(loaded)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_no_torchvision_yet")
def test_data_sets_can_be_had_of_a_torchvision_that_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose compiled operators are missing fails in its module of shapes, which is skipped."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import _meta_registrations, datasets\n")
    (package / "_meta_registrations.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    (package / "datasets.py").write_text("CIFAR10 = 'reader'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert images._torchvision_datasets().CIFAR10 == "reader"


@pytest.mark.usefixtures("_no_torchvision_yet")
def test_another_error_of_torchvision_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="broken"):
        images._torchvision_datasets()
