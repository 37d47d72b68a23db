"""One arm in one setting after the game: what was played, and what each probe scored."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audits.evidence import Evidence
from audits.examination import Examined
from audits.game import Job, Played
from audits.plan import Arm
from audits.setting import Setting
from privfed.claims import Assumption, Claim


@dataclass(frozen=True, slots=True)
class Finding:
    """One arm in one setting after the game.

    Attributes:
        evidence: of every probe, in the order of `audits.coverage.probes`.
        decoys: the same on membership that never reached the pipeline.
        examined: what came of asking for the data themselves.
    """

    setting: Setting
    arm: Arm
    jobs: tuple[Job, ...]
    played: Played
    evidence: tuple[Evidence, ...]
    decoys: tuple[Evidence, ...]
    examined: tuple[Examined, ...] = ()

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
        where each run verified it, else with the evidence of the first that did not.
        """
        made: dict[object, dict[int, list[Claim]]] = {}
        for f, kept in enumerate(self.played.kept):
            for p in kept.claims:
                made.setdefault((p.unit, p.neighbouring, p.against), {}).setdefault(f, []).append(p)
        return tuple(
            _weakest([p for promises in by.values() for p in promises])
            for by in made.values()
            if len(by) == len(self.played.kept)
        )


def _weakest(promises: list[Claim]) -> Claim:
    worst = max(promises, key=lambda p: p.epsilon)
    made: dict[str, Assumption] = {}
    for assumption in (a for p in promises for a in p.assumptions):
        known = made.setdefault(assumption.name, assumption)
        made[assumption.name] = known if not known.verified else assumption
    outside = tuple(dict.fromkeys(name for p in promises for name in p.outside))
    return replace(worst, outside=outside, assumptions=tuple(made.values()))
