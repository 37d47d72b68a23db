"""The checks of a record by the rule of the policy they belong to, and all verdicts at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.axes import numbers
from reports.findings import arm_order, setting_order, severity, unique
from reports.record import Check, Limit, Record

ACROSS = 6
"""Most arms that a table of verdicts has side by side."""


@dataclass(frozen=True, slots=True)
class Row:
    """One check and the name by which the page links to it."""

    anchor: str
    check: Check


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the policy with all checks it led to, worst first."""

    id: str
    title: str
    meaning: str
    rationale: str
    limit: Limit
    blocking: bool
    rows: tuple[Row, ...]

    @property
    def unresolved(self) -> bool:
        """Whether no check of it has a number, all for the same reason."""
        empty = all(
            row.check.verdict == "INCONCLUSIVE" and not numbers(row.check.estimate) for row in self.rows
        )
        return empty and len({row.check.reason_code for row in self.rows}) == 1

    def at(self, setting: str, arm: str) -> tuple[Row, ...]:
        """The checks on one arm in one setting."""
        return tuple(r for r in self.rows if (r.check.setting, r.check.arm) == (setting, arm))

    def methods(self) -> tuple[str, ...]:
        """How the estimates were made, each way once."""
        return unique(r.check.estimate.method for r in self.rows if r.check.estimate)


@dataclass(frozen=True, slots=True)
class Checklist:
    """All rules in the order of the policy, those that block first.

    Attributes:
        columns: pairs of a setting and arms with a check in it; a setting of many arms comes again.
    """

    rules: tuple[Rule, ...]
    columns: tuple[tuple[str, tuple[str, ...]], ...]


def checklist(record: Record) -> Checklist:
    """The checks of a record, grouped."""
    groups: dict[tuple[str, str, str, str, Limit, bool], list[Row]] = {}
    for number, check in enumerate(record.checks, start=1):
        groups.setdefault(_key(check), []).append(Row(f"check-{number}", check))
    rules = [_rule(rows) for rows in groups.values()]
    return Checklist(tuple(sorted(rules, key=lambda r: not r.blocking)), _columns(record))


def _key(check: Check) -> tuple[str, str, str, str, Limit, bool]:
    return check.id, check.title, check.meaning, check.rationale, check.limit, check.blocking


def _rule(rows: Sequence[Row]) -> Rule:
    first = rows[0].check
    ordered = tuple(sorted(rows, key=lambda r: severity(r.check)))
    return Rule(*_key(first), ordered)


def _columns(record: Record) -> tuple[tuple[str, tuple[str, ...]], ...]:
    judged = {(c.setting, c.arm) for c in record.checks}
    columns = ((s, tuple(a for a in arm_order(record) if (s, a) in judged)) for s in setting_order(record))
    return tuple((setting, part) for setting, there in columns for part in _parts(there))


def _parts(arms: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The arms in tables that fit a page, as even as may be."""
    tables = -(-len(arms) // ACROSS)
    width = -(-len(arms) // tables) if tables else 1
    return [arms[i : i + width] for i in range(0, len(arms), width)]
