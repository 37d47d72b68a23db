"""One case: a planted leak is found, a guess is at chance, nothing is a miss, and results are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks._descent import Budget
from attacks.interface import Known, Reconstruction
from audits import reconstruction_attacks as attacks
from audits import reconstruction_federation as federation
from audits import reconstruction_run as running
from audits.reconstruction_cases import Case, grid
from audits.reconstruction_deal import deal, pool
from audits.reconstruction_likeness import MOST, Likeness
from audits.reconstruction_run import Result, Work, measure, perform, place, recall, shared_labels
from audits.reconstruction_sources import sources
from audits.store import write_json
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

FIRST = Case("records", "mlp", "analytic")
WORK = Work("digits", FIRST, 0, 4)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Public records at random, one a client; `clients` of them."""

    clients: int

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        if not self.clients:
            return None
        index = torch.randint(len(known.public), (self.clients,), generator=stream.torch())
        return Reconstruction(
            known.public.take(index), torch.arange(self.clients), np.zeros(self.clients), 0, False
        )


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Budgets with which every attack runs, if not well."""
    few = Budget(iterations=2, patience=2)
    for name in ("ITERATIONS", "FEWER", "LAYERED", "LINE_SEARCHES"):
        monkeypatch.setattr(attacks, name, few)
    monkeypatch.setattr(attacks, "TRIALS", 512)
    monkeypatch.setattr(federation, "PRIOR", replace(federation.PRIOR, widths=(8,), steps=2))
    monkeypatch.setattr(federation, "MATCHING", replace(federation.MATCHING, iterations=2))
    federation.prior_of.cache_clear()
    yield
    federation.prior_of.cache_clear()


def no_run(*_: object) -> Result:
    raise AssertionError("run again")


def test_what_a_lone_record_moved_is_found_exactly() -> None:
    got = measure(WORK)
    assert [one.first for one in got.attacked] == [1.0] * 4
    assert [one.found for one in got.attacked] == [1.0] * 4
    assert all(one.decibels == MOST for one in got.attacked)
    assert [one.first_seen for one in got.attacked] == [1.0] * 4
    for copy, mean in zip(got.attacked, got.means, strict=True):
        assert copy.structure == pytest.approx(1.0, abs=1e-6)
        assert copy.perceptual == pytest.approx(0.0, abs=1e-3)
        assert mean.structure is not None
        assert mean.perceptual is not None
        assert mean.structure < 0.95
        assert mean.perceptual > 0.01
    assert got.labels == (1.0,) * 4
    assert got.chance == got.member_chance == (1 / 101,) * 4
    assert got.bound is None


def test_a_guess_is_at_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 clients of 8 members, 104 decoys each: more than 10 hits come once in 10,000 runs."""
    monkeypatch.setattr(running, "attack_of", lambda *_: Drawn(40))
    got = measure(Work("digits", replace(FIRST, records=8), 0, 40))
    assert all(c == pytest.approx(8 / 112) for c in got.chance)
    assert sum(one.first for one in got.attacked) <= 10
    assert sum(one.first_seen for one in got.attacked) <= 10
    assert np.mean([one.every for one in got.drawn]) < 0.2


def test_of_whom_nothing_came_out_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "attack_of", lambda *_: Drawn(0))
    got = measure(WORK)
    assert got.pictures == (0,) * 4
    assert got.attacked == (Likeness(0.0, None, 0.0, None, None, None, 0.0, None),) * 4
    monkeypatch.setattr(running, "attack_of", lambda *_: Drawn(2))
    assert measure(WORK).pictures == (1, 1, 0, 0)


def test_a_claim_brings_its_bound() -> None:
    got = measure(replace(WORK, case=replace(FIRST, axis="defence", defence="DP-SGD")))
    assert got.bound is not None
    assert 1 / 101 < got.bound < 1
    several = replace(FIRST, axis="defence", defence="DP-SGD", records=2)
    assert measure(replace(WORK, case=several)).bound is None


def test_head_epochs_alone_give_no_first_layer() -> None:
    heads = measure(replace(WORK, case=replace(FIRST, axis="fedbkd", pipeline="fedbkd heads")))
    assert heads.pictures == (0,) * 4
    whole = measure(replace(WORK, case=replace(FIRST, axis="fedbkd", pipeline="fedbkd")))
    assert [one.first for one in whole.attacked] == [1.0] * 4


