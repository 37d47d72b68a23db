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
from torch import Tensor

from attacks.interface import Floats, Reconstruction
from audits.bags_of_words import alike
from audits.examination_likeness import Beside, between, in_features, in_pixels, of_classes
from audits.examined import Examined, Measure, Pointed
from audits.identification import Identified, Lineup, identification, nearest_is_member, one_to_one
from audits.inquiry import Inquiry
from audits.probe import MODEL
from audits.reading import Arrays, reconstruction_of
from audits.reconstruction_baselines import class_means, prior_only, public_neighbours
from audits.setting import Setting
from audits.setting_judge import judge_of
from privfed.records import Records
from reports.record import Estimate

Distances = Callable[[Tensor, Tensor], Floats]
IN_FEATURES = "identification@1 in an independent network's features"


@dataclass(frozen=True, slots=True)
class _Case:
    """One federation: what was rebuilt, what was in, and what needs no access."""

    federation: int
    rebuilt: Reconstruction
    setting: Setting

    def lineups(self, records: Records) -> list[Lineup]:
        """Line-ups of these records in place of the rebuilt ones; of sentences whatever their order."""
        return self.lined_up(records.inputs, self.setting.candidates.records.inputs, alike)

    def lined_up(self, ours: Tensor, theirs: Tensor, distances: Distances) -> list[Lineup]:
        """Line-ups of what stands for reconstructions and for candidates, by a distance of every pair."""
        owners, of = self.setting.candidates.clients, self.rebuilt.clients
        inside, nobody = self.setting.members(self.federation), self._of_nobody
        groups = [torch.ones_like(owners, dtype=torch.bool)] if nobody else self._held(owners)
        mine = [torch.ones_like(of, dtype=torch.bool)] if nobody else self._held(of)
        return [
            Lineup(distances(ours[m], theirs[g]), inside[g].numpy())
            for g, m in zip(groups, mine, strict=True)
        ]

    @property
    def _of_nobody(self) -> bool:
        return bool((self.rebuilt.clients < 0).any()) or not len(self.rebuilt.clients)

    def _held(self, clients: Tensor) -> list[Tensor]:
        return [clients == k for k in range(self.setting.clients)]

    @property
    def named(self) -> Floats:
        """Whether the nearest candidate of each reconstruction is a member, in their own order."""
        of = self.rebuilt.clients
        order = (
            torch.arange(len(of))
            if self._of_nobody
            else torch.cat([m.nonzero()[:, 0] for m in self._held(of)])
        )
        found = np.full(len(of), np.nan)
        found[order.numpy()] = np.concatenate(
            [nearest_is_member(x) for x in self.lineups(self.rebuilt.records)]
        )
        return found

    @property
    def beside(self) -> Beside:
        """What was rebuilt beside the members of its client, of any client where it is nobody's."""
        inside, owners = self.setting.members(self.federation), self.setting.candidates.clients
        of = self.rebuilt.clients[:, None]
        theirs = ((of < 0) | (of == owners[None])) & inside[None]
        inputs = self.rebuilt.records.inputs.clamp(-1, 1)
        return Beside(inputs, self.setting.candidates.records.inputs, theirs.numpy())


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
        details |= _likeness(inquiry, cases, setting)
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


def _likeness(inquiry: Inquiry, cases: Sequence[_Case], setting: Setting) -> dict[str, Measure]:
    """Figures of images, and what an independent network says of them where there can be one."""
    found = [c.beside for c in cases]
    details, judge = in_pixels(found), judge_of(setting)
    if judge is None:
        return details
    candidates = judge.features(setting.candidates.records.inputs)
    seen = [(judge.features(b.rebuilt), candidates) for b in found]
    lineups = [c.lined_up(*pair, between) for c, pair in zip(cases, seen, strict=True)]
    details |= in_features(found, seen)
    details[IN_FEATURES] = partial(_clustered, partial(_identified, lineups))
    if inquiry.observer == MODEL:
        details |= of_classes([c.rebuilt.records for c in cases], [c.named for c in cases], judge)
    return details


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
