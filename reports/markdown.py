"""The report as Markdown for a job summary or a pull request: verdict first, headings from level three.

Everything in the record is untrusted: every value passes through `escape`, which leaves no character that
Markdown, the HTML inside it or a host's automatic links would act on. Rows and texts are capped, so the
summary stays far below the 1 MiB that job summaries allow; the record and the page hold the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from reports import checklist, findings, text, wording
from reports.record import Cell, Check, Control, DpCard, Inquired, Record, VerdictKind

ICONS: dict[VerdictKind, str] = {"PASS": "✔", "FAIL": "✖", "INCONCLUSIVE": "◐", "ERROR": "⚠"}
MAX_ROWS = 150
MAX_TEXT = 400

_MARKUP = re.compile(r"[\\`*_{}\[\]|~#!$]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_LINKS = re.compile(r"://|\bwww\.", re.IGNORECASE)


def render(record: Record) -> str:
    """The whole summary.

    Args:
        record: what the audit found; the summary shows nothing else.
    """
    measured = (_checks, _trade_off, _rebuilt, _inferred, _controls, _formal, _utility, _coverage)
    sections = (_verdict, _change, *measured, _limits)
    return "\n\n".join("\n".join(section(record)) for section in (*sections, _reproduce)) + "\n"


def escape(value: object) -> str:
    r"""A value on one line, with nothing in it that Markdown or HTML would act on.

    >>> escape("a|b <script> `x`\nhttps://example.org")
    'a\\|b &lt;script&gt; \\`x\\` https&#58;//example.org'
    """
    line = text.shorten(str(value), MAX_TEXT)
    line = _MARKUP.sub(lambda match: "\\" + match[0], line)
    # After the backslashes, which would break the # of an entity.
    line = "".join(_ENTITIES.get(character, character) for character in line)
    return _LINKS.sub(lambda match: match[0].replace(":", "&#58;").replace(".", "&#46;"), line)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """A table with every cell escaped, cut after `MAX_ROWS` rows with a line that says so."""
    yield _row([escape(cell) for cell in head])
    yield _row(["---"] * len(head))
    rows = list(rows)
    yield from (_row([escape(cell) or text.NONE for cell in row]) for row in rows[:MAX_ROWS])
    yield from _more(len(rows))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _more(count: int) -> Iterator[str]:
    if count > MAX_ROWS:
        yield from ("", f"{count - MAX_ROWS} more in the record and on the HTML page.")


def _verdict(record: Record) -> Iterator[str]:
    summary, policy = record.summary, record.policy
    yield f"### {ICONS[summary.verdict]} {summary.verdict} against policy {escape(policy.id)}"
    yield from (
        "",
        escape(record.title),
        "",
        f"**{wording.overall(summary)}** {escape(summary.sentence)}",
        "",
    )
    counts = ", ".join(f"{summary.counts.get(kind, 0)} {kind.lower()}" for kind in ICONS)
    yield f"Checks: {counts}. Exit code {summary.exit_code}. Policy sha256 {escape(policy.sha256)}."
    yield from ("", escape(findings.scope(record)), "", wording.DISCLAIMER)


def _change(record: Record) -> Iterator[str]:
    yield from ("#### What would change this verdict", "")
    undecided = findings.undecided(record)
    for change in wording.changes(undecided):
        yield f"- {change.verdict}, {findings.count(len(change.checks), 'check')}: {change.sentence}"
    if not record.checks:
        yield "A run in which at least one check is evaluated."
    elif not undecided:
        yield "A new version, new data, new recipients, or a stronger attack: measure again then."


def _checks(record: Record) -> Iterator[str]:
    yield from ("#### Checks", "")
    if not record.checks:
        yield "No check was evaluated."
        return
    names = findings.titles(record)
    yield from _rules(record, names)
    head = ("Verdict", "Check", "Setting", "Arm", "Attack", "Measured", "Limit", "n", "Reason")
    yield from ("", "Each check, worst first:", "")
    yield from table(head, (_check(check, names) for check in findings.worst_first(record.checks)))


def _rules(record: Record, names: dict[str, str]) -> Iterator[str]:
    checks = checklist.checklist(record)
    columns = [(setting, arm) for setting, arms in checks.columns for arm in arms]
    head = ("Rule", "Limit", *(f"{names[arm]} ({names[setting]})" for setting, arm in columns))
    rows = (
        (_rule(r), text.limit(r.limit), *(_verdicts(r.at(*place)) for place in columns)) for r in checks.rules
    )
    yield from table(head, rows)


def _rule(rule: checklist.Rule) -> str:
    return f"{rule.id}: {rule.title}" + ("" if rule.blocking else " (does not block)")


def _verdicts(rows: Sequence[checklist.Row]) -> str:
    return ", ".join(f"{ICONS[r.check.verdict]} {r.check.verdict}" for r in rows)


def _check(check: Check, names: dict[str, str]) -> tuple[object, ...]:
    judged, needs = check.estimate, wording.needs(check)
    value = f"{text.metric(judged.metric, judged.params)} " if judged else ""
    reason = wording.REASONS.get(check.reason_code, check.message)
    return (
        f"{ICONS[check.verdict]} {check.verdict}" + ("" if check.blocking else " (does not block)"),
        check.id,
        names[check.setting],
        names[check.arm],
        check.attack,
        value + text.interval(judged),
        text.limit(check.limit),
        text.units(judged),
        check.message if check.verdict == "ERROR" else f"{reason} To decide: {needs}." if needs else reason,
    )


def _trade_off(record: Record) -> Iterator[str]:
    yield from ("#### Leakage against accuracy", "")
    if not record.tradeoff:
        yield "No arm has both a leakage and an accuracy, so the two cannot be set against each other."
        return
    names = findings.titles(record)
    head = ("Setting", "Arm", "Observer", "Strongest attack", "AUC (leakage)", "Accuracy")
    rows = (
        (names[t.setting], names[t.arm], t.observer, t.attack, *map(text.interval, (t.leakage, t.accuracy)))
        for t in record.tradeoff
    )
    yield from (wording.CHANCE, "")
    yield from table(head, rows)


def _rebuilt(record: Record) -> Iterator[str]:
    yield from ("#### Rebuilt records", "")
    rows = findings.rebuilt(record)
    if not rows:
        yield "No attack rebuilt records."
        return
    names = findings.titles(record)
    head = ("Setting", "Arm", "Attack", "Observer", "Identified", "Chance", "Under its claim")
    yield from table(head, (_inquired(row, names) for row in rows))
    wrong = findings.contradicted(record)
    if wrong:
        yield from ("", f"**A claim and a measurement contradict each other.** {wording.CONTRADICTED}", "")
        short = ("Setting", "Arm", "What was measured")
        yield from table(short, ((names[q.setting], names[q.arm], q.contradiction) for q in wrong))


def _inquired(row: Inquired, names: dict[str, str]) -> tuple[object, ...]:
    place = (names[row.setting], names[row.arm], row.attack, row.observer)
    return (*place, text.interval(row.estimate), text.number(row.chance), wording.ceiling(row))


def _inferred(record: Record) -> Iterator[str]:
    yield from ("#### What was inferred of clients and records", "")
    made = [q for q in record.inquiries if q.status == "run" and q.sought != "records"]
    if not made:
        yield "No attack asked what clients' records have in common, or what is hidden of one."
        return
    for sought in findings.unique(q.sought for q in made):
        yield f"- {wording.SOUGHT[sought]}: {wording.SOUGHT_MEANINGS[sought]}"
    yield ""
    names = findings.titles(record)
    head = ("Setting", "Arm", "Attack", "Observer", "Measure", "Found", "Chance", "Best without access")
    yield from table(head, (_figure(row, names) for row in made))


def _figure(row: Inquired, names: dict[str, str]) -> tuple[object, ...]:
    attack = row.attack + (" (disclosed by the protocol)" if row.disclosed else "")
    best = findings.best_baseline(row)
    without = f"{text.interval(best[1])} ({best[0]})" if best else ""
    figures = (wording.SOUGHT[row.sought], text.interval(row.estimate), text.number(row.chance), without)
    return (names[row.setting], names[row.arm], attack, row.observer, *figures)


def _controls(record: Record) -> Iterator[str]:
    yield from ("#### Controls", "")
    if not record.controls:
        yield f"No control was run. {wording.NO_CONTROL}"
        return
    for kind, (name, sense) in wording.CONTROLS.items():
        rows = [c for c in record.controls if c.kind == kind]
        yield f"- {name}: {sum(c.passed for c in rows)} of {len(rows)} passed. {sense}"
    failed = [c for c in record.controls if not c.passed]
    if failed:
        yield ""
        head = ("Failed control", "Setting", "Arm", "Attack", "Observer", "Measured", "Expected", "Why")
        yield from table(head, map(_control, failed))


def _control(row: Control) -> tuple[object, ...]:
    measured, place = text.interval(row.estimate), (row.setting, row.arm, row.attack, row.observer)
    return (wording.CONTROLS[row.kind][0], *place, measured, row.expectation, row.reason)


def _formal(record: Record) -> Iterator[str]:
    yield from ("#### Formal privacy", "")
    cards = findings.claims(record)
    if cards:
        head = ("Setting", "Arm", "Claim", "Unit", "Accountant", "Assumptions not verified")
        yield from (*table(head, map(_claim, cards)), "")
    names = findings.titles(record)
    arms = ", ".join(escape(names.get(arm, arm)) for arm in findings.without_claim(record)[:MAX_ROWS])
    if arms:
        yield f"Without a claim: {arms}. {wording.NO_CLAIM}"
    elif not cards:
        yield "No arm makes a formal claim."


def _claim(card: DpCard) -> tuple[object, ...]:
    claim = f"epsilon {text.number(card.epsilon, 2)} at delta {text.plain(card.delta)}"
    unit = f"{card.unit} ({card.neighbouring})"
    unverified = ", ".join(a.name for a in card.assumptions if not a.verified)
    return (card.setting, card.arm, claim, unit, card.accountant, unverified or "none")


def _utility(record: Record) -> Iterator[str]:
    yield from ("#### Accuracy and baselines", "")
    names = findings.titles(record)
    rows = findings.comparisons(record)
    if rows:
        head = ("Setting", "Arm", "Model", "Accuracy", "Compared with", "Its accuracy")
        yield from table(head, (_compared(row, names) for row in rows))
    else:
        yield "No delivered model can be set beside a baseline of the same setting."
    own = findings.personalised(record)
    if own:
        yield from ("", wording.PERSONALISED_MEANING, "")
        short = ("Setting", "Arm", "Personalised models")
        yield from table(short, ((names[u.setting], names[u.arm], text.interval(u.estimate)) for u in own))


def _compared(row: findings.Comparison, names: dict[str, str]) -> tuple[object, ...]:
    return (
        names.get(row.setting, row.setting),
        names.get(row.ours.arm, row.ours.arm),
        row.ours.model,
        text.interval(row.ours.estimate),
        f"{row.relation} {names.get(row.theirs.arm, row.theirs.arm)}",
        text.interval(row.theirs.estimate),
    )


def _coverage(record: Record) -> Iterator[str]:
    yield from ("#### Coverage", "")
    statuses = [cell.status for cell in record.cells]
    counted = ", ".join(f"{statuses.count(status)} {words}" for status, words in wording.STATUSES.items())  # type: ignore[arg-type]
    yield from (f"Attack by observer and arm: {counted}.", "")
    failed = [cell for cell in record.cells if cell.status == "error"]
    for cell in failed[:MAX_ROWS]:
        yield _failed(cell)
    yield from _more(len(failed))


def _failed(cell: Cell) -> str:
    place = ", ".join((cell.setting, cell.arm, cell.attack, cell.observer, cell.artefact))
    return f"- error: {escape(place)}: {escape(cell.reason)}"


def _limits(record: Record) -> Iterator[str]:
    yield from ("#### Limits", "")
    yield f"- {wording.RESIDUAL}"
    yield from (f"- {escape(item)}" for item in record.limitations[:MAX_ROWS])
    yield from _more(len(record.limitations))


def _reproduce(record: Record) -> Iterator[str]:
    run = record.run
    yield from ("#### Reproduce", "", *code(run.command), "")
    yield escape(
        f"Run {run.id} of {run.created}, seed {run.seed}, plan {run.plan} (sha256 {run.plan_sha256}), "
        f"data {run.dataset} ({run.modality}, sha256 {run.dataset_sha256}),"
    )
    yield escape(
        f"privfed {run.tool_version}, Python {run.python}, {run.platform}, {run.device}; "
        f"reproducible: {run.determinism}; run {run.status}."
    )


def code(command: str) -> tuple[str, str, str]:
    """The command as a code block whose fence no run of backticks inside can close."""
    line = text.shorten(command, MAX_TEXT)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh", line, fence
