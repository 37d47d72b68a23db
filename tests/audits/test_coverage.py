"""What each attack reads on which records, and what is said where it has nothing to read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attacks.loss import LossThreshold
from audits.absence import why_absent
from audits.coverage import (
    CLIENT,
    IMAGE_ONLY,
    KNOWN_TO_SERVER,
    LEFT_OUT,
    MODEL,
    OBSERVERS,
    SERVER,
    SYNTHETIC,
    Probe,
    Scope,
    every,
    inquiries,
    left_out,
    probes,
    why_not_asked,
)
from audits.inquiry_list import inquiries_listed
from privfed.nets import NetSpec, Params, initial, representation_of
from privfed.release import CLIENTS, PUBLIC, Observer, Release, Transcript, client_name

MODALITIES: tuple[Any, ...] = ("images", "text")
SUITES: tuple[Any, ...] = ("standard", "full")
UNITS: tuple[Any, ...] = ("record", "client", "subject")
SPEC = NetSpec("mlp", 1, 6, 4, width=8, depth=1)
WHOLE = initial(SPEC, torch.Generator().manual_seed(0))
PART = representation_of(SPEC, WHOLE)


class BrandNew(LossThreshold):
    """Score records in a way of its own."""


def probe(name: str, observer: Observer) -> Probe:
    return next(p for p in every("images") if (p.name, p.observer) == (name, observer))


def transcript(update: Params | None, broadcast: Params, large: Params = WHOLE) -> Transcript:
    releases = [Release(r, "server", CLIENTS, "weights", "surrogate", broadcast) for r in (0, 1)]
    if update is not None:
        releases += [Release(0, client_name(0), "server", "weights", "update", update, 0)]
    releases += [Release(1, "server", PUBLIC, "weights", "large", large)]
    return Transcript(tuple(releases), {"surrogate": SPEC, "large": SPEC})


TEXT = Scope("text", "full")
FULL = Scope(suite="full")


def test_sentences_meet_every_attack_but_those_on_images_alone() -> None:
    assert {p.name for p, _ in left_out(TEXT)} == {p.name for p in every("text") if p.image_only}
    assert {reason for _, reason in left_out(TEXT)} == {IMAGE_ONLY}
    assert "distil-and-test" in {p.name for p, _ in left_out(TEXT)}
    assert left_out(FULL) == ()
    assert {(p.name, p.observer) for p in every("images")} == {(p.name, p.observer) for p in every("text")}


def test_whatever_the_scope_every_attack_is_run_or_left_out_with_a_reason() -> None:
    for scope in (Scope(m, s, u) for m in MODALITIES for s in SUITES for u in UNITS):
        run, rest = probes(scope), left_out(scope)
        assert [*run, *(p for p, _ in rest)] != []
        assert {(p.name, p.observer) for p in (*run, *(p for p, _ in rest))} == {
            (p.name, p.observer) for p in every(scope.modality)
        }
        assert len(run) + len(rest) == len(every(scope.modality))
        assert all(reason for _, reason in rest)


def test_a_plan_may_leave_attacks_out_and_the_report_says_so() -> None:
    scope = Scope(suite="full", leave_out=frozenset({"RMIA", "MIFace"}))
    assert {(p.name, reason) for p, reason in left_out(scope)} == {("RMIA", LEFT_OUT)}
    assert "RMIA" not in {p.name for p in probes(scope)}
    rest = [q for q in inquiries_listed() if q not in inquiries(scope)]
    assert [(q.name, why_not_asked(q, scope)) for q in rest] == [("MIFace", LEFT_OUT)]


def test_the_server_is_not_asked_which_clients_take_part() -> None:
    of_clients = Scope(unit="client", suite="full")
    assert {p.observer.role for p in probes(of_clients)} == {"client", "outsider"}
    assert KNOWN_TO_SERVER in {reason for _, reason in left_out(of_clients)}


def test_what_was_generated_is_called_what_it_is() -> None:
    for modality, called in (("images", "synthetic images"), ("text", "synthetic sentences (embeddings)")):
        found = {p.artefact for p in probes(Scope(modality)) if p.observer == SYNTHETIC}  # type: ignore[arg-type]
        assert found == {called}


@pytest.mark.parametrize("modality", ["images", "text"])
def test_no_two_attacks_of_one_observer_share_a_name(modality: Any) -> None:
    """A rule is judged on its attacks by name: of two with one name, one would go unjudged."""
    names = [(p.name, p.observer.label) for p in every(modality)]
    assert len(set(names)) == len(names)


def test_probes_differ_between_modalities_in_words_alone() -> None:
    """What is read has the same address, so that a federation's signals do not depend on the words."""
    pairs = zip(every("text"), every("images"), strict=True)
    assert all(repr(a.attack) == repr(b.attack) for a, b in pairs)


HEADLESS = "is a representation without its head"
UNFITTED = "no labelled records to fit a head for the"


@pytest.mark.parametrize(
    ("name", "observer", "seen", "has_prior", "reason"),
    [
        ("LiRA online", SERVER, transcript(PART, PART), True, f"{UNFITTED} client update on, which"),
        ("RMIA", CLIENT, transcript(WHOLE, PART), True, f"{UNFITTED} broadcast surrogate on, which"),
        ("loss threshold", MODEL, transcript(WHOLE, WHOLE, PART), True, f"{UNFITTED} released model on"),
        ("loss threshold", SERVER, transcript(None, WHOLE), True, "this arm has no client update"),
        ("nearest neighbour", SYNTHETIC, transcript(WHOLE, WHOLE), True, "this arm has no synthetic"),
        ("distil-and-test", SERVER, transcript(None, WHOLE), True, "this arm has no client update"),
        ("distil-and-test", SERVER, transcript(WHOLE, WHOLE), False, "the setting has no generative prior"),
        ("distil-and-test", SERVER, transcript(PART, PART), True, f"the client update {HEADLESS}, from"),
        ("distil-and-test", SERVER, transcript(WHOLE, PART), True, "nothing could be distilled from the"),
        ("distil-and-test", SERVER, transcript(WHOLE, WHOLE), True, "nothing could be distilled from the"),
    ],
)
def test_the_reason_names_what_is_missing(
    name: str, observer: Observer, seen: Transcript, has_prior: bool, reason: str
) -> None:
    assert why_absent(probe(name, observer), seen, has_prior).startswith(reason)


def test_an_attack_that_nobody_listed_is_run_by_every_observer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file in the folder is enough: its default attack is in the full suite."""
    every.cache_clear()
    monkeypatch.setattr("audits.catalogue.names", lambda kind: {"brand_new": BrandNew})
    try:
        found = [p for p in every("images") if isinstance(p.attack, BrandNew)]
    finally:
        every.cache_clear()
    assert [p.observer for p in found] == list(OBSERVERS)
    assert {(p.name, p.standard) for p in found} == {("brand new", False)}
