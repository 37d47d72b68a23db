"""Data of the personalisation benchmark, read once a process, and dealt for one seed."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch

from audits.personalisation_deal import Cohort, deal_images, deal_users
from audits.personalisation_tasks import Setting
from privfed.dataset import Dataset
from privfed.datasets import load
from privfed.randomness import Stream
from privfed.records import Records
from privfed.sentiment import SentimentTask, make_sentiment

TRAINED = {"fashion": 60_000, "cifar": 50_000}
"""Records of the data set's own training part, which comes first."""
SIDE = 28
"""Pixels a side of Fashion-MNIST without its padding."""
GENERATED = "generated"
SOURCES = {"fashion": "fashion-mnist", "cifar": "cifar10", "text": GENERATED}


def cohort_of(setting: Setting, source: str, stream: Stream) -> Cohort:
    """Who holds which record under this seed; generated text is generated anew for each."""
    if source == GENERATED:
        made = _sentences(setting, stream)
        if made.embedding is None or made.users is None:
            raise ValueError(f"expected sentences with users and an embedding, got data={made.name!r}")
        records = Records(made.embedding[made.records.inputs], made.records.labels)
        return deal_users(setting, records, made.users, stream.child("deal"))
    train, test = parts(setting.name, _dataset(source).records)
    return deal_images(setting, train, test, stream.child("deal"))


def fingerprint(setting: Setting, source: str, stream: Stream) -> str:
    """What names the content that the records come from."""
    return (_sentences(setting, stream) if source == GENERATED else _dataset(source)).sha256


def parts(task: str, records: Records) -> tuple[Records, Records]:
    """Training and test part of an image task, cropped to what its net reads.

    Raises:
        ValueError: if there are too few records for a test part.
    """
    inputs, cut = records.inputs, TRAINED[task]
    if len(inputs) <= cut:
        raise ValueError(f"expected more than {cut} records for task {task!r}, got records={len(inputs)}")
    if task == "fashion":
        margin = (inputs.shape[-1] - SIDE) // 2
        inputs = inputs[:, :, margin : margin + SIDE, margin : margin + SIDE]
    return Records(inputs[:cut], records.labels[:cut]), Records(inputs[cut:], records.labels[cut:])


def packed(source: str, root: Path) -> str:
    """The source itself, or for a folder of images an archive of the same content below `root`.

    Decoding 60,000 small files takes long; the archive is named by the digest of their bytes.

    Raises:
        ValueError: if the folder is not one of images by class.
    """
    scheme, _, path = source.partition(":")
    if scheme != "image-folder":
        return source
    folder, digest = Path(path), hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    archive = root / "data" / f"{digest.hexdigest()[:32]}.npz"
    if not archive.is_file():
        records = load(source).records
        images = torch.round((records.inputs + 1) * 127.5).numpy().astype(np.uint8)
        archive.parent.mkdir(parents=True, exist_ok=True)
        part = archive.with_suffix(".part.npz")
        np.savez(part, images=images, labels=records.labels.numpy())
        part.replace(archive)
    return f"npz:{archive.resolve()}"


@cache
def _dataset(source: str) -> Dataset:
    return load(source)


def _sentences(setting: Setting, stream: Stream) -> Dataset:
    task = SentimentTask(
        users=setting.clients + setting.newcomers,
        sentences=setting.train + setting.test,
        tokens=setting.net.size,
        dimension=setting.net.channels,
    )
    return make_sentiment(task, stream.child("sentences"))
