"""Rows of the table of attacks: one an attack, figures of each pipeline side by side."""

from __future__ import annotations

from collections.abc import Sequence

from audits.evidence import Evidence
from audits.finding import Finding
from audits.leakage_order import auc_difference, leakage_order
from audits.pooled_tpr import pooled_tpr
from audits.strongest import strongest
from reports.record import Estimate
from reports.wording import SOUGHT

FPRS = (0.01, 0.001)
PLAIN = ("loss threshold", "nearest neighbour", "generator search")
"""The simplest attack of an observer: the first of these that it can run."""
NOTHING = "–"


def rows(findings: Sequence[Finding], level: float) -> list[tuple[str, str]]:
    """One Markdown table a point of observation: title and table.

    Args:
        findings: of the arms of one setting, controls among them.
        level: confidence of each bound.
    """
    shown = [f for f in findings if f.arm.role == "audited"]
    control = next((f for f in findings if f.arm.role == "control"), None)
    places = list(dict.fromkeys((e.probe.observer.label, e.probe.artefact) for e in findings[0].evidence))
    header = ["attack"]
    for f in shown:
        header += [f"{f.arm.title}: AUC", "canaries", "TPR at 1 %", "TPR at 0.1 %"]
    header += ["positive twin: AUC"] if control else []
    tables = []
    for observer, artefact in places:
        at = [i for i, e in enumerate(findings[0].evidence) if _place(e) == (observer, artefact)]
        body = [_row(i, shown, control, level) for i in at if any(_ran(f.evidence[i]) for f in shown)]
        if body:
            tables.append((f"{observer}: {artefact}", markdown(header, body)))
    return tables


def comparison(findings: Sequence[Finding], level: float) -> str:
    """The strongest attack of each observer against the simplest one there, paired."""
    pairs = [
        (f, observer, mine)
        for f in findings
        if f.arm.role == "audited"
        for observer in dict.fromkeys(e.probe.observer.label for e in f.evidence)
        if (mine := [e for e in f.evidence if e.probe.observer.label == observer and _counts(e)])
    ]
    header = ["observer", "pipeline", "attacks", "strongest", "AUC", "simplest", "AUC", "difference"]
    body = []
    for f, observer, mine in pairs:
        best = strongest(mine, level)
        plain = _plain(mine)
        if best is None:
            continue
        difference = NOTHING
        if plain is not None and plain is not best.evidence:
            difference = interval(auc_difference(best.evidence, plain, "natural", len(pairs)), signed=True)
        simple = NOTHING if plain is None else interval(plain.estimate("auc", None, "natural", level))
        body.append(
            [
                observer,
                f.arm.title,
                str(best.tried),
                f"{best.evidence.probe.name} ({best.evidence.probe.artefact})",
                interval(best.estimate),
                NOTHING if plain is None else plain.probe.name,
                simple,
                difference,
            ]
        )
    text = (
        "The value of the strongest attack is taken on federations that did not choose it, its bounds hold "
        "for all attacks tried. Differences are paired; their bounds are shared by all rows (Bonferroni)."
    )
    return f"{text}\n\n{markdown(header, body)}"


def inferred(findings: Sequence[Finding], level: float) -> str:
    """What was inferred of clients: each attack's figure beside chance."""
    header = ["pipeline", "attack", "measure", "figure", "chance", "federations"]
    body = [
        [
            f.arm.title,
            x.inquiry.name + (" (disclosed by the protocol)" if x.inquiry.disclosed else ""),
            SOUGHT[x.inquiry.sought],
            f"error: {x.crashed}" if x.measure is None else interval(x.measure(level)),
            f"{x.chance:.3f}",
            str(x.asked),
        ]
        for f in findings
        if f.arm.role == "audited"
        for x in f.examined
        if x.measure is not None or x.crashed
    ]
    text = "Chance for the client that holds a record is the best that counts of classes alone would do."
    return f"{text}\n\n{markdown(header, body)}" if body else "Not asked where records are not in question."


def summary(findings: Sequence[Finding], level: float) -> str:
    """Whether leakage falls along the way, and what the model that leaks is worth."""
    order = leakage_order([f for f in findings if f.arm.role == "audited"], level)
    wrong = [o for o in order if o.violated]
    lines = [f"Order of leakage: {len(wrong)} of {len(order)} pairs are the wrong way round."]
    lines += [
        f"- {o.arm}: {o.stronger} ({o.stronger_attack}) {interval(o.stronger_auc)}, {o.weaker} "
        f"({o.weaker_attack}) {interval(o.weaker_auc)}: {o.message}."
        for o in wrong
    ]
    return "\n".join(lines)


def interval(x: Estimate, signed: bool = False) -> str:
    """Value with its bounds, three digits; a dash where it was not resolved."""
    if x.value is None:
        return NOTHING
    form = "{:+.3f}" if signed else "{:.3f}"
    bounds = [NOTHING if b is None else form.format(b) for b in (x.lower, x.upper)]
    return f"{form.format(x.value)} [{', '.join(bounds)}]"


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _row(at: int, shown: Sequence[Finding], control: Finding | None, level: float) -> list[str]:
    probe = shown[0].evidence[at].probe
    cells = [probe.name + (" (yardstick)" if probe.baseline else "")]
    for f in shown:
        e = f.evidence[at]
        if e.crashed:
            cells += [f"error: {e.crashed}", NOTHING, NOTHING, NOTHING]
        elif e.scores is None:
            cells += [NOTHING] * (2 + len(FPRS))
        else:
            scores, included = e.part("natural")
            cells.append(interval(e.estimate("auc", None, "natural", level)))
            marked = e.estimate("auc", None, "canaries", level) if e.canaries.any() else None
            cells.append(NOTHING if marked is None else interval(marked))
            cells += [interval(pooled_tpr(scores, included, fpr, level)) for fpr in FPRS]
    if control is not None:
        e = control.evidence[at]
        part = "canaries" if e.canaries.any() else "natural"
        cells.append(NOTHING if e.scores is None else interval(e.estimate("auc", None, part, level)))
    return cells


def _plain(evidence: Sequence[Evidence]) -> Evidence | None:
    """The simplest attack of that observer."""
    found = (e for start in PLAIN for e in evidence if e.probe.name.startswith(start))
    return next(found, None)


def _place(e: Evidence) -> tuple[str, str]:
    return e.probe.observer.label, e.probe.artefact


def _ran(e: Evidence) -> bool:
    return e.scores is not None or bool(e.crashed)


def _counts(e: Evidence) -> bool:
    return e.scores is not None and not e.probe.baseline
