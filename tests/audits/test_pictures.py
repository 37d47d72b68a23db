"""Pictures: the attack's own favourites beside the truth, and none where nothing was rebuilt."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from audits.examination import examine
from audits.game import Played
from audits.pictures import MOST, pictures, png
from audits.setting import Setting
from privfed.records import Records
from tests.audits.test_examination import COUNT, Infers, Rebuilds, asked, played, rebuilt, setting


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVFED_CACHE", str(tmp_path))


def decoded(code: str) -> list[object]:
    found: list[object] = np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))).tolist()
    return found


def shown(where: Setting, members: bool) -> tuple[Played, Records]:
    """Federations in which eight members, or decoys, of client 0 were handed back; the last is the surest."""
    inside = where.members(0) & (where.candidates.clients == 0)
    outside = ~where.members(0) & (where.candidates.clients == 0)
    records = where.candidates.records.take(inside if members else outside).take(torch.arange(8))
    arrays = rebuilt([records], [0]) | {"objective": torch.arange(8.0).flip(0).double().numpy()}
    return played(where, asked(Rebuilds()), lambda f: arrays if f == 0 else None), records


def test_what_the_attack_is_surest_of_stands_beside_the_record_it_points_at() -> None:
    where = setting()
    game, records = shown(where, members=True)
    found = pictures(examine(asked(Rebuilds()), game, where), game, where)
    assert len(found) == MOST
    assert all(p.named and p.rebuilt == p.member for p in found)
    assert [p.rebuilt for p in found] == [png(records.inputs[i]) for i in (7, 6, 5, 4, 3, 2)]
    assert all(p.decoy and p.decoy != p.rebuilt for p in found)
    assert not any(p.prior for p in found)


def test_what_points_at_a_record_that_was_not_used_is_said_to() -> None:
    where = setting()
    game, _ = shown(where, members=False)
    found = pictures(examine(asked(Rebuilds()), game, where), game, where)
    assert not any(p.named for p in found)
    assert all(p.rebuilt == p.decoy for p in found)


def test_labels_and_empty_answers_have_no_pictures() -> None:
    where = setting()
    labels = asked(Infers(), "labels")
    game = played(where, labels, lambda f: None)
    assert pictures(examine(labels, game, where), game, where) == ()
    records = asked(Rebuilds())
    nothing = played(where, records, lambda f: None)
    assert pictures(examine(records, nothing, where), nothing, where) == ()
    assert COUNT > 0


def test_a_picture_keeps_its_pixels() -> None:
    image = torch.tensor([[[-1.0, 0.0], [1.0, 2.0]]])
    assert decoded(png(image)) == [[0, 128], [255, 255]]
    colours = torch.tensor([-1.0, 0.0, 1.0])[:, None, None].expand(3, 1, 2)
    assert decoded(png(colours)) == [[[0, 128, 255], [0, 128, 255]]]
    assert decoded(png(torch.full((2, 1, 1), -1.0))) == [[0]]
