"""Data sets in memory, by name or from the user's own files.

Every source ends as `Records` with labels 0..C-1, at least two of every class: square float32 images in
[-1, 1], or the token numbers of sentences. Nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from privfed.dataset import Dataset, of_images, of_text
from privfed.leaf_files import read_leaf
from privfed.randomness import Stream
from privfed.sentiment import SentimentTask, make_sentiment
from privfed.text_files import REVIEW_FILES, Text, read_reviews

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
    Source("reviews", "10,662 film review sentences (rt-polarity.neg, rt-polarity.pos), 2 classes"),
    Source("reviews:PATH", "the same two files, or yours by these names, in the folder PATH"),
    Source("sentiment", "4,800 generated sentences of 40 users, 2 classes; no files needed"),
    Source("sentiment:USERS", "the same with another number of users"),
    Source("leaf:PATH", "LEAF's JSON files of FEMNIST or Sent140; clients can be its users"),
)

MAX_USERS = 10_000
"""Most users of generated sentences (1.2 million sentences)."""


def load(source: str, root: Path | None = None) -> Dataset:
    """Reads the data set that `source` names into memory. Nothing is downloaded.

    `npz:PATH` expects the arrays `images`, of shape (n, h, w), (n, c, h, w) or (n, h, w, c) with 1 or
    3 channels (the channels-first reading wins where both fit), and `labels`, integers of shape (n,).
    Unsigned bytes span 0..255. Floats span 0..1 unless the archive also holds `bounds`, the two
    numbers that stand for black and white, for example [-1, 1]; the range is never guessed.

    Text (`reviews`, `sentiment`, LEAF's tweets) comes as token numbers; see `privfed.text_files` for how
    sentences become numbers and which are dropped, and `privfed.leaf_files` for LEAF's layout.

    Args:
        source: one of `SOURCES`.
        root: folder that relative paths start from, and where the files of named data sets are
            looked for (in it, in its folder "data", and `reviews` in "shared/data" too); the current
            folder when None.

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
            return of_images(source, read_image_folder(folder / where))
        case "npz", str(where) if where:
            return of_images(source, read_npz(folder / where))
        case "reviews", "":
            return of_text(source, read_reviews(_reviews_folder(folder)))
        case "reviews", str(where):
            return of_text(source, read_reviews(folder / where))
        case "sentiment", str(users):
            return _sentiment(source, users)
        case "leaf", str(where) if where:
            found = read_leaf(folder / where)
            return of_text(source, found) if isinstance(found, Text) else of_images(source, found)
    names = ", ".join(s.name for s in SOURCES)
    raise DatasetError(f"expected source to be one of {names}, got source={source!r}")


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = cast(Any, load_digits())
    images = torch.from_numpy(bunch.images).float().div(8).sub(1).unsqueeze(1)
    return of_images("digits", Content(images, bunch.target, tuple(str(c) for c in bunch.target_names)))


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
    return of_images("fashion-mnist", Content(from_bytes(padded[:, None]), labels, _FASHION_CLASSES))


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
    return of_images(source, Content(from_bytes(images), labels, tuple(parts[0].classes)))


def _reviews_folder(root: Path) -> Path:
    folders = (root, root / "data", root / "shared/data")
    for folder in folders:
        if all((folder / name).is_file() for name in REVIEW_FILES):
            return folder
    raise DatasetError(
        f"expected the files {' and '.join(REVIEW_FILES)} (one sentence a line) in "
        f"{', '.join(map(str, folders))}, or reviews:PATH, got source='reviews' without them"
    )


def _sentiment(source: str, users: str) -> Dataset:
    """The generated sentences from a seed of their own, so that the source names one content."""
    if users and not (re.fullmatch("[1-9][0-9]{0,5}", users) and int(users) <= MAX_USERS):
        raise DatasetError(
            f"expected sentiment:USERS with a whole number of users in 1..{MAX_USERS}, got source={source!r}"
        )
    task = SentimentTask(users=int(users)) if users else SentimentTask()
    return replace(make_sentiment(task, Stream(0).child("sentiment")), name=source)
