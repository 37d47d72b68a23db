"""Fixed sentences for readers without a machine-learning background, and the glossary.

Every sentence speaks of evidence against a policy. Whether processing is lawful, or data count as
personal, is for people to decide: no sentence here says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.record import Check, Estimate, Inquired, Summary, VerdictKind
from reports.text import metric, number, percent

DISCLAIMER = (
    "This report is evidence, not a legal assessment. It says what the attacks listed here could and could "
    "not learn under a policy fixed beforehand; it makes no statement about attacks that were not run."
)

VERDICTS: dict[VerdictKind, str] = {
    "PASS": "Every blocking check stayed within its limit, uncertainty included.",
    "FAIL": "At least one blocking check is over its limit by more than its uncertainty.",
    "INCONCLUSIVE": "No blocking check is shown to be over its limit, but at least one could not be decided.",
    "ERROR": "At least one blocking check could not be carried out, so nothing may be concluded from it.",
}
RESIDUAL = (
    "A PASS says that these attacks, with this much data, found no more than the policy allows. Other "
    "attacks, more data, other recipients or outside knowledge may find more; what was not tested stays at "
    "risk until it is."
)
NOTHING = "Nothing was evaluated, so this record supports no conclusion of any kind."

CHECK_VERDICTS: dict[VerdictKind, str] = {
    "PASS": "The whole uncertainty interval is on the allowed side of the limit.",
    "FAIL": "The whole uncertainty interval is on the wrong side of the limit.",
    "INCONCLUSIVE": "The evidence does not decide on which side of the limit the true value lies.",
    "ERROR": "The check did not complete; a missing result never counts as a good one.",
}

REASONS = {
    "within_limit": "The bound that matters is within the limit.",
    "over_limit": "The bound that matters is over the limit.",
    "ci_straddles": "The interval lies on both sides of the limit.",
    "instrument_invalid": "A control failed, so the measuring instrument itself is in doubt.",
    "assumption_unverified": "The formal bound rests on an assumption that this run did not verify.",
    "unresolvable_fpr": "The policy asks for a rarer false alarm than this many records can show.",
    "crashed": "The attack or the training stopped with an error.",
    "nothing_evaluated": "No attack produced a result for this check.",
}

IMPRACTICAL = 100  # times the units at hand
OPEN = {
    "assumption_unverified": "verify the open assumptions of the formal claim; more data would not help.",
    "instrument_invalid": "repair what made the control fail, then measure again; more data would not help.",
    "nothing_evaluated": "a run in which what the policy asks for is measured or claimed.",
}
_LESS = "a pipeline that leaks less. More data of the same kind would not change it."
_BETTER = {
    "formal_epsilon": "a stronger formal claim: more noise, or less use of each record.",
    "accuracy": "a more accurate model. More test records would not change it.",
}

CHANCE = (
    "An AUC of 0.5 is what guessing scores: shown one member and one non-member, the attacker names the "
    "right one half of the time. At 1.0 every guess is right. The distance above 0.5 is the leakage."
)

STATUSES = {
    "run": "run",
    "not applicable": "not applicable",
    "not tested": "not tested",
    "error": "error",
}

YARDSTICK = "A yardstick to read the attacks against, not an attack on the artefact."
BASELINE_ATTACKS = {
    "class means of members": "A yardstick, not an attack on the artefact: what publishing nothing but the "
    "average record of the members of each class would already give away.",
    "public class means": "A yardstick without any access: it compares records with the class means of "
    "public data, so it has to stay at chance.",
}

PERSONALISED_MEANING = (
    "Personalised models are the clients' own: each is tested on the classes that its client holds, or on "
    "its own user's records where clients are users, and a test record counts as the share of those clients "
    "whose model is right. That is another task than the other models have, so these figures compare "
    "with one another only."
)

CONTROLS = {
    "positive": ("Positive", "A leak planted on purpose has to be found; otherwise the attack is blunt."),
    "negative": (
        "Negative",
        "Membership that never reached the pipeline has to stay at chance; otherwise the attack sees ghosts.",
    ),
    "blind": (
        "Blind",
        "A classifier that sees only the raw records has to stay at chance; otherwise members and "
        "non-members differ by themselves and every attack looks better than it is.",
    ),
}

NO_CONTROL = "Nothing shows that the attacks can see a leak, or that they keep quiet without one."

NO_CLAIM = (
    "No formal bound limits what an attack on these arms could learn; the measured leakage is all there is."
)

GLOSSARY = {
    "Accuracy": "The share of test records, never used in training, that a model labels correctly.",
    "Arm": "One way of training under comparison: a pipeline together with its defences.",
    "Attack": "A procedure that tries to learn something about the training records from what was shared.",
    "AUC": CHANCE,
    "Baseline": "A simple alternative that uses no private data. A method has to beat it to be worth its "
    "risk.",
    "Canary": "A deliberately odd record, here one with a wrong label, planted because it is remembered "
    "best. Canaries show the worst case and are never mixed into the other figures.",
    "Control": "A test of the measuring instrument: a planted leak must show, an absent one must not.",
    "Differential privacy (epsilon, delta)": "A mathematical bound on how much any one record (or client) "
    "can change what is shared. A smaller epsilon is a stronger bound; delta is the small chance that it "
    "does not hold. It is only as good as the assumptions listed beside it.",
    "Federation": "One complete run of the training with one random choice of who takes part.",
    "FPR (false-positive rate)": "Of the records that were not used, the share an attack wrongly names.",
    "Interval": "The range that is compatible with the measurement. A wide one means too little data, not "
    "too little leakage.",
    "Limit": "What the policy allows. It was fixed, and its digest taken, before anything was measured.",
    "Member": "A record that was used for training. An attacker who can tell members from non-members "
    "learns, for example, that somebody was a patient.",
    "n": "How many records (or clients) were tested on each side. More of them make the interval narrower.",
    "Observer": "From where an attacker looks: the server, a client, or an outsider with a published "
    "artefact.",
    "Public shard": "Records assumed to be available to everybody; the method may learn from them freely.",
    "ROC curve": "How many members an attack finds (TPR) for each rate of false alarms (FPR). The left end "
    "shows the confident guesses, which do the most harm.",
    "TPR (true-positive rate)": "Of the records that were used, the share an attack names.",
}


def overall(summary: Summary) -> str:
    """The fixed sentence of the overall verdict."""
    return NOTHING if summary.exit_code == 5 else VERDICTS[summary.verdict]


def decide(check: Check) -> str:
    """What would change the verdict of one check."""
    match check.verdict, check.reason_code:
        case "INCONCLUSIVE", "ci_straddles" | "unresolvable_fpr" if check.n_required is not None:
            return _enough(check.n_required, check.estimate)
        case "INCONCLUSIVE", code:
            return OPEN.get(code, "more privacy units per side; how many cannot be said from this run.")
        case "FAIL", _:
            return _BETTER.get(check.estimate.metric if check.estimate else "", _LESS)
        case "ERROR", _:
            return "a run that completes; see the message of the check."
        case _:
            return "a new version, new data, new recipients or a stronger attack: measure again then."


def _enough(required: int, estimate: Estimate | None) -> str:
    have = _units(estimate)
    if _impractical(required, estimate):
        return "the value lies too close to the limit for any practical n."
    return f"run n ≥ {required:,} per side to decide" + (f" (now {have:,})." if have else ".")


def precision(tpr: float, fpr: float, prevalence: float = 0.01) -> float | None:
    """The share of an attack's accusations that are right, when `prevalence` of those tried are members.

    >>> round(precision(0.3, 0.01), 3)
    0.233
    """
    named = tpr * prevalence + fpr * (1 - prevalence)
    return tpr * prevalence / named if named else None


def base_rate(estimate: Estimate) -> str:
    """What a TPR at an FPR means when only 1 % of the records an attacker tries are members."""
    fpr = estimate.params.get("fpr")
    right = None if fpr is None or estimate.value is None else precision(estimate.value, fpr)
    if right is None or fpr is None:
        name = metric(estimate.metric, estimate.params)
        return f"{name} is not resolved, so no base-rate example can be given."
    lift = f" Guessing would be right {percent(0.01)} of the time." if right > 0.01 else ""
    return (
        f"Base-rate example: suppose 1 in 100 of the records an attacker tries were members. Naming with an "
        f"FPR of {percent(fpr)} and the TPR of {percent(estimate.value)} measured here, "
        f"{percent(right)} of the accusations would be right.{lift}"
    )


def needs(check: Check) -> str:
    """How many units per side would decide a check; nothing where that is not the question.

    A number far beyond the data at hand is not printed: it would be an extrapolation.
    """
    if check.n_required is None:
        return ""
    return "no practical n" if _impractical(check.n_required, check.estimate) else f"n ≥ {check.n_required:,}"


def _impractical(required: int, estimate: Estimate | None) -> bool:
    return bool(_units(estimate)) and required > IMPRACTICAL * _units(estimate)


def _units(estimate: Estimate | None) -> int:
    return min(estimate.n_in, estimate.n_out) if estimate else 0


@dataclass(frozen=True, slots=True)
class Change:
    """Checks of one verdict that the same thing would change."""

    verdict: VerdictKind
    sentence: str
    checks: tuple[Check, ...]


def changes(checks: Iterable[Check]) -> tuple[Change, ...]:
    """The checks by what would change them; those that lack data share one line."""
    groups: dict[tuple[VerdictKind, str], list[Check]] = {}
    for check in checks:
        sentence = decide(check)
        groups.setdefault((check.verdict, "n" if sentence.startswith("run n") else sentence), []).append(
            check
        )
    return tuple(Change(verdict, _sentence(rows), tuple(rows)) for (verdict, _), rows in groups.items())


def _sentence(checks: Sequence[Check]) -> str:
    needs = [c.n_required for c in checks if c.n_required is not None and decide(c).startswith("run n")]
    if len(needs) < 2:
        return decide(checks[0])
    return f"run n ≥ {min(needs):,} to {max(needs):,} per side to decide them, as listed with each."


def compare(ours: Estimate, theirs: Estimate) -> str:
    """Where one interval lies relative to another: above, below, or not distinguishable."""
    if ours.lower is None or ours.upper is None or theirs.lower is None or theirs.upper is None:
        return "not comparable (no interval)"
    if ours.lower > theirs.upper:
        return "above"
    return "below" if ours.upper < theirs.lower else "not distinguishable from"


def levels(estimate: Estimate) -> str:
    """How sure the bounds are, in words."""
    if estimate.level_lower == estimate.level_upper == 1:
        return "computed exactly, no sampling error"
    lower, upper = percent(estimate.level_lower), percent(estimate.level_upper)
    return f"one-sided bounds: lower at {lower}, upper at {upper}"


def epsilon_meaning(fpr: float, tpr: float) -> str:
    """What a bound on the TPR at one FPR says."""
    if tpr >= 0.9995:
        return f"At an FPR of {percent(fpr)} the claim bounds next to nothing."
    return f"At an FPR of {percent(fpr)} no attack may find more than {percent(tpr)} of the members."


def chance_ratio(estimate: Estimate) -> str:
    """How far a TPR lies above what guessing gives at the same FPR."""
    fpr = estimate.params.get("fpr")
    if estimate.value is None or not fpr:
        return ""
    return f"{number(estimate.value / fpr, 1)} times guessing"


CEILING = (
    "Where an arm has a claim of differential privacy that holds against the observer, no attack whatever "
    "may identify more than the share stated under it."
)
CONTRADICTED = (
    "Both cannot be true: the claim, the code that was meant to keep it, or what it assumes is wrong, and "
    "nothing may be concluded from its epsilon."
)


def ceiling(row: Inquired) -> str:
    """What a claim leaves to an attack, or why none bounds it; empty where the arm makes none."""
    if row.ceiling is None:
        return f"no bound: {row.no_bound}" if row.no_bound else ""
    if row.ceiling >= 0.9995:
        return "its claim bounds next to nothing"
    return f"under its claim at most {percent(row.ceiling)} could be identified"


SOUGHT = {
    "records": "identification@1",
    "labels": "labels held, AUC",
    "source": "client named",
    "property": "shares of a property, R²",
    "attribute": "hidden detail, advantage",
}
"""What is measured of an attack that asks for the data themselves."""

SOUGHT_MEANINGS = {
    "records": "The share of rebuilt records that look most like one that was used, among the records of the "
    "same client that were used and those that were not.",
    "labels": "How often a label that a client holds ranks above one that a client lacks; 0.5 is guessing.",
    "source": "How often the client that holds a record is named; chance is what counts of labels alone "
    "would do.",
    "property": "How much of the differences between clients, in the share of their records that has some "
    "property, the attack explains: 0 is no more than the share in the whole population tells, 1 is "
    "every share known exactly.",
    "attribute": "How much oftener a hidden detail of a known record is filled in rightly where the record "
    "was used than where it was not: 0 is no more than anybody could conclude about any such person, 1 is "
    "the detail of every record used and of no other.",
}
"""What those figures mean, in plain words."""
