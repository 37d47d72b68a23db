"""Asking for the data: members handed back are named, blind guesses are at chance, crashes are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attacks.interface import Floats, Inference, Known, Reconstruction
from attacks.source_inference import ClientConfidence
from audits import store
from audits.examination import Examined, examine
from audits.game import Played, jobs_of, members_of, read_key
from audits.inquiry import FEDERATIONS, Inquiry
from audits.probe import SERVER
from audits.property_game import label_shares
from audits.reading import inference_of, read, reconstruction_of
from audits.setting import Setting
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Transcript, View
from tests.audits.null_games import null_settings

CLIENTS, N, COUNT = 2, 80, 6


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVFED_CACHE", str(tmp_path))


@dataclass(frozen=True)
class Rebuilds:
    """Hands back whatever it is made with."""

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        found = Records(known.public.inputs[:3], known.public.labels[:3])
        return Reconstruction(found, torch.tensor([0, 1, -1]), np.array([0.1, 0.2, 0.3]), 7, True)


@dataclass(frozen=True)
class Infers:
    """Says that every client holds the labels in equal shares."""

    def infer(self, view: View, known: Known, stream: Stream) -> Inference | None:
        return Inference(np.full((CLIENTS, 10), 0.1))


def setting() -> Setting:
    (made,) = null_settings([3], N, CLIENTS)
    return made


def asked(attack: Any, sought: Any = "records", **fields: Any) -> Inquiry:
    return Inquiry("attack", attack, SERVER, "client update", sought, **fields)


def played(where: Setting, inquiry: Inquiry, make: Callable[[int], dict[str, Any] | None]) -> Played:
    included = np.stack([where.units_in(f).numpy() for f in range(COUNT)])
    return Played(included, {}, {}, (), {read_key(inquiry): tuple(make(f) for f in range(COUNT))})


def rebuilt(records: list[Records], clients: list[int]) -> dict[str, Any]:
    return {
        "inputs": torch.cat([r.inputs for r in records]).numpy(),
        "labels": torch.cat([r.labels for r in records]).numpy(),
        "clients": np.repeat(clients, [len(r) for r in records]),
        "objective": np.zeros(sum(len(r) for r in records)),
        "spent": np.array([5, 0]),
    }


def examined(make: Callable[[Setting, int], dict[str, Any] | None], inquiry: Inquiry) -> Examined:
    where = setting()
    return examine(inquiry, played(where, inquiry, lambda f: make(where, f)), where)


def test_members_handed_back_are_named_every_time() -> None:
    def members(where: Setting, f: int) -> dict[str, Any]:
        held = [r.take(torch.arange(4)) for r in members_of(where, f)]
        return rebuilt(held, [0, 1])

    found = examined(members, asked(Rebuilds()))
    assert found.measure is not None
    assert found.measure(0.95).value == 1.0
    assert found.details["one to one"](0.95).value == 1.0
    assert found.details["PSNR to the nearest member, dB"](0.95).value == 100.0
    assert 0.4 < found.chance < 0.6
    assert (found.work, found.asked) == (5 * COUNT, COUNT)


def test_noise_names_members_as_often_as_they_are_among_the_candidates() -> None:
    def noise(where: Setting, f: int) -> dict[str, Any]:
        draw = [
            Records(torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(100 * f + k)) * 2 - 1,
                    torch.zeros(20, dtype=torch.int64))
            for k in range(CLIENTS)
        ]  # fmt: skip
        return rebuilt(draw, [0, 1])

    found = examined(noise, asked(Rebuilds()))
    assert found.measure is not None
    estimate = found.measure(0.999)
    assert estimate.lower is not None
    assert estimate.upper is not None
    assert estimate.lower <= found.chance <= estimate.upper


def test_what_needs_no_access_stands_beside() -> None:
    def public(where: Setting, f: int) -> dict[str, Any]:
        return rebuilt([where.candidates.public.take(torch.arange(4))], [0])

    found = examined(public, asked(Rebuilds()))
    assert set(found.baselines) == {"nearest public record", "public class means"}
    assert found.measure is not None
    # Public records are their own nearest public records.
    assert found.baselines["nearest public record"](0.95).value == found.measure(0.95).value


def test_whoever_they_are_of_a_model_of_all_is_asked_about_all() -> None:
    def somebody(where: Setting, f: int) -> dict[str, Any]:
        members = where.candidates.records.take(where.members(f)).take(torch.arange(4))
        return rebuilt([members], [-1])

    found = examined(somebody, asked(Rebuilds()))
    assert found.measure is not None
    assert found.measure(0.95).value == 1.0


def test_labels_read_off_the_truth_are_perfect_and_equal_shares_say_nothing() -> None:
    truth = examined(lambda w, f: {"values": label_shares(members_of(w, f), 10)}, asked(Infers(), "labels"))
    assert truth.measure is not None
    assert truth.measure(0.95).value == 1.0
    assert truth.details["L1 error of the shares"](0.95).value == pytest.approx(0.0)
    equal = examined(lambda w, f: {"values": np.full((CLIENTS, 10), 0.1)}, asked(Infers(), "labels"))
    assert equal.measure is not None
    assert equal.measure(0.95).value == 0.5


def test_labels_told_by_their_shares_of_the_population_are_shown_to_need_no_access() -> None:
    """All clients hold the first half of the labels alone, and so does the population."""
    (where,) = null_settings([3], N, CLIENTS)
    known = where.candidates
    halved = replace(
        known,
        records=Records(known.records.inputs, known.records.labels % 5),
        population=Records(known.population.inputs, known.population.labels % 5),
    )
    where, inquiry = replace(where, candidates=halved), asked(Infers(), "labels")
    truth = played(where, inquiry, lambda f: {"values": label_shares(members_of(where, f), 10)})
    found = examine(inquiry, truth, where)
    assert found.measure is not None
    assert found.measure(0.95).value == 1.0
    guessed = found.baselines["shares of the population"](0.95).value
    assert guessed is not None
    assert guessed > 0.95


def test_disclosed_sets_are_no_shares() -> None:
    def sets(where: Setting, f: int) -> dict[str, Any]:
        return {"values": (label_shares(members_of(where, f), 10) > 0).astype(np.float64)}

    found = examined(sets, asked(Infers(), "labels", disclosed=True))
    assert (found.details, found.baselines) == ({}, {})


def test_nothing_to_read_a_crash_and_a_strange_answer_are_told_apart() -> None:
    inquiry, where = asked(Rebuilds()), setting()
    nothing = examine(inquiry, played(where, inquiry, lambda f: None), where)
    assert (nothing.measure, nothing.crashed, nothing.asked) == (None, "", COUNT)
    failed = replace(played(where, inquiry, lambda f: None), failures={read_key(inquiry): "ValueError: no"})
    assert examine(inquiry, failed, where).crashed == "ValueError: no"
    strange = examine(inquiry, played(where, inquiry, lambda f: {"values": np.zeros(2)}), where)
    assert strange.crashed.startswith("KeyError")


def test_what_is_read_survives_the_store(tmp_path: Path) -> None:
    where, view = setting(), Transcript((), {}).view(SERVER)
    store.keep_arrays(tmp_path, "a", read(Rebuilds(), view, where.candidates, Stream(0)))
    store.keep_arrays(tmp_path, "b", read(Infers(), view, where.candidates, Stream(0)))
    arrays, shares = store.recall_arrays(tmp_path, "a"), store.recall_arrays(tmp_path, "b")
    assert arrays is not None
    assert shares is not None
    found = reconstruction_of(arrays)
    assert found.records.inputs.equal(where.candidates.public.inputs[:3])
    assert (found.clients.tolist(), found.work, found.stopped_early) == ([0, 1, -1], 7, True)
    assert inference_of(shares).values.shape == (CLIENTS, 10)


def test_only_the_first_federations_are_asked(tmp_path: Path) -> None:
    class Arm:
        id, pipeline, hooks, delta, tuning, server = "arm", None, None, None, None, None

    made = jobs_of(setting(), Arm(), 10, (), tmp_path, (asked(Infers(), "labels"),))  # type: ignore[arg-type]
    assert [len(j.asks) for j in made] == [1, 0, 0]
    assert not any(j.reads for j in made)
    assert FEDERATIONS == 4


def test_the_owner_is_named_or_guessed_and_counts_of_classes_are_the_chance() -> None:
    inquiry, where = asked(ClientConfidence(), "source"), setting()
    owners = where.candidates.clients.numpy()
    right = np.eye(CLIENTS)[owners]
    blind = np.random.default_rng(0).normal(size=right.shape)

    def of(signals: Floats) -> Examined:
        arrays = {
            "candidates": signals,
            "population": np.zeros((1, CLIENTS, 1)),
            "clients": np.zeros(N, dtype=np.int64),
        }
        return examine(inquiry, played(where, inquiry, lambda f: arrays), where)

    known, unknown = of(right), of(blind)
    assert known.measure is not None
    assert unknown.measure is not None
    assert known.measure(0.95).value == 1.0
    estimate = unknown.measure(0.999)
    assert estimate.lower is not None
    assert estimate.upper is not None
    assert estimate.lower < 0.5 < estimate.upper
    assert known.chance >= 1 / CLIENTS
    assert all(name.startswith("class ") for name in known.details)
