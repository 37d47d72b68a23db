"""The benchmark measures what it says and prints it; how fast anything is, is nobody's business here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audits.benchmark import Size, main
from audits.benchmark_game import Scale
from audits.benchmark_ratio import Ratio, compare
from audits.benchmark_training import NETS, RECIPE, STREAM, _plain_one, _tasks, one_thread
from privfed.randomness import Stream
from privfed.training import train

TINY = Size(
    models=2,
    records=4,
    steps=2,
    references=4,
    scored=20,
    played=Scale(federations=4, epochs=1, prior_steps=1),
    audited=Scale(federations=4, epochs=1, prior_steps=1),
    repeats=1,
)


def test_a_ratio_is_slower_over_faster_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Iterator[float] = iter([0, 6, 10, 12, 20, 24, 30, 31, 40, 50, 60, 70])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    runs: list[str] = []
    ways = {"slow": lambda: runs.append("s"), "fast": lambda: runs.append("f")}
    found, opposite = compare("work", ways, [("fast", "slow"), ("slow", "fast")], repeats=3)
    assert runs == ["s", "f"] * 4
    assert found == Ratio("work", "fast", "slow", 3.0, 1.0, 4.0, 2.0, 3)
    assert (opposite.ratio, opposite.seconds) == (1 / 3, 6.0)


def test_the_whole_benchmark_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One process only: starting others is what takes time, and what joblib tests."""
    file = tmp_path / "figures.json"
    main(["--json", str(file)], TINY, workers=1)
    written = json.loads(file.read_text())
    assert set(written) == {"machine", "ratios", "scoring"}
    assert {"processor", "torch", "torch threads", "python"} <= set(written["machine"])
    for ratio in written["ratios"]:
        for name in ("ratio", "lowest", "highest", "seconds"):
            assert math.isfinite(ratio[name])
            assert ratio[name] > 0
    assert all(math.isfinite(r["records_per_second"]) for r in written["scoring"])
    pairs = {(r["faster"], r["slower"]) for r in written["ratios"]}
    assert pairs == {
        ("stacked", "looped"),
        ("looped", "DataLoader loop"),
        ("stacked", "DataLoader loop"),
        ("one flat buffer", "torch.optim.SGD"),
        ("1 workers", "1 worker"),
        ("second audit", "first audit"),
    }
    printed = capsys.readouterr().out
    assert torch.__version__ in printed
    assert printed.isascii()
    assert all(name in printed for name in NETS)


def test_the_plain_loop_trains_the_same_model() -> None:
    """Full batches, so that the order of records does not matter; float32 sums in another order."""
    for spec in NETS.values():
        task = replace(_tasks(spec, 1, 8)[0], recipe=replace(RECIPE, epochs=2))
        (ours,) = train([task])
        plain = dict(_plain_one(task).named_parameters())
        for name, value in ours.items():
            torch.testing.assert_close(value, plain[name].detach(), rtol=1e-3, atol=1e-5)


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    assert Stream(0, ("benchmark",)) == STREAM, "seeds are fixed"
