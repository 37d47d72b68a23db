"""Reader of LEAF's JSON files: FEMNIST's images and Sent140's tweets, with the user of every record.

Source: Caldas et al., "LEAF: a benchmark for federated settings" (arXiv 1812.01097), and the
layout that its preprocessing writes: `users`, `num_samples` and `user_data`, which holds for each
user the lists `x` and `y`. The files are untrusted: JSON alone is read, sizes are bounded before
memory is taken, and every refusal is one line that names the file and the rule.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from privfed import data_files
from privfed.data_files import Content, DatasetError, one_line
from privfed.text_files import TWEET_TOKENS, Text, distinct, encode, split_tweet

MAX_BYTES = 2**29
"""Largest JSON file that is read (512 MiB); LEAF writes FEMNIST in files of 100 users."""

TWEET_TEXT = 4
"""Place of the text in one of Sent140's rows: id, date, query, user, text."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one file says of one user; `inputs` are pixels (n, width) or the words of n tweets."""

    user: str
    inputs: NDArray[np.float32] | list[list[str]]
    labels: NDArray[np.int64]


def read_leaf(folder: Path, length: int = TWEET_TOKENS) -> Content | Text:
    """All records of the JSON files in `folder`, with their users.

    Where `folder` holds no JSON file itself but the folders train and test, both are read, train
    first, and the records of a user in both are one user's: who is trained on and who is held out is drawn
    anew, per record, by `privfed.splits`. Users are numbered in the order the files (by name) first
    tell of them. Labels that leave gaps are numbered anew in ascending order.

    FEMNIST: `x` is a square image as a flat list of numbers in [0, 1], 1 being white, the ground. Sent140:
    `x` is a list with the text at index 4, and labels are 0 and 1, or 0 and 4. Of tweets with the same
    first `length` tokens one is kept, and none where their labels disagree (`distinct`).

    Raises:
        DatasetError: if a file is unreadable, too large or of another layout.
    """
    parts: list[_Part] = []
    kinds: set[object] = set()
    values = 0
    for path in _files(folder):
        for part in _read_file(path):
            kinds.add("text" if isinstance(part.inputs, list) else part.inputs.shape[1])
            values += len(part.labels) * (
                length if isinstance(part.inputs, list) else int(part.inputs.shape[1])
            )
            if len(kinds) > 1:
                raise DatasetError(
                    f"expected records of one kind and size in all files, got file={path} with another"
                )
            if values > data_files.MAX_VALUES:
                raise DatasetError(
                    f"expected at most {data_files.MAX_VALUES} values in all, got folder={folder} with more"
                )
            parts.append(part)
    if not parts:
        raise DatasetError(f"expected at least one record, got folder={folder} with none")
    return _tweets(parts, length) if kinds == {"text"} else _images(parts)


def _files(folder: Path) -> list[Path]:
    found = _json(folder)
    if not found and _json(folder / "train") and _json(folder / "test"):
        found = [*_json(folder / "train"), *_json(folder / "test")]
    if not found:
        raise DatasetError(
            f"expected *.json files in the folder, or in its folders train and test, got folder={folder}"
        )
    return found


def _json(folder: Path) -> list[Path]:
    return (
        sorted(p for p in folder.iterdir() if p.suffix == ".json" and p.is_file()) if folder.is_dir() else []
    )


def _read_file(path: Path) -> Iterator[_Part]:
    content = _parse(path)
    users, data = content["users"], content["user_data"]
    for user, count in zip(users, content["num_samples"], strict=True):
        x, y = _lists(path, user, data[user])
        if len(x) != count:
            _refuse(path, user, "as many records as num_samples says", f"{len(x)}")
        if x:
            inputs = _texts(path, user, x) if _is_tweet(x[0]) else _pixels(path, user, x)
            yield _Part(user, inputs, _labels(path, user, y))


