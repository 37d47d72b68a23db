"""Controls: a planted leak must be found, chance must look like chance, members must not differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from audits import controls
from audits.coverage import SERVER, probes
from audits.evidence import Evidence
from audits.plan import Arm
from privfed.generator import GeneratorTraining
from privfed.hooks import Hooks
from privfed.pipelines.fedbkd import FedBKD
from privfed.pipelines.feddgm import FedDGM
from privfed.pipelines.twin import Twin
from privfed.randomness import Stream
from privfed.records import Records
from tests.audits.designs import Design, most_misses
from tests.audits.null_games import null_settings

PROBE = next(p for p in probes() if p.observer == SERVER)


def evidence(shift: float, seed: int = 0, canaries: int = 0) -> Evidence:
    scores, included = Design(shift, difficulty=1.0).draw(np.random.default_rng(seed), 12, 120)
    return Evidence(PROBE, scores, included, np.arange(120) < canaries, Stream(seed))


@pytest.mark.parametrize(("shift", "found"), [(4.0, True), (0.0, False), (0.3, False)])
def test_a_planted_leak_must_be_found(shift: float, found: bool) -> None:
    (control,) = controls.positive("s", "twin", [evidence(shift)], 0.6)
    assert control.passed == found
    assert (control.kind, control.arm, control.observer) == ("positive", "twin", "server")
    assert control.attack == PROBE.name
    assert control.expectation == "lower bound of the AUC >= 0.6"
    assert bool(control.reason) != found


def test_the_leak_is_looked_for_among_canaries_where_there_are_some() -> None:
    """Natural records may be easy to tell for other reasons; what was planted are the canaries."""
    whole = evidence(4.0, canaries=40)
    assert whole.scores is not None
    blurred = whole.scores.copy()
    blurred[:, :40] = np.random.default_rng(1).normal(size=(12, 40))
    (control,) = controls.positive("s", "twin", [replace(whole, scores=blurred)], 0.6)
    assert not control.passed


def control_arm(pipeline: Any) -> Arm:
    return Arm("control", "Control", "control", "any", pipeline, (), Hooks(), None)


@pytest.mark.parametrize(
    ("pipeline", "of_models", "of_sets"),
    [
        (Twin("members"), "positive", "positive"),
        (Twin("public"), "negative", "negative"),
        (FedDGM(initial="real"), "positive", "positive"),
        (FedBKD(planted=True), "", "positive"),
        (FedBKD(generator=GeneratorTraining("released")), "", "negative"),
        (FedBKD(), "", ""),
        (FedBKD(generator=None), "positive", "positive"),
    ],
    ids=["members", "public", "real", "planted", "released", "conditioned", "no-generator"],
)  # fmt: skip
def test_what_a_control_arm_promises(pipeline: Any, of_models: str, of_sets: str) -> None:
    """FedBKD's clients train on their records whatever its generator does: no promise about models."""
    for probe in probes():
        read = getattr(probe.attack.observation, "artefact", "")
        wanted = of_sets if read in ("generator", "bank", "synthetic") else of_models
        assert controls.expected(control_arm(pipeline), probe) == wanted


@pytest.mark.parametrize(("shift", "chance"), [(0.0, True), (1.5, False), (-1.5, False)])
def test_membership_that_reached_nothing_must_be_at_chance(shift: float, chance: bool) -> None:
    (control,) = controls.negative("s", "a", [evidence(shift)], family=20)
    assert control.passed == chance
    assert control.expectation == "interval of the AUC at 99.8750% a side holds 0.5"


def test_sound_instruments_rarely_fail_any_control() -> None:
    """The level is shared by the family, so that at most one audit in twenty has a false alarm."""
    audits = 60
    alarms = 0
    for audit in range(audits):
        family = [evidence(0.0, seed=1000 * audit + k) for k in range(10)]
        alarms += not all(c.passed for c in controls.negative("s", "a", family, len(family)))
    assert alarms <= most_misses(audits)


def test_an_attack_that_crashed_held_no_control() -> None:
    """A control that could not be run is a failed one, never a missing one."""
    broken = replace(evidence(0.0), scores=None, crashed="ZeroDivisionError: planted")
    for found in (controls.positive("s", "twin", [broken], 0.6), controls.negative("s", "a", [broken], 1)):
        (control,) = found
        assert (control.passed, control.estimate) == (False, None)
        assert control.reason == "crashed: ZeroDivisionError: planted"


def test_an_attack_without_scores_has_no_control() -> None:
    silent = replace(evidence(0.0), scores=None)
    assert controls.positive("s", "twin", [silent], 0.6) == []
    assert controls.negative("s", "a", [silent], 1) == []


@pytest.mark.parametrize(("shift", "passed"), [(0.0, True), (1.0, False)])
def test_members_that_differ_before_training_are_noticed(shift: float, passed: bool) -> None:
    (setting,) = null_settings([1], 200)
    included = np.tile(np.random.default_rng(3).random(200) < 0.5, (4, 1))
    old = setting.candidates.records
    images = old.inputs + shift * torch.from_numpy(included[0])[:, None, None, None]
    brighter = replace(setting.candidates, records=Records(images.float(), old.labels))
    control = controls.blind(replace(setting, candidates=brighter), included, family=10)
    assert (control.kind, control.passed) == ("blind", passed)


def test_a_blind_classifier_that_cannot_be_fitted_held_no_control() -> None:
    """Without a single member there is nothing to tell apart; the trained audit is not lost for it."""
    (setting,) = null_settings([1], 40)
    control = controls.blind(setting, np.zeros((2, 40), dtype=bool), family=10)
    assert (control.passed, control.estimate) == (False, None)
    assert control.reason.startswith("crashed: ")
