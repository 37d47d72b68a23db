"""What every membership attack keeps, found by walking the package: a new file is tested by existing."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attacks
from attacks.augmented import Augmented
from attacks.class_mean import ClassMean, ClassMeanDistance
from attacks.confidence import ModelConfidence
from attacks.feature_nearest import FeatureNearest
from attacks.generator_samples import GeneratorSamples
from attacks.generator_search import GeneratorSearch
from attacks.interface import MembershipAttack, Observation, References, Signals
from attacks.latent_displacement import LatentAttack, LatentNearest
from attacks.lira import Lira
from attacks.logan import Logan, OwnDiscriminator
from attacks.loss import LossThreshold
from attacks.nearest import CalibratedNearest, NearestNeighbour, NearestSynthetic
from attacks.part_update import PartConfidence
from attacks.prior_search import PriorControl
from attacks.replay import ReplayedAlignment
from attacks.representation import RepresentationConfidence
from attacks.rmia import Rmia
from attacks.soft_margin import SoftMarginConfidence
from attacks.source_inference import ClientConfidence
from privfed.randomness import Stream
from tests.attacks.federations import candidates, extract, federations, play, server_view
from tests.attacks.simulation import auc, bernoulli, chance_width, game, mean_interval

SKIPPED = ("interface",)


def discovered(*methods: str) -> Iterator[type[Any]]:
    for module in pkgutil.iter_modules(attacks.__path__):
        if module.name in SKIPPED or module.name.startswith("_"):
            continue
        loaded = importlib.import_module(f"attacks.{module.name}")
        for _, found in inspect.getmembers(loaded, inspect.isclass):
            if found.__module__ == loaded.__name__ and all(hasattr(found, m) for m in methods):
                yield found


CLASSES: list[type[MembershipAttack]] = list(discovered("observation", "score"))
OBSERVATIONS: list[type[Observation]] = list(discovered("extract"))
CONFIGURED: list[MembershipAttack] = [
    *(c() for c in CLASSES),
    *(
        a(observation=ModelConfidence(w))
        for a in (LossThreshold, Lira, Rmia)
        for w in ("update", "surrogate")
    ),
    *(
        a(observation=o)
        for a in (LossThreshold, Lira, Rmia)
        for o in (RepresentationConfidence(), RepresentationConfidence("update"))
    ),
    Lira(observation=ModelConfidence("personal")),
    Lira(observation=ClientConfidence()),
    *(
        a(observation=o)
        for a in (NearestNeighbour, CalibratedNearest)
        for o in (NearestSynthetic("bank"), GeneratorSearch(steps=20), GeneratorSamples(), FeatureNearest())
    ),
    Logan(OwnDiscriminator()),
    Lira(observation=ReplayedAlignment()),
    LatentAttack(LatentNearest()),
    Lira(mode="offline"),
    Lira(variance="per_record"),
    Lira(observation=NearestSynthetic()),
    Rmia(mode="offline"),
    *(Rmia(observation=SoftMarginConfidence(o)) for o in ("large", "update")),
    Lira(observation=Augmented()),
    LossThreshold(observation=PartConfidence("representation")),
]
every_attack = pytest.mark.parametrize("attack", CONFIGURED, ids=repr)


def sample() -> tuple[Signals, References]:
    g = game(11, 12, n=60, shift=1.0, queries=2)
    return g.target(0), g.references(np.arange(1, 12))


def permuted(signals: Signals, references: References, at: NDArray[np.int64]) -> tuple[Signals, References]:
    return (
        Signals(signals.candidates[at], signals.population, signals.clients[at]),
        References(references.candidates[:, at], references.population, references.included[:, at]),
    )


def test_the_walk_finds_the_attacks() -> None:
    assert {
        "LossThreshold",
        "Lira",
        "Rmia",
        "NearestNeighbour",
        "CalibratedNearest",
        "ClassMean",
        "DistilAndTest",
    } <= {c.__name__ for c in CLASSES}


def test_the_walk_finds_the_observations_and_every_one_is_played() -> None:
    names = {c.__name__ for c in OBSERVATIONS}
    assert {"RepresentationConfidence", "GeneratorSearch", "GeneratorSamples"} <= names
    assert {type(a.observation).__name__ for a in CONFIGURED} == names


@pytest.mark.parametrize("observation", OBSERVATIONS, ids=lambda c: c.__name__)
def test_an_observation_is_a_frozen_documented_value_with_defaults(observation: type[Any]) -> None:
    made = observation()
    assert made == observation()
    assert hash(made) == hash(observation())
    for field in dataclasses.fields(made):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, None)
    assert (observation.__doc__ or "").splitlines()[0].endswith(".")
    assert "0x" not in repr(made)


@pytest.mark.parametrize("observation", OBSERVATIONS, ids=lambda c: c.__name__)
def test_an_observation_of_a_view_without_releases_says_nothing(observation: type[Any]) -> None:
    if observation is not ClassMeanDistance:  # reads no view
        assert observation().extract(server_view(), candidates(4), Stream(0)) is None


@pytest.mark.parametrize("attack", CLASSES, ids=lambda c: c.__name__)
def test_an_attack_is_a_frozen_documented_value_with_defaults(attack: type[MembershipAttack]) -> None:
    assert dataclasses.is_dataclass(attack)
    assert attack() == attack()
    assert hash(attack()) == hash(attack())
    name = dataclasses.fields(attack)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(attack(), name, None)
    summary = (attack.__doc__ or "").splitlines()[0]
    assert summary.startswith("Score ")
    assert summary.endswith(".")
    module = inspect.getmodule(attack)
    assert module is not None
    assert module.__doc__


@every_attack
def test_scores_are_one_float64_a_record(attack: MembershipAttack) -> None:
    scores = attack.score(*sample())
    assert scores.shape == (60,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@every_attack
def test_inputs_are_left_as_they_were_and_the_score_repeats(attack: MembershipAttack) -> None:
    target, references = sample()
    before = [target.candidates.copy(), references.candidates.copy(), references.population.copy()]
    first = attack.score(target, references)
    np.testing.assert_array_equal(attack.score(target, references), first)
    for old, now in zip(
        before, (target.candidates, references.candidates, references.population), strict=True
    ):
        np.testing.assert_array_equal(old, now)


@every_attack
def test_the_order_of_records_does_not_matter(attack: MembershipAttack) -> None:
    target, references = sample()
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(
        attack.score(*permuted(target, references, order)), attack.score(target, references)[order]
    )


@every_attack
def test_an_unknown_record_is_nan_and_the_others_do_not_notice(attack: MembershipAttack) -> None:
    target, references = sample()
    holed = target.candidates.copy()
    holed[[3, 17]] = np.nan
    scores = attack.score(Signals(holed, target.population, target.clients), references)
    assert set(np.flatnonzero(np.isnan(scores))) == {3, 17}
    known = ~np.isnan(scores)
    np.testing.assert_array_equal(scores[known], attack.score(target, references)[known])


@every_attack
def test_a_higher_signal_never_lowers_the_score_of_a_clear_case(attack: MembershipAttack) -> None:
    """Monotone near the references' means; Gaussian ratios of unequal variance bend far outside."""
    g = game(12, 12, n=1, shift=2.0)
    low, high = (
        attack.score(
            Signals(
                g.references(np.arange(1, 12)).candidates[:, 0].mean() + np.array([[d]]),
                g.population[0],
                g.clients,
            ),
            g.references(np.arange(1, 12)),
        )[0]
        for d in (-0.5, 0.5)
    )
    assert high >= low


