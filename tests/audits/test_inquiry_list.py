"""The list of what asks for the data: names, suites, and released records judged in a game."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from audits.coverage import IMAGE_ONLY, NOT_IN_SUITE, Scope, inquiries, why_not_asked
from audits.examination import Examined, examine
from audits.game import jobs_of, play, read_back
from audits.inquiry import Inquiry
from audits.inquiry_list import inquiries_listed
from audits.plan import read_plan
from audits.setting import prepare
from privfed.datasets import load
from tests.audits import tiny

AS_RELEASED = {
    "synthetic records as they are": "outsider with synthetic",
    "distilled records as they are": "server",
    "generated bank as it is": "server",
    "generator samples": "outsider with generator",
}


def listed(name: str) -> Inquiry:
    (found,) = (q for q in inquiries_listed() if q.name == name)
    return found


def examined(root: Path, plan: str, data: str, arm: str) -> dict[str, Examined]:
    """The four in the federations that are asked of one arm of a tiny plan, by name."""
    ready = read_plan(str(tiny.write(root, plan)))
    setting = prepare(ready, 0, load(data, root), ready.plan.seed, root)
    at = [a.id for a in ready.arms].index(arm)
    asks = tuple(listed(name) for name in AS_RELEASED)
    jobs = jobs_of(setting, ready.arms[at], ready.plan.federations, (), root, asks)
    play(jobs, workers=1, advance=lambda done: None)
    played = read_back(jobs)
    return {q.name: examine(q, played, setting) for q in asks}


def figure(found: Examined) -> Any:
    assert found.crashed == ""
    assert found.measure is not None
    return found.measure(0.999)


def test_no_two_of_one_observer_share_a_name() -> None:
    names = [(q.name, q.observer.label) for q in inquiries_listed()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("name", "observer"), AS_RELEASED.items())
def test_released_records_are_looked_at_in_every_audit_of_records(name: str, observer: str) -> None:
    assert listed(name).observer.label == observer
    for modality in ("images", "text"):
        assert listed(name) in inquiries(Scope(modality))


def test_guided_inversion_is_of_images_and_of_the_full_suite() -> None:
    guided = listed("pseudo-label guided inversion")
    assert guided.observer.label == "outsider with large"
    assert why_not_asked(guided, Scope()) == NOT_IN_SUITE
    assert why_not_asked(guided, Scope("text", "full")) == IMAGE_ONLY
    assert guided in inquiries(Scope(suite="full"))


def test_a_twin_that_publishes_its_records_shows_them(tmp_path: Path) -> None:
    found = examined(tmp_path, tiny.PLAN, "digits", "positive-twin")
    for name in ("synthetic records as they are", "distilled records as they are"):
        assert figure(found[name]).value == 1.0
        assert found[name].details["one to one"](0.95).value == 1.0


def test_a_twin_that_never_saw_them_shows_nobody(tmp_path: Path) -> None:
    found = examined(tmp_path, tiny.PLAN, "digits", "null-twin")
    published = found["synthetic records as they are"]
    assert figure(published).lower <= published.chance <= figure(published).upper
    assert found["generator samples"].measure is None


def test_embedded_sentences_of_a_generator_are_looked_at_as_images_are(tmp_path: Path) -> None:
    found = examined(tmp_path, tiny.TEXT, "sentiment:12", "fedbkd")
    for name in ("synthetic records as they are", "generated bank as it is", "generator samples"):
        assert 0.0 <= figure(found[name]).value <= 1.0
        assert "PSNR to the nearest member, dB" not in found[name].details
    assert found["distilled records as they are"].measure is None
