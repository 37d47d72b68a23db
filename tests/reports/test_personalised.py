"""The clients' own models: in both reports, beside their like alone."""

from __future__ import annotations

from reports import findings, html, markdown, tradeoff, wording
from reports.record import PERSONALISED, Record, Utility
from tests.reports.example import example
from tests.reports.example_results import estimate


def own(arm: str, value: float, setting: str = "same-classes") -> Utility:
    return Utility(setting=setting, arm=arm, model=PERSONALISED, estimate=estimate("accuracy", value, 0.01))


def record(*rows: Utility) -> Record:
    return example().model_copy(update={"utility": (*example().utility, *rows)})


def compared(found: Record) -> list[tuple[str, str]]:
    return [
        (c.theirs.arm, c.theirs.model) for c in findings.comparisons(found) if c.ours.model == PERSONALISED
    ]


def test_they_are_compared_with_the_personalised_models_of_a_baseline_alone() -> None:
    assert compared(record(own("feddgm", 0.99))) == []
    assert compared(record(own("feddgm", 0.99), own("prior-only", 0.8))) == [("prior-only", PERSONALISED)]


def test_no_other_model_is_compared_with_them() -> None:
    """They are tested on fewer classes: the best model of a baseline is not among them."""
    found = record(own("feddgm", 0.99), own("prior-only", 0.999))
    others = [c for c in findings.comparisons(found) if c.ours.model != PERSONALISED]
    assert others
    assert all(c.theirs.model != PERSONALISED for c in others)
    only = found.model_copy(update={"utility": (own("prior-only", 0.9), *example().utility[:3])})
    assert [c for c in findings.comparisons(only) if c.ours.model != PERSONALISED] == []


def test_a_dotted_line_is_never_at_their_accuracy() -> None:
    unseen = tuple(t for t in example().tradeoff if t.arm != "prior-only")
    found = record(own("prior-only", 0.999)).model_copy(update={"tradeoff": unseen})
    panels = dict(tradeoff.trade_off(found))["same-classes"]
    without = dict(tradeoff.trade_off(example().model_copy(update={"tradeoff": unseen})))["same-classes"]
    assert panels == without
    assert any(r.arm == "prior-only" for p in panels for r in p.references)


def test_both_reports_show_them_and_say_what_they_are() -> None:
    found = record(own("feddgm", 0.87), own("fedavg", 0.76, "other-classes"))
    assert [u.arm for u in findings.personalised(found)] == ["feddgm", "fedavg"]
    for page in (html.render(found), markdown.render(found)):
        assert "0.870 [0.860, 0.880]" in page.replace("\\", "")
        assert "0.760 [0.750, 0.770]" in page.replace("\\", "")
        assert "one another only" in page


def test_a_record_without_them_does_not_mention_them() -> None:
    for page in (html.render(example()), markdown.render(example())):
        assert PERSONALISED not in page.lower()
    assert PERSONALISED in wording.PERSONALISED_MEANING.lower()
