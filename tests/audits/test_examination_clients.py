"""Shares and hidden details in an audit: what is planted is found, nulls hold 0, all are asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attacks.attribute_inference import AttributeInference, HiddenLabel
from attacks.interface import Attribute, Floats, Known
from attacks.label_inference import LabelInference
from attacks.property_inference import LabelGroup, PropertyLossTest, true_shares
from audits import store
from audits.examination import Examined, examine
from audits.game import Job, jobs_of, members_of, play, read_back, read_key
from audits.inquiry import FEDERATIONS, Inquiry
from audits.inquiry_list_clients import of_clients
from audits.plan import ReadyPlan, read_plan
from audits.probe import MODEL, SERVER
from audits.reading import read, scores_of
from audits.setting import Setting, prepare
from privfed.datasets import load
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Transcript, View
from tests.audits import tiny
from tests.audits.null_games import null_settings
from tests.audits.test_examination import COUNT, played

PLAN = (
    tiny.PLAN.replace("federations: 6", "federations: 8")
    .replace("clients: 2\n      candidates: 80", "clients: 6\n      candidates: 300")
    .replace("      test: 40\n", "      test: 40\n      partition: {alpha: 0.5, minimum: 20}\n")
)
"""Six clients, each with a mixture of labels of its own."""
LABELS = Inquiry("labels", LabelInference(), SERVER, "client update", "labels")
GROUP = LabelGroup((0,))
SHARES = Inquiry("shares", PropertyLossTest(GROUP), SERVER, "client update", "property", everywhere=True)
HIDDEN = Inquiry("hidden", AttributeInference(), MODEL, "released model", "attribute", everywhere=True)


@dataclass(frozen=True)
class Repeats:
    """Scores what it was handed as the one value."""

    attribute: Attribute = field(default_factory=HiddenLabel)

    def guess(
        self, view: View, records: Records, clients: torch.Tensor, known: Known, stream: Stream
    ) -> Floats | None:
        handed: Floats = np.eye(10)[records.labels.numpy()]
        return handed


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReadyPlan, Setting, Path]:
    root = tmp_path_factory.mktemp("clients")
    ready = read_plan(str(tiny.write(root, PLAN)))
    return ready, prepare(ready, 0, load("digits", root), ready.plan.seed, root), root


def asked_of(place: tuple[ReadyPlan, Setting, Path], arm: str) -> tuple[Job, ...]:
    ready, setting, root = place
    (chosen,) = (a for a in ready.arms if a.id == arm)
    asks = (LABELS, *of_clients())
    return jobs_of(setting, chosen, ready.plan.federations, (), root, asks)


@pytest.fixture(scope="module")
def found(place: tuple[ReadyPlan, Setting, Path]) -> dict[str, dict[tuple[str, str], Examined]]:
    """By arm, and by name and observer."""
    results = {}
    for arm in ("fedavg", "positive-twin", "null-twin"):
        jobs = asked_of(place, arm)
        play(jobs, workers=1, advance=lambda done: None)
        game = read_back(jobs)
        results[arm] = {
            (q.name, q.observer.label): examine(q, game, place[1]) for q in (LABELS, *of_clients())
        }
    return results


def bounds(examined: Examined, level: float = 0.95) -> tuple[float, float]:
    assert examined.crashed == ""
    assert examined.measure is not None
    estimate = examined.measure(level)
    assert estimate.lower is not None
    assert estimate.upper is not None
    return estimate.lower, estimate.upper


def test_shares_that_differ_are_read_off_updates(found: dict[str, Any]) -> None:
    seen = found["fedavg"]["property loss test", "server"]
    assert bounds(seen)[0] > 0
    assert (seen.chance, seen.asked) == (0.0, 8)
    ours, theirs = (seen.details[n](0.95).value for n in list(seen.details)[:2])
    assert ours < theirs
    assert set(seen.baselines) == {"mean share of other clients"}


def test_records_handed_over_as_they_are_tell_every_share(found: dict[str, Any]) -> None:
    handed = found["positive-twin"]["property of what was distilled", "server"]
    assert bounds(handed)[0] > 0.9
    assert found["fedavg"]["property of what was distilled", "server"].measure is None


def test_a_model_that_remembers_is_better_on_members(found: dict[str, Any]) -> None:
    for observer in ("outsider with large", "server"):
        seen = found["positive-twin"]["attribute inference of the label", observer]
        assert bounds(seen)[0] > 0
        assert seen.chance == 0.0
        imputation = seen.baselines["imputation"](0.999)
        assert imputation.lower <= 0 <= imputation.upper


def test_whoever_never_saw_the_records_tells_nothing(found: dict[str, Any]) -> None:
    nulls = {k: x for k, x in found["null-twin"].items() if k[0] != "labels"}
    assert len(nulls) == len(of_clients())
    for seen in nulls.values():
        assert bounds(seen, 0.999)[0] <= 0


def test_all_federations_are_asked_by_those_that_learn_from_others(found: dict[str, Any]) -> None:
    for arm in found.values():
        assert {x.asked for k, x in arm.items() if k[0] != "labels"} == {8}
        assert arm["labels", "server"].asked == FEDERATIONS


def test_a_crash_in_any_federation_is_told(place: tuple[ReadyPlan, Setting, Path]) -> None:
    jobs = asked_of(place, "fedavg")
    play(jobs, workers=1, advance=lambda done: None)
    narrow, wide = read_key(LABELS), read_key(SHARES)
    assert read_back(jobs).failures == {}
    store.keep_failure(jobs[-1].folders[-1], wide, "ValueError: planted")
    store.keep_failure(jobs[0].folders[0], narrow, "ValueError: too")
    assert read_back(jobs).failures == {wide: "ValueError: planted", narrow: "ValueError: too"}
    for folder, key in ((jobs[-1].folders[-1], wide), (jobs[0].folders[0], narrow)):
        arrays = store.recall_arrays(folder, key)
        store.keep_arrays(folder, key, arrays)  # what came out takes the place of the note
    assert read_back(jobs).failures == {}


def test_what_asks_everywhere_is_put_to_every_job_and_the_rest_to_the_first(
    place: tuple[ReadyPlan, Setting, Path],
) -> None:
    ready, setting, root = place
    jobs = jobs_of(setting, ready.arms[0], 8, (), root, (LABELS,))
    assert [len(j.asks) for j in jobs] == [1, 0]
    wide = jobs_of(setting, ready.arms[0], 8, (), root, (LABELS, *of_clients()))
    assert [len(j.asks) for j in wide] == [1 + len(of_clients()), len(of_clients())]
    assert [len(j.asks) for j in jobs_of(setting, ready.arms[0], 8, (), root)] == [0, 0]


def made(inquiry: Inquiry, arrays: Any, setting: Setting) -> Examined:
    return examine(inquiry, played(setting, inquiry, lambda f: arrays[f]), setting)


def test_shares_shuffled_between_clients_tell_nothing() -> None:
    """Thirty draws: were 0 the wrong chance, most lower bounds would be above it."""
    (setting,) = null_settings([3], 240, 6)
    truth = np.stack(
        [true_shares(members_of(setting, f), GROUP, setting.candidates.public) for f in range(6)]
    )
    told = made(SHARES, [{"values": row[:, None]} for row in truth], setting)
    assert bounds(told)[0] > 0.9
    above = 0
    for seed in range(30):
        values = np.random.default_rng(seed).permutation(truth.ravel()).reshape(6, 6, 1)
        above += bounds(made(SHARES, [{"values": v} for v in values], setting))[0] > 0
    assert above <= 4  # 1.5 at the level of 5 %; 5 or more are rarer than 1 in 50


def scores(truth: Any, right: Any) -> dict[str, Floats]:
    """The true label where `right`, the next one where not."""
    return {"scores": np.eye(10)[np.where(right, truth, (truth + 1) % 10)]}


def test_members_alone_are_an_advantage_and_everybody_is_none() -> None:
    (setting,) = null_settings([3], 80, 2)
    truth = setting.candidates.records.labels.numpy()
    inside = [setting.members(f).numpy() for f in range(COUNT)]
    members = made(HIDDEN, [scores(truth, i) for i in inside], setting)
    everybody = made(HIDDEN, [scores(truth, i | True) for i in inside], setting)
    assert members.measure is not None
    assert everybody.measure is not None
    assert members.measure(0.95).value == 1.0
    assert everybody.measure(0.95).value == 0.0
    assert list(members.details) == [
        "accuracy on members",
        "the same of an imputation without the model",
        "accuracy on members above the imputation's",
    ]
    own, guessed, excess = (m(0.95).value for m in members.details.values())
    assert own == 1.0
    assert guessed is not None
    assert excess == pytest.approx(1.0 - guessed)


def test_canaries_are_counted_apart() -> None:
    (setting,) = null_settings([3], 80, 2)
    marked = replace(setting, canaries=torch.arange(80) < 30)
    truth, canaries = marked.candidates.records.labels.numpy(), marked.canaries.numpy()
    inside = [marked.members(f).numpy() for f in range(COUNT)]
    seen = made(HIDDEN, [scores(truth, i | ~canaries) for i in inside], marked)
    assert seen.measure is not None
    assert seen.measure(0.95).value == 0.0
    assert seen.details["advantage on canaries"](0.95).value == 1.0


@pytest.mark.parametrize(
    ("sought", "name"), [("property", "names its property"), ("attribute", "names its attribute")]
)
def test_an_attack_that_does_not_say_what_it_asks_after_is_named(sought: Any, name: str) -> None:
    (setting,) = null_settings([3], 80, 2)
    wrong = replace(LABELS, sought=sought)
    seen = made(wrong, [{"values": np.zeros((2, 10))}] * COUNT, setting)
    assert seen.crashed.startswith(f"ValueError: expected an attack that {name}, got attack=LabelInference(")


def test_what_is_hidden_is_not_handed_over_and_scores_survive_the_store(tmp_path: Path) -> None:
    (setting,) = null_settings([3], 80, 2)
    view = Transcript((), {}).view(SERVER)
    store.keep_arrays(tmp_path, "a", read(Repeats(), view, setting.candidates, Stream(0)))
    arrays = store.recall_arrays(tmp_path, "a")
    assert arrays is not None
    np.testing.assert_array_equal(scores_of(arrays).argmax(1), np.zeros(80))
    assert read(AttributeInference(), view, setting.candidates, Stream(0)) is None


def test_shares_are_asked_of_the_server_and_details_of_whoever_holds_a_model() -> None:
    places = {(q.sought, q.observer.label, q.artefact) for q in of_clients()}
    assert places == {
        ("property", "server", "client update"),
        ("property", "server", "client images"),
        ("attribute", "outsider with large", "released model"),
        ("attribute", "server", "client update"),
    }
    assert all(q.everywhere for q in of_clients())
    assert {q.name for q in of_clients() if q.image_only} == {"attribute inference of a quadrant"}
