"""An arm whose server chooses what it sends: from the plan to what its attacks read."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.ascent import Ascent, Recovery, SnapBack
from attacks.confidence import ModelConfidence
from attacks.isolation import Isolation
from attacks.loss import LossThreshold
from audits.document import DocumentError, load_document
from audits.game import _world, jobs_of, play, read_back, read_key
from audits.plan import Plan, ReadyPlan, read_plan, ready
from audits.probe import Probe
from audits.setting import Setting, key_of, prepare
from audits.store import digest
from privfed.datasets import load
from privfed.release import Observer
from tests.audits import tiny

MALICIOUS = Observer("malicious_server")
PIPELINE = "    pipeline: fedavg\n"
ASCENT = "    server: {name: ascent, options: {gamma: 0.5, rounds: [0]}}\n"


def plan(server: str = ASCENT, text: str = tiny.PLAN) -> ReadyPlan:
    assert PIPELINE in text
    return ready(load_document(text.replace(PIPELINE, PIPELINE + server, 1), Plan, "plan.yaml"))


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    root = tmp_path_factory.mktemp("cache")
    return prepare(read_plan(str(tiny.write(root))), 0, load("digits"), 3, root)


def test_a_plan_names_the_deviation_and_its_options() -> None:
    arms = plan().arms
    assert arms[0].server == Ascent(gamma=0.5, rounds=(0,))
    assert [a.server for a in arms[1:]] == [None, None]
    assert plan("    server: {name: isolation}\n").arms[0].server == Isolation()


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("{name: ascend}", "arms[0].server.name: expected deviations to be one of ascent, "),
        ("{name: ascent, options: {gama: 1}}", "arms[0].server.options: unknown key 'gama' (did you mean"),
        (
            "{name: ascent, options: {gamma: -1}}",
            "arms[0].server.options.gamma: expected a finite gamma >= 0",
        ),
        ("{name: ascent, gamma: 1}", "arms[0].server: unknown key 'gamma'"),
    ],
)
def test_each_wrong_server_is_named(server: str, message: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(message)):
        plan(f"    server: {server}\n")


def test_a_pipeline_that_sends_no_model_cannot_be_deviated_from() -> None:
    asking = tiny.PLAN.replace("      rounds: 1\n      local: {epochs: 10, batch: 16, lr: 0.1}\n", "")
    asking = asking.replace("    options:\n  - id: positive", "  - id: positive")
    text = asking.replace(PIPELINE, PIPELINE + ASCENT, 1).replace(
        "pipeline: fedavg", "pipeline: mean_embedding"
    )
    message = "arms[0].server: expected a pipeline that sends clients a model to deviate from, got pipeline"
    with pytest.raises(DocumentError, match=re.escape(message)):
        ready(load_document(text, Plan, "plan.yaml"))


def test_a_deviation_has_an_address_of_its_own(setting: Setting) -> None:
    deviating = plan().arms[0]
    honest = replace(deviating, server=None)
    engines = [setting.world.engine, setting.world.large_engine, setting.device]
    pipeline, hooks = repr(honest.pipeline), repr(honest.hooks)
    assert key_of(setting, honest) == digest([setting.digest, pipeline, hooks, None, "None", engines])
    others = (deviating, replace(deviating, server=Ascent(gamma=0.6)), replace(deviating, server=Isolation()))
    assert len({key_of(setting, a) for a in (honest, *others)}) == 4


def test_the_address_of_a_deviation_is_of_the_code_that_makes_what_is_sent(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    deviating = plan().arms[0]
    honest = replace(deviating, server=None)
    before = key_of(setting, deviating), key_of(setting, honest)
    monkeypatch.setattr("audits.setting.source_digest", lambda *parts: "changed")
    after = key_of(setting, deviating), key_of(setting, honest)
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_the_targets_are_the_candidates_and_nobody_says_who_is_in(setting: Setting) -> None:
    deviating = plan().arms[0]
    server = _world(setting, deviating).deviation
    assert server is not None
    assert server.deviation == deviating.server
    assert torch.equal(server.targets.records.inputs, setting.candidates.records.inputs)
    assert torch.equal(server.targets.records.labels, setting.candidates.records.labels)
    assert torch.equal(server.targets.clients, setting.candidates.clients)
    assert _world(setting, replace(deviating, server=None)).deviation is None


def test_what_was_read_of_a_deviation_is_nothing_where_the_server_was_honest(
    setting: Setting, tmp_path: Path
) -> None:
    probes = (
        Probe("snap back", SnapBack(), MALICIOUS, "client update"),
        Probe("loss", LossThreshold(ModelConfidence("update")), MALICIOUS, "client update"),
    )
    deviating = plan().arms[0]
    for arm in (deviating, replace(deviating, server=None)):
        jobs = jobs_of(setting, arm, 4, probes, tmp_path)
        play(jobs, 1, lambda done: None)
        read = read_back(jobs)
        assert read.failures == {}
        snapped, losses = (read.signals[read_key(p)] for p in probes)
        assert losses is not None
        if arm.server is None:
            assert snapped is None
            continue
        assert snapped is not None
        assert len(snapped) == 4
        assert isinstance(SnapBack().observation, Recovery)
        assert all(np.isfinite(s.candidates).all() for s in snapped)
