"""Readers of data files that come from outside: idx, image folders, NumPy archives.

The files are untrusted: nothing is unpickled, sizes are bounded before memory is taken, and every
refusal is one line that names the file and the rule.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from numpy.typing import NDArray

MAX_VALUES = 2**30
"""Most pixel values one data set may hold (4 GiB as float32)."""


class DatasetError(ValueError):
    """A data set that cannot be used as asked; one line for the person who named it."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a reader found, not yet held against the rules that all data sets share.

    Attributes:
        images: float32 in [-1, 1], shape (n, channels, height, width).
        labels: integers of any width, shape (n,).
        classes: a name for each label.
        users: position in `user_names` of each record, integers, shape (n,); None without users.
        user_names: of all users.
    """

    images: torch.Tensor
    labels: NDArray[Any]
    classes: tuple[str, ...]
    users: NDArray[Any] | None = None
    user_names: tuple[str, ...] = ()


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of unsigned bytes in one file of MNIST's idx format, plain or gzipped (.gz).

    Raises:
        DatasetError: if the file is unreadable, damaged, or not of bytes.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return _parse_idx(cast(BinaryIO, stream))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DatasetError(
            f"expected a readable idx file of bytes, got file={path} ({one_line(error)})"
        ) from error


def read_image_folder(folder: Path) -> Content:
    """All images below `folder`, which holds one folder per class (classes in alphabetical order).

    Where it holds the folders train and test instead, with the same classes below, both are read.
    Grey images stay one channel where all are grey; otherwise all become RGB. Files that are no
    images by their ending are ignored, as torchvision's ImageFolder does.

    Raises:
        DatasetError: if the layout is another, an image is unreadable, or sizes differ.
    """
    if not folder.is_dir():
        raise DatasetError(f"expected a folder with one folder per class, got folder={folder}")
    classes, parts = _class_names(folder), [folder]
    if classes == ("test", "train") and (names := _class_names(folder / "train")):
        classes, parts = names, [folder / "train", folder / "test"]
        _check_same(names, folder / "test")
    files = [
        (label, path)
        for part in parts
        for label, name in enumerate(classes)
        for path in _class_files(part / name)
    ]
    if not files:
        raise DatasetError(f"expected at least one folder per class with images, got folder={folder}")
    size = _image_size(files[0][1])
    if len(files) * size[0] * size[1] * 3 > MAX_VALUES:
        raise DatasetError(
            f"expected at most {MAX_VALUES} values in all, got folder={folder} with {len(files)} images"
        )
    images = [_read_image(path, size) for _, path in files]
    return Content(from_bytes(_stack(images)), np.asarray([label for label, _ in files]), classes)


def read_npz(path: Path) -> Content:
    """The arrays `images` and `labels` of an archive, and `bounds` where images are floats.

    Raises:
        DatasetError: if the archive is damaged, or an array is missing or breaks a rule.
    """
    arrays = _npz_arrays(path)
    if not {"images", "labels"} <= set(arrays) <= {"images", "labels", "bounds"}:
        raise DatasetError(
            "expected the arrays images, labels and optionally bounds, "
            f"got file={path} with {', '.join(sorted(arrays)) or 'none'}"
        )
    images, labels = _channels_first(arrays["images"]), arrays["labels"]
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DatasetError(
            f"expected integer labels of shape ({len(images)},), "
            f"got labels of type {labels.dtype} and shape {labels.shape}"
        )
    values = from_bytes(images) if images.dtype == np.uint8 else _from_floats(images, arrays.get("bounds"))
    # Every class needs a record, so a label beyond n is refused later; do not name classes up to it.
    classes = min(int(labels.max(initial=0)) + 1, len(labels))
    return Content(values, labels, tuple(str(c) for c in range(classes)))


def from_bytes(images: NDArray[np.uint8]) -> torch.Tensor:
    """Bytes 0..255 as float32 in [-1, 1].

    >>> from_bytes(np.array([0, 255], dtype=np.uint8))
    tensor([-1.,  1.])
    """
    return torch.from_numpy(np.array(images, order="C")).float().div_(127.5).sub_(1)


def one_line(error: BaseException) -> str:
    """The message of `error` without line breaks, at most 200 characters."""
    return " ".join((str(error) or type(error).__name__).split())[:200]


def _parse_idx(stream: BinaryIO) -> NDArray[np.uint8]:
    magic = stream.read(4)
    if len(magic) != 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 3:
        raise ValueError(f"first bytes {magic!r}")
    shape = tuple(int.from_bytes(stream.read(4), "big") for _ in range(magic[3]))
    size = int(np.prod(shape, dtype=object))
    if size > MAX_VALUES:
        raise ValueError(f"header claims {shape}")
    content = stream.read(size + 1)
    if len(content) != size:
        raise ValueError(f"header claims {size} bytes of content, the file has another number")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))


def _check_same(classes: tuple[str, ...], test: Path) -> None:
    odd = sorted(set(classes) ^ set(_class_names(test)))
    if odd:
        raise DatasetError(f"expected the same classes in train and test, got class {odd[0]!r} in one only")


def _class_files(folder: Path) -> list[Path]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    entries = sorted(folder.iterdir())
    for entry in entries:
        # Else, named one level too high, groups of classes would silently become the classes.
        if entry.is_dir():
            raise DatasetError(f"expected images directly in the class folders, got folder={entry}")
    files = [p for p in entries if p.suffix.lower() in IMG_EXTENSIONS]
    if not files:
        raise DatasetError(f"expected at least one image in every class folder, got folder={folder}")
    return files


def _image_size(path: Path) -> tuple[int, int]:
    """Width and height, from the header alone."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"expected a readable image, got file={path} ({one_line(error)})") from error


