"""FedBKD in the game: as released its generator knows nothing of the records; planted, it gives them away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attacks.generator_samples import GeneratorSamples
from attacks.generator_search import GeneratorSearch
from attacks.interface import Observation
from attacks.nearest import CalibratedNearest, NearestNeighbour, NearestSynthetic
from audits.coverage import SERVER, SYNTHETIC, Probe
from audits.evidence import Evidence, gather
from audits.game import jobs_of, members_of, play, read_back
from audits.plan import ReadyPlan, read_plan
from audits.setting import Setting, prepare
from privfed.datasets import load
from privfed.federation import Federation, run
from privfed.hooks import Hooks, Spent
from privfed.nets import Params
from privfed.randomness import Stream
from privfed.release import Observer

GENERATOR = Observer("outsider", holds=frozenset({"generator"}))
READ: tuple[tuple[str, Observer, Observation], ...] = (
    ("synthetic", SYNTHETIC, NearestSynthetic()),
    ("bank", SERVER, NearestSynthetic("bank")),
    ("bank of the label", SERVER, NearestSynthetic("bank", same_label=True)),
    ("search", GENERATOR, GeneratorSearch()),
    ("search on the server", SERVER, GeneratorSearch()),
    ("samples", GENERATOR, GeneratorSamples()),
    ("samples on the server", SERVER, GeneratorSamples()),
)
PROBES = tuple(
    Probe(f"{type(attack).__name__} {name}", attack, observer, name)
    for name, observer, o in READ
    for attack in (NearestNeighbour(o), CalibratedNearest(o))
)
NULL_LEVEL = 0.999
"""Of each bound: fourteen intervals with two bounds each all hold in 97 of 100 seeds."""
LEAK_LEVEL = 0.95
"""Of each lower bound; where all federations are told apart perfectly, 16 are enough for 0.9."""

OPTIONS = """
      head: {{epochs: 2, batch: 16, lr: 0.1}}
      representation: {{epochs: 2, batch: 16, lr: 0.1}}
"""
PLAN = f"""
schema: privfed-plan/1
id: game
title: A generator that never saw a record, and one that reproduces them
data: digits
federations: {{federations}}
nets:
  surrogate: {{{{family: mlp, width: 16, depth: 1}}}}
  large: {{{{family: mlp, width: 16, depth: 1}}}}
settings:
  - id: same-label-sets
    title: So many records that every client holds every class in every federation
    split: {{{{clients: 2, candidates: 320, public: 100, population: 60, test: 60}}}}
  - id: few
    title: Few records
    split: {{{{clients: 2, candidates: 60, public: 100, population: 60, test: 60}}}}
arms:
  - id: released
    title: As released
    pipeline: fedbkd
    options:
{OPTIONS}
      rounds: 2
      generator: {{{{mode: released, {{generator}}}}}}
  - id: planted
    title: With the records planted
    role: control
    pipeline: fedbkd
    options:
{OPTIONS}
      rounds: 1
      generator: {{{{mode: conditioned, {{generator}}}}}}
      planted: true
"""
SMALL = "size: 80, hidden: 64, epochs: 1"
PUBLISHED = "size: 500, hidden: 256, epochs: 6"


def games(root: Path, federations: int, generator: str) -> dict[str, list[Evidence]]:
    ready = planned(root, federations, generator)
    found = {}
    for index, arm in enumerate(ready.arms):
        setting = prepared(ready, index, root)
        jobs = jobs_of(setting, arm, federations, PROBES, root)
        play(jobs, workers=1, advance=lambda done: None)
        played = read_back(jobs)
        found[arm.id] = [gather(p, played, setting) for p in PROBES]
    return found


def planned(root: Path, federations: int, generator: str) -> ReadyPlan:
    (root / "plan.yaml").write_text(PLAN.format(federations=federations, generator=generator))
    return read_plan(str(root / "plan.yaml"))


def prepared(ready: ReadyPlan, index: int, root: Path) -> Setting:
    return prepare(ready, index, load("digits", root), ready.plan.seed, root)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Evidence]]:
    return games(tmp_path_factory.mktemp("game"), 16, SMALL)


def at_chance(found: list[Evidence], width: float) -> None:
    assert len(found) == 14
    for evidence in found:
        assert evidence.crashed == ""
        assert evidence.scores is not None
        estimate = evidence.estimate("auc", None, "all", NULL_LEVEL)
        assert estimate.lower is not None
        assert estimate.upper is not None
        assert estimate.lower <= 0.5 <= estimate.upper, (evidence.probe.name, estimate)
        assert estimate.upper - estimate.lower < width, (evidence.probe.name, estimate)


def found_out(found: list[Evidence], least: float) -> None:
    for evidence in found:
        if "samples" not in evidence.probe.name:
            lower = evidence.estimate("auc", None, "all", LEAK_LEVEL).lower
            assert lower is not None
            assert lower > least, (evidence.probe.name, lower)


def test_as_released_every_attack_on_generator_and_bank_is_at_chance(
    small: dict[str, list[Evidence]],
) -> None:
    at_chance(small["released"], 0.1)


def test_planted_records_are_found_in_bank_synthetic_set_and_generator(
    small: dict[str, list[Evidence]],
) -> None:
    found_out(small["planted"], 0.9)


@pytest.mark.slow
def test_the_same_at_the_published_size_with_more_federations(tmp_path: Path) -> None:
    found = games(tmp_path, 32, PUBLISHED)
    at_chance(found["released"], 0.1)
    found_out(found["planted"], 0.9)


def test_the_label_sets_of_the_null_game_are_the_same_in_every_federation(tmp_path: Path) -> None:
    """Else they tell of members: a class with one record is in the set if and only if that is one."""
    setting = prepared(planned(tmp_path, 16, SMALL), 0, tmp_path)
    for federation in range(16):
        for client in members_of(setting, federation):
            assert client.labels.unique().tolist() == list(range(10))


class RandomNets:
    """In place of what a client trained: a net of noise."""

    def uplink(self, start: Params, params: Params, stream: Stream) -> Spent[Params]:
        generator = stream.torch()
        return Spent({k: torch.randn(v.shape, generator=generator) for k, v in params.items()}, None)


@pytest.mark.parametrize(("arm", "same"), [(0, True), (1, False)])
def test_as_released_the_bank_is_that_of_random_nets_to_the_bit(arm: int, same: bool, tmp_path: Path) -> None:
    ready = planned(tmp_path, 4, SMALL)
    setting = prepared(ready, 1, tmp_path)
    pipeline = replace(ready.arms[arm].pipeline, planted=False)  # type: ignore[type-var]
    mine = Federation(members_of(setting, 0), Stream(5))
    worlds = (setting.world, replace(setting.world, hooks=Hooks(uplink=(RandomNets(),))))
    trained, random = (run(pipeline, w, [mine])[0].transcript.releases for w in worlds)
    for name in ("bank", "synthetic", "generator"):
        pairs = list(zip(*([r for r in found if r.name == name] for found in (trained, random)), strict=True))
        assert pairs
        for a, b in pairs:
            weights = ("inputs",) if name != "generator" else ("0.weight", "1.bias", "3.weight")
            assert all(torch.equal(a.tensors[w], b.tensors[w]) is same for w in weights)
    sent = [next(r for r in found if r.name == "update") for found in (trained, random)]
    assert not any(torch.equal(t, sent[1].tensors[k]) for k, t in sent[0].tensors.items())
