"""What each client's data spent over the rounds it took part in, and the claims that supports.

A ledger holds events and no accountant: it can be read by any of privfed.accounting, later and
elsewhere. It has three pages, one for each boundary at which noise can be added: what left the
clients, what left the aggregation, what was published.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from privfed.accounting import (
    Accountant,
    calibrate,
    describe,
    epsilon,
    name_of,
    second_opinions,
)
from privfed.claims import EVERYBODY, Adversary, Assumption, Claim, Neighbouring, Unit
from privfed.dp_events import Stopping, tuned
from privfed.event_trees import dumps
from privfed.hooks import Charge, Spent, compose

if TYPE_CHECKING:
    from dp_accounting import DpEvent

    from privfed.randomness import Stream

__all__ = ["Accountant", "Ledger", "calibrate", "claim", "claims", "describe", "epsilon", "second_opinions"]

Events = tuple["DpEvent | None", ...]
Page = Mapping[int, tuple[tuple[Charge, ...], ...]]
PUBLICATION = 0
"""Where publication stands on its page: it speaks of all clients at once."""


UNDECLARED = "trainings before this one, for tuning: none was declared, so none is charged"


@dataclass(frozen=True, slots=True)
class Tuning:
    """Trainings on the same records before the one that is shown.

    Attributes:
        runs: how many; where their number was drawn at random, its mean.
        stopping: how it was chosen (`privfed.dp_events.tuned`).
    """

    runs: float
    stopping: Stopping = "fixed"


@dataclass(frozen=True, slots=True)
class Ledger:
    """The privacy events of each client, and what the runs found about their assumptions.

    Attributes:
        uplink: by client, what it spent on each message it sent; nothing for one without a guarantee.
        central: by client, what was spent on each sum that its message was or could have been in;
            empty where the server works on single messages.
        published: under `PUBLICATION`, what was spent on each published release.
        hidden: whether nobody saw what was summed.
        checked: assumptions as the runs found them, one a name: the first failure if there is one.
        outside: what the events do not cover, in words.
        needs: names of assumptions that the events rest on, whoever checks them.
        streams: random streams that were used.
    """

    uplink: Page = field(default_factory=dict)
    central: Page = field(default_factory=dict)
    published: Page = field(default_factory=dict)
    hidden: bool = False
    checked: tuple[Assumption, ...] = ()
    outside: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    streams: frozenset[Stream] = frozenset()

    @property
    def events(self) -> dict[int, Events]:
        """By client, what each of its messages spent, whatever the unit; None for no guarantee."""
        return {k: tuple(compose(*(c.event for c in one)) for one in page) for k, page in self.uplink.items()}

    def spend(self, client: int, spent: Spent[Any], stream: Stream | None = None) -> Ledger:
        """The ledger after one more round of `client`.

        Args:
            client: its index.
            spent: what its hooks gave back; the value is not looked at.
            stream: the random stream of the round. Noise that comes twice protects nothing, so a
                stream that was used before makes the claim unverified.
        """
        return replace(self._found(spent, stream), uplink=_entered(self.uplink, [client], spent))

    def spend_on_sum(self, clients: Iterable[int], spent: Spent[Any], stream: Stream | None = None) -> Ledger:
        """The ledger after a sum over clients: `clients` are those who may have been in it."""
        return replace(self._found(spent, stream), central=_entered(self.central, clients, spent))

    def publish(self, spent: Spent[Any], stream: Stream | None = None) -> Ledger:
        """The ledger after one published release."""
        return replace(self._found(spent, stream), published=_entered(self.published, [PUBLICATION], spent))

    def _found(self, spent: Spent[Any], stream: Stream | None) -> Ledger:
        fresh = () if stream is None or not spent.charges else (_fresh(stream not in self.streams),)
        return replace(
            self,
            checked=_merge(self.checked + spent.checked + fresh),
            outside=tuple(dict.fromkeys(self.outside + spent.outside)),
            needs=tuple(dict.fromkeys(self.needs + spent.needs)),
            streams=self.streams | ({stream} if stream is not None else set()),
        )


def claims(
    ledger: Ledger,
    delta: float,
    *,
    accountant: Accountant = "pld",
    records: Mapping[int, int] | None = None,
    outside: tuple[str, ...] = (),
    tuning: Tuning | None = None,
) -> tuple[Claim, ...]:
    """Every statement that the ledger supports: one for each page, unit and neighbouring relation.

    Noise at the clients bounds what anybody learns. Noise on a sum bounds what those learn who see
    no single message: clients and outsiders, and the server too where messages are hidden from it.
    Noise on what is published bounds what outsiders learn. The strongest audience comes first.

    Args:
        ledger: what was spent.
        delta: failure probability, in (0, 1).
        accountant: the one epsilon is computed with.
        records: number of records by client, for the rule that delta stay below one over it.
        outside: further disclosures beside the accounted ones, for example label sets or counts.
        tuning: trainings on the same records that led to this one; they are charged too. A number drawn at
            random bounds what outsiders learn, who are shown the best one alone.
    """
    outside = outside if tuning is not None else (*outside, UNDECLARED)
    hidden: tuple[Adversary, ...] = EVERYBODY if ledger.hidden else EVERYBODY[1:]
    # Choosing the number of trainings at random hides the others; who took part in them saw them all.
    audience = EVERYBODY if tuning is None or tuning.stopping == "fixed" else EVERYBODY[2:]
    pages: tuple[tuple[Page, tuple[Adversary, ...]], ...] = (
        (ledger.uplink, EVERYBODY),
        (ledger.central, hidden),
        (ledger.published, EVERYBODY[2:]),
    )
    made = [
        _claim(
            ledger,
            page,
            tuple(a for a in against if a in audience),
            kind,
            delta,
            accountant,
            records,
            outside,
            tuning,
        )
        for page, against in pages
        for kind in _kinds(page)
    ]
    return tuple(c for c in made if c is not None)


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
    """The statement that noise at the clients supports for a unit and relation, or None if there is none.

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
    kind = unit, neighbouring
    return _claim(ledger, ledger.uplink, EVERYBODY, kind, delta, accountant, records, outside)


