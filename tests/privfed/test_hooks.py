from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from dp_accounting import ComposedDpEvent, DpEvent, GaussianDpEvent

from privfed.claims import Assumption
from privfed.hooks import (
    Hooks,
    Spent,
    after,
    apply_aggregate,
    apply_local,
    apply_release,
    apply_uplink,
    compose,
)
from privfed.nets import NetSpec, Params, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release
from privfed.training import Recipe, Task

ONE, TWO = GaussianDpEvent(1.0), GaussianDpEvent(2.0)
START: Params = {"w": torch.zeros(3)}


@dataclass(frozen=True, slots=True)
class Noise:
    """Adds noise at any boundary; the event is whatever the test wants."""

    event: DpEvent | None = None

    def train(self, task: Task) -> Spent[Params]:
        return self._noised(task.start, task.stream)

    def uplink(self, start: Params, params: Params, stream: Stream) -> Spent[Params]:
        return self._noised({k: params[k] + start[k] for k in params}, stream)

    def aggregate(self, total: Params, clients: int, stream: Stream) -> Spent[Params]:
        return self._noised({k: t / clients for k, t in total.items()}, stream)

    def release(self, release: Release, stream: Stream) -> Spent[Release]:
        return Spent(release, self.event)

    def _noised(self, params: Params, stream: Stream) -> Spent[Params]:
        generator = stream.torch()
        value = {k: p + torch.randn(p.shape, generator=generator) for k, p in params.items()}
        return Spent(value, self.event, (Assumption("noise", True, "added"),), ("a caveat",))


def tasks(n: int) -> list[Task]:
    spec = NetSpec("mlp", 1, 2, 2, 2, 1)
    data = Records(torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64))
    start = initial(spec, torch.Generator().manual_seed(0))
    return [Task(spec, start, data, Recipe(1, 1, 0.1), Stream(0, (k,))) for k in range(n)]


def test_without_hooks_values_pass_unchanged_and_nothing_is_promised() -> None:
    for spent in (
        apply_uplink(Hooks(), START, START, Stream(0)),
        apply_aggregate(Hooks(), START, 2, Stream(0)),
    ):
        assert spent == Spent(START, None)


def test_without_a_local_hook_all_tasks_are_trained_at_once() -> None:
    calls = []

    def plain(together: Sequence[Task]) -> list[Params]:
        calls.append(len(together))
        return [task.start for task in together]

    trained = apply_local(Hooks(), tasks(3), plain)
    assert calls == [3]
    assert [s.event for s in trained] == [None] * 3


def test_a_local_hook_takes_the_place_of_training() -> None:
    trained = apply_local(Hooks(local=Noise(ONE)), tasks(2), lambda ts: pytest.fail("plain training ran"))
    assert [s.event for s in trained] == [ONE, ONE]


def test_hooks_of_one_kind_in_a_chain_draw_different_noise() -> None:
    once = apply_uplink(Hooks(uplink=(Noise(),)), START, START, Stream(0)).value["w"]
    twice = apply_uplink(Hooks(uplink=(Noise(), Noise())), START, START, Stream(0)).value["w"]
    assert not torch.allclose(twice, 2 * once)


def test_a_chain_acts_in_order_and_collects_what_was_spent() -> None:
    spent = apply_aggregate(Hooks(aggregate=(Noise(ONE), Noise(None), Noise(TWO))), START, 2, Stream(0))
    assert spent.event == ComposedDpEvent([ONE, TWO])
    assert len(spent.checked) == 3
    assert spent.outside == ("a caveat",) * 3


def test_the_same_stream_gives_the_same_value() -> None:
    hooks = Hooks(uplink=(Noise(ONE),))
    first, second = (apply_uplink(hooks, START, START, Stream(7)).value["w"] for _ in range(2))
    assert torch.equal(first, second)


def test_a_release_hook_sees_the_release() -> None:
    release = Release(0, "server", "public", "weights", "large", START)
    assert apply_release(Hooks(release=(Noise(ONE),)), release, Stream(0)).value is release


def test_post_processing_costs_nothing_and_no_event_is_no_promise() -> None:
    assert compose(ONE, None) is ONE
    assert compose(None, ONE) is ONE
    assert compose() is None
    assert after(Spent(1, ONE), Spent("sent", None)) == Spent("sent", ONE)


def test_importing_the_protocols_loads_neither_torch_nor_accountants() -> None:
    heavy = "{'torch', 'opacus', 'dp_accounting'}"
    code = f"import sys, privfed.hooks, privfed.ledger; print({heavy} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
