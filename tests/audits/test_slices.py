"""Parts of the candidates: who is an outlier, and bounds that hold for all parts of a division at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from attacks.interface import Candidates
from attacks.loss import LossThreshold
from audits.coverage import MODEL, Probe
from audits.evidence import Evidence
from audits.slices import divisions, outliers, slices
from audits.units import by_record
from privfed.randomness import Stream
from privfed.records import Records

N, FAR = 60, 6


def candidates() -> Candidates:
    """Two clusters by label; the last six records lie far off."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % 2
    inputs = torch.randn(N, 1, 2, 2, generator=generator) * 0.01 + labels[:, None, None, None]
    inputs[-FAR:] += torch.arange(1.0, FAR + 1)[:, None, None, None] * 10
    population = Records(
        torch.randn(8, 1, 2, 2, generator=generator) * 0.01, torch.zeros(8, dtype=torch.int64)
    )
    return Candidates(Records(inputs, labels), torch.arange(N) % 3, population, population)


def setting(canaries: int = 0) -> Any:
    known = {"candidates": candidates(), "canaries": torch.arange(N) < canaries}
    return SimpleNamespace(id="s", privacy_units=by_record(N), **known)


def finding(where: Any, seed: int, shift: Any) -> Any:
    rng = np.random.default_rng(seed)
    included = rng.random((8, N)) < 0.5
    scores = rng.normal(size=included.shape) + shift * included
    probe = Probe("loss", LossThreshold(), MODEL, "released model")
    found = Evidence(probe, scores, included, where.canaries.numpy(), Stream(0))
    return SimpleNamespace(setting=where, arm=SimpleNamespace(id="arm", role="audited"), evidence=(found,))


def test_the_tenth_that_lies_furthest_from_its_own_label_are_the_outliers() -> None:
    found = outliers(candidates(), np.ones(N, dtype=np.bool_))
    assert np.flatnonzero(found).tolist() == list(range(N - FAR, N))


def test_a_record_alone_of_its_label_comes_first() -> None:
    known = candidates()
    labels = known.records.labels.clone()
    labels[0] = 7
    alone = Candidates(Records(known.records.inputs, labels), known.clients, known.population, known.public)
    assert outliers(alone, np.ones(N, dtype=np.bool_))[0]


def test_canaries_are_neither_outliers_nor_in_any_client_or_class() -> None:
    parts = divisions(setting(canaries=4))
    assert set(parts["kind"]) == {"natural", "outlier decile", "the other nine", "canaries"}
    assert parts["kind"]["canaries"].sum() == 4
    for by in ("client", "class"):
        assert not any(chosen[:4].any() for chosen in parts[by].values())
        assert sum(chosen.sum() for chosen in parts[by].values()) == N - 4
    whole = parts["kind"]["outlier decile"] | parts["kind"]["the other nine"]
    assert (whole == parts["kind"]["natural"]).all()
    assert "canaries" not in divisions(setting())["kind"]


def test_the_few_who_are_found_are_shown() -> None:
    where = setting()
    shift = np.where(np.arange(N) >= N - FAR, 2.0, 0.0)
    rows = slices([finding(where, 1, shift)], 0.95)
    by_name = {r.name: r.estimate for r in rows}
    assert (by_name["outlier decile"].lower or 0) > 0.6
    assert (by_name["the other nine"].lower or 1) < 0.5
    assert {r.by for r in rows} == {"kind", "client", "class"}
    assert {(r.observer, r.attack) for r in rows} == {("outsider with large", "loss")}


def test_bounds_of_a_division_are_shared_by_its_parts() -> None:
    rows = slices([finding(setting(), 1, 0.5)], 0.95)
    levels = {r.by: r.estimate.level_lower for r in rows}
    assert levels == pytest.approx({"kind": 1 - 0.05 / 3, "client": 1 - 0.05 / 3, "class": 1 - 0.05 / 2})


def test_arms_that_are_not_audited_and_observers_who_hold_nothing_have_none() -> None:
    baseline = finding(setting(), 1, 0.5)
    baseline.arm.role = "baseline"
    assert slices([baseline], 0.95) == ()
