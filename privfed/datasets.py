"""Data sets in memory, by name or from the user's own files.

Every source ends as `Records`: square float32 images in [-1, 1] with labels 0..C-1, at least two
records of every class. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from privfed.data_files import (
    Content,
    DatasetError,
    from_bytes,
    one_line,
    read_idx,
    read_image_folder,
    read_npz,
)
from privfed.records import Records

__all__ = ["SOURCES", "Dataset", "DatasetError", "Source", "load"]

FASHION_PACKAGE = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist keeps its files."""

_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True, slots=True)
class Source:
    """A way to name a data set, with one line for a listing."""

    name: str
    description: str


SOURCES: tuple[Source, ...] = (
    Source("digits", "1,797 handwritten digits, 8x8, 10 classes; ships with scikit-learn"),
    Source("fashion-mnist", "70,000 pieces of clothing, 28x28 padded to 32x32, 10 classes"),
    Source("cifar10", "60,000 colour photographs, 32x32, 10 classes; torchvision's files"),
    Source("cifar100", "60,000 colour photographs, 32x32, 100 classes; torchvision's files"),
    Source(
        "image-folder:PATH",
        "your images by class folder (or train and test with class folders), of one square size",
    ),
    Source("npz:PATH", "your NumPy archive with arrays images and labels (and bounds for floats)"),
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A labelled image data set in memory.

    Attributes:
        name: the source it was loaded from.
        records: all of it; where a source has a training and a test part, in that order.
        classes: name of each label 0..C-1.
        sha256: of the images, labels and class names (hexadecimal); it names the content, not the files.
    """

    name: str
    records: Records
    classes: tuple[str, ...]
    sha256: str


def load(source: str, root: Path | None = None) -> Dataset:
    """Reads the data set that `source` names into memory. Nothing is downloaded.

    `npz:PATH` expects the arrays `images`, of shape (n, h, w), (n, c, h, w) or (n, h, w, c) with 1 or
    3 channels (the channels-first reading wins where both fit), and `labels`, integers of shape (n,).
    Unsigned bytes span 0..255. Floats span 0..1 unless the archive also holds `bounds`, the two
    numbers that stand for black and white, for example [-1, 1]; the range is never guessed.

    Args:
        source: one of `SOURCES`.
        root: folder that relative paths start from, and where the files of named data sets are
            looked for (in it, and in its folder "data"); the current folder when None.

    Raises:
        DatasetError: if the source is unknown, or its files are missing, damaged or break a rule.
    """
    try:
        return _read(source, root or Path())
    except OSError as error:
        raise DatasetError(f"expected readable files, got source={source!r} ({one_line(error)})") from error


def _read(source: str, folder: Path) -> Dataset:
    scheme, _, path = source.partition(":")
    match scheme, path:
        case "digits", "":
            return _digits()
        case "fashion-mnist", "":
            return _fashion_mnist(folder)
        case "cifar10", "":
            return _cifar(source, "CIFAR10", "cifar-10-batches-py", folder)
        case "cifar100", "":
            return _cifar(source, "CIFAR100", "cifar-100-python", folder)
        case "image-folder", str(where) if where:
            return _dataset(source, read_image_folder(folder / where))
        case "npz", str(where) if where:
            return _dataset(source, read_npz(folder / where))
    names = ", ".join(s.name for s in SOURCES)
    raise DatasetError(f"expected source to be one of {names}, got source={source!r}")


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = cast(Any, load_digits())
    images = torch.from_numpy(bunch.images).float().div(8).sub(1).unsqueeze(1)
    return _dataset("digits", Content(images, bunch.target, tuple(str(c) for c in bunch.target_names)))


def _fashion_mnist(root: Path) -> Dataset:
    folders = (root / "FashionMNIST/raw", root / "data/FashionMNIST/raw", FASHION_PACKAGE)
    parts = [
        _fashion_file(f"{part}-{kind}-ubyte", folders)
        for kind in ("images-idx3", "labels-idx1")
        for part in ("train", "t10k")
    ]
    images, labels = np.concatenate(parts[:2]), np.concatenate(parts[2:])
    if images.ndim != 3 or labels.shape != images.shape[:1] or images.shape[1:] != (28, 28):
        raise DatasetError(
            "expected fashion-mnist images (n, 28, 28) with labels (n,), "
            f"got images={images.shape} and labels={labels.shape}"
        )
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    return _dataset("fashion-mnist", Content(from_bytes(padded[:, None]), labels, _FASHION_CLASSES))


def _fashion_file(name: str, folders: Sequence[Path]) -> NDArray[np.uint8]:
    paths = [folder / (name + ending) for folder in folders for ending in ("", ".gz")]
    for path in paths:
        if path.is_file():
            return read_idx(path)
    raise DatasetError(
        f"expected the file {name}[.gz] in torchvision's layout under {folders[0]} or from Debian's "
        f"package dataset-fashion-mnist in {folders[-1]}, got source='fashion-mnist' without it"
    )


def _cifar(source: str, loader: str, folder: str, root: Path) -> Dataset:
    place = next((p for p in (root, root / "data") if (p / folder).is_dir()), None)
    if place is None:
        raise DatasetError(
            f"expected the folder {folder} (torchvision's layout, unpacked) in {root} or {root / 'data'}, "
            f"got source={source!r} without it"
        )
    import torchvision

    # These files are pickles; torchvision opens them only after their published MD5 sums matched.
    try:
        parts = [getattr(torchvision.datasets, loader)(place, train=train) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        raise DatasetError(
            f"expected the published files of {source}, got folder={place / folder} ({one_line(error)})"
        ) from error
    images = np.concatenate([p.data for p in parts]).transpose(0, 3, 1, 2)
    labels = np.concatenate([np.asarray(p.targets) for p in parts])
    return _dataset(source, Content(from_bytes(images), labels, tuple(parts[0].classes)))


def _dataset(name: str, content: Content) -> Dataset:
    """Holds `content` against the rules that all data sets share."""
    images, labels, classes = content.images, content.labels, content.classes
    if images.shape[-1] != images.shape[-2]:
        raise DatasetError(f"expected square images, got images={tuple(images.shape)} from source={name!r}")
    counts = _class_counts(labels)
    if len(counts) < 2 or len(counts) != len(classes) or counts.min() < 2:
        found = f"labels {labels.min()}..{labels.max()}" if labels.size else "no labels"
        few = ", ".join(f"{counts[c]} of class {c}" for c in np.flatnonzero(counts < 2)[:3])
        raise DatasetError(
            "expected labels 0..C-1 of at least two classes, and at least two records of every class, "
            f"got {found}{' with ' + few if few else ''} in {labels.size} records of source={name!r}"
        )
    records = Records(images, torch.from_numpy(labels.astype(np.int64)))
    return Dataset(name, records, classes, _digest(records, classes))


def _class_counts(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Records of each class; empty if a label is negative, or so large that a class must be empty."""
    if not labels.size or int(labels.min()) < 0 or int(labels.max()) >= labels.size:
        return np.zeros(0, dtype=np.int64)
    return np.bincount(labels.astype(np.int64))


def _digest(records: Records, classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr((tuple(records.inputs.shape), classes)).encode())
    for tensor in (records.inputs, records.labels):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
