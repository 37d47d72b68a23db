import gzip
import io
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from privfed import data_files
from privfed.datasets import FASHION_PACKAGE, SOURCES, DatasetError, load

LABELS = np.array([0, 1, 2, 0, 1, 2])
IMAGES = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)


def npz(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "data.npz", **({"images": IMAGES, "labels": LABELS} | arrays))
    return f"npz:{folder / 'data.npz'}"


def picture(path: Path, size: tuple[int, int] = (4, 4), mode: str = "L", value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(path)


zipped = partial(gzip.compress, mtime=0)  # the time of day would name a test differently in every process


def folder_of_pictures(root: Path) -> Path:
    for name in ("dog", "cat"):
        for k in range(2):
            picture(root / name / f"{k}.png", value=255 if name == "dog" else 0)
    return root


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def fashion(root: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8], packed: bool = True) -> Path:
    raw = root / "FashionMNIST/raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            name = raw / f"{part}-{kind}-ubyte"
            if packed:
                name.with_name(name.name + ".gz").write_bytes(zipped(idx(array)))
            else:
                name.write_bytes(idx(array))
    return root


def test_digits() -> None:
    digits = load("digits")
    assert digits.records.inputs.shape == (1797, 1, 8, 8)
    assert digits.records.inputs.dtype == torch.float32
    assert [v.item() for v in digits.records.inputs.aminmax()] == [-1, 1]
    assert digits.records.labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.classes == tuple("0123456789")
    assert digits.sha256 == "3837f1a0020b8811f4acde044454df6a30128b3787928eca932b7c454f3a9085"


@pytest.mark.skipif(not FASHION_PACKAGE.is_dir(), reason="Debian's package dataset-fashion-mnist is absent")
def test_fashion_mnist_of_the_distribution(tmp_path: Path) -> None:
    dataset = load("fashion-mnist", tmp_path)
    assert dataset.records.inputs.shape == (70_000, 1, 32, 32)
    assert dataset.records.labels.bincount().tolist() == [7000] * 10
    assert dataset.records.labels[:5].tolist() == [9, 0, 0, 3, 0]
    frame = dataset.records.inputs.clone()
    frame[..., 2:-2, 2:-2] = -1
    assert (frame == -1).all()
    assert dataset.records.inputs.max() == 1


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "data"])
def test_fashion_mnist_in_the_layout_of_torchvision(tmp_path: Path, packed: bool, below: str) -> None:
    images = np.full((20, 28, 28), 255, dtype=np.uint8)
    fashion(tmp_path / below, images, np.arange(20, dtype=np.uint8) % 10, packed)
    dataset = load("fashion-mnist", tmp_path)
    assert dataset.records.inputs.shape == (40, 1, 32, 32)
    assert dataset.records.inputs.sum() == 40 * (28 * 28 - (32 * 32 - 28 * 28))
    assert dataset.classes[9] == "Ankle boot"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            zipped(idx(np.zeros((4, 28, 28), np.uint8)))[:-9],
            "readable idx file of bytes, got file=.*gz",
        ),
        (zipped(idx(np.zeros((4, 28, 28), np.uint8))[:-1]), "header claims 3136 bytes of content"),
        (zipped(struct.pack(">HBB3I", 0, 8, 3, 2**31, 28, 28)), r"header claims \(2147483648, 28, 28\)"),
        (zipped(b"\0\0\x0d\x03"), "first bytes"),
        (b"no gzip", "readable idx file of bytes, got file=.*gz"),
        (
            zipped(idx(np.zeros((4, 27, 28), np.uint8))),
            r"expected fashion-mnist .*got images=|dimensions",
        ),
    ],
)
def test_damaged_fashion_mnist(tmp_path: Path, content: bytes, message: str) -> None:
    root = fashion(tmp_path, np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.uint8))
    for part in ("train", "t10k"):
        (root / f"FashionMNIST/raw/{part}-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        load("fashion-mnist", root)


def test_absent_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privfed.datasets.FASHION_PACKAGE", tmp_path / "none")
    with pytest.raises(
        DatasetError, match=r"expected the file train-images-idx3-ubyte\[.gz\] .*dataset-fashion"
    ):
        load("fashion-mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")]
)
def test_cifar_names_the_folder_it_wants_and_trusts_only_published_files(
    tmp_path: Path, name: str, folder: str
) -> None:
    with pytest.raises(DatasetError, match=f"expected the folder {folder} .*got source='{name}' without it"):
        load(name, tmp_path)
    (tmp_path / "data" / folder).mkdir(parents=True)
    (tmp_path / "data" / folder / "data_batch_1").write_bytes(b"\x80\x04.")
    with pytest.raises(DatasetError, match=f"expected the published files of {name}, got folder=.*{folder}"):
        load(name, tmp_path)


