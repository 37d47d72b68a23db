"""The game: jobs that depend on the plan alone, fair coins, lock step, and what is read back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.confidence import ModelConfidence
from attacks.interface import Candidates, Signals
from audits import game, store
from audits import setting as setting_module
from audits.coverage import probes
from audits.game import Job, counted, jobs_of, members_of, play, read_back, read_key
from audits.plan import Arm, read_plan
from audits.setting import Setting, key_of, prepare
from defenses.dp_sgd import DpSgd
from privfed.datasets import load
from privfed.federation import Outcome
from privfed.hooks import Spent, compose
from privfed.ledger import Ledger
from privfed.randomness import Stream
from privfed.records import concatenate
from privfed.release import Observer, Release, Transcript, View
from tests.audits import tiny

FEDERATIONS = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def setting(root: Path) -> Setting:
    return prepare(read_plan(str(tiny.write(root))), 0, load("digits"), 3, root)


@pytest.fixture(scope="module")
def arms(root: Path) -> dict[str, Arm]:
    return {a.id: a for a in read_plan(str(tiny.write(root))).arms}


def jobs(setting: Setting, arm: Arm, root: Path) -> tuple[Job, ...]:
    return jobs_of(setting, arm, FEDERATIONS, probes(), root)


def ignore(done: int) -> None:
    """Progress that nobody watches."""


def test_jobs_are_cut_by_the_plan_alone(setting: Setting, arms: dict[str, Arm], root: Path) -> None:
    found = jobs(setting, arms["fedavg"], root)
    assert [j.federations for j in found] == [(0, 1, 2, 3), (4, 5)]
    assert [f.name for j in found for f in j.folders] == [
        "0-of-0-3", "1-of-0-3", "2-of-0-3", "3-of-0-3", "4-of-4-5", "5-of-4-5",
    ]  # fmt: skip
    assert len({key for key, _, _ in found[0].reads}) == len(found[0].reads) < len(probes())


def test_the_address_is_of_all_that_shapes_a_federation(setting: Setting, arms: dict[str, Arm]) -> None:
    """Two arms with the same pipeline share their federations; anything else has its own."""
    fedavg, null = arms["fedavg"], arms["null-twin"]
    same = replace(fedavg, id="other", title="Other", role="baseline")
    assert key_of(setting, same) == key_of(setting, fedavg)
    others = [
        key_of(setting, null),
        key_of(setting, replace(fedavg, delta=1e-5)),
        key_of(replace(setting, digest="other"), fedavg),
        key_of(replace(setting, device="cuda"), fedavg),
    ]
    assert len({key_of(setting, fedavg), *others}) == 5


@pytest.mark.parametrize("package", ["numpy", "scipy", "opacus", "dp-accounting", "diffusers"])
def test_the_address_is_of_the_packages_that_shape_a_federation(
    package: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, data = read_plan(str(tiny.write(root))), load("digits")
    before = setting_module._made_of(plan, 0, data, 3)
    monkeypatch.setattr("audits.setting.version", lambda name: "0" if name == package else version(name))
    assert setting_module._made_of(plan, 0, data, 3) != before


class Colliding(str):
    """A name that falls into the same place of a set as any other, so that the set keeps their order."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 0


def test_what_is_read_has_the_same_address_in_every_process() -> None:
    """The order of a set of names differs between processes, and here by how it was filled."""
    names = (Colliding("large"), Colliding("synthetic"))
    one, two = (Observer("outsider", holds=frozenset(pair)) for pair in (names, names[::-1]))
    assert one == two
    assert repr(one) != repr(two)
    probe = probes()[0]
    assert read_key(replace(probe, observer=one)) == read_key(replace(probe, observer=two))
    assert read_key(replace(probe, observer=one)) != read_key(probe)


