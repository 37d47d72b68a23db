"""One arm in one setting after the game: what was played, and what each probe scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from audits.evidence import Evidence
from audits.examination import Examined
from audits.game import Job, Played, read_key
from audits.inquiry import Inquiry
from audits.plan import Arm
from audits.reconstruction_ceiling import Ceiling, ceiling, contested, held_against
from audits.setting import Setting
from privfed.claims import Assumption, Claim


@dataclass(frozen=True, slots=True)
class Finding:
    """One arm in one setting after the game.

    Attributes:
        evidence: of every probe, in the order of `audits.coverage.probes`.
        decoys: the same on membership that never reached the pipeline.
        examined: what came of asking for the data themselves.
        ceilings: of what was rebuilt, by `read_key` of the inquiry: what the claims leave to it.
    """

    setting: Setting
    arm: Arm
    jobs: tuple[Job, ...]
    played: Played
    evidence: tuple[Evidence, ...]
    decoys: tuple[Evidence, ...]
    examined: tuple[Examined, ...] = ()
    ceilings: Mapping[str, Ceiling] = field(default_factory=dict)

    def correct(self, model: str) -> NDArray[np.float64]:
        """Whether "surrogate" or "large" was right on each test record, shape (F, test); NaN without one."""
        nothing = np.full(len(self.setting.test), np.nan)
        return np.stack([k.correct.get(model, nothing) for k in self.played.kept]).astype(np.float64)

    def has(self, model: str) -> bool:
        """Whether there is such a model, with a head that somebody trained."""
        return all(model in k.correct for k in self.played.kept)

    @property
    def personal(self) -> NDArray[np.float64] | None:
        """How the clients' own models do on each test record (`audits.personal`), shape (F, test)."""
        own = [k.personal for k in self.played.kept if k.personal is not None]
        return np.stack(own) if len(own) == len(self.played.kept) else None

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What all federations promise at least, one for each unit, relation and audience that all have.

        The largest epsilon, everything that any leaves out, and every assumption of any: verified only
        where each run verified it, else with the evidence of the first that did not. A claim that what was
        rebuilt contradicts says so.
        """
        made: dict[object, dict[int, list[Claim]]] = {}
        for f, kept in enumerate(self.played.kept):
            for p in kept.claims:
                made.setdefault((p.unit, p.neighbouring, p.against), {}).setdefault(f, []).append(p)
        return tuple(
            contested(_weakest([p for promises in by.values() for p in promises]), [*self.ceilings.values()])
            for by in made.values()
            if len(by) == len(self.played.kept)
        )

    def ceiling(self, inquiry: Inquiry) -> Ceiling | None:
        """What the claims leave to that attack; None without a claim, or where nothing was rebuilt."""
        return self.ceilings.get(read_key(inquiry))


def with_ceilings(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with what their claims leave to reconstruction, all of an audit together."""
    rows = [
        (i, x, bound)
        for i, f in enumerate(findings)
        for x in f.examined
        if x.pointed is not None and (bound := ceiling(x, f.claims, _asked(f, x.inquiry))) is not None
    ]
    held = held_against([(x, bound) for _, x, bound in rows])
    of: list[dict[str, Ceiling]] = [{} for _ in findings]
    for (i, x, _), bound in zip(rows, held, strict=True):
        of[i][read_key(x.inquiry)] = bound
    return [replace(f, ceilings=ceilings) for f, ceilings in zip(findings, of, strict=True)]


def _asked(finding: Finding, inquiry: Inquiry) -> int:
    return len(finding.played.found.get(read_key(inquiry), ()))


def _weakest(promises: list[Claim]) -> Claim:
    worst = max(promises, key=lambda p: p.epsilon)
    made: dict[str, Assumption] = {}
    for assumption in (a for p in promises for a in p.assumptions):
        known = made.setdefault(assumption.name, assumption)
        made[assumption.name] = known if not known.verified else assumption
    outside = tuple(dict.fromkeys(name for p in promises for name in p.outside))
    return replace(worst, outside=outside, assumptions=tuple(made.values()))
