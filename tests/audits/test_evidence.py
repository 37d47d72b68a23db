"""Evidence on the real game: attacks on models that no candidate reached find nothing, at every size."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attacks.interface import Bools, Candidates, Floats, References, Signals
from attacks.rmia import Rmia
from audits.coverage import CLIENT, Probe
from audits.evidence import Evidence, blind_auc, decoy, gather
from audits.game import Played, read_key, score_all
from audits.verdict import Question, judge
from privfed.records import Records
from reports.record import Limit
from tests.audits.designs import most_misses
from tests.audits.null_games import model_probes, null_evidence, null_settings, played

FEDERATIONS = 12
CHANCE = Limit(op="<=", value=0.5)


def violated(found: list[Evidence]) -> bool:
    """Whether a policy over all attacks with the hardest limit, chance itself, calls this a leak."""
    attacks = {e.probe.name: e.measure("auc", None, "all") for e in found}
    return judge([Question(CHANCE, attacks)])[0].verdict == "FAIL"


def false_alarms(seeds: int, n: int) -> Counter[str]:
    """Games of a pipeline that leaks nothing in which each attack's lower bound, or the policy, says it does.

    Models are trained on public records; scores come from the real attacks with every federation in
    turn as the target, bounds from the real two-way interval, verdicts from the real procedure.
    """
    misses: Counter[str] = Counter()
    for start in range(0, seeds, 32):
        batch = null_settings(range(start, min(start + 32, seeds)), n)
        for _, found in null_evidence(batch, FEDERATIONS):
            for e in found:
                misses[e.probe.name] += (e.estimate("auc", None, "all", 0.95).lower or 0.0) > 0.5
            misses["policy"] += violated(found)
    return misses


def test_a_pipeline_that_leaks_nothing_is_rarely_accused() -> None:
    misses = false_alarms(24, 60)
    assert set(misses) >= {p.name for p in model_probes()}
    assert {name: k for name, k in misses.items() if k > most_misses(24)} == {}


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "n"), [(400, 100), (200, 500)])
def test_false_alarms_stay_at_their_level_on_the_real_game(seeds: int, n: int) -> None:
    """Scores of rotated attacks are dependent, online LiRA's most: the interval must hold all the same."""
    misses = false_alarms(seeds, n)
    assert {name: k for name, k in misses.items() if k > most_misses(seeds)} == {}


def test_every_federation_is_the_target_once_with_all_others_as_references() -> None:
    (setting,) = null_settings([1], 20)
    game = played(setting, 5)
    probe = model_probes()[1]
    signals = game.signals[read_key(probe)]
    assert signals is not None
    scores = score_all(probe, signals, game.included)
    rest = [0, 1, 3, 4]
    alone = score_all(probe, [signals[f] for f in (2, *rest)], game.included[[2, *rest]])
    np.testing.assert_allclose(scores[2], alone[0])


def test_a_target_does_not_read_its_own_membership() -> None:
    (setting,) = null_settings([1], 20)
    game = played(setting, 5)
    flipped = game.included.copy()
    flipped[2] = ~flipped[2]
    for probe in model_probes():
        signals = game.signals[read_key(probe)]
        assert signals is not None
        before, after = (score_all(probe, signals, bits)[2] for bits in (game.included, flipped))
        np.testing.assert_array_equal(before, after)


def test_parts_divide_the_candidates() -> None:
    (setting,) = null_settings([1], 40)
    canaries = torch.arange(40) < 12
    found = gather(model_probes()[0], played(setting, 4), replace(setting, canaries=canaries))
    sizes = {p: found.estimate("auc", None, p, 0.9) for p in ("all", "natural", "canaries")}
    for part, n in (("all", 40), ("natural", 28), ("canaries", 12)):
        assert n / 2 < max(sizes[part].n_in, sizes[part].n_out) <= n
    assert sizes["all"].n_federations == 4


