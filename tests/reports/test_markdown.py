from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import wording
from reports.markdown import escape, render
from tests.reports.example import empty, example
from tests.reports.hostile import TEXTS, poisoned
from tests.reports.large import large
from tests.reports.test_html import FINDINGS

LINE_STARTS = re.compile(r"^(#{3,4} |\||- |```|[A-Za-z0-9*]|$)")
UNESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\|")


def test_the_verdict_comes_first() -> None:
    head = render(example()).splitlines()[0]
    assert head.startswith("### ")
    assert "FAIL against policy packaged-internal" in head


def test_headings_start_at_level_three() -> None:
    levels = {len(h) for h in re.findall(r"^(#+) ", render(example()), flags=re.MULTILINE)}
    assert levels == {3, 4}


def test_all_parts_are_there() -> None:
    text = render(example())
    headings = re.findall(r"^#### (.+)$", text, flags=re.MULTILINE)
    for word in ("Checks", "Leakage", "Controls", "Formal", "Coverage", "Limits", "Reproduce"):
        assert any(word in heading for heading in headings), word
    assert example().policy.sha256 in text
    assert "n ≥ 1,280" in text
    assert FINDINGS.findall(text) == []


def test_what_was_rebuilt_is_there_with_what_a_claim_leaves_to_it() -> None:
    section = render(example()).split("#### Rebuilt records")[1].split("####")[0]
    assert "under its claim at most 73.1 % could be identified" in section
    assert "no bound: the claim leaves out" in section
    assert section.count("contradict each other") == 1
    assert "No attack rebuilt records." in render(empty())


def test_what_was_inferred_is_there_with_what_its_figure_means() -> None:
    section = render(example()).split("#### What was inferred")[1].split("####")[0]
    for sought in ("labels", "property", "attribute"):
        assert f"- {wording.SOUGHT[sought]}: {wording.SOUGHT_MEANINGS[sought]}" in section
    assert "labels disclosed (disclosed by the protocol)" in section
    found = map(escape, ("0.310 [0.190, 0.430]", "0.000", "0.120 [0.080, 0.160] (share of the population)"))
    assert " | ".join(found) in section
    assert wording.SOUGHT["source"] not in section
    assert "gradient inversion" not in section
    assert "No attack asked what clients' records have in common" in render(empty())


def test_an_empty_record_says_that_nothing_was_evaluated() -> None:
    text = render(empty())
    assert "supports no conclusion" in text
    assert "No check was evaluated." in text


@pytest.mark.parametrize("hostile", TEXTS)
def test_hostile_text_adds_neither_rows_nor_cells_nor_markup(hostile: str) -> None:
    text, plain = render(poisoned(example(), hostile)), render(example())
    assert _shape(text) == _shape(plain)
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert "<" not in outside
    assert "://" not in outside
    assert "](" not in outside.replace("\\](", "").replace("\\]\\(", "")


def _shape(text: str) -> list[tuple[str, int]]:
    """For every line: how it begins, and how many cells it has."""
    lines = text.splitlines()
    assert all(LINE_STARTS.match(line) for line in lines if not _fenced(line)), lines
    return [(line[:2], len(UNESCAPED.findall(line)) if line.startswith("|") else 0) for line in lines]


def _fenced(line: str) -> bool:
    return line.startswith(("privfed ", "✔", "✖"))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_escaped_value_is_one_line_without_live_markup(value: str) -> None:
    line = escape(value)
    assert len(line.splitlines()) <= 1
    assert not re.search(r"[<>@]|://", line)
    assert re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|~#!$]", line.replace("&#", "")) is None


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=50))
def test_what_was_escaped_can_be_read_back(value: str) -> None:
    line = escape(value).replace("&#58;", ":").replace("&#46;", ".").replace("&#64;", "@")
    line = re.sub(r"\\([\\`*_{}\[\]|~#!$])", r"\1", line)
    line = line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    seen = "".join(c for c in value if c.isprintable() and c != "\ufffd")
    assert [c for c in line if c in set(seen) and c != " "] == [c for c in seen if c != " "]


def test_a_fence_cannot_be_closed_from_inside() -> None:
    record = example()
    command = "privfed audit\n````\n# owned"
    text = render(record.model_copy(update={"run": record.run.model_copy(update={"command": command})}))
    assert "`````sh\nprivfed audit ```` # owned\n`````" in text


def test_the_same_record_gives_the_same_text_and_a_large_one_stays_small() -> None:
    assert render(large()) == render(large())
    assert len(render(large()).encode()) < 500_000