def _parse(path: Path) -> dict[str, Any]:
    """The content of a file whose users, counts and data agree in number and name."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"it has {size} bytes, more than {MAX_BYTES}")
        content = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"expected a readable JSON file, got file={path} ({one_line(error)})") from error
    if not isinstance(content, dict) or not {"users", "num_samples", "user_data"} <= set(content):
        raise DatasetError(
            f"expected a JSON object with users, num_samples and user_data (LEAF's layout), got file={path}"
        )
    users, counts, data = (content[key] for key in ("users", "num_samples", "user_data"))
    agree = (
        isinstance(users, list)
        and all(isinstance(user, str) for user in users)
        and isinstance(counts, list)
        and [type(count) for count in counts] == [int] * len(users)
        and isinstance(data, dict)
        and sorted(data) == sorted(users)
    )
    if not agree:
        raise DatasetError(
            "expected users as distinct strings, each with a whole number in num_samples and an entry in "
            f"user_data, got file={path} where they differ"
        )
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no JSON")


def _lists(path: Path, user: str, entry: object) -> tuple[list[Any], list[Any]]:
    x, y = (entry.get("x"), entry.get("y")) if isinstance(entry, dict) else (None, None)
    if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
        _refuse(path, user, "lists x and y of equal length", "another entry")
    return x, y


def _is_tweet(row: object) -> bool:
    return isinstance(row, list) and len(row) > TWEET_TEXT and isinstance(row[TWEET_TEXT], str)


def _texts(path: Path, user: str, rows: list[Any]) -> list[list[str]]:
    if not all(_is_tweet(row) for row in rows):
        _refuse(path, user, f"every x to be a list with the text at index {TWEET_TEXT}", "another x")
    # A lone surrogate is valid JSON, but no text that a report could be written in.
    return [split_tweet(_printable(row[TWEET_TEXT])) for row in rows]


def _pixels(path: Path, user: str, rows: list[Any]) -> NDArray[np.float32]:
    try:
        values = np.asarray(rows)
    except (ValueError, OverflowError):  # rows of unequal length, or numbers beyond any type
        values = np.empty(0, dtype=object)
    if (
        values.ndim != 2
        or values.dtype.kind not in "iuf"
        or math.isqrt(values.shape[1]) ** 2 != values.shape[1]
    ):
        _refuse(
            path,
            user,
            f"x to be lists with a text at index {TWEET_TEXT} (Sent140) or square images as flat lists of "
            "numbers (FEMNIST)",
            "another x",
        )
    if not (values.size and values.min() >= 0 and values.max() <= 1):
        _refuse(path, user, "pixels in [0, 1]", "others")
    return values.astype(np.float32)


def _labels(path: Path, user: str, labels: list[Any]) -> NDArray[np.int64]:
    if not all(type(label) is int and abs(label) < 2**31 for label in labels):
        _refuse(path, user, "whole numbers as labels y", "others")
    return np.asarray(labels, dtype=np.int64)


def _refuse(path: Path, user: str, rule: str, got: str) -> NoReturn:
    raise DatasetError(f"expected {rule}, got {got} of user={user[:40]!r} in file={path}")


def _images(parts: Sequence[_Part]) -> Content:
    pixels = np.concatenate([np.asarray(part.inputs, dtype=np.float32) for part in parts])
    side = math.isqrt(pixels.shape[1])
    images = torch.from_numpy(pixels).mul_(2).sub_(1).reshape(-1, 1, side, side)
    labels, values = _numbered(np.concatenate([part.labels for part in parts]))
    users, names = _users(parts)
    return Content(images, labels, tuple(str(value) for value in values), users, names)


def _tweets(parts: Sequence[_Part], length: int) -> Text:
    tokens, vocabulary = encode([words for part in parts for words in part.inputs], length)
    labels = np.concatenate([part.labels for part in parts])
    users, names = _users(parts)
    kept = distinct(tokens, labels)
    numbers, values = _numbered(labels[kept])
    polarity = values in ([0, 1], [0, 4])
    classes = ("negative", "positive") if polarity else tuple(str(value) for value in values)
    return Text(tokens[kept], numbers, classes, vocabulary, users[kept], names)


def _numbered(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[int]]:
    """Labels as 0..C-1, and what each number stood for."""
    values, numbers = np.unique(labels, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64), values.tolist()


def _users(parts: Sequence[_Part]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The number of the user of each record, and all users' names."""
    number: dict[str, int] = {}
    owner = [number.setdefault(part.user, len(number)) for part in parts]
    users = np.repeat(np.asarray(owner, dtype=np.int64), [len(part.labels) for part in parts])
    return users, tuple(_printable(name) for name in number)


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