def test_membership_is_a_fair_coin_of_each_federation(setting: Setting) -> None:
    drawn = np.stack([setting.members(f).numpy() for f in range(200)])
    assert abs(drawn.mean() - 0.5) < 4 * 0.5 / drawn.size**0.5
    assert len({d.sum() for d in drawn}) > 5
    correlations = np.corrcoef(drawn[:, :20].T)
    assert np.abs(correlations[np.triu_indices(20, 1)]).max() < 0.35
    np.testing.assert_array_equal(drawn[3], setting.members(3).numpy())


def test_clients_hold_exactly_the_members(setting: Setting) -> None:
    held = members_of(setting, 2)
    assert len(held) == 2
    together = concatenate(list(held))
    assert len(together) == int(setting.members(2).sum())
    owners, inside = setting.candidates.clients, setting.members(2)
    assert [len(r) for r in held] == [int((inside & (owners == k)).sum()) for k in range(2)]


def test_what_was_played_is_read_back(setting: Setting, arms: dict[str, Arm], root: Path) -> None:
    work = jobs(setting, arms["null-twin"], root)
    steps: list[int] = []
    play(work, 1, steps.append)
    assert sorted(steps) == [2, 4]
    assert sum(j.missing() + j.unread() for j in work) == 0
    played = read_back(work)
    assert played.included.shape == (FEDERATIONS, 80)
    assert len(played.kept) == FEDERATIONS
    assert played.failures == {}
    seen = [read_key(p) for p in probes() if played.signals[read_key(p)] is not None]
    assert {read_key(p) for p in probes() if p.artefact == "released model"} <= set(seen)


