"""FedDGM in the game: images of the prior alone say nothing, images made from real ones say it all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from audits.coverage import SERVER, SYNTHETIC, Probe, probes
from audits.evidence import Evidence, gather
from audits.game import Played, jobs_of, play, read_back
from audits.plan import ReadyPlan, read_plan
from audits.setting import Setting, prepare
from privfed.datasets import load

OPTIONS = """
    pipeline: feddgm
    options:
      rounds: 1
      ipc: 3
      local: {epochs: 5, batch: 8, lr: 0.1}
      surrogate_training: {epochs: 10, batch: 32, lr: 0.05, momentum: 0.9}
      large_training: {epochs: 10, batch: 32, lr: 0.05, momentum: 0.9}
      matching: {iterations: 0, steps: 2}
"""
PLAN = f"""
schema: privfed-plan/1
id: game
title: Images of the prior, and images of the clients
data: digits
federations: 8
nets:
  surrogate: {{family: convnet, width: 4, depth: 1}}
  large: {{family: mlp, width: 16, depth: 1}}
settings:
  - id: same-classes
    title: Public shard of the same classes
    split: {{clients: 4, candidates: 96, public: 400, population: 60, test: 60}}
    prior: {{widths: [8, 16], steps: 400, batch: 24}}
arms:
  - id: prior-only
    title: No matching
{OPTIONS}
  - id: real
    title: Latents of the clients' own images
    role: control
{OPTIONS}
      initial: real
"""
LEVEL = 0.999
"""Of each bound: eleven intervals with two bounds each all hold in 98 of 100 seeds."""


def reads_what_the_server_made(probe: Probe) -> bool:
    """Anything but a client's update, which is trained on its records whatever the server does."""
    if probe.artefact in (
        "generated bank",
        "generators of the rounds",
        "released generator",
        "personal model",
        "sum of the updates",
    ):
        return False
    if probe.observer.role == "malicious_server":
        return False
    return not probe.baseline and probe.artefact != "client update"


def _played(ready: ReadyPlan, setting: Setting, arm: int, selected: tuple[Probe, ...], root: Path) -> Played:
    jobs = jobs_of(setting, ready.arms[arm], ready.plan.federations, selected, root)
    play(jobs, workers=1, advance=lambda done: None)
    return read_back(jobs)


def made_by_the_server() -> tuple[Probe, ...]:
    """Every attack of the standard suite on what the server made."""
    return tuple(p for p in probes() if reads_what_the_server_made(p))


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Evidence]]:
    root = tmp_path_factory.mktemp("game")
    (root / "plan.yaml").write_text(PLAN)
    ready = read_plan(str(root / "plan.yaml"))
    setting = prepare(ready, 0, load("digits", root), ready.plan.seed, root)
    selected = made_by_the_server()
    find = partial(_played, ready, setting, selected=selected, root=root)
    games = {arm.id: find(arm=i) for i, arm in enumerate(ready.arms)}
    return {name: [gather(p, played, setting) for p in selected] for name, played in games.items()}


def test_without_matching_every_attack_is_at_chance(evidence: dict[str, list[Evidence]]) -> None:
    assert len(evidence["prior-only"]) == len(made_by_the_server())
    for found in evidence["prior-only"]:
        assert found.crashed == ""
        assert found.scores is not None
        estimate = found.estimate("auc", None, "all", LEVEL)
        assert estimate.lower is not None
        assert estimate.upper is not None
        assert estimate.lower <= 0.5 <= estimate.upper, (found.probe.name, found.probe.artefact, estimate)
        usual = found.estimate("auc", None, "all", 0.95)
        assert (usual.upper or 1.0) - (usual.lower or 0.0) < 0.35, "an interval that says something"


def test_images_made_from_real_ones_give_their_records_away(evidence: dict[str, list[Evidence]]) -> None:
    value = {(e.probe.name, e.probe.observer): _auc(e) for e in evidence["real"]}
    assert value["calibrated nearest", SYNTHETIC] > 0.95
    assert value["calibrated nearest of what was distilled", SERVER] > 0.95
    # Without references it favours records that lie close to any image.
    assert value["nearest neighbour", SYNTHETIC] > 0.9


def _auc(evidence: Evidence) -> float:
    value = evidence.estimate("auc", None, "all", LEVEL).value
    assert value is not None
    return value


def test_both_games_have_the_same_coins(evidence: dict[str, list[Evidence]]) -> None:
    first, second = (evidence[name][0].included for name in ("prior-only", "real"))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (8, 96)