def _read_image(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """One image as bytes, (h, w) if it is grey, else (h, w, 3)."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            found, mode = image.size, "L" if image.mode in ("1", "L") else "RGB"
            pixels = np.asarray(image.convert(mode)) if found == size else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"expected a readable image, got file={path} ({one_line(error)})") from error
    if pixels is None:
        raise DatasetError(
            f"expected all images of one size, {size[0]}x{size[1]} as the first, "
            f"got file={path} of {found[0]}x{found[1]}"
        )
    return pixels


def _stack(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Images of one size as (n, c, h, w); grey ones among coloured ones get three equal channels."""
    if all(i.ndim == 2 for i in images):
        return np.stack(images)[:, None]
    coloured = [i if i.ndim == 3 else np.repeat(i[..., None], 3, axis=2) for i in images]
    return np.stack(coloured).transpose(0, 3, 1, 2)


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(i.file_size for i in archive.infolist())
        if size > 8 * MAX_VALUES:
            raise ValueError(f"it unpacks to {size} bytes, more than {8 * MAX_VALUES}")
        with np.load(path, allow_pickle=False) as arrays:
            return {k: np.asarray(arrays[k]) for k in arrays.files}
    except Exception as error:  # zipfile, zlib and NumPy's header parser raise a dozen types on bad bytes
        raise DatasetError(
            f"expected a readable .npz archive without objects, got file={path} ({one_line(error)})"
        ) from error


def _channels_first(images: NDArray[Any]) -> NDArray[Any]:
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and not _fits(images) and _fits(images.transpose(0, 3, 1, 2)):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or not _fits(images) or images.size > MAX_VALUES:
        raise DatasetError(
            "expected square images (n, h, w), (n, c, h, w) or (n, h, w, c) with 1 or 3 channels "
            f"and at most {MAX_VALUES} values, got images={images.shape}"
        )
    return images


def _fits(images: NDArray[Any]) -> bool:
    """Whether axis 1 can be channels and the images are square."""
    return images.shape[1] in (1, 3) and images.shape[2] == images.shape[3]


def _from_floats(images: NDArray[Any], bounds: NDArray[Any] | None) -> torch.Tensor:
    if images.dtype.kind != "f":
        raise DatasetError(f"expected images of type uint8 or float, got images of type {images.dtype}")
    low, high = _bounds(bounds)
    if not np.isfinite(images).all():
        raise DatasetError(
            f"expected finite images, got images with {np.sum(~np.isfinite(images))} values NaN or infinite"
        )
    if images.size and not low <= images.min() <= images.max() <= high:
        raise DatasetError(
            f"expected float images in [{low:g}, {high:g}] (the array bounds sets it; [0, 1] without), "
            f"got images in [{images.min():g}, {images.max():g}]"
        )
    scaled = (images.astype(np.float64) - low) * (2 / (high - low)) - 1
    return torch.from_numpy(np.ascontiguousarray(scaled)).float().clamp_(-1, 1)


def _bounds(bounds: NDArray[Any] | None) -> tuple[float, float]:
    if bounds is None:
        return 0.0, 1.0
    pair = bounds.shape == (2,) and bounds.dtype.kind in "iuf"
    if not (pair and -np.inf < bounds[0] < bounds[1] < np.inf):
        raise DatasetError(
            "expected bounds to be two finite numbers, low < high, "
            f"got bounds of type {bounds.dtype}, shape {bounds.shape}: {bounds.ravel()[:4].tolist()}"
        )
    return float(bounds[0]), float(bounds[1])
