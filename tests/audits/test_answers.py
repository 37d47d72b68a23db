"""Audits of a model that only answers: accuracy is that of the answers, and attacks ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from audits.coverage import probes
from audits.game import Played, jobs_of, play, read_back, read_key
from audits.plan import read_plan
from audits.setting import Setting, prepare
from audits.store import transcript
from privfed.answers import interface_of
from privfed.datasets import load
from tests.audits import tiny

FEDERATIONS = 2
ARMS = {
    "plain": "",
    "no-noise": "    defenses: [{name: noisy_logits, options: {deviation: 0.0}}]\n",
    "labels": "    defenses: [{name: rounded_confidences, options: {decimals: 0}}]\n",
    "guesses": "    defenses: [{name: noisy_logits, options: {deviation: 1.0e+6}}]\n",
}
MODEL = [p for p in probes() if p.artefact == "released model"]


def plan() -> str:
    """The tiny plan with one FedAvg arm a defence."""
    head, _, controls = tiny.PLAN.partition("  - id: fedavg\n")
    _, _, rest = controls.partition("    options:\n")
    options, _, twins = rest.partition("  - id: positive-twin")
    options = options.replace("epochs: 10, batch: 16, lr: 0.1", "epochs: 80, batch: 8, lr: 0.3")
    arms = (
        f"  - id: {name}\n    title: {name}\n    pipeline: fedavg\n    options:\n{options}{defenses}"
        for name, defenses in ARMS.items()
    )
    return f"{head}{''.join(arms)}  - id: positive-twin{twins}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def setting(root: Path) -> Setting:
    return prepare(read_plan(str(tiny.write(root, plan()))), 0, load("digits"), 3, root)


@pytest.fixture(scope="module")
def played(setting: Setting, root: Path) -> dict[str, Played]:
    found = {}
    for arm in read_plan(str(tiny.write(root, plan()))).arms:
        if arm.id in ARMS:
            jobs = jobs_of(setting, arm, FEDERATIONS, MODEL, root)
            play(jobs, 1, lambda done: None)
            found[arm.id] = read_back(jobs)
            kinds = [r.kind for r in transcript(jobs[0].folders[0]).releases if r.name == "large"]
            assert kinds == ["weights" if arm.id == "plain" else "answers"]
    return found


def right(played: Played) -> NDArray[np.uint8]:
    return np.stack([k.correct["large"] for k in played.kept])


def test_accuracy_is_that_of_the_answers(setting: Setting, played: dict[str, Played]) -> None:
    plain = right(played["plain"])
    assert plain.mean() > 0.3
    np.testing.assert_array_equal(right(played["no-noise"]), plain)
    assert right(played["guesses"]).mean() < 0.3
    # Without decimals confidences below one half are all zero, and name the first class.
    coarse, first = right(played["labels"]), (setting.test.labels == 0).numpy()
    assert (plain & ~first & (1 - coarse)).any()
    assert set(np.argwhere(coarse > plain)[:, 1]) <= set(np.flatnonzero(first))
    for other in ("no-noise", "labels", "guesses"):
        for kept, before in zip(played[other].kept, played["plain"].kept, strict=True):
            np.testing.assert_array_equal(kept.correct["surrogate"], before.correct["surrogate"])
            assert kept.claims == ()


def test_attacks_ask_and_see_the_same_where_nothing_is_changed(played: dict[str, Played]) -> None:
    keys = {read_key(p) for p in MODEL}
    for arm in ARMS:
        assert played[arm].failures == {}
    for key in keys:
        handed, asked = (played[arm].signals[key] for arm in ("plain", "no-noise"))
        assert handed is not None
        assert asked is not None
        for one, other in zip(handed, asked, strict=True):
            np.testing.assert_array_equal(one.candidates, other.candidates)
            np.testing.assert_array_equal(one.population, other.population)


def test_noise_differs_between_federations(setting: Setting, root: Path, played: dict[str, Played]) -> None:
    (arm,) = (a for a in read_plan(str(tiny.write(root, plan()))).arms if a.id == "guesses")
    (job,) = jobs_of(setting, replace(arm), FEDERATIONS, MODEL, root)
    models = [next(r for r in transcript(f).releases if r.name == "large") for f in job.folders]
    assert len({interface_of(m).seed for m in models}) == FEDERATIONS
