"""The text benchmark: words counted by hand, a page that says what it is, and what it cannot do."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audits import text_recovery, text_recovery_run
from audits.text_recovery import grid, main, page, row
from audits.text_recovery_run import GRADIENTS, READ_OFF, SPAN, STATES, Case, Found, attacked, dealt, in_place
from privfed.randomness import Stream
from privfed.records import Records

WORDS, TOKENS = 80, 6


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_recovery_run, "PUBLIC", 150)
    monkeypatch.setattr(text_recovery_run, "DECOYS", 20)


def text(sentences: int = 220) -> Records:
    """Random sentences of two to six words, half of each label."""
    generator = Stream(0, ("test",)).torch()
    numbers = torch.randint(1, WORDS, (sentences, TOKENS), generator=generator)
    length = torch.randint(2, TOKENS + 1, (sentences, 1), generator=generator)
    return Records(numbers * (torch.arange(TOKENS) < length), torch.arange(sentences) % 2)


def test_sentences_are_dealt_once() -> None:
    public, own, decoys = dealt(text(), 2, 4)
    assert (len(public), len(decoys), [len(r) for r in own]) == (150, 20, [2, 2, 2, 2])
    assert torch.equal(dealt(text(), 1, 4)[0].inputs, public.inputs)


def test_too_few_sentences_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 178 sentences, got 170"):
        dealt(text(170), 2, 4)


def test_the_words_of_a_lone_sentence_are_found_and_it_is_identified() -> None:
    found = attacked(Case(SPAN, 20), text(), 6)
    assert [f.recall for f in found] == [1.0] * 6
    assert min(f.precision for f in found) > 0.9
    assert sum(f.identified for f in found) >= 5
    assert [f.label for f in found] == [1.0] * 6
    assert np.mean([f.frequent for f in found]) < 0.6


def test_words_that_fill_the_space_are_not_told() -> None:
    found = attacked(Case(SPAN, 5, sentences=4), text(), 3)
    assert [(f.recall, f.identified, math.isnan(f.precision)) for f in found] == [(0.0, False, True)] * 3


def test_noise_hides_the_words() -> None:
    found = attacked(Case(SPAN, 20, private=True), text(), 4)
    assert [f.recall for f in found] == [0.0] * 4


@pytest.mark.parametrize("attack", [GRADIENTS, READ_OFF])
def test_gradients_give_sentences_too(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_recovery_run, "ITERATIONS", 5)
    (one,) = attacked(Case(attack, 8), text(), 1)
    assert 0 <= one.recall <= 1
    assert one.label == 1.0


def test_a_row_by_hand() -> None:
    found = [Found(10, 0.5, 1.0, 0.2, True, False, 1.0), Found(20, math.nan, 0.0, 0.4, False, False, 0.0)]
    cells = row(Case(SPAN, 24, 2, 5), found)
    assert cells[:9] == [SPAN, "24", "2", "5", "none", "15.0", "50 %", "50 %", "30 %"]
    assert cells[9].startswith("50 % [")
    assert cells[9].endswith("of 2")
    assert cells[10:] == ["2.0 %", "0 %", "50 %", "–", "–", "–"]
    placed = [replace(f, verbatim=f.identified, places=0.5, drawn_places=0.1) for f in found]
    ordered = row(Case(STATES, 24, 2, 5), placed)
    assert ordered[13].startswith("50 % [")
    assert ordered[14:] == ["50 %", "10 %"]


def test_words_in_place_by_hand() -> None:
    """Of [1 2 0] one word of two is in place in the first given, both in the second; of [3 0 0] none."""
    true, given = (torch.tensor(x)[..., None] for x in ([[1, 2, 0], [3, 0, 0]], [[1, 3, 0], [1, 2, 9]]))
    assert in_place(given, true) == 0.5
    assert in_place(given[:1], true) == 0.25
    assert in_place(given[:0], true) == 0.0


def test_lone_sentences_are_read_word_for_word() -> None:
    found = attacked(Case(STATES, 20), text(), 6)
    assert sum(f.verbatim for f in found) >= 5
    assert np.mean([f.places for f in found]) > 0.8
    assert np.mean([f.drawn_places for f in found]) < 0.3
    assert [f.label for f in found] == [1.0] * 6


def test_the_grid_varies_one_thing_at_a_time_and_repeats_nothing() -> None:
    assert len(set(grid())) == len(grid())
    assert {c.sentences for c in grid()} == {1, 2, 4, 8}
    assert any(c.private for c in grid())


def test_the_command_writes_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Text:
        modality, records = "text", text()

    monkeypatch.setattr(text_recovery, "load", lambda source: Text)
    monkeypatch.setattr(text_recovery, "grid", lambda: (Case(SPAN, 20), Case(SPAN, 10)))
    out = tmp_path / "page.md"
    assert main(["--data", "reviews:/secret", "--clients", "2", "--quick", "--out", str(out)]) == 0
    written = out.read_text(encoding="utf-8")
    assert written.startswith("# How far sentences can be rebuilt\n\n`python -m audits.text_recovery ")
    assert "/secret" not in written
    assert "Not attempted on text" in written
    assert written.count("| words in the span |") == 2
    assert page([], []).count("|") > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--clients", "0"], "expected --clients >= 1, got --clients 0"),
        (["--data", "digits"], "expected a data set of text, got --data digits"),
    ],
)
def test_mistakes_are_told_before_any_work(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err
