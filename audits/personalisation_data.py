"""Data of the personalisation benchmark, read once a process, and dealt for one seed."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np

from audits.personalisation_tasks import Cohort, Setting, deal_images
from privfed.datasets import Dataset, load
from privfed.randomness import Stream
from privfed.records import Records

TRAINED = {"fashion": 60_000, "cifar": 50_000}
"""Records of the data set's own training part, which comes first."""
SIDE = 28
"""Pixels a side of Fashion-MNIST without its padding."""
SOURCES = {"fashion": "fashion-mnist", "cifar": "cifar10", "text": "generated"}
GENERATED = "generated"


def cohort_of(setting: Setting, source: str, stream: Stream) -> Cohort:
    """Who holds which record under this seed."""
    train, test = parts(setting.name, source)
    return deal_images(setting, train, test, stream.child("deal"))


def fingerprint(setting: Setting, source: str) -> str:
    """What names the content that the records come from."""
    return _dataset(source).sha256


def parts(task: str, source: str) -> tuple[Records, Records]:
    """Training and test part of an image task, cropped to what its net reads."""
    records = _dataset(source).records
    inputs = records.inputs
    if task == "fashion":
        margin = (inputs.shape[-1] - SIDE) // 2
        inputs = inputs[:, :, margin : margin + SIDE, margin : margin + SIDE]
    cut = TRAINED[task]
    if len(inputs) <= cut:
        raise ValueError(f"expected more than {cut} records, got source={source!r} with {len(inputs)}")
    return Records(inputs[:cut], records.labels[:cut]), Records(inputs[cut:], records.labels[cut:])


def packed(source: str, root: Path) -> str:
    """The source itself, or for a folder of images an archive of the same content below `root`.

    Reading 60,000 small files takes half a minute; the archive is named by the digest of their bytes.
    """
    scheme, _, path = source.partition(":")
    if scheme != "image-folder":
        return source
    folder = Path(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    archive = root / "data" / f"{digest.hexdigest()[:32]}.npz"
    if not archive.is_file():
        records = load(source).records
        images = ((records.inputs + 1) * 127.5).round().numpy().astype(np.uint8)
        archive.parent.mkdir(parents=True, exist_ok=True)
        part = archive.with_suffix(".part.npz")
        np.savez(part, images=images, labels=records.labels.numpy())
        part.replace(archive)
    return f"npz:{archive.resolve()}"


@cache
def _dataset(source: str) -> Dataset:
    return load(source)