def test_an_attack_on_a_later_round_sees_that_round_alone() -> None:
    case = replace(FIRST, axis="round", round=3)
    attack = attacks.attack_of("analytic", case, 64)
    dealt = deal(pool("digits"), case, 2, Stream(0))
    seen = federation.observed("digits", case, attack, dealt, Stream(0))
    assert {r.round for r in seen.view.releases} == {3}
    assert [one.first for one in measure(replace(WORK, case=case)).attacked] == [1.0] * 4


def kinds() -> list[Case]:
    """One small case of every attack, pipeline and defence of the grid."""
    found: dict[tuple[str, ...], Case] = {}
    for case in grid():
        small = replace(case, records=min(case.records, 2), epochs=min(case.epochs, 2))
        found.setdefault((case.attack, case.pipeline, case.defence), small)
    return list(found.values())


@pytest.mark.parametrize("case", kinds(), ids=str)
@pytest.mark.usefixtures("short")
def test_every_kind_of_case_runs(case: Case) -> None:
    got = measure(Work("digits", case, 0, 2))
    assert len(got.attacked) == len(got.labels) == 2
    assert all(0 <= one.first <= 1 for one in got.attacked)
    assert (got.bound is None) == (case.defence != "DP-SGD")


@pytest.mark.usefixtures("short")
def test_what_is_not_distilled_changes_no_update() -> None:
    sent = []
    for name in ("surrogate point", "distilled images"):
        case = Case("feddgm", "convnet", name, 2, sharing="one class", pipeline="feddgm")
        dealt = deal(pool("digits"), case, 2, Stream(0))
        attack = attacks.attack_of(name, case, 64)
        sent.append(federation.observed("digits", case, attack, dealt, Stream(0)).view.select(name="update"))
    assert len(sent[0]) == len(sent[1]) == 2
    for one, other in zip(*sent, strict=True):
        assert one.about == other.about
        for key, tensor in one.tensors.items():
            assert torch.equal(tensor, other.tensors[key])


def test_labels_are_counted_as_a_multiset() -> None:
    def labelled(*labels: int) -> Records:
        return Records(torch.zeros(len(labels), 1), torch.tensor(labels, dtype=torch.int64))

    assert shared_labels(labelled(1, 1, 3), labelled(1, 3, 3, 2)) == 0.5
    assert shared_labels(labelled(), labelled(1)) == 0.0
    assert shared_labels(labelled(-1, 2), labelled(2)) == 1.0


def test_what_is_kept_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = perform(tmp_path, WORK)
    monkeypatch.setattr(running, "measure", no_run)
    assert perform(tmp_path, WORK) == first
    with pytest.raises(AssertionError, match="run again"):
        perform(tmp_path, replace(WORK, seed=1))


def test_a_damaged_result_counts_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "half.json"
    path.write_text('{"source": "dig', encoding="utf-8")
    assert recall(path) is None


def test_a_result_with_other_fields_counts_as_missing(tmp_path: Path) -> None:
    made = asdict(measure(WORK))
    path = tmp_path / "old.json"
    write_json(path, made)
    assert recall(path) is not None
    for field in ("perceptual", "first_seen"):
        write_json(
            path, {**made, "means": [{k: v for k, v in one.items() if k != field} for one in made["means"]]}
        )
        assert recall(path) is None
    write_json(path, {k: v for k, v in made.items() if k != "drawn"})
    assert recall(path) is None


def test_a_result_is_kept_under_all_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inverting = replace(WORK, case=replace(FIRST, attack="inverting gradients"))
    before = [
        place(tmp_path, w)
        for w in (
            WORK,
            replace(WORK, seed=1),
            replace(WORK, clients=5),
            replace(WORK, case=replace(FIRST, epochs=2)),
            inverting,
        )
    ]
    assert len(set(before)) == 5
    monkeypatch.setattr(attacks, "ITERATIONS", Budget(iterations=7))
    assert place(tmp_path, inverting) != before[-1]
    assert place(tmp_path, WORK) == before[0]


def test_a_new_attack_makes_no_other_result_old() -> None:
    found = set(sources("attacks.analytic_inversion"))
    assert {"attacks/_first_layer.py", "privfed/training.py", "defenses/soteria.py"} <= found
    assert {"audits/reconstruction_run.py", "audits/reconstruction_judge.py"} <= found
    assert "audits/reconstruction_likeness.py" in found
    assert not {"attacks/prior_inversion.py", "attacks/loki.py", "audits/reconstruction_cases.py"} & found
