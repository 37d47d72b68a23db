from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privfed.data_files import DatasetError
from privfed.randomness import Stream
from privfed.sentiment import (
    SentimentTask,
    embedding,
    evidence,
    make_sentiment,
    slang_signs,
    vocabulary,
    words_of,
)

TASK = SentimentTask()
DATA = make_sentiment(TASK, Stream(0))
TOKENS, LABELS = DATA.records.inputs, DATA.records.labels


def test_shape_of_the_data_set() -> None:
    assert TOKENS.shape == (4800, 12)
    assert DATA.modality == "text"
    assert DATA.classes == ("negative", "positive")
    assert DATA.users is not None
    assert DATA.users.tolist() == [u for u in range(40) for _ in range(120)]
    assert len(DATA.user_names) == 40
    assert len(DATA.vocabulary) == len(set(DATA.vocabulary)) == 265
    assert DATA.vocabulary[0] == ""
    assert 1 <= TOKENS.min() <= TOKENS.max() <= 264


def test_the_numbers_of_words_cover_the_vocabulary_once() -> None:
    words, names = words_of(TASK), vocabulary(TASK)
    groups = [words.positive, words.negative, *words.topics, words.slang_up, words.slang_down, words.function]
    assert [len(g) for g in groups] == [40, 40, *[12] * 10, 24, 24, 15]
    assert sorted([n for g in groups for n in g] + [words.negator]) == list(range(1, 265))
    assert names[words.negator] == "not"
    assert {names[n].rstrip("0123456789") for n in words.slang_down} == {"down"}
    assert {names[n].rstrip("0123456789") for n in words.topics[3]} == {"topic3-"}


def test_every_sentence_has_its_evidence_at_odd_positions() -> None:
    words = words_of(TASK)
    lexicon = torch.isin(TOKENS, torch.tensor([*words.positive, *words.negative]))
    slang = torch.isin(TOKENS, torch.tensor([*words.slang_up, *words.slang_down]))
    assert (lexicon.sum(1) == 2).all()
    assert (slang.sum(1) == 2).all()
    assert not (lexicon | slang)[:, ::2].any()
    negated = TOKENS[:, :-1] == words.negator
    assert (lexicon | slang)[:, 1:][negated].all(), "'not' stands before evidence alone"
    # 19,200 words of evidence: three standard errors are .008.
    assert abs(negated.sum() / (lexicon | slang).sum() - TASK.negation) < 0.008


def test_evidence_by_hand() -> None:
    words = words_of(TASK)
    good, bad, up, down = (
        r.start for r in (words.positive, words.negative, words.slang_up, words.slang_down)
    )
    no, the = words.negator, words.function.start
    tokens = torch.tensor(
        [[the, good, no, bad, the, up], [no, good, the, bad, no, down], [good, no, up, no, up, the]]
    )
    lexicon, slang = evidence(tokens, TASK)
    assert lexicon.tolist() == [2, -2, 1]
    assert slang.tolist() == [1, 1, -2]


def test_the_two_ceilings() -> None:
    """Oracles of many sentences: 19,200 a rule, so that three standard errors are below .01."""
    task = replace(TASK, users=160)
    data = make_sentiment(task, Stream(1))
    lexicon, slang = evidence(data.records.inputs, task)
    assert data.users is not None
    truth = 2 * data.records.labels - 1
    personal = lexicon + slang_signs(task)[data.users] * slang
    assert (personal != 0).all(), "ties were resampled"
    assert abs((personal.sign() == truth).double().mean() - 0.95) < 0.01
    # Without the user, slang says nothing: the lexicon where it speaks, a coin where it does not.
    blind = (lexicon.sign() == truth).double() + 0.5 * (lexicon == 0)
    assert abs(blind.mean() - 0.77) < 0.01
    # Slang read alike for all: .95 for even users; for odd ones .95 where slang is silent (two in five),
    # .05 where the lexicon is (two in five), and a tie, which is no answer, where both speak.
    assert abs(((lexicon + slang).sign() == truth).double().mean() - (0.95 + 0.4) / 2) < 0.01


def test_without_slang_signs_the_two_kinds_of_users_disagree() -> None:
    lexicon, slang = evidence(TOKENS, TASK)
    silent = (lexicon == 0) & (slang != 0)
    assert DATA.users is not None
    agrees = slang.sign() == 2 * LABELS - 1
    even, odd = (agrees[silent & (DATA.users % 2 == k)].double().mean() for k in (0, 1))
    assert even > 0.9
    assert odd < 0.1


