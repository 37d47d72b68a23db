"""Attacks on a released model that only answers: the same scores where nothing is rounded or added."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

import attacks
from attacks import _models, confidence
from attacks._models import QUERIES, queried
from attacks.confidence import ModelConfidence
from attacks.interface import MembershipAttack, Signals
from attacks.lira import Lira
from attacks.loss import LossThreshold
from attacks.representation import RepresentationConfidence
from attacks.rmia import Rmia
from privfed.answers import Interface, put_behind
from privfed.nets import NetSpec, initial, representation_of
from privfed.randomness import Stream
from privfed.release import Observer, Release, Transcript, View
from tests.attacks.federations import SPEC, candidates, extract, federations, weights
from tests.attacks.simulation import Game, auc

MODEL = Observer("outsider", holds=frozenset({"large"}))
LARGE = ModelConfidence("large")
ATTACKS: list[MembershipAttack] = [
    LossThreshold(observation=LARGE),
    Lira(observation=LARGE),
    Lira(observation=LARGE, mode="offline"),
    Rmia(observation=LARGE),
]
STREAM = Stream(0)


def outside(release: Release, interface: Interface | None = None) -> View:
    sent = release if interface is None else put_behind(release, interface)
    return Transcript((sent,), {"large": SPEC}).view(MODEL)


def released() -> Release:
    return weights(initial(SPEC, torch.Generator().manual_seed(3)), "large", 2)


@lru_cache(maxsize=8)
def game(interface: Interface | None, leaky: bool = True) -> Game:
    known, included, views = federations(leaky)
    models: Sequence[Release] = [v.select("weights", "large")[0] for v in views]
    served = [
        extract(LARGE, known, outside(m, interface and replace(interface, seed=i)))
        for i, m in enumerate(models)
    ]
    return Game(
        np.stack([s.candidates for s in served]),
        np.stack([s.population for s in served]),
        included,
        served[0].clients,
    )


def mean_auc(attack: MembershipAttack, played: Game) -> float:
    count = len(played.included)
    scores = [
        auc(
            attack.score(played.target(i), played.references(np.delete(np.arange(count), i))),
            played.included[i],
        )
        for i in range(count)
    ]
    return float(np.mean(scores))


def test_signals_are_to_the_bit_those_of_the_weights() -> None:
    known = candidates(10, 4)
    handed, asked = (extract(LARGE, known, outside(released(), i)) for i in (None, Interface()))
    assert isinstance(asked, Signals)
    for name in ("candidates", "population", "clients"):
        one, other = getattr(handed, name), getattr(asked, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_scores_are_unchanged_where_answers_are_exact(attack: MembershipAttack) -> None:
    handed, asked = game(None), game(Interface())
    rest = np.arange(1, len(handed.included))
    np.testing.assert_array_equal(
        attack.score(handed.target(0), handed.references(rest)),
        attack.score(asked.target(0), asked.references(rest)),
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
@pytest.mark.parametrize("interface", [Interface(decimals=2), Interface(deviation=1.0)], ids=repr)
def test_a_leak_is_found_through_the_interface_and_none_where_there_is_none(
    attack: MembershipAttack, interface: Interface
) -> None:
    assert mean_auc(attack, game(interface)) > 0.8
    assert abs(mean_auc(attack, game(interface, leaky=False)) - 0.5) < 0.06


def test_rounding_leaves_signals_finite_and_coarse() -> None:
    known = federations(leaky=True)[0]
    model = federations(leaky=True)[2][0].select("weights", "large")[0]
    coarse, fine = (extract(LARGE, known, outside(model, Interface(decimals=d))) for d in (1, 9))
    assert np.isfinite(coarse.candidates).all()
    assert len(np.unique(coarse.candidates)) < 30 < len(np.unique(fine.candidates))


def test_noisy_answers_are_averaged_and_exact_ones_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = candidates(60, 4).records.inputs
    exact = outside(released(), Interface()).ask("large", inputs, STREAM)
    errors = [
        queried(outside(released(), Interface(deviation=1.0, seed=s)), "large", inputs, STREAM) - exact
        for s in range(10)
    ]
    # 10 * 60 * 5 normal errors: their standard deviation is known to about 1.3 per cent.
    assert float(torch.stack(errors).std()) == pytest.approx(QUERIES**-0.5, rel=0.06)
    count = 0

    def counting(self: View, name: str, inputs: torch.Tensor, stream: Stream) -> torch.Tensor:
        nonlocal count
        count += 1
        return self.interfaces[name](inputs, stream)

    monkeypatch.setattr(View, "ask", counting)
    for interface, expected in (
        (Interface(), 2),
        (Interface(decimals=1), 2),
        (Interface(None, 1.0), QUERIES),
    ):
        count = 0
        queried(outside(released(), interface), "large", inputs, STREAM)
        assert count == expected


def test_one_observation_serves_both_kinds_of_release() -> None:
    known = candidates(10, 4)
    view = outside(released(), Interface(decimals=3))
    one, other = (extract(o, known, view) for o in (LARGE, RepresentationConfidence("large")))
    np.testing.assert_array_equal(one.candidates, other.candidates)


def test_chunks_do_not_change_exact_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    known, view = candidates(11, 4), outside(released(), Interface())
    whole = extract(LARGE, known, view)
    monkeypatch.setattr(confidence, "_ELEMENTS", 3 * SPEC.size**2 * SPEC.width)
    np.testing.assert_allclose(extract(LARGE, known, view).candidates, whole.candidates, atol=1e-5)


def test_what_does_not_answer_is_not_applicable() -> None:
    known = candidates(6, 4)
    headless = replace(released(), tensors=representation_of(SPEC, dict(released().tensors)))
    for observation in (LARGE, RepresentationConfidence("large")):
        assert observation.extract(outside(headless, Interface()), known, STREAM) is None
        assert (
            replace(observation, artefact="surrogate").extract(
                outside(released(), Interface()), known, STREAM
            )
            is None
        )
    spec: NetSpec = replace(SPEC, classes=1)
    one = weights(initial(spec, torch.Generator().manual_seed(0)), "large")
    view = Transcript((put_behind(one, Interface()),), {"large": spec}).view(MODEL)
    assert LARGE.extract(view, known, STREAM) is None


def test_a_diverged_model_is_refused() -> None:
    broken = replace(released(), tensors={k: t * torch.nan for k, t in released().tensors.items()})
    with pytest.raises(ValueError, match=r"^expected finite answers of model 'large', got some with NaN"):
        LARGE.extract(outside(broken, Interface()), candidates(6, 4), STREAM)


def test_records_that_do_not_fit_are_refused() -> None:
    known = candidates(6, 4)
    wrong = replace(known, records=replace(known.records, labels=known.records.labels + SPEC.classes))
    with pytest.raises(ValueError, match=r"^expected labels from 0 to 4, got labels from"):
        LARGE.extract(outside(released(), Interface()), wrong, STREAM)


def test_no_attack_looks_behind_an_interface() -> None:
    """All an attack may do is ask its view; what makes and opens interfaces is for others."""
    assert _models.__file__ is not None
    sources = {p.name: p.read_text(encoding="utf-8") for p in Path(attacks.__path__[0]).glob("*.py")}
    assert len(sources) > 10
    assert [n for n, text in sources.items() if re.search(r"import answers", text)] == []
    opening = r"from privfed\.answers import (?!labels_of$)"  # which label is the largest is no secret
    assert [n for n, text in sources.items() if re.search(opening, text, re.MULTILINE)] == []
    assert [n for n, text in sources.items() if re.search(r"__closure__|cell_contents|inspect", text)] == []
