from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import markdown, text, wording
from reports.html import render
from reports.record import Picture, Record, to_json
from tests.reports.example import empty, example
from tests.reports.hostile import TEXTS, poisoned
from tests.reports.large import large
from tests.reports.pages import Page, read

FINDINGS = re.compile(
    r"\b(compliant|compliance|anonymous|anonymised|safe|lawful|gdpr-ready)\b", re.IGNORECASE
)


@pytest.fixture(scope="module")
def html() -> str:
    return render(example())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return read(html)


def test_the_page_is_well_formed(page: Page) -> None:
    assert page.unbalanced == []


def test_the_page_loads_nothing(html: str, page: Page) -> None:
    assert page.named("script", "link", "iframe", "object", "embed", "img", "image", "base", "form") == []
    assert page.values("src") + page.values("xlink:href") == []
    assert all(link.startswith("#") for link in page.values("href"))
    assert not re.search(r"url\(|@import|https?:", html)
    policy = [t.attributes["content"] for t in page.named("meta") if "http-equiv" in t.attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_links_inside_the_page_lead_somewhere(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.values("href")} <= set(ids)


def test_headings_come_in_order(page: Page) -> None:
    levels = [int(tag.name[1]) for tag in page.named("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_page_is_readable_without_seeing_it(page: Page) -> None:
    assert page.named("html")[0].attributes["lang"] == "en"
    assert all(t.attributes.get("scope") for t in page.named("th"))
    figures = [t for t in page.named("svg") if t.attributes.get("aria-hidden") != "true"]
    assert figures
    assert all(t.attributes.get("role") == "img" and t.attributes.get("aria-label") for t in figures)


def test_the_verdict_comes_first_with_the_policy_it_was_judged_by(html: str) -> None:
    record = example()
    places = [
        html.index(part, html.index("<main")) for part in ("FAIL", record.policy.id, record.policy.sha256)
    ]
    assert max(places) < html.index('id="checks"')
    assert "n ≥ 1,280" in html


@pytest.mark.parametrize("build", [example, empty])
def test_no_finding_is_a_legal_one(build: Callable[[], Record]) -> None:
    assert FINDINGS.findall(read(render(build())).text) == []


@pytest.mark.parametrize("verdict", ["PASS", "FAIL", "INCONCLUSIVE", "ERROR"])
def test_every_verdict_renders_as_word_and_icon(verdict: str) -> None:
    record = example()
    summary = record.summary.model_copy(update={"verdict": verdict})
    banner = render(record.model_copy(update={"summary": summary})).split("<nav")[0]
    chip = banner[banner.index("<h1") : banner.index("</h1>")]
    assert verdict in chip
    assert "<svg" in chip


@pytest.mark.parametrize(
    "part",
    [
        "checks",
        "cells",
        "controls",
        "utility",
        "tradeoff",
        "leakage_order",
        "slices",
        "inquiries",
        "dp",
        "settings",
        "arms",
        "limitations",
    ],
)
def test_a_part_that_is_missing_is_said_to_be_missing(part: str) -> None:
    page = read(render(example().model_copy(update={part: ()})))
    assert page.unbalanced == []
    assert any(tag.attributes.get("class") == "nothing" for tag in page.tags) or "no " in page.text.lower()


def test_an_empty_record_says_that_nothing_was_evaluated() -> None:
    page = read(render(empty()))
    assert page.unbalanced == []
    assert "supports no conclusion" in page.text
    assert len([t for t in page.tags if t.attributes.get("class") == "nothing"]) >= 8


@pytest.mark.parametrize("hostile", TEXTS)
def test_hostile_text_stays_text(hostile: str, page: Page) -> None:
    html = render(poisoned(example(), hostile))
    bad = read(html)
    assert bad.unbalanced == []
    assert _kinds(bad) <= _kinds(page)
    assert "49" not in set(re.findall(r"\b\d+\b", bad.text)) - set(
        re.findall(r"\b\d+\b", page.text + hostile)
    )
    assert not any(text._hidden(c) for c in html if c not in "\n\t")


def _kinds(page: Page) -> set[tuple[str, str]]:
    return {(tag.name, name) for tag in page.tags for name in ("", *tag.attributes)}


@settings(max_examples=15)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_name_survives_escaping(name: str) -> None:
    record = _renamed(name)
    page = read(render(record))
    assert page.unbalanced == []
    shown = " ".join(text.printable(name).split())
    assert shown in " ".join(page.text.split())


def _renamed(name: str) -> Record:
    record = empty()
    return record.model_copy(
        update={"title": f"({name})", "policy": record.policy.model_copy(update={"id": name})}
    )


def test_the_same_record_gives_the_same_bytes(html: str) -> None:
    assert render(Record.model_validate_json(example().model_dump_json())) == html


@pytest.mark.parametrize("module", ["html", "markdown"])
def test_a_fresh_process_gives_the_same_bytes(module: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(to_json(example()), encoding="utf-8")
    program = (
        f"import hashlib, sys; from reports import record, {module}; "
        f"text = {module}.render(record.from_json(open(sys.argv[1], encoding='utf-8').read())); "
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = {"html": render, "markdown": markdown.render}[module](example())
    assert digests == {hashlib.sha256(here.encode()).hexdigest()}


def test_a_large_record_stays_under_a_megabyte() -> None:
    html = render(large())
    assert read(html).unbalanced == []
    assert len(html.encode()) < 1_000_000


def test_a_check_that_was_evaluated_nowhere_says_so_and_has_no_marker() -> None:
    record = example()
    lost = record.checks[0].model_copy(
        update={"setting": "", "arm": "", "estimate": None, "verdict": "INCONCLUSIVE"}
    )
    text = render(record.model_copy(update={"checks": (*record.checks, lost)}))
    page = read(text)
    assert f"{lost.id} nowhere" in " ".join(page.text.split())
    assert text.count('<span class="arm">nowhere</span>') >= 2
    (table,) = re.findall(
        r'<table class="verdicts">(?:(?!</table>).)*colgroup" colspan="1">nowhere.*?</table>', text, re.S
    )
    assert table.count('<tr><th scope="row">') == 1, "rules that were evaluated elsewhere have no row there"


def test_a_pair_the_wrong_way_round_is_said_at_once() -> None:
    page = render(example())
    assert "1 of 2 pairs are the wrong way round." in page
    assert "the stronger view&#39;s attack is too weak" in page
    fine = tuple(o for o in example().leakage_order if not o.violated)
    calm = render(example().model_copy(update={"leakage_order": fine}))
    assert "None of the 1 pairs is the wrong way round beyond its interval." in calm
    assert "too weak" not in calm


def test_those_who_are_found_most_come_first() -> None:
    page = render(example())
    assert "highest in outlier decile" in page
    assert page.index(">outlier decile<") < page.index(">class 3<")


def test_what_was_rebuilt_stands_beside_what_needs_no_access() -> None:
    section = render(example()).split('id="inquiries"')[1].split("</section>")[0]
    for words in ("0.710", "prior only", "0.520", "one to one", "disclosed by the protocol", "12,000"):
        assert words in section
    assert "not tested: not in the plan" in section


def test_what_was_inferred_is_explained_where_it_is_shown() -> None:
    section = render(example()).split('id="inquiries"')[1].split("</section>")[0]
    for words in ("0.310", "share of the population", "mean absolute error of the share", "imputation"):
        assert words in section
    for sought in ("records", "labels", "property", "attribute"):
        assert section.count(wording.SOUGHT_MEANINGS[sought]) == 1
    assert wording.SOUGHT_MEANINGS["source"] not in section


def test_what_a_claim_leaves_stands_under_what_was_found_and_a_contradiction_is_said_twice() -> None:
    page = render(example())
    section = page.split('id="inquiries"')[1].split("</section>")[0]
    assert "under its claim at most 73.1 % could be identified" in section
    assert "no bound: the claim leaves out: set of labels of each client" in section
    assert wording.CEILING in section
    for part in (section, page.split('id="dp"')[1].split("</section>")[0]):
        assert "the claim and the measurement contradict each other" in part
        assert "at least 95.0 % identified, 73.1 % allowed" in part


def test_without_a_claim_nothing_is_said_of_one() -> None:
    record = example().model_copy(update={"inquiries": example().inquiries[:2]})
    section = render(record).split('id="inquiries"')[1].split("</section>")[0]
    assert "claim" not in section
    assert "no bound" not in section


def with_pictures() -> Record:
    picture = Picture(rebuilt="AAAA", member="BBBB", decoy="", prior="CCCC", named=True)
    first, *rest = example().inquiries
    shown = (first.model_copy(update={"pictures": (picture,)}), *rest)
    return example().model_copy(update={"inquiries": shown, "confidential": True})


def test_private_pictures_are_shown_only_in_a_file_that_says_so() -> None:
    page = render(with_pictures())
    assert "CONFIDENTIAL: this file shows private records" in page
    images = read(page).named("img")
    assert [i.attributes["src"] for i in images] == [
        f"data:image/png;base64,{code}" for code in ("AAAA", "BBBB", "CCCC")
    ]
    assert all(i.attributes["alt"] for i in images)
    plain = render(example())
    assert "CONFIDENTIAL" not in plain
    assert "Pictures are withheld" in plain


def test_a_picture_is_base64_and_nothing_else() -> None:
    with pytest.raises(ValueError, match="should match pattern"):
        Picture(rebuilt="x onerror=alert(1)", member="", decoy="", prior="", named=False)
