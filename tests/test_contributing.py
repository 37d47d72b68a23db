"""The attack in CONTRIBUTING.md, run as it stands: it finds a planted leak, and nothing without one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from attacks.interface import Bools, Candidates, MembershipAttack, References, Signals
from privfed.nets import NetSpec, build
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer, Release, Transcript, View

ROOT = Path(__file__).resolve().parent.parent
SPEC = NetSpec("mlp", channels=1, size=4, classes=3, width=64, depth=1)
N, FEDERATIONS = 40, 12


def blocks() -> list[str]:
    """The Python code of the page."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    """The code block as a module of its own."""
    module = ModuleType("attacks.calibrated_margin")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(blocks()[0], "CONTRIBUTING.md", "exec"), module.__dict__)
    yield module
    del sys.modules[module.__name__]


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    """Noise with random labels: a net can only memorise it."""
    generator = Stream(0).child("records").torch()

    def noise(n: int) -> Records:
        images = torch.randn(n, 1, 4, 4, generator=generator)
        return Records(images, torch.randint(3, (n,), generator=generator))

    return Candidates(noise(N), torch.zeros(N, dtype=torch.int64), noise(10), noise(5))


def view_of(included: Bools, candidates: Candidates, steps: int, observer: Observer) -> View:
    """What `observer` saw of a federation whose large model was trained on the included records."""
    net = build(SPEC, Stream(1).torch())
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    members = candidates.records.take(torch.from_numpy(included))
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(members.inputs), members.labels).backward()
        optimiser.step()
    weights = {k: v.detach() for k, v in net.named_parameters()}
    large = Release(0, "server", "public", "weights", "large", weights)
    return Transcript((large,), {"large": SPEC}).view(observer)


def auc_of(attack: MembershipAttack, candidates: Candidates, steps: int) -> float:
    """AUC of the attack on the first federation, with the others as references."""
    included = Stream(2).numpy().random((FEDERATIONS, N)) < 0.5
    views = [view_of(row, candidates, steps, Observer("outsider")) for row in included]
    signals = [attack.observation.extract(view, candidates, Stream(3)) for view in views]
    target, *others = [s for s in signals if isinstance(s, Signals)]
    references = References(
        np.stack([s.candidates for s in others]), np.stack([s.population for s in others]), included[1:]
    )
    scores = attack.score(target, references)
    assert scores.shape == (N,)
    members, rest = scores[included[0]], scores[~included[0]]
    above, ties = members[:, None] > rest, members[:, None] == rest
    return float((above + 0.5 * ties).mean())


def test_example_finds_a_memorised_leak(example: ModuleType, candidates: Candidates) -> None:
    assert auc_of(example.CalibratedMargin(), candidates, steps=60) > 0.95


def test_example_finds_nothing_in_an_untrained_model(example: ModuleType, candidates: Candidates) -> None:
    """Every federation releases the same model, so only the reference mask could tell members apart."""
    assert 0.3 < auc_of(example.CalibratedMargin(), candidates, steps=0) < 0.7


def test_example_says_when_there_is_nothing_to_read(example: ModuleType, candidates: Candidates) -> None:
    blind = Observer("outsider", holds=frozenset({"synthetic"}))
    view = view_of(np.ones(N, dtype=np.bool_), candidates, 0, blind)
    assert example.CalibratedMargin().observation.extract(view, candidates, Stream(3)) is None


def test_example_states_its_configuration(example: ModuleType) -> None:
    assert repr(example.CalibratedMargin()) == "CalibratedMargin(observation=Margin(name='large'))"


def test_the_golden_test_beside_it_holds(example: ModuleType) -> None:
    module = ModuleType("test_calibrated_margin")
    exec(compile(blocks()[1], "CONTRIBUTING.md", "exec"), module.__dict__)
    found = [f for name, f in vars(module).items() if name.startswith("test_")]
    assert len(found) == 1
    found[0]()