def test_cifar_has_training_records_before_test_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stub(place: Path, train: bool) -> SimpleNamespace:
        value = 255 if train else 0
        return SimpleNamespace(
            data=np.full((4, 32, 32, 3), value, np.uint8), targets=[0, 1, 0, 1], classes=["cat", "dog"]
        )

    monkeypatch.setattr("torchvision.datasets.CIFAR10", stub)
    (tmp_path / "cifar-10-batches-py").mkdir()
    dataset = load("cifar10", tmp_path)
    assert dataset.records.inputs.shape == (8, 3, 32, 32)
    assert dataset.records.inputs[:, 0, 0, 0].tolist() == [1.0] * 4 + [-1.0] * 4
    assert dataset.classes == ("cat", "dog")


def test_image_folder_reads_classes_in_alphabetical_order(tmp_path: Path) -> None:
    (folder_of_pictures(tmp_path) / "cat" / "notes.txt").write_text("ignored")
    dataset = load("image-folder:.", tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.records.inputs.shape == (4, 1, 4, 4)
    assert dataset.records.inputs[:, 0, 0, 0].tolist() == [-1, -1, 1, 1]


def test_one_coloured_image_makes_all_coloured(tmp_path: Path) -> None:
    picture(folder_of_pictures(tmp_path) / "cat" / "9.png", mode="RGB")
    assert load(f"image-folder:{tmp_path}").records.inputs.shape == (5, 3, 4, 4)


def test_train_and_test_are_parts_not_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        folder_of_pictures(tmp_path / part)
    dataset = load("image-folder:.", tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.records.labels.tolist() == [0, 0, 1, 1] * 2
    picture(tmp_path / "test/emu/0.png")
    with pytest.raises(DatasetError, match="same classes in train and test, got class 'emu' in one only"):
        load("image-folder:.", tmp_path)


def damaged_picture(root: Path) -> None:
    content = (root / "cat/0.png").read_bytes()
    (root / "cat/9.png").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: picture(r / "dog/9.png", (4, 5)), "one size, 4x4 as the first, got file=.*9.png of 4x5"),
        (lambda r: (r / "dog/9.png").write_text("no"), "expected a readable image, got file=.*9.png"),
        (damaged_picture, "expected a readable image, got file=.*9.png"),
        (lambda r: (r / "empty").mkdir(), "at least one image in every class folder, got folder=.*empty"),
        (lambda r: picture(r / "dog/train/9.png"), "directly in the class folders, got folder=.*train"),
        (lambda r: (r / "dog/0.png").unlink(), "at least two records of every class, .* with 1 of class 1"),
    ],
)
def test_image_folders_that_break_a_rule(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder_of_pictures(tmp_path))
    with pytest.raises(DatasetError, match=message):
        load(f"image-folder:{tmp_path}")


