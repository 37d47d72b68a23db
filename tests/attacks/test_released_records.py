"""Released records as they are: which are handed out, whose they are, and whom they show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks._distances import nearest
from attacks.interface import Candidates, Known, Reconstruction
from attacks.released_records import ReleasedRecords, spread
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, View
from tests.attacks.federations import CLIENT_COUNT, SPEC, bank, candidates, images, noise, server_view
from tests.attacks.generators import plateaus, released
from tests.attacks.lineups import at_chance, coins, identified

STREAM = Stream(0)
KNOWN = Known(noise(6, 1), noise(6, 2))
ARTEFACTS = ("synthetic", "client_images", "bank", "generator")


def rebuilt(view: View, known: Known = KNOWN, **knobs: Any) -> Reconstruction:
    found = ReleasedRecords(**knobs).reconstruct(view, known, STREAM)
    assert isinstance(found, Reconstruction)
    return found


def test_a_small_set_comes_back_as_it_is_and_is_of_nobody() -> None:
    made = noise(7, 0)
    found = rebuilt(server_view(images(made)))
    assert torch.equal(found.records.inputs, made.inputs)
    assert torch.equal(found.records.labels, made.labels)
    assert found.clients.tolist() == [-1] * 7
    assert found.objective.tolist() == [0.0] * 7
    assert (found.work, found.stopped_early) == (0, False)


def test_sets_of_clients_are_theirs_over_all_rounds_and_cut_for_each() -> None:
    made = {(r, k): noise(4, 10 * r + k) for r in range(2) for k in (0, 3)}
    view = server_view(*(images(records, r, k) for (r, k), records in made.items()))
    found = rebuilt(view, artefact="client_images")
    assert found.clients.tolist() == [0] * 8 + [3] * 8
    for k in (0, 3):
        both = torch.cat([made[r, k].inputs for r in range(2)])
        assert torch.equal(found.records.inputs[found.clients == k], both)
    assert rebuilt(view, artefact="client_images", most=3).clients.tolist() == [0] * 3 + [3] * 3


def test_one_set_of_nobody_makes_all_of_nobody() -> None:
    everybody = Release(0, "server", "server", "synthetic", "client_images", _tensors(noise(2, 1)))
    found = rebuilt(server_view(images(noise(3, 0), 0, 1), everybody), artefact="client_images")
    assert found.clients.tolist() == [-1] * 5


def test_embedded_sentences_come_back_as_they_are() -> None:
    sentences = Records(torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0)), torch.arange(5))
    assert torch.equal(
        rebuilt(server_view(bank(sentences, 0)), artefact="bank").records.inputs, sentences.inputs
    )


def test_the_newest_generator_is_sampled_label_by_label() -> None:
    old, new = (plateaus(noise(6, s), 5, seed=s) for s in (0, 1))
    view = server_view(*released(old, 1), *released(new, 2))
    found = rebuilt(view, artefact="generator", draws=30, most=1000)
    assert found.records.labels.tolist() == [c for c in range(5) for _ in range(30)]
    assert found.work == 150
    distance = nearest(found.records, noise(6, 1))
    # Nine in ten numbers lie on a plateau, where a sample is one of the six records.
    assert (distance < 1e-3).mean() > 0.75
    again = rebuilt(view, artefact="generator", draws=30, most=1000)
    assert torch.equal(found.records.inputs, again.records.inputs)


def test_a_generator_of_records_of_another_size_is_refused() -> None:
    view = server_view(*released(plateaus(noise(6, 0), 5, seed=0), 1))
    short = Records(torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(
        ValueError, match="expected a generator of records of 4 values, got a generator of 36"
    ):
        rebuilt(view, Known(short, short), artefact="generator")


def test_the_chosen_by_hand() -> None:
    """Of four, two and one, five are two, two and one: the first label's at the start and the middle."""
    labels = torch.tensor([0, 0, 1, 0, 2, 0, 1])
    assert spread(labels, 5, STREAM).tolist() == [0, 2, 3, 4, 6]
    assert spread(labels, 3, STREAM).tolist() == [0, 2, 4]
    assert spread(labels, 99, STREAM).tolist() == list(range(7))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 45), st.integers(0, 5))
def test_no_label_is_short_of_another_while_it_has_more(labels: list[int], most: int, seed: int) -> None:
    at = spread(torch.tensor(labels), most, Stream(seed))
    assert at.tolist() == sorted(set(at.tolist()))
    assert len(at) == min(most, len(labels))
    held, got = (np.bincount(x, minlength=7) for x in (np.array(labels), np.array(labels)[at.numpy()]))
    assert (got[got < held] >= got.max() - 1).all()


def test_labels_that_get_one_more_are_drawn() -> None:
    labels = torch.arange(10)
    drawn = {tuple(spread(labels, 4, Stream(s)).tolist()) for s in range(5)}
    assert len(drawn) > 1


@pytest.mark.parametrize("artefact", ARTEFACTS)
@pytest.mark.parametrize("leaky", [True, False])
def test_copies_of_members_show_them_and_copies_of_others_nobody(artefact: str, leaky: bool) -> None:
    known = candidates()
    included, held = coins(len(known.records), leaky)
    views = [server_view(*copies(known, torch.from_numpy(h))) for h in held]
    for matched in (False, True):
        found = identified(ReleasedRecords(artefact), known, included, views, matched)
        assert found.reconstructions >= 10 * len(views)
        if leaky and not (matched and artefact == "generator"):
            assert found.clustered.value == 1.0
        elif leaky:  # it makes a few records many times over, and each counts once
            assert (found.clustered.lower or 0.0) > found.chance
        else:
            assert at_chance(found)


def copies(known: Candidates, held: torch.Tensor) -> list[Release]:
    """The records held in every kind of release."""
    own = [images(known.records.take(held & (known.clients == k)), 0, k) for k in range(CLIENT_COUNT)]
    made = known.records.take(held)
    return [*own, images(made), bank(made, 0), *released(plateaus(made, SPEC.classes, 0), 1)]


def test_nothing_released_or_nothing_in_it_is_nothing_to_hand_out() -> None:
    none = Records(torch.zeros(0, 1, 6, 6), torch.zeros(0, dtype=torch.int64))
    for view in (server_view(), server_view(images(none)), server_view(bank(noise(3, 0), 0))):
        assert ReleasedRecords().reconstruct(view, KNOWN, STREAM) is None


def test_knobs_out_of_range_are_refused() -> None:
    for name in ("most", "draws"):
        with pytest.raises(ValueError, match=f"expected {name} > 0, got {name}=0"):
            ReleasedRecords(**{name: 0})  # type: ignore[arg-type]


def _tensors(records: Records) -> dict[str, torch.Tensor]:

    return {"inputs": records.inputs, "labels": records.labels}
