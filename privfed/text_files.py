"""Readers of labelled sentences that come from outside, and their encoding as token numbers.

Every word of a source gets a number; number 0 is padding. The numbering says nothing but which words
there are: what words mean is learnt from public text alone (`privfed.words`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from privfed.data_files import DatasetError, one_line

PADDING = ""
"""Word of token number 0; no reader finds it, since words have letters."""

REVIEW_FILES = ("rt-polarity.neg", "rt-polarity.pos")
"""Negative and positive sentences, one a line."""

REVIEW_TOKENS = 24
"""Tokens kept of a review sentence.

The 10,662 sentences of the sentence polarity data set v1.0 have 1 to 59 tokens, median 20; 66 % have
at most 24. Longer ones lose their end, shorter ones are padded at the end.
"""

TWEET_TOKENS = 25
"""Tokens kept of a tweet, as LEAF's Sent140 model does (`max_words`)."""

MAX_BYTES = 2**26
"""Largest file of sentences that is read (64 MiB)."""

Sentences = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Text:
    """Encoded sentences, not yet held against the rules that all data sets share.

    Attributes:
        tokens: token numbers, int64, shape (n, tokens), 0 after the end of a sentence.
        labels: integers, shape (n,).
        classes: a name for each label.
        vocabulary: word of each token number, `PADDING` first.
        users: position in `user_names` of each record, integers, shape (n,); None without users.
        user_names: of all users.
        embedding: vector of each token number, float32, shape (vocabulary, dimension), or None.
    """

    tokens: NDArray[np.int64]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    vocabulary: tuple[str, ...]
    users: NDArray[Any] | None = None
    user_names: tuple[str, ...] = ()
    embedding: torch.Tensor | None = None


def split_review(line: str) -> list[str]:
    """Lower-case words and punctuation, as the file separates them with spaces.

    >>> split_review("Effective but too-tepid biopic .")
    ['effective', 'but', 'too-tepid', 'biopic', '.']
    """
    return line.lower().split()


def split_tweet(line: str) -> list[str]:
    """Lower-case words, with their apostrophes and an @ or # in front, and single punctuation marks.

    >>> split_tweet("@sam That's SO good!! #happy http://x.y")
    ['@sam', "that's", 'so', 'good', '!', '!', '#happy', 'http', 'x', '.', 'y']
    """
    return re.findall(r"[@#]?[\w']+|[.,!?;]", line.lower())


def encode(sentences: Sentences, length: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Token numbers of the first `length` words of each sentence, and the vocabulary.

    Words are numbered from 1 in alphabetical order, those beyond `length` too, so that the numbering
    does not depend on it.

    Returns:
        Token numbers of shape (n, length), and the word of each number.

    >>> encode([["a", "film"], ["film"]], 3)[0].tolist()
    [[1, 2, 0], [2, 0, 0]]
    """
    vocabulary = (PADDING, *sorted(set(chain.from_iterable(sentences))))
    number = {word: k for k, word in enumerate(vocabulary)}
    tokens = np.zeros((len(sentences), length), dtype=np.int64)
    for row, sentence in zip(tokens, sentences, strict=True):
        kept = sentence[:length]
        row[: len(kept)] = [number[word] for word in kept]
    return tokens, vocabulary


def distinct(tokens: NDArray[np.int64], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Which records to keep so that no two are alike, ascending.

    Of records with the same tokens the first is kept: one copy in training and one held out would make
    a non-member look like a member. Where their labels disagree none is kept, since no label is
    right. Records without a word are dropped.
    """
    if not len(tokens):
        return np.zeros(0, dtype=np.int64)
    _, first, group = np.unique(tokens, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    agreed = np.ones(len(first), dtype=bool)
    agreed[group[labels != labels[first][group]]] = False
    kept = np.sort(first[agreed])
    return kept[tokens[kept].any(axis=1)].astype(np.int64)


def read_reviews(folder: Path, length: int = REVIEW_TOKENS) -> Text:
    """The sentences of rt-polarity.neg (class 0) and rt-polarity.pos (class 1), in this order.

    Source: sentence polarity data set v1.0, Pang and Lee, "Seeing stars", ACL 2005. UTF-8, one sentence
    a line, empty lines skipped. What `distinct` drops is left out: two sentences count as the
    same if their first `length` tokens are, for a net reads no more.

    Raises:
        DatasetError: if a file is missing, too large or not UTF-8.
    """
    parts = [read_lines(folder / name, split_review) for name in REVIEW_FILES]
    labels = np.repeat(np.arange(2), [len(part) for part in parts])
    tokens, vocabulary = encode([*parts[0], *parts[1]], length)
    kept = distinct(tokens, labels)
    return Text(tokens[kept], labels[kept], ("negative", "positive"), vocabulary)


def read_lines(path: Path, split: Callable[[str], list[str]]) -> list[list[str]]:
    """The words of each line that has any.

    Raises:
        DatasetError: if the file is missing, too large or not UTF-8.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"it has {size} bytes, more than {MAX_BYTES}")
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"expected a UTF-8 file with one sentence a line, got file={path} ({one_line(error)})"
        ) from error
    return [words for line in lines if (words := split(line))]