def test_image_folders_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match=r"expected a folder with one folder per class, got folder=.*none"):
        load("image-folder:none", tmp_path)
    with pytest.raises(DatasetError, match="expected at least one folder per class with images, got folder"):
        load(f"image-folder:{tmp_path}")
    for name in "ab":
        for k in range(2):
            picture(tmp_path / "oblong" / name / f"{k}.png", (4, 6))
    with pytest.raises(DatasetError, match=r"expected square images, got images=\(4, 1, 6, 4\)"):
        load("image-folder:oblong", tmp_path)
    monkeypatch.setattr(data_files, "MAX_VALUES", 3)
    with pytest.raises(DatasetError, match=r"expected at most 3 values in all, got folder=.*with 4 images"):
        load("image-folder:oblong", tmp_path)


def test_npz_of_bytes(tmp_path: Path) -> None:
    dataset = load(npz(tmp_path))
    assert dataset.records.inputs.shape == (6, 1, 4, 4)
    torch.testing.assert_close(dataset.records.inputs[0, 0, 0], torch.arange(4) / 127.5 - 1)
    assert dataset.records.labels.tolist() == LABELS.tolist()
    assert dataset.records.labels.dtype == torch.int64
    assert dataset.classes == ("0", "1", "2")


def test_npz_reads_channels_on_either_side(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4), dtype=np.uint8)
    first = load(npz(tmp_path, images=images))
    last = load(npz(tmp_path, images=images.transpose(0, 2, 3, 1)))
    assert torch.equal(first.records.inputs, last.records.inputs)
    assert first.sha256 == last.sha256


@given(st.floats(-5, 4), st.floats(0.1, 9), st.integers(0, 5))
def test_npz_floats_span_their_bounds(
    tmp_path_factory: pytest.TempPathFactory, low: float, width: float, seed: int
) -> None:
    x = np.random.default_rng(seed).random((6, 4, 4))
    folder = tmp_path_factory.mktemp("npz")
    dataset = load(npz(folder, images=np.clip(low + x * width, low, low + width), bounds=[low, low + width]))
    torch.testing.assert_close(dataset.records.inputs[:, 0], torch.from_numpy(2 * x - 1).float())
    assert dataset.records.inputs.abs().max() <= 1


def test_content_decides_the_digest(tmp_path: Path) -> None:
    first = load(npz(tmp_path))
    (tmp_path / "b").mkdir()
    assert load(npz(tmp_path / "b", images=IMAGES.astype(np.float64) / 255)).records.inputs.shape == (
        6,
        1,
        4,
        4,
    )
    assert load(npz(tmp_path / "b")).sha256 == first.sha256
    assert load(npz(tmp_path / "b", labels=LABELS[::-1])).sha256 != first.sha256
    assert load(npz(tmp_path / "b", images=IMAGES[::-1])).sha256 != first.sha256


