"""Whom reconstructions identify: the truth about records that were rebuilt.

Candidates of a client that were not trained on this time are the decoys: which of its records were in is a
fair coin, so that reconstructions that know nothing name a member as often as members are among the
candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from attacks.interface import Floats, Reconstruction
from audits.examined import Examined, Measure, Pointed
from audits.identification import Identified, Lineup, identification, nearest_is_member, one_to_one
from audits.inquiry import Inquiry
from audits.property_game import mean_error
from audits.reading import Arrays, reconstruction_of
from audits.reconstruction_baselines import class_means, prior_only, public_neighbours
from audits.reconstruction_measures import l2, psnr
from audits.setting import Setting
from privfed.records import Records
from reports.record import Estimate

MEAN_PSNR = "psnr_to_nearest_member"


@dataclass(frozen=True, slots=True)
class _Case:
    """One federation: what was rebuilt, what was in, and what needs no access."""

    federation: int
    rebuilt: Reconstruction
    setting: Setting

    def lineups(self, records: Records) -> list[Lineup]:
        """Line-ups of these records in place of the rebuilt ones, whose clients they share."""
        candidates, inside = self.setting.candidates, self.setting.members(self.federation)
        owners, of = candidates.clients, self.rebuilt.clients
        nobody = bool((of < 0).any()) or not len(of)
        groups = [torch.ones_like(owners, dtype=torch.bool)] if nobody else self._held(owners)
        mine = [torch.ones_like(of, dtype=torch.bool)] if nobody else self._held(of)
        return [
            Lineup(l2(records.inputs[m], candidates.records.inputs[g]), inside[g].numpy())
            for g, m in zip(groups, mine, strict=True)
        ]

    def _held(self, clients: torch.Tensor) -> list[torch.Tensor]:
        return [clients == k for k in range(self.setting.clients)]

    @property
    def nearest_member(self) -> Floats:
        """PSNR of each rebuilt image to the nearest member of its client, decibels; finite."""
        inputs = self.setting.candidates.records.inputs
        inside, owners = self.setting.members(self.federation), self.setting.candidates.clients
        decibels = psnr(self.rebuilt.records.inputs, inputs)
        theirs = (self.rebuilt.clients[:, None] < 0) | (self.rebuilt.clients[:, None] == owners[None])
        allowed = (theirs & inside[None]).numpy()
        best = np.where(allowed, decibels, -np.inf).max(axis=1, initial=-np.inf)
        found: Floats = np.minimum(best[best > -np.inf], _BEST)
        return found


_BEST = 100.0
"""Decibels at which two images count as the same; keeps a mean finite."""


def records(inquiry: Inquiry, known: Sequence[tuple[int, Arrays]], setting: Setting) -> Examined:
    """Share of the reconstructions whose nearest candidate is a member, and what stands beside it."""
    cases = [_Case(f, reconstruction_of(arrays), setting) for f, arrays in known]
    lineups = [c.lineups(c.rebuilt.records) for c in cases]
    look = partial(_identified, lineups)
    details: dict[str, Measure] = {
        "one to one": partial(_clustered, partial(look, matched=True)),
        "reconstructions taken for independent": partial(_exact, look),
    }
    images = setting.candidates.records.inputs.ndim == 4
    if images and any(len(c.rebuilt.records) for c in cases):
        details["PSNR to the nearest member, dB"] = partial(_mean_psnr, [c.nearest_member for c in cases])
    return Examined(
        inquiry,
        partial(_clustered, look),
        look(0.95).chance,
        details,
        {name: partial(_clustered, partial(_identified, ups)) for name, ups in _baselines(cases).items()},
        sum(c.rebuilt.work for c in cases),
        len(known),
        pointed=_pointed(lineups),
    )


def _pointed(federations: Sequence[Sequence[Lineup]]) -> Pointed | None:
    """What a claim can be held against; None where nothing was pointed at."""
    counts = [tuple(int((~np.isnan(nearest_is_member(x))).sum()) for x in ups) for ups in federations]
    once = [np.concatenate([one_to_one(x) for x in ups]) for ups in federations]
    if not any(map(sum, counts)):
        return None
    sizes = [[len(x.members) for x in ups] for ups in federations]
    alike = len(set(counts)) == 1
    return Pointed(
        max(n for n, c in zip(sizes[0], counts[0], strict=True) if c) if alike else max(map(sum, sizes)),
        sum(map(sum, sizes)),
        len(once) * max(int((~np.isnan(x)).sum()) for x in once),
        int(sum(np.nansum(x) for x in once)),
        sum(not sum(c) for c in counts),
    )


def _baselines(cases: Sequence[_Case]) -> dict[str, list[list[Lineup]]]:
    """Line-ups of what anybody could have handed in, where there is such a thing."""
    setting = cases[0].setting
    public, prior = setting.candidates.public, setting.candidates.prior
    found = {}
    if len(public):
        nearest = [public_neighbours(c.rebuilt.records, public) for c in cases]
        found["nearest public record"] = nearest
    if setting.world.public_labelled and len(public):
        means = class_means(public, torch.arange(setting.world.surrogate.classes))
        found["public class means"] = [_by_label(means, c.rebuilt.records.labels) for c in cases]
    if prior is not None:
        found["prior only"] = [
            prior_only(prior, c.rebuilt.records.labels, setting.stream.child("prior-only", c.federation))
            for c in cases
        ]
    return {name: [c.lineups(r) for c, r in zip(cases, rs, strict=True)] for name, rs in found.items()}


def _by_label(means: Records, labels: torch.Tensor) -> Records:
    """The mean of each label; the first one for labels that have none."""
    at = [int((means.labels == c).nonzero()[0]) if bool((means.labels == c).any()) else 0 for c in labels]
    return Records(means.inputs[torch.tensor(at, dtype=torch.int64)], labels)


def _identified(lineups: list[list[Lineup]], level: float, matched: bool = False) -> Identified:
    return identification(lineups, level, matched)


def _clustered(look: Callable[[float], Identified], level: float) -> Estimate:
    return look(level).clustered


def _exact(look: Callable[[float], Identified], level: float) -> Estimate:
    return look(level).exact


def _mean_psnr(decibels: Sequence[Floats], level: float) -> Estimate:
    """Mean over federations of the mean over reconstructions, with the usual two-way bounds."""
    most = max(len(d) for d in decibels)
    rows = np.full((len(decibels), most), np.nan)
    for row, d in zip(rows, decibels, strict=True):
        row[: len(d)] = d.clip(0, _BEST)
    return mean_error(rows, _BEST, level, MEAN_PSNR)
