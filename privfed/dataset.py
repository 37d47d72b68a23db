"""A labelled data set in memory, images or text, and the rules that every source must meet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privfed.data_files import Content, DatasetError
from privfed.records import Records
from privfed.text_files import Text

Modality = Literal["images", "text"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A labelled data set in memory.

    Attributes:
        name: the source it was loaded from.
        records: all of it; where a source has a training and a test part, in that order. Text is not
            yet embedded: token numbers, int64, shape (n, tokens).
        classes: name of each label 0..C-1.
        sha256: of the inputs, labels and class names, and of the users, the vocabulary and the embedding
            where there are any (hexadecimal); it names the content, not the files.
        users: which user each record is of, int64, shape (n,), positions in `user_names`; None where
            the source knows no users.
        user_names: as the source spells them. They may be names of persons: reports show numbers.
        vocabulary: word of each token number, number 0 being the padding ""; empty for images.
        embedding: vector of each token number, float32, shape (vocabulary, dimension), where the source
            brings its own; None otherwise.
    """

    name: str
    records: Records
    classes: tuple[str, ...]
    sha256: str
    users: Tensor | None = None
    user_names: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    embedding: Tensor | None = None

    @property
    def modality(self) -> Modality:
        """What the records are."""
        return "text" if self.vocabulary else "images"


def of_images(name: str, content: Content) -> Dataset:
    """Square images as a data set.

    Raises:
        DatasetError: if they are not square, or a class is missing or has one record.
    """
    if content.images.shape[-1] != content.images.shape[-2]:
        raise DatasetError(
            f"expected square images, got images={tuple(content.images.shape)} from source={name!r}"
        )
    records = _records(name, content.images, content.labels, content.classes)
    users = None if content.users is None else torch.from_numpy(content.users.astype(np.int64))
    digest = _digest(records, content.classes, users)
    return Dataset(name, records, content.classes, digest, users, content.user_names)


def of_text(name: str, text: Text) -> Dataset:
    """Sentences as a data set.

    Raises:
        DatasetError: if a class is missing or has one record.
    """
    records = _records(name, torch.from_numpy(text.tokens), text.labels, text.classes)
    users = None if text.users is None else torch.from_numpy(text.users.astype(np.int64))
    digest = _digest(records, text.classes, users, text.vocabulary, text.embedding)
    return Dataset(
        name, records, text.classes, digest, users, text.user_names, text.vocabulary, text.embedding
    )


def _records(name: str, inputs: Tensor, labels: NDArray[Any], classes: tuple[str, ...]) -> Records:
    """Holds the labels against the rule that all data sets share."""
    counts = _class_counts(labels)
    if len(counts) < 2 or len(counts) != len(classes) or counts.min() < 2:
        found = f"labels {labels.min()}..{labels.max()}" if labels.size else "no labels"
        few = ", ".join(f"{counts[c]} of class {c}" for c in np.flatnonzero(counts < 2)[:3])
        raise DatasetError(
            "expected labels 0..C-1 of at least two classes, and at least two records of every class, "
            f"got {found}{' with ' + few if few else ''} in {labels.size} records of source={name!r}"
        )
    return Records(inputs, torch.from_numpy(labels.astype(np.int64)))


def _class_counts(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Records of each class; empty if a label is negative, or so large that a class must be empty."""
    if not labels.size or int(labels.min()) < 0 or int(labels.max()) >= labels.size:
        return np.zeros(0, dtype=np.int64)
    return np.bincount(labels.astype(np.int64))


def _digest(
    records: Records,
    classes: tuple[str, ...],
    users: Tensor | None = None,
    vocabulary: tuple[str, ...] = (),
    embedding: Tensor | None = None,
) -> str:
    digest = hashlib.sha256(repr((tuple(records.inputs.shape), classes)).encode())
    for tensor in (records.inputs, records.labels):
        digest.update(tensor.contiguous().numpy().data)
    # Plain images add nothing here: their digest does not depend on what other sources bring.
    for kind, extra in (("users", users), ("embedding", embedding)):
        if extra is not None:
            digest.update(f"{kind} {tuple(extra.shape)}".encode() + extra.contiguous().numpy().tobytes())
    if vocabulary:
        digest.update(repr(vocabulary).encode())
    return digest.hexdigest()
