"""Bytes counted by hand, and a meter that changes nothing of what it watches."""

from __future__ import annotations

import pytest
import torch

from audits.personalisation_meter import MeteredPersonal, Reading, metered
from audits.personalisation_methods import METHODS, averaging
from privfed.federation import Federation, Outcome, run
from privfed.pipelines.interface import Personalised, Pipeline, World
from privfed.randomness import Stream
from tests.audits.personal_setting import SPEC, TINY, Fixed, cohort

WHOLE = 4 * (16 + 4 + 16 + 4)
HEAD = 4 * (16 + 4)
LABELS = 8 * 2


def world() -> World:
    return World(SPEC, SPEC, cohort().probe, True)


def outcome(pipeline: Pipeline) -> Outcome:
    federation = Federation(tuple(c.train for c in cohort().clients), Stream(1))
    return run(pipeline, world(), [federation])[0]


def read(inner: Pipeline, rounds: int = TINY.rounds) -> Reading:
    reading = Reading(rounds)
    outcome(metered(inner, reading, averaging(TINY)))
    return reading


def of(name: str) -> Pipeline:
    build = METHODS[name].build
    assert build is not None
    return build(TINY)


@pytest.mark.parametrize(
    ("name", "up", "down"),
    [
        ("fedavg", WHOLE, WHOLE),
        ("fedprox", WHOLE, WHOLE),
        ("ditto", WHOLE, WHOLE),
        ("fedrep", WHOLE, WHOLE - HEAD),
        ("fedbkd", WHOLE + LABELS, WHOLE - HEAD + WHOLE),
        ("fedbkd-client", WHOLE, WHOLE - HEAD),
    ],
)
def test_bytes_of_a_client_and_round(name: str, up: int, down: int) -> None:
    reading = read(of(name))
    assert reading.jobs == 2 * TINY.rounds
    assert (reading.per_job(reading.up), reading.per_job(reading.down)) == (up, down)


def test_the_last_round_of_all_clients_does_not_count() -> None:
    """Two rounds of two clients count; the third, of four, does not."""
    reading = read(Fixed(rounds=3), rounds=2)
    assert (reading.jobs, reading.up, reading.down) == (4, 4 * (WHOLE + LABELS), 4 * 2 * WHOLE)


def test_processor_time_is_compared_with_the_median_of_the_yardstick() -> None:
    reading = Reading(5, jobs=3, client_seconds=6.0, yardstick_seconds=[1.0, 2.0, 4.0])
    assert reading.ratio == 1


def test_the_yardstick_is_timed_a_few_times_only() -> None:
    assert [len(read(Fixed(rounds=r), rounds=r).yardstick_seconds) for r in (2, 5, 13)] == [2, 5, 5]


@pytest.mark.parametrize("name", ["fedavg", "fedrep", "fedbkd"])
def test_a_metered_pipeline_releases_the_same_bits(name: str) -> None:
    plain, watched = outcome(of(name)), outcome(metered(of(name), Reading(2), averaging(TINY)))
    for a, b in zip(plain.transcript.releases, watched.transcript.releases, strict=True):
        assert all(torch.equal(a.tensors[k], b.tensors[k]) for k in a.tensors)


@pytest.mark.parametrize(("name", "personal"), [("fedavg", False), ("fedrep", True), ("ditto", True)])
def test_a_metered_pipeline_is_personal_where_it_was(name: str, personal: bool) -> None:
    assert isinstance(metered(of(name), Reading(1), averaging(TINY)), Personalised) == personal


def test_a_personal_meter_needs_a_personal_pipeline() -> None:
    with pytest.raises(ValueError, match=r"expected a pipeline with personal models, got inner=FedAvg"):
        MeteredPersonal(averaging(TINY), Reading(1), averaging(TINY)).share(0)


def test_a_meter_says_of_its_pipeline_what_it_says_itself() -> None:
    inner = of("fedbkd")
    same = metered(inner, Reading(1), averaging(TINY))
    assert (same.rounds, same.fraction, same.outside_claim) == (
        inner.rounds,
        inner.fraction,
        inner.outside_claim,
    )