NAN = np.full((6, 4, 4), np.nan)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"extra": LABELS},
            "the arrays images, labels and optionally bounds, got file=.* with extra, images, labels",
        ),
        (
            {"images": IMAGES.astype(object)},
            "readable .npz archive without objects, got file=.*Object arrays",
        ),
        ({"images": IMAGES.astype(np.int32)}, "images of type uint8 or float, got images of type int32"),
        ({"images": IMAGES.astype(complex)}, "images of type uint8 or float, got images of type complex128"),
        ({"images": NAN}, "expected finite images, got images with 96 values NaN or infinite"),
        (
            {"images": IMAGES / 40},
            r"float images in \[0, 1\] \(the array bounds sets it.*got images in \[0, 2.375\]",
        ),
        ({"images": IMAGES / 95 - 0.1}, r"float images in \[0, 1\] .*got images in \[-0.1, 0.9\]"),
        (
            {"images": IMAGES / 95.0, "bounds": [1, 0]},
            r"two finite numbers, low < high, got bounds .*\[1, 0\]",
        ),
        ({"images": IMAGES / 95.0, "bounds": [0, np.inf]}, "expected bounds to be two finite numbers"),
        ({"images": IMAGES / 95.0, "bounds": 1.0}, r"got bounds of type float64, shape \(\)"),
        ({"images": IMAGES / 95.0, "bounds": ["a", "b"]}, "got bounds of type <U1"),
        ({"images": IMAGES[:, :3]}, r"expected square images .*got images=\(6, 1, 3, 4\)"),
        ({"images": IMAGES[:, 0]}, r"expected square images .*got images=\(6, 4\)"),
        ({"images": np.zeros((6, 2, 4, 4))}, r"1 or 3 channels .*got images=\(6, 2, 4, 4\)"),
        ({"labels": LABELS.astype(float)}, "expected integer labels of shape .*got labels of type float64"),
        ({"labels": LABELS[:5]}, r"expected integer labels of shape \(6,\), got labels .* shape \(5,\)"),
        ({"labels": LABELS - 1}, r"labels 0..C-1 .*got labels -1..1 in 6 records"),
        ({"labels": LABELS * 2}, r"labels 0..C-1 .*got labels 0..4 with 0 of class 1, 0 of class 3 in 6"),
        ({"labels": LABELS.astype(np.uint64) + 2**63}, "labels 0..C-1 .*got labels 9223372036854775808"),
        ({"labels": [0, 0, 0, 1, 1, 2]}, "at least two records of every class, .* with 1 of class 2 in 6"),
        ({"labels": [0] * 6}, "expected labels 0..C-1 of at least two classes, .*got labels 0..0"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "got no labels in 0 records"),
    ],
)
def test_npz_archives_that_break_a_rule(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        load(npz(tmp_path, **arrays))
    assert "\n" not in str(caught.value)


def claim(shape: str) -> bytes:
    """An .npy member whose header claims a shape that its content does not have."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("images", "labels"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK no archive",
        b"\x80\x04]\x94.",
        b"\x93NUMPY\x01\x00",
        claim("(6, 4, 4)"),
        claim("(99999999999, 99999, 4)"),
        claim("(((("),
    ],
)
def test_npz_files_that_are_no_archives(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(
        DatasetError, match=r"expected a readable .npz archive without objects, got file=.*x.npz"
    ):
        load("npz:x.npz", tmp_path)


def test_truncated_and_flipped_npz(tmp_path: Path) -> None:
    load(npz(tmp_path))
    path = tmp_path / "data.npz"
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    with pytest.raises(DatasetError, match=r"expected a readable .npz archive"):
        load(f"npz:{path}")
    flipped = bytearray(content)
    flipped[content.index(IMAGES.tobytes()) + 3] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(DatasetError, match="Bad CRC-32"):
        load(f"npz:{path}")


def test_npz_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = npz(tmp_path)
    monkeypatch.setattr(data_files, "MAX_VALUES", 10)
    with pytest.raises(DatasetError, match=r"it unpacks to .* bytes, more than 80"):
        load(source)


def test_a_missing_npz_file_or_array(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"got file=.*none.npz .*No such file"):
        load("npz:none.npz", tmp_path)
    np.savez(tmp_path / "x.npz", images=IMAGES)
    with pytest.raises(
        DatasetError, match=r"expected the arrays images, labels .*got file=.*x.npz with images$"
    ):
        load("npz:x.npz", tmp_path)


@pytest.mark.parametrize("source", ["mnist", "", "npz:", "image-folder", "digits:x"])
def test_an_unknown_source_is_answered_with_the_list(source: str) -> None:
    with pytest.raises(DatasetError, match=f"expected source to be one of digits, .*got source='{source}'"):
        load(source)


def test_a_failing_disk_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> None:
        raise PermissionError("no entry")

    monkeypatch.setattr(Path, "iterdir", broken)
    with pytest.raises(DatasetError, match=r"expected readable files, got source='image-folder:.*no entry"):
        load(f"image-folder:{tmp_path}")


def test_sources_are_one_line_each() -> None:
    assert [s.name for s in SOURCES][:2] == ["digits", "fashion-mnist"]
    assert all(s.description and "\n" not in s.description for s in SOURCES)


def test_import_is_light() -> None:
    code = (
        "import sys, privfed.datasets; sys.exit(bool({'torchvision', 'sklearn', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
