"""Generated sentences with a sentiment that only a personal head can read in full.

Stands in for Sent140 where no tweets may be downloaded: a user's feeling shows in lexicon words that mean
the same to all, and in slang that means the opposite to every other user, a concept shift that no
global model resolves. The words come with a frozen embedding whose directions carry the meaning,
as pretrained vectors would.

The label of a sentence is drawn first, from its user's own polarity prior; the evidence is drawn
symmetrically around it. With two lexicon words L and two slang words S of values +1 or -1, ties
resampled, the lexicon alone decides three sentences in five, always rightly, so with label noise 5 %
the best global rule is right in (.6 + .4 / 2) * .9 + .05 = 77 % of them, the best personal rule in 95 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privfed.dataset import Dataset, of_text
from privfed.randomness import Stream
from privfed.text_files import PADDING, Text

Index = NDArray[np.int64]

EVIDENCE = 2
"""Lexicon words in a sentence, and as many slang words."""
NOISE = 0.35
"""Standard deviation of each coordinate of a word's vector around its meaning."""
POLARITY, SLANG, NEGATION, TOPIC = 1.5, 1.5, 2.0, 0.8
"""Lengths of the orthogonal directions in the embedding."""


@dataclass(frozen=True, slots=True)
class SentimentTask:
    """The knobs of the generator; the defaults make 264 words and 40 users of 120 sentences.

    Attributes:
        users: number of users; even ones read slang as it is, odd ones the other way round.
        sentences: of each user.
        tokens: in each sentence; evidence stands at odd positions, counted from 0.
        lexicon: positive words, and as many negative ones.
        slang: words of each of the two kinds of slang.
        topics: groups of neutral words.
        topic_words: neutral words of each topic.
        function_words: neutral words of no topic; half of the neutral places have one.
        dimension: of the embedding.
        negation: probability that "not" stands before a word of evidence and flips it.
        label_noise: probability that a label is flipped.
        topic_concentration: of the symmetric Dirichlet that a user's mix of topics is drawn from.
    """

    users: int = 40
    sentences: int = 120
    tokens: int = 12
    lexicon: int = 40
    slang: int = 24
    topics: int = 10
    topic_words: int = 12
    function_words: int = 15
    dimension: int = 16
    negation: float = 0.15
    label_noise: float = 0.05
    topic_concentration: float = 0.3

    def __post_init__(self) -> None:
        for name in ("users", "sentences", "lexicon", "slang", "topics", "topic_words", "function_words"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")
        if self.tokens < 4 * EVIDENCE:
            raise ValueError(
                f"expected tokens >= {4 * EVIDENCE}, two for each word of evidence, got tokens={self.tokens}"
            )
        if self.dimension < 3 + self.topics:
            raise ValueError(
                f"expected dimension >= 3 + topics={3 + self.topics}, got dimension={self.dimension}"
            )
        if not 0 <= self.negation < 1:
            raise ValueError(f"expected 0 <= negation < 1, got negation={self.negation}")
        if not 0 <= self.label_noise <= 0.5:
            raise ValueError(f"expected 0 <= label_noise <= 0.5, got label_noise={self.label_noise}")
        if not 0 < self.topic_concentration < np.inf:
            raise ValueError(
                "expected a finite topic_concentration > 0, "
                f"got topic_concentration={self.topic_concentration}"
            )


@dataclass(frozen=True, slots=True)
class Words:
    """Token numbers by what the words are: consecutive ranges that cover 1..V-1."""

    positive: range
    negative: range
    topics: tuple[range, ...]
    slang_up: range
    slang_down: range
    negator: int
    function: range


def words_of(task: SentimentTask) -> Words:
    """The numbers of the words of `task`; number 0 is padding, which no sentence needs."""
    ends = np.cumsum(
        [1, task.lexicon, task.lexicon]
        + [task.topic_words] * task.topics
        + [task.slang, task.slang, 1, task.function_words]
    ).tolist()
    positive, negative, *topics, up, down, negator, function = (
        range(start, end) for start, end in pairwise(ends)
    )
    return Words(positive, negative, tuple(topics), up, down, negator.start, function)


def slang_signs(task: SentimentTask) -> Tensor:
    """+1 or -1 for each user: what slang is worth to them, int64, shape (users,)."""
    return 1 - 2 * (torch.arange(task.users) % 2)


def evidence(tokens: Tensor, task: SentimentTask) -> tuple[Tensor, Tensor]:
    """What an oracle reads: sums of the lexicon and of the slang in each sentence, after negation.

    The sentence's true sign is that of lexicon + slang_signs(task)[user] * slang.

    Args:
        tokens: token numbers, int64, shape (n, tokens).
        task: what made them.

    Returns:
        Two sums, int64, shape (n,) each.
    """
    words = words_of(task)
    negated = torch.nn.functional.pad(tokens[:, :-1] == words.negator, (1, 0))
    weight = 1 - 2 * negated.long()
    lexicon, slang = (
        torch.zeros(words.function.stop, dtype=torch.int64) for _ in (words.positive, words.slang_up)
    )
    lexicon[list(words.positive)], lexicon[list(words.negative)] = 1, -1
    slang[list(words.slang_up)], slang[list(words.slang_down)] = 1, -1
    return (lexicon[tokens] * weight).sum(1), (slang[tokens] * weight).sum(1)


def make_sentiment(task: SentimentTask, stream: Stream) -> Dataset:
    """Sentences of all users, in order of the users, with the embedding of their words.

    Args:
        task: the knobs.
        stream: randomness of the embedding and of each user's sentences; a user's own do not depend
            on how many users there are.

    Raises:
        DatasetError: if so few sentences were asked for that a label has fewer than two.
    """
    users = [_sentences(task, user, stream.child("user", user).numpy()) for user in range(task.users)]
    return of_text(
        "sentiment",
        Text(
            np.concatenate([tokens for tokens, _ in users]),
            np.concatenate([labels for _, labels in users]),
            ("negative", "positive"),
            vocabulary(task),
            np.repeat(np.arange(task.users), task.sentences),
            tuple(f"user {user}" for user in range(task.users)),
            embedding(task, stream.child("embedding")),
        ),
    )


def vocabulary(task: SentimentTask) -> tuple[str, ...]:
    """The word of each token number, padding first."""
    groups = [("good", task.lexicon), ("bad", task.lexicon)]
    groups += [(f"topic{t}-", task.topic_words) for t in range(task.topics)]
    groups += [("up", task.slang), ("down", task.slang)]
    words = [f"{name}{k}" for name, size in groups for k in range(size)]
    return (PADDING, *words, "not", *(f"the{k}" for k in range(task.function_words)))


def embedding(task: SentimentTask, stream: Stream) -> Tensor:
    """Frozen vectors: a shared direction for each meaning, and noise; padding is zero.

    Directions are orthogonal: q0 polarity, q1 slang (plus for the up kind), q2 "not", then one a topic.

    Returns:
        float32, shape (words + 1, dimension).
    """
    words, rng = words_of(task), stream.numpy()
    directions = np.linalg.qr(rng.standard_normal((task.dimension, task.dimension)))[0].T
    table = rng.normal(0, NOISE, (words.function.stop, task.dimension))
    for numbers, length, axis in (
        (words.positive, POLARITY, 0),
        (words.negative, -POLARITY, 0),
        (words.slang_up, SLANG, 1),
        (words.slang_down, -SLANG, 1),
        (range(words.negator, words.negator + 1), NEGATION, 2),
        *((topic, TOPIC, 3 + t) for t, topic in enumerate(words.topics)),
    ):
        table[numbers.start : numbers.stop] += length * directions[axis]
    table[0] = 0
    return torch.from_numpy(table).float()


def _sentences(task: SentimentTask, user: int, rng: np.random.Generator) -> tuple[Index, Index]:
    """Token numbers (sentences, tokens) and labels (sentences,) of one user."""
    prior = 0.2 + 0.6 * rng.beta(2, 2)
    mix = rng.dirichlet(np.full(task.topics, task.topic_concentration))
    truth = (rng.random(task.sentences) < prior).astype(np.int64)
    values, negated = _evidence_for(2 * truth - 1, 1 - 2 * (user % 2), task.negation, rng)
    tokens = _neutral(task, mix, rng)
    _place(tokens, values, negated, words_of(task), rng)
    flipped = rng.random(task.sentences) < task.label_noise
    return tokens, np.where(flipped, 1 - truth, truth)


def _evidence_for(
    wanted: Index, slang: int, negation: float, rng: np.random.Generator
) -> tuple[Index, NDArray[np.bool_]]:
    """Values of the words themselves (lexicon first), and which are negated, shape (n, 2 EVIDENCE) each."""
    shape = (len(wanted), 2 * EVIDENCE)
    values, negated = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
    score, meaning = np.zeros(len(wanted), dtype=np.int64), np.repeat([1, slang], EVIDENCE)
    while (tied := np.flatnonzero(score == 0)).size:
        values[tied] = rng.choice([-1, 1], (len(tied), shape[1]))
        negated[tied] = rng.random((len(tied), shape[1])) < negation
        score = (values * np.where(negated, -1, 1) * meaning).sum(1)
    # The law of the values is symmetric, so turning all of them equals resampling until the sign is right.
    return values * (np.sign(score) * wanted)[:, None], negated


def _neutral(task: SentimentTask, mix: NDArray[np.float64], rng: np.random.Generator) -> Index:
    """Sentences without evidence: words of one topic a sentence, and function words."""
    words, shape = words_of(task), (task.sentences, task.tokens)
    first = np.asarray([topic.start for topic in words.topics])
    topic = rng.choice(task.topics, size=(task.sentences, 1), p=mix)
    about = first[topic] + rng.integers(0, task.topic_words, shape)
    function = rng.integers(words.function.start, words.function.stop, shape)
    return np.where(rng.random(shape) < 0.5, about, function).astype(np.int64)


def _place(
    tokens: Index, values: Index, negated: NDArray[np.bool_], words: Words, rng: np.random.Generator
) -> None:
    """Writes the evidence into `tokens` at random odd positions, "not" before what is negated."""
    odd = np.tile(np.arange(1, tokens.shape[1], 2), (len(tokens), 1))
    places = rng.permuted(odd, axis=1)[:, : values.shape[1]]
    for k, (column, place) in enumerate(zip(values.T, places.T, strict=True)):
        up, down = (words.positive, words.negative) if k < EVIDENCE else (words.slang_up, words.slang_down)
        start = np.where(column > 0, up.start, down.start)
        rows = np.arange(len(tokens))
        tokens[rows, place] = start + rng.integers(0, len(up), len(tokens))
        tokens[rows[negated[:, k]], place[negated[:, k]] - 1] = words.negator
