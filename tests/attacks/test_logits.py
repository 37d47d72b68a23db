"""Students of exchanged logits: which records and logits go together, and whom a student gives away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attacks.interface import Candidates, Signals
from attacks.lira import Lira
from attacks.logits import ParrotedLogits, StudentConfidence
from attacks.loss import LossThreshold
from attacks.rmia import Rmia
from privfed.nets import NetSpec, Params, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, Release, Transcript, View
from tests.attacks.federations import (
    SPEC,
    candidates,
    extract,
    federations,
    logits,
    noise,
    play,
    server_view,
    shared_bank,
)
from tests.attacks.simulation import auc

BANK = noise(70, 30)
STUDENT = StudentConfidence(steps=20)


def net(seed: int) -> Params:
    return initial(SPEC, torch.Generator().manual_seed(seed))


def test_each_candidate_meets_the_student_of_its_own_client() -> None:
    known = candidates(9, 4)
    sent = [shared_bank(BANK, 0), *(logits(net(k), BANK, 1, k) for k in range(2))]
    found = extract(STUDENT, known, server_view(*sent))
    assert found.candidates.shape == (9, 1)
    assert found.population.shape == (4, 1, 2)
    owners = known.clients.numpy()
    np.testing.assert_array_equal(found.clients, owners)
    for k in range(2):
        alone = extract(STUDENT, known, server_view(sent[0], sent[1 + k]))
        np.testing.assert_array_equal(alone.candidates[owners == k], found.candidates[owners == k])
        np.testing.assert_array_equal(alone.population[:, 0, k], found.population[:, 0, k])
        assert np.isnan(alone.candidates[owners != k]).all()
        assert np.isnan(alone.population[:, 0, 1 - k]).all()


def test_a_student_is_confident_of_what_its_teacher_says() -> None:
    """Of the records that it was taught on; and not of a label that its teacher does not name."""
    known = Candidates(BANK, torch.zeros(70, dtype=torch.int64), noise(3, 0), noise(3, 1))
    sure = []
    for shift in (0, 1):
        given = {"logits": 8 * F.one_hot((BANK.labels + shift) % 5, 5).float()}
        sent = replace(logits(net(0), BANK, 1, 0), tensors=given)
        found = extract(StudentConfidence(), known, server_view(shared_bank(BANK, 0), sent))
        sure.append((found.candidates > 0).mean())
    assert sure == [1.0, 0.0]


def test_logits_are_about_the_newest_records_sent_before() -> None:
    known, later = candidates(6, 4), noise(70, 31)
    one = server_view(shared_bank(later, 1), logits(net(1), later, 2, 0))
    both = server_view(shared_bank(BANK, 0), *one.releases)
    after = server_view(*one.releases, shared_bank(BANK, 2))
    for view in (both, after):
        np.testing.assert_array_equal(
            extract(STUDENT, known, view).candidates, extract(STUDENT, known, one).candidates
        )


def test_all_rounds_teach() -> None:
    known, later = candidates(6, 4), noise(70, 31)
    first = (shared_bank(BANK, 0), logits(net(1), BANK, 1, 0))
    second = (shared_bank(later, 1), logits(net(1), later, 2, 0))
    alone, both = (extract(STUDENT, known, server_view(*s)).candidates for s in (second, first + second))
    assert not np.array_equal(alone[::2], both[::2])


@pytest.mark.parametrize(
    "releases",
    [
        (shared_bank(BANK, 0),),
        (logits(net(1), BANK, 1, 0),),
        (shared_bank(BANK, 1), logits(net(1), BANK, 1, 0)),
    ],
)
def test_without_logits_or_earlier_records_there_is_nothing_to_read(releases: tuple[Release, ...]) -> None:
    assert STUDENT.extract(server_view(*releases), candidates(4), Stream(0)) is None


def test_one_class_leaves_nothing_to_read() -> None:
    sent = (shared_bank(BANK, 0), logits(net(1), BANK, 1, 0))
    view = View(Observer("server"), sent, {"surrogate": replace(SPEC, classes=1)})
    assert STUDENT.extract(view, candidates(4), Stream(0)) is None


def test_a_client_is_not_taught_by_what_it_said_itself() -> None:
    sent = (shared_bank(BANK, 0), logits(net(1), BANK, 1, 0))
    view = Transcript(sent, {"surrogate": SPEC}).view(Observer("client", 0))
    assert len(view.releases) == 2
    assert STUDENT.extract(view, candidates(4), Stream(0)) is None


def test_embedded_text_is_taught_like_images() -> None:
    spec = NetSpec("lstm", channels=3, size=4, classes=2, hidden=(5, 4))
    generator = torch.Generator().manual_seed(0)
    text = Records(torch.randn(12, 4, 3, generator=generator), torch.arange(12) % 2)
    given = {"logits": torch.randn(12, 2, generator=generator)}
    sent = (shared_bank(text, 0), Release(1, "client:0", "server", "logits", "logits", given, 0))
    view = View(Observer("server"), sent, {"surrogate": spec})
    known = Candidates(text, torch.zeros(12, dtype=torch.int64), text, text)
    assert np.isfinite(extract(STUDENT, known, view).candidates).all()


def test_every_attack_on_confidences_reads_students() -> None:
    """Near-copies of members are among the records asked about, and teachers memorised members."""
    for attack in (ParrotedLogits(), Lira(StudentConfidence()), Rmia(StudentConfidence())):
        g = play(attack, leaky=True)
        assert auc(g.scores(attack), g.included) > 0.9
    g = play(LossThreshold(StudentConfidence()), leaky=True)
    assert auc(g.scores(LossThreshold(StudentConfidence())), g.included) > 0.8


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_the_score_is_that_of_lira(mode: Any) -> None:
    attack = ParrotedLogits(mode=mode)
    g = play(attack, leaky=True)
    np.testing.assert_array_equal(g.scores(attack), g.scores(Lira(StudentConfidence(), mode)))


def test_students_on_records_that_tell_nothing_are_at_chance() -> None:
    """One constant record, as FedBKD's released generator makes: logits on it say next to nothing."""
    known, included, views = federations(True)
    black = Records(torch.full((20, 1, 6, 6), -1.0), torch.arange(20) % 5)
    read: list[Signals] = []
    for view in views:
        models = [dict(r.tensors) for r in view.select("weights", "update") if r.round == 1]
        sent = [logits(p, black, 1, k) for k, p in enumerate(models)]
        read.append(extract(STUDENT, known, server_view(shared_bank(black, 0), *sent)))
    areas = [auc(s.candidates[:, 0], b) for s, b in zip(read, included, strict=True)]
    assert abs(np.mean(areas) - 0.5) < 3.3 * np.std(areas, ddof=1) / np.sqrt(len(areas))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {},
            r"expected logits of shape \(70, 5\), floating, in release 'logits' of round 1 from client:0",
        ),
        ({"logits": torch.zeros(70, 4)}, r"got logits=\(70, 4\) torch.float32"),
        ({"logits": torch.zeros(70, 5, dtype=torch.int64)}, r"got logits=\(70, 5\) torch.int64"),
        ({"logits": torch.full((70, 5), torch.nan)}, "expected finite logits in release 'logits' of round 1"),
    ],
)
def test_malformed_logits_are_refused(tensors: dict[str, torch.Tensor], message: str) -> None:
    sent = replace(logits(net(1), BANK, 1, 0), tensors=tensors)
    with pytest.raises(ValueError, match=message):
        STUDENT.extract(server_view(shared_bank(BANK, 0), sent), candidates(4), Stream(0))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"steps": 0}, "expected steps >= 1, got steps=0"),
        ({"batch": 0}, "expected batch >= 1, got batch=0"),
        ({"lr": 0.0}, "expected lr > 0, got lr=0.0"),
        ({"temperature": -1.0}, "expected temperature > 0, got temperature=-1.0"),
    ],
)
def test_knobs_that_make_no_sense_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudentConfidence(**knobs)