def test_users_differ_in_polarity_and_topics() -> None:
    share = LABELS.reshape(40, 120).double().mean(1)
    # Variance of .9 p, p = .2 + .6 Beta(2, 2): .81 * .36 * .05 = .0146; sampling adds .002.
    assert 0.008 < share.var() < 0.03
    majority = torch.maximum(share, 1 - share).mean()
    assert 0.56 < majority < 0.66
    words = words_of(TASK)
    counts = torch.stack(
        [(TOKENS.reshape(40, -1, 1) == torch.tensor(list(t))).sum((1, 2)) for t in words.topics]
    )
    mix = counts / counts.sum(0)
    assert mix.max(0).values.mean() > 0.3, "a Dirichlet(.3) mix of ten topics has favourites"


def test_geometry_of_the_embedding() -> None:
    table, words = DATA.embedding, words_of(TASK)
    assert table is not None
    assert table.shape == (265, 16)
    assert table.dtype == torch.float32
    assert not table[0].any()
    mean = {
        name: table[group.start : group.stop].double().mean(0)
        for name, group in (
            ("positive", words.positive),
            ("negative", words.negative),
            ("up", words.slang_up),
            ("down", words.slang_down),
            ("topic", words.topics[0]),
            ("other", words.topics[9]),
        )
    }
    # Each mean carries noise of .35 / sqrt(12) a coordinate at most, .4 in all 16.
    assert abs((mean["positive"] - mean["negative"]).norm() - 3) < 0.4
    assert abs((mean["up"] - mean["down"]).norm() - 3) < 0.4
    assert abs(mean["topic"].norm() - 0.8) < 0.4
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(mean["positive"], mean["negative"], dim=0) < -0.9
    assert abs(cosine(mean["positive"], mean["up"], dim=0)) < 0.25
    assert abs(cosine(mean["topic"], mean["other"], dim=0)) < 0.6
    noise = torch.cat(
        [table[g.start : g.stop] - table[g.start : g.stop].mean(0) for g in (words.topics[0], words.positive)]
    )
    assert abs(noise.std() - 0.35) < 0.03


def test_directions_are_orthonormal_where_noise_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privfed.sentiment.NOISE", 0.0)
    table, words = embedding(TASK, Stream(3)).double(), words_of(TASK)
    rows = [words.positive.start, words.slang_up.start, words.negator, *(t.start for t in words.topics)]
    lengths = torch.tensor([1.5, 1.5, 2.0, *[0.8] * 10], dtype=torch.float64)
    torch.testing.assert_close(table[rows] @ table[rows].T, torch.diag(lengths**2), atol=1e-5, rtol=0)
    torch.testing.assert_close(table[words.negative.start], -table[words.positive.start])
    torch.testing.assert_close(table[words.slang_down.start], -table[words.slang_up.start])
    assert not table[list(words.function)].any()


def test_same_stream_same_data_and_more_users_change_nothing() -> None:
    assert make_sentiment(TASK, Stream(0)).sha256 == DATA.sha256
    assert make_sentiment(TASK, Stream(1)).sha256 != DATA.sha256
    few = make_sentiment(replace(TASK, users=3), Stream(0))
    assert torch.equal(few.records.inputs, TOKENS[:360])
    assert torch.equal(few.records.labels, LABELS[:360])


@given(st.integers(1, 3), st.integers(30, 40), st.integers(8, 15), st.floats(0, 0.9), st.integers(0, 3))
def test_without_label_noise_the_personal_oracle_is_always_right(
    users: int, sentences: int, tokens: int, negation: float, seed: int
) -> None:
    task = SentimentTask(users, sentences, tokens, 3, 2, 2, 3, 2, 5, negation=negation, label_noise=0.0)
    data = make_sentiment(task, Stream(seed))
    lexicon, slang = evidence(data.records.inputs, task)
    assert data.users is not None
    score = lexicon + slang_signs(task)[data.users] * slang
    assert torch.equal((score > 0).long(), data.records.labels)
    assert (score != 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": 0}, "expected users >= 1, got users=0"),
        ({"function_words": 0}, "expected function_words >= 1, got function_words=0"),
        ({"tokens": 7}, "expected tokens >= 8, two for each word of evidence, got tokens=7"),
        ({"dimension": 12}, "expected dimension >= 3 \\+ topics=13, got dimension=12"),
        ({"negation": 1.0}, "expected 0 <= negation < 1, got negation=1.0"),
        ({"label_noise": 0.6}, "expected 0 <= label_noise <= 0.5, got label_noise=0.6"),
        ({"topic_concentration": 0.0}, "finite topic_concentration > 0, got topic_concentration=0.0"),
    ],
)
def test_a_task_that_cannot_be_meant(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TASK, **change)


def test_too_few_sentences_for_two_classes() -> None:
    with pytest.raises(DatasetError, match="at least two records of every class"):
        make_sentiment(replace(TASK, users=1, sentences=2), Stream(0))
