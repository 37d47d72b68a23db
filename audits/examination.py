"""What came of asking for the data themselves: whom reconstructions identify, which labels were inferred.

The truth is looked up here and nowhere else; no attack is handed it. Candidates of a client that were not
trained on this time are the decoys: which of its records were in is a fair coin, so that reconstructions
that know nothing name a member as often as members are among the candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from attacks.interface import Bools, Floats, Reconstruction
from attacks.source_inference import guess
from audits.game import Played, members_of, read_key
from audits.identification import Identified, Lineup, identification
from audits.inquiry import Inquiry, Sought
from audits.property_game import (
    L1_BOUND,
    improvement,
    l1,
    label_shares,
    mean_error,
    padded,
    presence_auc,
    prior_shares,
)
from audits.reading import Arrays, inference_of, reconstruction_of, signals_of
from audits.reconstruction_baselines import class_means, prior_only, public_neighbours
from audits.reconstruction_measures import l2, psnr
from audits.setting import Setting
from audits.source import Ints, SourceFinding, source_accuracy
from privfed.records import Records
from reports.record import Estimate

Measure = Callable[[float], Estimate]
MEAN_PSNR = "psnr_to_nearest_member"


@dataclass(frozen=True, slots=True)
class Examined:
    """One inquiry on one arm.

    Attributes:
        measure: bounds at any level; None where there was nothing to examine.
        chance: what knowing nothing reaches.
        details: further figures at a level, by name.
        baselines: the same measure of what needs no access, by name.
        work: steps, restarts and queries of all federations.
        asked: federations that were asked.
        crashed: why the attack failed to run, if it did.
    """

    inquiry: Inquiry
    measure: Measure | None = None
    chance: float = 0.5
    details: dict[str, Measure] = field(default_factory=dict, repr=False)
    baselines: dict[str, Measure] = field(default_factory=dict, repr=False)
    work: int = 0
    asked: int = 0
    crashed: str = ""


def examine(inquiry: Inquiry, played: Played, setting: Setting) -> Examined:
    """Holds what came out against the truth; a crash becomes part of the finding."""
    key = read_key(inquiry)
    if key in played.failures:
        return Examined(inquiry, crashed=played.failures[key])
    found = played.found.get(key, ())
    known = [(f, arrays) for f, arrays in enumerate(found) if arrays is not None]
    if not known:
        return Examined(inquiry, asked=len(found))
    look = _LOOK[inquiry.sought]
    try:
        return look(inquiry, known, setting)
    except Exception as error:  # a plug-in may return anything; the rest of the audit must not fall
        return Examined(inquiry, crashed=f"{type(error).__name__}: {error}")


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


def _records(inquiry: Inquiry, known: Sequence[tuple[int, Arrays]], setting: Setting) -> Examined:
    cases = [_Case(f, reconstruction_of(arrays), setting) for f, arrays in known]
    look = partial(_identified, [c.lineups(c.rebuilt.records) for c in cases])
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


def _labels(inquiry: Inquiry, known: Sequence[tuple[int, Arrays]], setting: Setting) -> Examined:
    clients, classes = setting.clients, setting.world.surrogate.classes
    estimates = np.stack([padded(inference_of(a).values, clients, classes) for _, a in known])
    truth = np.stack([label_shares(members_of(setting, f), classes) for f, _ in known])
    details: dict[str, Measure] = {}
    baselines: dict[str, Measure] = {}
    sums = np.nansum(estimates, axis=-1)
    shares = bool(np.allclose(sums[sums != 0], 1.0)) and not inquiry.disclosed
    if shares:
        prior = prior_shares(setting.candidates.population, truth)
        ours, theirs = (
            np.where(np.isnan(estimates[..., 0]), np.nan, l1(e, truth)) for e in (estimates, prior)
        )
        metric = "label_share_l1"
        details["L1 error of the shares"] = partial(_error, ours, metric)
        details["L1 error less than that of the population's shares"] = partial(_gain, ours, theirs, metric)
    return Examined(inquiry, partial(presence_auc, estimates, truth), 0.5, details, baselines, 0, len(known))


def _error(errors: Floats, metric: str, level: float) -> Estimate:
    return mean_error(errors, L1_BOUND, level, metric)


def _gain(ours: Floats, theirs: Floats, metric: str, level: float) -> Estimate:
    return improvement(ours, theirs, L1_BOUND, level, metric)


def _source(inquiry: Inquiry, known: Sequence[tuple[int, Arrays]], setting: Setting) -> Examined:
    """Chance is the best that counts of classes alone would do: naming a client by the label is no leak."""
    guesses = np.stack([guess(signals_of(a)) for _, a in known])
    included = np.stack([setting.members(f).numpy() for f, _ in known])
    look = partial(_source_of, guesses, included, setting)
    found = look(0.95)
    details: dict[str, Measure] = {
        f"class {c.label}, by counts {max(c.majority, c.histogram):.3f}": partial(_of_class, look, i)
        for i, c in enumerate(found.by_class)
    }
    return Examined(inquiry, partial(_accuracy, look), found.baseline, details, {}, 0, len(known))


def _source_of(guesses: Ints, included: Bools, setting: Setting, level: float) -> SourceFinding:
    candidates = setting.candidates
    owners, labels = candidates.clients.numpy(), candidates.records.labels.numpy()
    return source_accuracy(guesses, owners, labels, included, setting.clients, level)


def _accuracy(look: Callable[[float], SourceFinding], level: float) -> Estimate:
    return look(level).accuracy


def _of_class(look: Callable[[float], SourceFinding], at: int, level: float) -> Estimate:
    return look(level).by_class[at].accuracy


_LOOK: dict[Sought, Callable[[Inquiry, Sequence[tuple[int, Arrays]], Setting], Examined]] = {
    "records": _records,
    "labels": _labels,
    "source": _source,
}
