"""What each client's data spent over the rounds it took part in, and the claim it supports.

A ledger holds events and no accountant: it can be read by any of privfed.accounting, later and
elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from privfed.accounting import (
    Accountant,
    calibrate,
    describe,
    epsilon,
    name_of,
    second_opinions,
)
from privfed.claims import Assumption, Claim, Neighbouring, Unit
from privfed.hooks import Spent

if TYPE_CHECKING:
    from dp_accounting import DpEvent

    from privfed.randomness import Stream

__all__ = ["Accountant", "Ledger", "calibrate", "claim", "describe", "epsilon", "second_opinions"]

Events = tuple["DpEvent | None", ...]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The privacy events of each client, and what the runs found about their assumptions.

    Attributes:
        events: by client, one entry for each round the client took part in; None for a round
            whose release has no guarantee.
        checked: assumptions as the runs found them, one a name: the first failure if there is one.
        outside: what the events do not cover, in words.
        streams: random streams that were used.
    """

    events: Mapping[int, Events] = field(default_factory=dict)
    checked: tuple[Assumption, ...] = ()
    outside: tuple[str, ...] = ()
    streams: frozenset[Stream] = frozenset()

    def spend(self, client: int, spent: Spent[Any], stream: Stream | None = None) -> Ledger:
        """The ledger after one more round of `client`.

        Args:
            client: its index.
            spent: what its hooks gave back; the value is not looked at.
            stream: the random stream of the round. Noise that comes twice protects nothing, so a
                stream that was used before makes the claim unverified.
        """
        events = {**self.events, client: (*self.events.get(client, ()), spent.event)}
        fresh = () if stream is None else (_fresh(stream not in self.streams),)
        return Ledger(
            events,
            _merge(self.checked + spent.checked + fresh),
            tuple(dict.fromkeys(self.outside + spent.outside)),
            self.streams | ({stream} if stream is not None else set()),
        )


def claim(
    ledger: Ledger,
    delta: float,
    *,
    accountant: Accountant = "pld",
    unit: Unit = "record",
    neighbouring: Neighbouring = "add_or_remove_one",
    records: Mapping[int, int] | None = None,
    outside: tuple[str, ...] = (),
) -> Claim | None:
    """The statement that the whole ledger supports, or None if there is none.

    Clients hold disjoint records, and an event is charged to the one client whose records it
    touched, so events of different clients compose in parallel: epsilon is the largest of the
    clients' own (McSherry 2009, Theorem 4). One round without a guarantee, by any client that took
    part, leaves no statement.

    Args:
        ledger: what was spent.
        delta: failure probability, in (0, 1).
        accountant: the one epsilon is computed with.
        unit: whose presence the events protect.
        neighbouring: how neighbouring data sets differ.
        records: number of records by client, for the rule that delta stay below one over it.
        outside: further disclosures beside the accounted ones, for example label sets or counts.
    """
    worst = _worst(ledger, delta, accountant, neighbouring)
    if worst is None:
        return None
    value, events = worst
    rules = () if records is None else (_delta_rule(delta, records),)
    return Claim(
        epsilon=value,
        delta=delta,
        unit=unit,
        neighbouring=neighbouring,
        accountant=name_of(accountant),
        sampling="poisson" if "Poisson" in describe(events) else "none",
        mechanism=describe(events),
        outside=tuple(dict.fromkeys(ledger.outside + outside)),
        assumptions=_merge(ledger.checked) + rules,
    )


def _worst(
    ledger: Ledger, delta: float, accountant: Accountant, neighbouring: Neighbouring
) -> tuple[float, Events] | None:
    spent = [(epsilon(events, delta, accountant, neighbouring), events) for events in ledger.events.values()]
    value, events = max(spent, key=lambda pair: pair[0], default=(math.inf, ()))
    return (value, events) if math.isfinite(value) and events else None


def _fresh(fresh: bool) -> Assumption:
    evidence = "a random stream of its own in every round" if fresh else "a random stream was used twice"
    return Assumption("fresh noise in every round", fresh, evidence)


def _delta_rule(delta: float, records: Mapping[int, int]) -> Assumption:
    product = delta * max(records.values(), default=0)
    return Assumption(
        "delta below one over the number of records",
        product < 1,
        f"delta times the records of the largest client is {product:.2g}",
    )


def _merge(checked: tuple[Assumption, ...]) -> tuple[Assumption, ...]:
    """One assumption a name: verified if it always was; the evidence of the first failure if not."""
    by_name: dict[str, list[Assumption]] = {}
    for assumption in checked:
        by_name.setdefault(assumption.name, []).append(assumption)
    return tuple(min(group, key=lambda a: a.verified) for group in by_name.values())