def test_nothing_is_done_twice(
    setting: Setting, arms: dict[str, Arm], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = jobs(setting, arms["null-twin"], root)
    play(work, 1, ignore)
    monkeypatch.setattr(game, "run_job", None)
    play(work, 1, ignore)


def test_a_part_of_a_lock_step_that_was_kept_stays_as_it_is(
    setting: Setting, arms: dict[str, Arm], root: Path
) -> None:
    """What is trained again beside it comes out the same to the last bit."""
    work = jobs(setting, arms["null-twin"], root)
    play(work, 1, ignore)
    stays, goes = work[1].folders
    written = (stays / store.OUTCOME).stat().st_mtime_ns
    manifest = (goes / store.TRANSCRIPT / "manifest.json").read_bytes()
    (goes / store.OUTCOME).unlink()
    play(work, 1, ignore)
    assert (stays / store.OUTCOME).stat().st_mtime_ns == written
    assert (goes / store.TRANSCRIPT / "manifest.json").read_bytes() == manifest


def test_an_observation_that_crashes_is_noted_and_mended(
    setting: Setting, arms: dict[str, Arm], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = jobs(setting, arms["null-twin"], root)
    play(work, 1, ignore)
    key = next(read_key(p) for p in probes() if p.artefact == "released model")
    (work[1].folders[0] / f"signals-{key}.safetensors").unlink()

    def crash(*_: object) -> None:
        raise ValueError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(ModelConfidence, "extract", crash)
        play(work, 1, ignore)
    assert read_back(work).failures == {key: "ValueError: planted"}
    assert read_back(work).signals[key] is None
    play(work, 1, ignore)
    assert read_back(work).failures == {}


def test_a_federation_that_shows_nothing_where_others_do_is_a_failure(
    setting: Setting, arms: dict[str, Arm], root: Path
) -> None:
    """Not "not applicable": the row of the attack would vanish for the one that said nothing."""
    work = jobs(setting, arms["null-twin"], root)
    play(work, 1, ignore)
    key = next(read_key(p) for p in probes() if p.artefact == "released model")
    folder = work[0].folders[2]
    was = store.recall_signals(folder, key)
    store.keep_signals(folder, key, None)
    found = read_back(work)
    store.keep_signals(folder, key, was)
    assert (found.signals[key], found.failures) == (None, {key: "1 of 6 federations showed nothing"})
    assert read_back(work).failures == {}


def test_what_an_observation_may_not_return_is_a_failure_of_its_own(
    setting: Setting, arms: dict[str, Arm], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be kept must not stop the jobs of an arm that was trained."""
    work = jobs(setting, arms["null-twin"], root)
    play(work, 1, ignore)
    key = next(read_key(p) for p in probes() if p.artefact == "released model")
    for folder in work[1].folders:
        (folder / f"signals-{key}.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(ModelConfidence, "extract", lambda *_: Signals([["high"]], [], []))  # type: ignore[arg-type]
        play(work, 1, ignore)
    assert list(read_back(work).failures) == [key]
    play(work, 1, ignore)
    assert read_back(work).failures == {}


@dataclass(frozen=True, slots=True)
class Names:
    """An observation that notes what it is given to read."""

    artefact: str
    seen: dict[str, set[str]]

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> None:
        self.seen[f"{self.artefact} by {view.observer.role}"] = {r.name for r in view.releases}


def test_only_the_baseline_of_that_name_is_handed_the_true_class_means(
    setting: Setting, arms: dict[str, Arm], root: Path
) -> None:
    """An attack that could read them would find the members' own average, which nobody released."""
    work = jobs(setting, arms["null-twin"], root)
    play(work, 1, ignore)
    seen: dict[str, set[str]] = {}
    outsider = Observer("outsider", holds=frozenset({"synthetic"}))
    reads = [
        (f"names-{i}", observer, Names(artefact, seen))
        for i, (observer, artefact) in enumerate(
            (o, a)
            for o in (outsider, Observer("server"))
            for a in ("synthetic", "class_means", "client_means")
        )
    ]
    game._read(work[0], 0, work[0].folders[0], reads)
    means = {view: names & {"class_means", "client_means"} for view, names in seen.items()}
    assert means == {
        "synthetic by outsider": set(),
        "class_means by outsider": {"class_means"},
        "client_means by outsider": set(),
        "synthetic by server": set(),
        "class_means by server": {"class_means"},
        "client_means by server": {"client_means"},
    }
    assert "update" in seen["synthetic by server"]


def test_a_crash_in_one_job_lets_the_others_finish(
    setting: Setting, arms: dict[str, Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = jobs(setting, arms["null-twin"], tmp_path)
    train = game._train

    def first_crashes(job: Job) -> None:
        if 0 in job.federations:
            raise ValueError("planted")
        train(job)

    monkeypatch.setattr(game, "_train", first_crashes)
    told = r"1 of 2 jobs failed, .*: null-twin in same-classes, federations 0-3: ValueError: planted"
    with pytest.raises(game.Crashed, match=told):
        play(work, 1, ignore)
    assert [store.is_complete(f) for j in work for f in j.folders] == [False] * 4 + [True] * 2


def test_mechanisms_are_counted_within_rounds_as_well() -> None:
    """FedRep trains twice a round: its ledger has an entry a round, and two mechanisms in it."""
    training = DpSgd(1.0, 1.0, 0.5, 4, 8.0, 0.5).event
    twice = compose(training, training)
    assert game.mechanisms(()) == 0
    assert game.mechanisms((None, training)) == 1
    assert game.mechanisms((twice, None, training)) == 3
    assert game.mechanisms((compose(twice, training),)) == 3


def test_a_ledger_that_lacks_a_message_is_seen() -> None:
    sent = Release(0, "client:0", "server", "weights", "update", {"w": torch.ones(1)}, 0)
    ledger = Ledger().spend(0, Spent(None, None))
    outcome = Outcome(Transcript((sent,)), ledger, {}, {})
    (whole,) = counted(outcome).checked
    assert (whole.name, whole.verified) == ("all messages counted", True)
    (lacking,) = counted(replace(outcome, ledger=Ledger())).checked
    assert not lacking.verified
    assert lacking.evidence == "1 messages of clients in the transcript, 0 in the ledger"
