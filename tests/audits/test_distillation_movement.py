"""How far distillation moves models: lengths and gaps of federations made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from audits import distillation_movement
from audits.distillation_movement import Movement, distance, main, movement, table
from audits.personalisation_deal import Client, Cohort
from privfed.federation import Progress
from privfed.nets import NetSpec, Params, head_names, initial
from privfed.pipelines.interface import ServerState
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release

SPEC = NetSpec("mlp", channels=1, size=4, classes=2, hidden=(6, 5))


def model(seed: int) -> Params:
    return initial(SPEC, Stream(seed).torch())


def records(n: int, seed: int) -> Records:
    generator = Stream(seed).torch()
    return Records(torch.rand(n, 1, 4, 4, generator=generator), torch.arange(n) % 2)


def cohort() -> Cohort:
    clients = tuple(Client(records(6, k), records(4, k + 10)) for k in range(2))
    return Cohort(clients, (), records(20, 20))


def moved(params: Params, by: float) -> Params:
    return {k: v + by if k not in head_names(SPEC) else v for k, v in params.items()}


def progress(local: list[Params], after: list[Params], surrogate: Params) -> Progress:
    bank = records(8, 30)
    kept = [
        Release(0, "server", "server", "synthetic", "bank", {"inputs": bank.inputs, "labels": bank.labels})
    ]
    kept += [Release(0, "server", f"client:{k}", "weights", "personal", p, k) for k, p in enumerate(after)]
    sent = [Release(0, f"client:{k}", "server", "weights", "update", p, k) for k, p in enumerate(local)]
    return Progress(6, (ServerState(1, surrogate, kept=tuple(kept)),), ((),), (tuple(sent),))


def test_distance_is_euclidean_over_the_representation() -> None:
    size = sum(v.numel() for k, v in model(0).items() if k not in head_names(SPEC))
    assert distance(SPEC, model(0), moved(model(0), 0.5)) == pytest.approx(0.5 * size**0.5)
    other_head = {k: v + 1 if k in head_names(SPEC) else v for k, v in model(0).items()}
    assert distance(SPEC, model(0), other_head) == 0


def test_each_way_is_measured_from_where_it_began() -> None:
    """Local models move by .2 and .4, distillation by .1 more, the global one by .3 and then .05."""
    start = model(0)
    unit = distance(SPEC, start, moved(start, 1.0))
    local = [moved(start, 0.2), moved(start, 0.4)]
    found = movement(
        SPEC, start, progress(local, [moved(m, 0.1) for m in local], moved(start, 0.35)), cohort()
    )
    ways = (found.trained, found.to_local, found.averaged, found.to_global)
    assert [w / unit for w in ways] == pytest.approx([0.3, 0.1, 0.3, 0.05], rel=1e-4)


def test_no_distillation_changes_nothing() -> None:
    local = [model(1), model(2)]
    average = {k: torch.stack([m[k] for m in local]).mean(0) for k in local[0]}
    found = movement(SPEC, model(0), progress(local, local, average), cohort())
    assert (found.to_local, found.to_global) == (0, 0)
    assert found.gap == found.gap_after > 0
    assert found.real_gap == found.real_gap_after > 0
    assert (found.personal, found.pooled, found.probe) == (
        found.personal_after,
        found.pooled_after,
        found.probe_after,
    )


def test_models_that_become_the_average_have_no_gap_left() -> None:
    local = [model(1), model(2)]
    average = {k: torch.stack([m[k] for m in local]).mean(0) for k in local[0]}
    found = movement(SPEC, model(0), progress(local, [average, average], average), cohort())
    assert found.gap > 1e-4 > abs(found.gap_after)
    assert found.real_gap > 1e-4 > abs(found.real_gap_after)


def test_the_table_has_mean_and_interval_of_every_quantity() -> None:
    one = Movement(*[1.0] * 14)
    lines = table([one, replace(one, trained=3.0)]).splitlines()
    assert lines[2] == "| local training moves a representation by | 2 ± 13 |"
    assert len(lines) == 2 + 14


def test_too_few_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--rounds", "5"])
    assert stopped.value.code == 2
    assert "expected rounds > 5, got rounds=5" in capsys.readouterr().err


def test_the_command_prints_one_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def observed(setting: Any, seed: int) -> Movement:
        asked.append((setting.name, setting.rounds, seed))
        return Movement(*[float(seed)] * 14)

    monkeypatch.setattr(distillation_movement, "observe", observed)
    assert main(["--task", "text", "--rounds", "7", "--seeds", "2", "--jobs", "1"]) == 0
    assert asked == [("text", 7, 0), ("text", 7, 1)]
    assert "| 0.5 ±" in capsys.readouterr().out
