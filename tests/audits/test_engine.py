"""The choice between training engines: measured once a machine, then remembered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audits import engine
from audits.engine import Calibration, choose, measure
from privfed.nets import NetSpec
from privfed.training import Recipe

SPEC = NetSpec("mlp", channels=1, size=4, classes=3, width=4, depth=1)
RECIPE = Recipe(epochs=3, batch=32, lr=0.1)


def test_the_faster_engine_is_chosen_and_a_tie_is_looped() -> None:
    assert Calibration(looped=2.0, stacked=1.0).engine == "stacked"
    assert Calibration(looped=1.0, stacked=2.0).engine == "looped"
    assert Calibration(looped=1.0, stacked=1.0).engine == "looped"


@pytest.mark.parametrize(
    "spec", [SPEC, NetSpec("convnet", 1, 4, 3, width=4, depth=1)], ids=lambda s: s.family
)
def test_a_measurement_is_two_positive_times(spec: NetSpec) -> None:
    found = measure(spec, RECIPE, repeats=1)
    assert 0 < found.looped < float("inf")
    assert 0 < found.stacked < float("inf")


def test_measuring_leaves_threads_and_randomness_alone() -> None:
    threads, before = torch.get_num_threads(), torch.get_rng_state()
    measure(SPEC, RECIPE, repeats=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_measured_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[NetSpec, Recipe]] = []

    def counted(spec: NetSpec, recipe: Recipe) -> Calibration:
        measured.append((spec, recipe))
        return Calibration(looped=float(len(measured)), stacked=9.0)

    monkeypatch.setattr(engine, "measure", counted)
    assert choose(SPEC, RECIPE, tmp_path) == choose(SPEC, RECIPE, tmp_path) == Calibration(1.0, 9.0)
    assert measured == [(SPEC, RECIPE)]
    # What a batch costs depends on the net and the batch, not on how often it is taken.
    choose(SPEC, replace(RECIPE, epochs=7, lr=0.2), tmp_path)
    assert len(measured) == 1
    for other in (replace(SPEC, width=8), replace(SPEC, size=5)):
        choose(other, RECIPE, tmp_path)
    choose(SPEC, replace(RECIPE, batch=8), tmp_path)
    assert len(measured) == 4
    choose(SPEC, RECIPE, tmp_path / "another")
    assert len(measured) == 5


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"looped": 1.0}', '{"looped": "fast", "stacked": 1.0}'])
def test_a_damaged_note_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(engine, "measure", lambda spec, recipe: Calibration(1.0, 2.0))
    choose(SPEC, RECIPE, tmp_path)
    (note,) = (tmp_path / "engines").iterdir()
    note.write_text(damage)
    assert choose(SPEC, RECIPE, tmp_path) == Calibration(1.0, 2.0)
    assert json.loads(note.read_text()) == {"looped": 1.0, "stacked": 2.0}