def test_a_client_is_not_scored_on_its_own_records() -> None:
    (setting,) = null_settings([1], 30, clients=3)
    probe = replace(model_probes()[0], observer=CLIENT)
    game = played(setting, 4)
    seen = game.signals[read_key(model_probes()[0])]
    found = gather(probe, replace(game, signals={read_key(probe): seen}), setting)
    assert found.scores is not None
    own = setting.candidates.clients.numpy() == 0
    assert np.isnan(found.scores[:, own]).all()
    assert np.isfinite(found.scores[:, ~own]).all()


def test_a_crash_while_scoring_is_part_of_the_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> Floats:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(Rmia, "score", crash)
    (setting,) = null_settings([1], 20)
    found = {p.name: gather(p, played(setting, 4), setting) for p in model_probes()}
    assert found["RMIA"].crashed == "ZeroDivisionError: planted"
    assert found["RMIA"].scores is None
    assert found["LiRA online"].crashed == ""
    with pytest.raises(ValueError, match="expected scores, got none for RMIA"):
        found["RMIA"].estimate("auc", None, "all", 0.9)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (np.zeros((20, 1)), r"expected scores of shape \(20,\), got shape=\(20, 1\)"),
        (np.zeros(19), r"expected scores of shape \(20,\), got shape=\(19,\)"),
        (np.zeros(()), r"expected scores of shape \(20,\), got shape=\(\)"),
        (np.array(["high"] * 20), "could not convert string to float: .*high.*"),
    ],
)
def test_scores_of_another_kind_are_a_crash_of_that_attack_alone(
    made: NDArray[Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would stop the whole audit once it comes to statistics, with everything trained."""
    monkeypatch.setattr(Rmia, "score", lambda *_: made)
    (setting,) = null_settings([1], 20)
    found = {p.name: gather(p, played(setting, 4), setting) for p in model_probes()}
    assert re.fullmatch(f"ValueError: {message}", found["RMIA"].crashed)
    assert found["RMIA"].scores is None
    assert found["LiRA online"].crashed == ""


def unscored(monkeypatch: pytest.MonkeyPatch, hide: Callable[[Floats, Bools], Bools]) -> Evidence:
    """What the loss attack finds in 12 federations where some scores are NaN."""
    (setting,) = null_settings([1], 200)
    game = played(setting, 12)
    signals = game.signals[read_key(model_probes()[0])] or ()
    whole = score_all(model_probes()[0], signals, game.included)
    scores = dict(zip(map(id, signals), np.where(hide(whole, game.included), np.nan, whole), strict=True))

    def planted(_: Probe, seen: Sequence[Signals], __: Bools) -> Floats:
        return np.stack([scores[id(s)] for s in seen])

    monkeypatch.setattr("audits.evidence.score_all", planted)
    return gather(model_probes()[0], game, setting)


@pytest.mark.parametrize("silent", [1, 11, 12])
def test_federations_without_a_score_never_vanish(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is left would be judged as if it were the whole audit."""
    found = unscored(monkeypatch, lambda scores, _: np.arange(12)[:, None] * np.ones_like(scores) < silent)
    assert (found.scores, found.crashed) == (None, f"{silent} of 12 federations gave no score")


def test_members_that_go_unscored_more_often_are_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three in ten members stand out and are NaN: what remains looks like chance."""
    rng = np.random.default_rng(0)
    found = unscored(monkeypatch, lambda scores, bits: bits & (rng.random(scores.shape) < 0.3))
    assert (found.scores, found.crashed) == (None, "whether a record is scored depends on its membership")


@pytest.mark.parametrize("by", ["record", "federation and record", "cell"])
def test_scores_missing_whoever_is_a_member_are_left_out(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sat out leaves its records unscored; membership has no part in it."""

    def hide(scores: Floats, _: Bools) -> Bools:
        rng, (f, n) = np.random.default_rng(4), scores.shape
        clients = np.arange(n) % 4
        masks: dict[str, Bools] = {
            "record": np.tile(rng.random(n) < 0.2, (f, 1)),
            "federation and record": rng.integers(0, 4, (f, 1)) == clients,
            "cell": rng.random((f, n)) < 0.1,
        }
        return masks[by]

    found = unscored(monkeypatch, hide)
    assert found.crashed == ""
    assert found.scores is not None
    assert 0.05 < np.isnan(found.scores).mean() < 0.3


def test_what_a_view_did_not_show_has_no_scores_and_no_crash() -> None:
    (setting,) = null_settings([1], 20)
    probe = model_probes()[0]
    game = replace(played(setting, 4), signals={read_key(probe): None})
    found = gather(probe, game, setting)
    assert (found.scores, found.crashed) == (None, "")


def test_decoy_membership_is_fresh_and_the_same_each_time() -> None:
    (setting,) = null_settings([1], 50)
    game = played(setting, 6)
    first, second = (decoy(model_probes()[1], game, setting) for _ in range(2))
    np.testing.assert_array_equal(first.included, second.included)
    assert 0.3 < (first.included == game.included).mean() < 0.7


def test_attacks_with_references_alone_have_something_shared(tmp_path: Path) -> None:
    (setting,) = null_settings([1], 40)
    game = played(setting, 6)
    for probe in model_probes():
        found = gather(probe, game, setting)
        assert found.shared.keys() == (
            set() if probe.name == "loss threshold" else {"all", "natural", "canaries"}
        )
        assert ("jackknife" in found.estimate("auc", None, "all", 0.9).method) == bool(found.shared)
        assert decoy(probe, game, setting).shared == {}
        assert gather(probe, game, setting, tmp_path).shared == found.shared
    assert len(list((tmp_path / "shared").iterdir())) == len(model_probes())


def test_a_crash_with_a_federation_left_out_is_a_crash_of_that_attack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without what is shared its interval would be too narrow, and could pass."""
    whole = Rmia.score

    def crash(self: Rmia, target: Signals, references: References) -> Floats:
        if len(references.candidates) < 3:
            raise ZeroDivisionError("planted")
        return whole(self, target, references)

    monkeypatch.setattr(Rmia, "score", crash)
    (setting,) = null_settings([1], 20)
    found = {p.name: gather(p, played(setting, 4), setting) for p in model_probes()}
    assert found["RMIA"].scores is None
    assert found["RMIA"].crashed == "scored again with a federation left out: ZeroDivisionError: planted"
    assert found["LiRA online"].crashed == ""


def test_a_store_that_fails_loses_no_scores(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("no folder")
    (setting,) = null_settings([1], 20)
    found = gather(model_probes()[1], played(setting, 4), setting, tmp_path)
    assert (found.crashed, found.scores is None) == ("", False)
    assert found.shared


def test_a_leak_is_seen_through_the_same_path() -> None:
    """The null game with the truth written into the signals."""
    (setting,) = null_settings([1], 60)
    game = played(setting, 8)
    leaky = {
        key: tuple(shifted(x, bits) for x, bits in zip(seen or (), game.included, strict=True))
        for key, seen in game.signals.items()
    }
    found = [gather(p, Played(game.included, {**leaky}, {}, ()), setting) for p in model_probes()]
    assert violated(found)
    assert all((e.estimate("auc", None, "all", 0.95).lower or 0.0) > 0.5 for e in found)


def shifted(signals: Signals, included: Bools) -> Signals:
    return replace(signals, candidates=signals.candidates + 4.0 * included[:, None])


def records(n: int, shift: float, included: Bools) -> Candidates:
    """Noise; those of the first federation's members are brighter by `shift`."""
    rng = np.random.default_rng(2)
    images = rng.normal(size=(n, 1, 4, 4)) + shift * included[0][:, None, None, None]
    content = Records(torch.from_numpy(images).float(), torch.arange(n) % 3)
    return Candidates(content, torch.arange(n) % 2, content, content)


@pytest.mark.parametrize(("shift", "blind"), [(0.0, True), (0.8, False)])
def test_a_classifier_on_raw_records_sees_members_that_differ(shift: float, blind: bool) -> None:
    """Membership that follows the records themselves, the same in every federation."""
    included = np.tile(np.random.default_rng(3).random(200) < 0.5, (4, 1))
    canaries = np.zeros(200, dtype=bool)
    found = blind_auc(records(200, shift, included), canaries, included, 0.99)
    assert found.lower is not None
    assert (found.lower <= 0.5) == blind