def _claim(
    ledger: Ledger,
    page: Page,
    against: tuple[Adversary, ...],
    kind: tuple[Unit, Neighbouring],
    delta: float,
    accountant: Accountant,
    records: Mapping[int, int] | None,
    outside: tuple[str, ...],
    tuning: Tuning | None = None,
) -> Claim | None:
    if tuning is not None and tuning.stopping != "fixed":
        accountant = "rdp"  # no other one knows a random number of trainings
    worst = _worst(page, kind, delta, accountant, tuning)
    if worst is None:
        return None
    value, events = worst
    unit, neighbouring = kind
    units = records if unit == "record" or records is None else {0: len(records)}
    rules = () if units is None else (_delta_rule(delta, units, unit),)
    return Claim(
        epsilon=value,
        delta=delta,
        unit=unit,
        neighbouring=neighbouring,
        accountant=name_of(accountant),
        sampling="poisson" if "Poisson-sampled" in describe(events) else "none",
        mechanism=describe(events),
        outside=tuple(dict.fromkeys(ledger.outside + outside)),
        assumptions=_merge(ledger.checked) + _unchecked(ledger) + rules + _drawn(tuning),
        against=against,
        trace=dumps(events),
    )


def _entered(page: Page, clients: Iterable[int], spent: Spent[Any]) -> Page:
    return {**page, **{k: (*page.get(k, ()), spent.charges) for k in clients}}


def _kinds(page: Page) -> tuple[tuple[Unit, Neighbouring], ...]:
    found = [(c.unit, c.neighbouring) for one in page.values() for charges in one for c in charges]
    return tuple(dict.fromkeys(found))


def _events(entries: tuple[tuple[Charge, ...], ...], kind: tuple[Unit, Neighbouring]) -> Events:
    """What each entry spent for that unit and relation; None where it gives that unit no guarantee."""
    return tuple(compose(*(c.event for c in one if (c.unit, c.neighbouring) == kind)) for one in entries)


def _worst(
    page: Page, kind: tuple[Unit, Neighbouring], delta: float, accountant: Accountant, tuning: Tuning | None
) -> tuple[float, tuple[DpEvent, ...]] | None:
    listed = [_with_tuning(_events(entries, kind), tuning) for entries in page.values()]
    spent = [(epsilon(events, delta, accountant, kind[1]), events) for events in listed]
    value, events = max(spent, key=lambda pair: pair[0], default=(math.inf, ()))
    given = tuple(e for e in events if e is not None)
    return (value, given) if math.isfinite(value) and given else None


def _with_tuning(events: Events, tuning: Tuning | None) -> Events:
    whole = compose(*events)
    if tuning is None or whole is None or None in events:
        return events
    return (tuned(whole, tuning.runs, tuning.stopping),)


def _unchecked(ledger: Ledger) -> tuple[Assumption, ...]:
    known, unseen = {a.name for a in ledger.checked}, "nothing in the run looked at it"
    return tuple(Assumption(name, False, unseen) for name in ledger.needs if name not in known)


def _drawn(tuning: Tuning | None) -> tuple[Assumption, ...]:
    if tuning is None or tuning.stopping == "fixed":
        return ()
    name = f"number of trainings drawn beforehand, {tuning.stopping} with mean {tuning.runs:g}"
    return (Assumption(name, False, "declared in the plan; no run can check it"),)


def _fresh(fresh: bool) -> Assumption:
    evidence = "a random stream of its own in every round" if fresh else "a random stream was used twice"
    return Assumption("fresh noise in every round", fresh, evidence)


def _delta_rule(delta: float, units: Mapping[int, int], unit: Unit) -> Assumption:
    product = delta * max(units.values(), default=0)
    whose = "records of the largest client" if unit == "record" else "number of clients"
    return Assumption(
        f"delta below one over the number of {unit}s",
        product < 1,
        f"delta times the {whose} is {product:.2g}",
    )


def _merge(checked: tuple[Assumption, ...]) -> tuple[Assumption, ...]:
    """One assumption a name: verified if it always was; the evidence of the first failure if not."""
    by_name: dict[str, list[Assumption]] = {}
    for assumption in checked:
        by_name.setdefault(assumption.name, []).append(assumption)
    return tuple(min(group, key=lambda a: a.verified) for group in by_name.values())
