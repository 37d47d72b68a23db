import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from privfed import words as module
from privfed.datasets import load
from privfed.randomness import Stream
from privfed.records import Records
from privfed.splits import SplitPlan, make_split
from privfed.words import embed, fit_words

DATA = Path(os.environ.get("PRIVFED_TEST_DATA") or Path(__file__).parents[3] / "shared/data")
TOPICS, EACH = 4, 6


def language(sentences: int = 600, topics: int = TOPICS) -> torch.Tensor:
    """Sentences of one topic each (words 1..24 in fours of six), of 5 to 9 words, padded to 9."""
    rng = Stream(0).child("language").numpy()
    topic = rng.integers(0, topics, (sentences, 1))
    tokens = 1 + topic * EACH + rng.integers(0, EACH, (sentences, 9))
    tokens[np.arange(9) >= rng.integers(5, 10, (sentences, 1))] = 0
    return torch.from_numpy(tokens)


def cosines(table: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(table.double(), dim=1)
    return unit @ unit.T


def test_words_of_one_topic_come_near_one_another() -> None:
    table = fit_words(language(), TOPICS * EACH + 1, 4, Stream(1))
    near = cosines(table[1:])
    same = torch.arange(TOPICS * EACH) // EACH
    inside = same[:, None] == same
    assert near[inside].min() > 0.9
    assert near[~inside].max() < 0.5


def test_words_without_a_topic_do_not() -> None:
    tokens = torch.from_numpy(Stream(2).numpy().integers(1, 25, (600, 9)))
    near = cosines(fit_words(tokens, 25, 4, Stream(1))[1:])
    same = torch.arange(24) // EACH
    alike = same[:, None] == same
    inside = near[alike & ~torch.eye(24, dtype=torch.bool)].mean()
    assert abs(inside - near[~alike].mean()) < 0.15


def test_padding_and_unseen_words_are_zero_and_the_others_of_unit_size() -> None:
    table = fit_words(language(topics=2), 40, 3, Stream(1))
    assert table.shape == (40, 3)
    assert table.dtype == torch.float32
    seen = list(range(1, 13))
    assert not table[[0, *range(13, 40)]].any()
    torch.testing.assert_close(table[seen].norm(dim=1), torch.full((12,), 3.0).sqrt())
    assert not fit_words(torch.tensor([[3], [5]]), 7, 2, Stream(1)).any(), "no word has a neighbour"
    alone = fit_words(torch.tensor([[3, 4], [5, 0]]), 7, 2, Stream(1))
    assert alone.any(dim=1).tolist() == [False, False, False, True, True, False, False]


@given(st.lists(st.integers(0, 5), min_size=13, max_size=13), st.integers(0, 9))
def test_private_words_change_no_bit_of_the_public_ones(gaps: list[int], more: int) -> None:
    """Private words renumber the public ones and lengthen the table, and that is all they do."""
    tokens = language(60, 2)
    number = torch.tensor(gaps).cumsum(0) - gaps[0] + torch.arange(13)
    plain = fit_words(tokens, 13, 3, Stream(1))
    table = fit_words(number[tokens], int(number[-1]) + 1 + more, 3, Stream(1))
    assert torch.equal(table[number[1:]], plain[1:])
    others = torch.ones(len(table), dtype=torch.bool)
    others[number[1:]] = False
    assert not table[others].any()


def test_same_stream_same_table() -> None:
    first, again, other = (fit_words(language(60), 25, 5, Stream(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    torch.testing.assert_close(cosines(first[1:]), cosines(other[1:]), atol=1e-4, rtol=0)


def test_mutual_information_equals_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 2)
    tokens = Stream(3).numpy().integers(0, 5, (30, 5))
    counts = np.zeros((4, 4))
    for row in tokens:
        for i, one in enumerate(row):
            for j, other in enumerate(row):
                if one and other and 0 < abs(i - j) <= 2:
                    counts[one - 1, other - 1] += 1
    context = counts.sum(0) ** 0.75
    with np.errstate(divide="ignore"):
        expected = np.log(counts / np.outer(counts.sum(1), context / context.sum()))
    found = module._mutual_information(tokens, 4).toarray()
    np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-12)
    assert found.max() > 0


def test_embed_looks_words_up() -> None:
    table = torch.arange(6.0).reshape(3, 2)
    records = embed(Records(torch.tensor([[2, 0], [1, 1]]), torch.tensor([0, 1])), table)
    assert records.inputs.tolist() == [[[4, 5], [0, 1]], [[2, 3], [2, 3]]]
    assert records.inputs.dtype == torch.float32
    assert records.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "dimension", "message"),
    [
        (torch.zeros(2, 3), 4, 1, r"token numbers, int64 of shape \(n, tokens\), got tokens=torch.float32"),
        (torch.zeros(2, dtype=torch.int64), 4, 1, r"int64 of shape \(n, tokens\), got tokens=.*shape \(2,\)"),
        (torch.zeros(0, 3, dtype=torch.int64), 4, 1, r"got tokens=torch.int64 of shape \(0, 3\)"),
        (torch.tensor([[1, 4]]), 4, 1, "token numbers in 0..3, the vocabulary, got tokens=1..4"),
        (torch.tensor([[-1, 2]]), 4, 1, "token numbers in 0..3, the vocabulary, got tokens=-1..2"),
        (torch.tensor([[1, 2, 0]]), 4, 3, "1 <= dimension <= 2, the different words .* got dimension=3"),
        (torch.tensor([[1, 2, 0]]), 4, 0, "1 <= dimension <= 2, the different words .* got dimension=0"),
        (torch.tensor([[0, 0]]), 4, 1, "1 <= dimension <= 0, the different words .* got dimension=1"),
    ],
)
def test_text_that_cannot_be_learnt_from(
    tokens: torch.Tensor, vocabulary: int, dimension: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_words(tokens, vocabulary, dimension, Stream(0))


def test_tokens_beyond_the_table_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected token numbers in 0..2, the vocabulary, got tokens=0..3"):
        embed(Records(torch.tensor([[0, 3]]), torch.tensor([0])), torch.zeros(3, 2))


@pytest.mark.skipif(
    not (DATA / "rt-polarity.neg").is_file(), reason=f"rt-polarity is absent (PRIVFED_TEST_DATA, {DATA})"
)
def test_public_reviews_teach_words_that_tell_private_ones_apart() -> None:
    from sklearn.linear_model import LogisticRegression

    dataset = load(f"reviews:{DATA}")
    plan = SplitPlan(clients=1, candidates=4000, public=3000, population=0, test=3000)
    parts = make_split(dataset.records.labels, plan, Stream(0)).records(dataset.records)
    table = fit_words(parts.public.inputs, len(dataset.vocabulary), 32, Stream(0))

    def mean(records: Records) -> NDArray[np.float32]:
        vectors = embed(records, table).inputs
        return np.asarray(vectors.sum(1) / vectors.any(2).sum(1, keepdim=True).clamp(min=1))

    model = LogisticRegression(max_iter=1000).fit(mean(parts.candidates), parts.candidates.labels)
    # 3,000 sentences: chance is .5, and four standard errors are .037.
    assert model.score(mean(parts.test), parts.test.labels) > 0.54
