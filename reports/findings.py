"""What follows from a record without measuring anything: orders, comparisons, criteria."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from reports.record import (
    PERSONALISED,
    Cell,
    Check,
    DpCard,
    Estimate,
    Inquired,
    LeakageOrder,
    Record,
    Slice,
    Taxonomy,
    TradeOff,
    Utility,
    VerdictKind,
)
from reports.text import percent
from reports.wording import compare

RECONSTRUCTION = "NISTAML.032"
MEMBERSHIP = "NISTAML.033"
PROPERTY = "NISTAML.034"
NOWHERE = "nowhere"
SEVERITY: tuple[VerdictKind, ...] = ("FAIL", "ERROR", "INCONCLUSIVE", "PASS")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One delivered model against one baseline of the same setting."""

    setting: str
    ours: Utility
    theirs: Utility
    relation: str


@dataclass(frozen=True, slots=True)
class UtilityTable:
    """The models of one setting; each row holds its relation to each baseline, nothing for a baseline."""

    setting: str
    baselines: tuple[str, ...]
    rows: tuple[tuple[Utility, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Criterion:
    """One of the three criteria, and what in the record speaks to it."""

    name: str
    question: str
    direct: tuple[str, ...]
    indirect: tuple[str, ...]
    gap: str


def unique(values: Iterable[T]) -> tuple[T, ...]:
    """The values without repetition, in order of first appearance."""
    return tuple(dict.fromkeys(values))


def arm_order(record: Record) -> tuple[str, ...]:
    """Ids of all arms: as listed, then any that only results mention."""
    return unique([a.id for a in record.arms] + [r.arm for r in _results(record)])


def setting_order(record: Record) -> tuple[str, ...]:
    """Ids of all settings: as listed, then any that only results mention."""
    return unique([s.id for s in record.settings] + [r.setting for r in _results(record)])


Result = Cell | Check | DpCard | Inquired | LeakageOrder | Slice | TradeOff | Utility


def _results(record: Record) -> tuple[Result, ...]:
    measured: tuple[Result, ...] = (*record.cells, *record.checks, *record.tradeoff, *record.utility)
    return (*measured, *record.leakage_order, *record.slices, *record.inquiries, *record.dp)


def roles(record: Record) -> dict[str, str]:
    """Role by id of every arm; an arm that only results mention counts as audited."""
    return {i: "audited" for i in arm_order(record)} | {a.id: a.role for a in record.arms}


def titles(record: Record) -> dict[str, str]:
    """Title by id of every arm and setting; an id without a title stands for itself.

    A check that was evaluated nowhere has neither: its ids are empty.
    """
    named = {a.id: a.title for a in record.arms} | {s.id: s.title for s in record.settings}
    ids = arm_order(record) + setting_order(record)
    return {i: i or NOWHERE for i in ids} | {i: title for i, title in named.items() if title}


def slices_by_arm(record: Record) -> tuple[tuple[str, tuple[Slice, ...]], ...]:
    """Slices of each arm that has any, the highest AUC first."""
    arms = [(arm, [s for s in record.slices if s.arm == arm]) for arm in arm_order(record)]
    return tuple(
        (arm, tuple(sorted(rows, key=lambda s: -1.0 if s.estimate.value is None else s.estimate.value)[::-1]))
        for arm, rows in arms
        if rows
    )


def best_baseline(row: Inquired) -> tuple[str, Estimate] | None:
    """What does best without any access, with its name."""
    known = [(x.value, name) for name, x in row.baselines.items() if x.value is not None]
    return (max(known)[1], row.baselines[max(known)[1]]) if known else None


def rebuilt(record: Record) -> tuple[Inquired, ...]:
    """Attacks that rebuilt records, in the order of the record."""
    return tuple(q for q in record.inquiries if (q.sought, q.status) == ("records", "run"))


def contradicted(record: Record) -> tuple[Inquired, ...]:
    """Attacks that found more than a claim of their arm leaves to any."""
    return tuple(q for q in record.inquiries if q.contradicted)


def further(row: Inquired) -> tuple[tuple[str, Estimate], ...]:
    """Details and baselines by name."""
    beside = [(f"without access: {name}", x) for name, x in row.baselines.items()]
    return (*row.details.items(), *beside)


def not_asked(record: Record) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Attacks on the data themselves that were not made on some arm: their names, and why."""
    rest = [q for q in record.inquiries if q.status != "run"]
    return tuple(
        (attack, unique(f"{q.status}: {q.reason}" for q in rest if q.attack == attack))
        for attack in unique(q.attack for q in rest)
    )


def strongest(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """For each arm the attack with the highest AUC among cells that have a curve, in arm order."""
    drawn: dict[str, Cell] = {}
    for cell in cells:
        if cell.status == "run" and cell.roc and not cell.baseline:
            best = drawn.get(cell.arm)
            if best is None or auc(cell) > auc(best):
                drawn[cell.arm] = cell
    return tuple(drawn.values())


def auc(cell: Cell) -> float:
    """The AUC of a cell for comparing it with others; below any real one where there is none."""
    return -1.0 if cell.auc is None or cell.auc.value is None else cell.auc.value


def comparisons(record: Record) -> tuple[Comparison, ...]:
    """Every model of an audited arm against the like model of each baseline, else its best.

    Personalised models are tested on fewer classes: only their like can be set beside them.
    """
    by_arm = roles(record)
    ours = [u for u in record.utility if by_arm.get(u.arm) == "audited"]
    return tuple(
        Comparison(u.setting, u, base, compare(u.estimate, base.estimate))
        for u in ours
        for base in _baselines(record, u, by_arm)
    )


def utility_tables(record: Record) -> tuple[UtilityTable, ...]:
    """Accuracies by setting, in the order of settings and arms."""
    tables = (_utility_table(record, setting) for setting in setting_order(record))
    return tuple(table for table in tables if table.rows)


def _utility_table(record: Record, setting: str) -> UtilityTable:
    rows = [u for arm in arm_order(record) for u in record.utility if (u.setting, u.arm) == (setting, arm)]
    versus = [c for c in comparisons(record) if c.setting == setting]
    baselines = unique(c.theirs.arm for c in versus)
    relations = {(c.ours.arm, c.ours.model, c.theirs.arm): c.relation for c in versus}
    return UtilityTable(
        setting,
        baselines,
        tuple((u, tuple(relations.get((u.arm, u.model, b), "") for b in baselines)) for u in rows),
    )


def _baselines(record: Record, ours: Utility, by_arm: dict[str, str]) -> list[Utility]:
    arms = [a for a, role in by_arm.items() if role == "baseline"]
    rows = ([u for u in record.utility if (u.setting, u.arm) == (ours.setting, a)] for a in arms)
    found = (_like(ours.model, candidates) for candidates in rows)
    return [u for u in found if u is not None]


def _like(model: str, rows: list[Utility]) -> Utility | None:
    same = [u for u in rows if u.model == model]
    others = [u for u in rows if PERSONALISED not in (u.model, model)]
    return same[0] if same else max(others, key=lambda u: u.estimate.value or 0.0, default=None)


def personalised(record: Record) -> tuple[Utility, ...]:
    """Accuracies of the clients' own models, in the order of settings and arms."""
    rows = [u for table in utility_tables(record) for u, _ in table.rows]
    return tuple(u for u in rows if u.model == PERSONALISED)


def undecided(record: Record) -> tuple[Check, ...]:
    """Blocking checks that keep the overall verdict from PASS, worst first."""
    return worst_first(c for c in record.checks if c.blocking and c.verdict != "PASS")


def worst_first(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Checks by verdict, FAIL before ERROR before INCONCLUSIVE before PASS; blocking ones first in each."""
    return tuple(sorted(checks, key=severity))


def severity(check: Check) -> tuple[int, bool]:
    """Sorts the worst verdict first, and what blocks before what does not."""
    return SEVERITY.index(check.verdict), not check.blocking


def without_claim(record: Record) -> tuple[str, ...]:
    """Ids of arms for which no card states an epsilon; controls are no pipelines anybody would run."""
    claimed = {card.arm for card in record.dp if card.epsilon is not None}
    by_arm = roles(record)
    return tuple(a for a in arm_order(record) if a not in claimed and by_arm[a] != "control")


def claims(record: Record) -> tuple[DpCard, ...]:
    """The cards that state an epsilon."""
    return tuple(card for card in record.dp if card.epsilon is not None)


def taxonomy(record: Record) -> tuple[tuple[Taxonomy, tuple[str, ...]], ...]:
    """Each published id with the attacks that ran under it; a gap or a yardstick covers no id."""
    cells: list[Cell | Inquired] = [c for c in record.cells if c.status == "run" and not c.baseline]
    cells += [q for q in record.inquiries if q.status == "run" and not q.disclosed]
    ids = unique(t for c in cells for t in c.taxonomy)
    return tuple((t, unique(c.attack for c in cells if t in c.taxonomy)) for t in ids)


def sharpest_tpr(record: Record) -> Estimate | None:
    """Of the attacks on audited arms, the highest TPR at the lowest FPR that was resolved."""
    audited = {a.id for a in record.arms if a.role == "audited"}
    cells = [c for c in record.cells if c.arm in audited and not c.baseline]
    found = [e for c in cells for e in c.tprs if e.value is not None]
    found = [e for e in found if e.params.get("fpr")]
    return min(found, key=lambda e: (e.params["fpr"], -(e.value or 0.0)), default=None)


def criteria(record: Record) -> tuple[Criterion, ...]:
    """Singling out, linkability and inference: what was tested of each, and what was not."""
    member = _attacks_with(record, MEMBERSHIP)
    rebuilt = unique((*_attacks_with(record, RECONSTRUCTION), *_asked(record, "records")))
    shares = unique((*_attacks_with(record, PROPERTY), *_asked(record, "labels", "source", "property")))
    hidden = _asked(record, "attribute")
    formal = unique(c.id for c in record.checks if c.estimate and c.estimate.metric == "formal_epsilon")
    checks = unique(c.id for c in record.checks if c.attack in member)
    return (
        Criterion(
            "Singling out",
            "Can one person's record be isolated?",
            rebuilt,
            checks + formal,
            ""
            if rebuilt
            else "No reconstruction attack was run; membership tests speak to it only indirectly.",
        ),
        Criterion(
            "Linkability",
            "Can records about the same person be linked, within or across data sets?",
            (),
            formal,
            "No linkage attack was run.",
        ),
        Criterion(
            "Inference",
            "Can something about a person be concluded, such as having taken part?",
            unique((*checks, *shares, *hidden)),
            formal,
            _inference_gap(member, shares, hidden),
        ),
    )


def _attacks_with(record: Record, identifier: str) -> tuple[str, ...]:
    return unique(
        c.attack for c in record.cells if c.status == "run" and any(t.id == identifier for t in c.taxonomy)
    )


def _asked(record: Record, *sought: str) -> tuple[str, ...]:
    """Attacks that asked for such things; what a protocol hands out is no attack."""
    made = (q for q in record.inquiries if q.status == "run" and not q.disclosed)
    return unique(q.attack for q in made if q.sought in sought)


def _inference_gap(member: tuple[str, ...], shares: tuple[str, ...], hidden: tuple[str, ...]) -> str:
    kinds = {"membership inference": member, "property inference": shares, "attribute inference": hidden}
    missing = [name for name, found in kinds.items() if not found]
    return f"Not run: {', '.join(missing)}." if missing else ""


def scope(record: Record) -> str:
    """One sentence on what was measured."""
    audited = sum(a.role == "audited" for a in record.arms)
    run = [c for c in record.cells if c.status == "run"]
    attacks, observers = len({c.attack for c in run if not c.baseline}), len({c.observer for c in run})
    return (
        f"{count(audited, 'audited arm')} in {count(len(record.settings), 'setting')}, "
        f"{count(attacks, 'attack')} from {count(observers, 'point')} of observation, "
        f"{count(record.run.federations, 'federation')} on {record.run.dataset} ({record.run.modality}); "
        "what is not listed under Coverage was not tested."
    )


def count(number: int, noun: str) -> str:
    """A number with its noun in the singular or plural.

    >>> count(1, "check"), count(2, "check")
    ('1 check', '2 checks')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def sizes(clients: Sequence[int]) -> str:
    """Records per client: one number if all have the same, else the range."""
    if not clients:
        return "none"
    low, high = min(clients), max(clients)
    return f"{low} records each" if low == high else f"{low} to {high} records"


def rate(key: str) -> str:
    """A false-positive rate given as a text key, in percent where it is a number."""
    try:
        return percent(float(key))
    except ValueError:
        return key