@every_attack
def test_artefacts_independent_of_membership_are_at_chance(attack: MembershipAttack) -> None:
    """10 federations x 80 records, against 60 games with the same signals and membership drawn afresh.

    Redrawing is exact where a formula is not: every federation is target and reference in turn, which
    widens the spread of the online score by half over that of independent scores.
    """
    g = play(attack, leaky=False)
    rng = np.random.default_rng(0)
    redrawn = [replace(g, included=bernoulli(rng, *g.included.shape)) for _ in range(60)]
    chance = [auc(r.scores(attack), r.included) for r in redrawn]
    mean, width = mean_interval(chance, deviations=3.3)
    assert abs(mean - 0.5) < width < 0.02
    found = auc(g.scores(attack), g.included)
    assert abs(found - 0.5) < 3.3 * np.std(chance) < 0.13


@every_attack
def test_a_leak_planted_in_what_it_reads_is_found(attack: MembershipAttack) -> None:
    g = play(attack, leaky=True)
    found = auc(g.scores(attack), g.included)
    if isinstance(attack, (ClassMean, PriorControl)):  # reads nothing that was released: must stay at chance
        assert abs(found - 0.5) < chance_width(g.included)
    else:
        assert found > 0.9


@every_attack
def test_the_same_stream_gives_the_same_signals(attack: MembershipAttack) -> None:
    known, _, views = federations(True)
    first, second = (extract(attack.observation, known, views[0]) for _ in range(2))
    np.testing.assert_array_equal(first.candidates, second.candidates)
    np.testing.assert_array_equal(first.population, second.population)
    np.testing.assert_array_equal(first.clients, second.clients)
