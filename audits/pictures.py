"""What came out of a reconstruction, side by side with the truth: for those who may see private records."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from audits.examination import Examined
from audits.game import Played, read_key
from audits.reading import reconstruction_of
from audits.reconstruction_baselines import prior_only
from audits.reconstruction_measures import l2
from audits.setting import Setting
from privfed.records import Records
from reports.record import Picture

MOST = 6
"""Reconstructions that are shown of each attack on each arm."""


def pictures(examined: Examined, played: Played, setting: Setting) -> tuple[Picture, ...]:
    """The reconstructions that the attack itself is surest of, each beside what it should show.

    Chosen by the attack's own objective in the first federation that has any, never by likeness to the truth.
    Empty for what rebuilds nothing, and for records that are no images.
    """
    inquiry = examined.inquiry
    images = setting.candidates.records.inputs.ndim == 4
    if inquiry.sought != "records" or examined.measure is None or not images:
        return ()
    found = played.found.get(read_key(inquiry), ())
    for federation, arrays in enumerate(found):
        if arrays is not None and len(arrays["labels"]):
            rebuilt = reconstruction_of(arrays)
            order = np.argsort(rebuilt.objective, kind="stable")[:MOST]
            records, clients = rebuilt.records, rebuilt.clients.tolist()
            return tuple(
                _picture(setting, federation, records.take(torch.tensor([i])), clients[i])
                for i in order.tolist()
            )
    return ()


def _picture(setting: Setting, federation: int, rebuilt: Records, client: int) -> Picture:
    candidates, inside = setting.candidates, setting.members(federation)
    theirs = torch.ones_like(inside) if client < 0 else candidates.clients == client
    away = torch.from_numpy(l2(rebuilt.inputs, candidates.records.inputs)[0])
    member, decoy = (_nearest(away, theirs & side) for side in (inside, ~inside))
    prior = None
    if candidates.prior is not None:
        stream = setting.stream.child("prior-only", federation)
        prior = prior_only(candidates.prior, rebuilt.labels, stream).inputs[0]
    inputs = candidates.records.inputs
    return Picture(
        rebuilt=png(rebuilt.inputs[0]),
        member="" if member is None else png(inputs[member]),
        decoy="" if decoy is None else png(inputs[decoy]),
        prior="" if prior is None else png(prior),
        named=member is not None and (decoy is None or float(away[member]) < float(away[decoy])),
    )


def _nearest(away: Tensor, allowed: Tensor) -> int | None:
    return int(away.masked_fill(~allowed, torch.inf).argmin()) if bool(allowed.any()) else None


def png(image: Tensor) -> str:
    """A PNG in base64 of an image in [-1, 1], shape (channels, height, width), one or three channels.

    >>> base64.b64decode(png(torch.zeros(1, 2, 2)))[1:4]
    b'PNG'
    """
    levels = ((image.detach().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    shown = np.moveaxis(levels, 0, -1) if len(levels) == 3 else levels[0]
    with io.BytesIO() as file:
        Image.fromarray(shown).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode("ascii")
