"""`privfed epsilon`: what a noise costs, or which noise an epsilon asks for, without a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from privfed.claims import Neighbouring
from privfed.dp_events import Stopping

if TYPE_CHECKING:
    from dp_accounting import DpEvent
    from rich.table import Table

    from privfed.accounting import Sampling
    from privfed.composition import Accountant

SCHEMA = "privfed-epsilon/1"
FPRS = (0.0001, 0.001, 0.01, 0.1)
MOST_NOISE = 1e6
MOST_STEPS = 10**6

HEADINGS = {"poisson": "Poisson sampling", "shuffled": "shuffled, no amplification"}
RELATIONS = {"add_or_remove_one": "one added or removed", "replace_one": "one replaced"}
HOW_TO_READ = (
    "However strong an attack on one record: if it takes non-members for members at the FPR, it finds "
    "members at no more than the TPR. The first column holds only if every step drew each record "
    "independently; if batches were dealt out from a shuffled list, read the second."
)


@dataclass(frozen=True, slots=True)
class Question:
    """The options as typed; exactly one of `noise` and `epsilon`.

    Attributes:
        noise: noise multiplier: standard deviation over the clipping norm.
        epsilon: to be met, in nats, by the noise that is looked for.
        rate: chance that a step draws a given record.
        steps: noisy steps of one run.
        delta: failure probability.
        runs: runs to choose hyper-parameters, the chosen one included; a mean if the number was random.
        stopping: how that number was fixed; None if not given.
        neighbouring: how neighbouring data sets differ.
    """

    noise: float | None
    epsilon: float | None
    rate: float
    steps: int
    delta: float
    runs: int | None = None
    stopping: Stopping | None = None
    neighbouring: Neighbouring = "add_or_remove_one"


def run_epsilon(question: Question, as_json: bool) -> int:
    """Answers on standard output; mistakes are raised before anything is computed."""
    if (wrong := mistake(question)) is not None:
        raise _mistake(wrong)
    try:
        found = answer(question)
    except ValueError as error:
        raise _mistake(f"--epsilon: {error}" if question.noise is None else str(error)) from error
    if as_json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        _show(found)
    return 0


def mistake(q: Question) -> str | None:
    """The first rule that an option breaks, in one line."""
    if q.noise is None and q.epsilon is None:
        return "expected one of --noise and --epsilon, got neither"
    if q.noise is not None and q.epsilon is not None:
        return f"expected one of --noise and --epsilon, got both: --noise={q.noise:g} --epsilon={q.epsilon:g}"
    replacing_random = (
        q.neighbouring == "replace_one" and q.stopping in ("geometric", "poisson") and q.rate < 1
    )
    rules: tuple[tuple[bool, str, str, object], ...] = (
        (q.noise is None or 0 < q.noise <= MOST_NOISE, f"--noise in (0, {MOST_NOISE:g}]", "noise", q.noise),
        (q.epsilon is None or 0 < q.epsilon < math.inf, "a finite --epsilon > 0", "epsilon", q.epsilon),
        (0 < q.rate <= 1, "--rate in (0, 1]", "rate", q.rate),
        (1 <= q.steps <= MOST_STEPS, f"--steps in [1, {MOST_STEPS}]", "steps", q.steps),
        (0 < q.delta < 1, "--delta in (0, 1)", "delta", q.delta),
        (q.runs is None or q.runs >= 1, "--runs >= 1", "runs", q.runs),
        ((q.runs or 1) * q.steps <= MOST_STEPS, f"--runs x --steps <= {MOST_STEPS}", "runs", q.runs),
        (q.stopping is None or q.runs is not None, "--runs beside --stopping", "stopping", q.stopping),
        (not replacing_random, "--neighbouring add_or_remove_one or --rate 1 beside a random number of runs",
         "neighbouring", q.neighbouring),
    )  # fmt: skip
    return next(
        (f"expected {rule}, got --{name}={value}" for good, rule, name, value in rules if not good), None
    )


def answer(question: Question) -> dict[str, Any]:
    """Everything that is known, fit for JSON: null stands for no bound, or for what is not defined."""
    noise = _calibrated(question) if question.noise is None else question.noise
    event = _event(question, noise)
    return {
        "schema": SCHEMA,
        "noise": noise,
        "calibrated_for_epsilon": question.epsilon,
        "rate": question.rate,
        "steps": question.steps,
        "delta": question.delta,
        "neighbouring": question.neighbouring,
        "runs": question.runs or 1,
        "stopping": question.stopping or "fixed",
        "epsilons": _epsilons(event, question),
        "gdp_mu": [_mu(event, sampling, question) for sampling in HEADINGS],
        "max_tpr": [row for sampling in HEADINGS for row in _tprs(event, sampling, question)],
    }


def _calibrated(q: Question) -> float:
    from privfed.accounting import calibrate

    return calibrate(
        lambda noise: _event(q, noise), q.epsilon or 0.0, q.delta, _accountant(q), q.neighbouring
    )


def _accountant(question: Question) -> Accountant:
    """PLD has no analysis of a random number of runs."""
    return "pld" if question.stopping in (None, "fixed") else "rdp"


def _event(q: Question, noise: float) -> DpEvent:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

    from privfed.dp_events import tuned

    step = GaussianDpEvent(noise)
    run = SelfComposedDpEvent(step if q.rate == 1 else PoissonSampledDpEvent(q.rate, step), q.steps)
    return run if q.runs is None else tuned(run, q.runs, q.stopping or "fixed")


def _epsilons(event: DpEvent, q: Question) -> list[dict[str, Any]]:
    from privfed.accounting import opinions

    return [
        {"accountant": o.accountant, "sampling": o.sampling, "epsilon": _finite(o.epsilon)}
        for o in opinions([event], q.delta, q.neighbouring)
    ]


def _read(event: DpEvent, sampling: str) -> DpEvent:
    from privfed.dp_events import without_amplification

    return without_amplification(event) if sampling == "shuffled" else event


def _mu(event: DpEvent, sampling: str, q: Question) -> dict[str, Any]:
    from privfed.trade_off import gdp_mu

    mu = gdp_mu([_read(event, sampling)], q.neighbouring)
    exact = mu is not None and (sampling == "shuffled" or q.rate == 1)
    return {"sampling": sampling, "mu": None if mu is None else _finite(mu), "exact": exact}


def _tprs(event: DpEvent, sampling: str, q: Question) -> Iterable[dict[str, Any]]:
    from privfed.accounting import epsilon, name_of
    from privfed.claims import max_tpr
    from privfed.trade_off import tpr_bound

    read, accountant = [_read(event, sampling)], _accountant(q)
    one = epsilon(read, q.delta, accountant, q.neighbouring)
    for fpr in FPRS:
        at_one = max_tpr(one, q.delta, fpr)
        whole = min(at_one, tpr_bound(read, fpr, accountant, q.neighbouring))
        yield {"sampling": sampling, "accountant": name_of(accountant), "fpr": fpr, "tpr": whole,
               "tpr_by_epsilon_and_delta": at_one}  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mistake(text: str) -> Exception:
    from audits.command import Mistake

    return Mistake(text)


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_heading(found), markup=False)
    console.print(_table(found))
    console.print(HOW_TO_READ)


def _heading(found: dict[str, Any]) -> str:
    noise = f"Noise multiplier {found['noise']:.6g}"
    if found["calibrated_for_epsilon"] is not None:
        # Rounded up: what is typed again must still meet the epsilon.
        noise = f"Noise multiplier {math.ceil(1e6 * found['noise']) / 1e6:.6f}"
        noise += f" (the least for epsilon {found['calibrated_for_epsilon']:g} with Poisson sampling)"
    runs = ""
    if found["runs"] > 1 or found["stopping"] != "fixed":
        kind = "" if found["stopping"] == "fixed" else f", a {found['stopping']} number by its mean"
        runs = f", {found['runs']:,} runs to tune{kind}"
    return (
        f"{noise}, rate {found['rate']:g}, {found['steps']:,} steps{runs}, delta {found['delta']:g}; "
        f"neighbours: {RELATIONS[found['neighbouring']]}."
    )


def _table(found: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("")
    for heading in HEADINGS.values():
        table.add_column(heading, justify="right")
    names = dict.fromkeys(row["accountant"] for row in found["epsilons"])
    table.add_row("epsilon (nats) by")
    for name in names:
        cells = _by_sampling(row for row in found["epsilons"] if row["accountant"] == name)
        table.add_row(f"  {name}", *(_nats(cells[s]) if s in cells else "-" for s in HEADINGS))
    mus = {row["sampling"]: row for row in found["gdp_mu"]}
    table.add_row("GDP mu", *(_mu_text(mus[s]) for s in HEADINGS), end_section=True)
    table.add_row("maximum TPR")
    for fpr in FPRS:
        tprs = {row["sampling"]: row["tpr"] for row in found["max_tpr"] if row["fpr"] == fpr}
        table.add_row(f"  at FPR {100 * fpr:g} %", *(_percent(tprs[s]) for s in HEADINGS))
    return table


def _by_sampling(rows: Iterable[dict[str, Any]]) -> dict[Sampling, float | None]:
    return {row["sampling"]: row["epsilon"] for row in rows}


def _nats(value: float | None) -> str:
    return "no bound" if value is None else f"{value:.4g}" if value < 1000 else f"{value:,.0f}"


def _mu_text(row: dict[str, Any]) -> str:
    if row["mu"] is None:
        return "-"
    return f"{row['mu']:.4g} ({'exact' if row['exact'] else 'envelope'})"


def _percent(value: float) -> str:
    return f"{math.ceil(1e4 * value - 1e-9) / 100:.2f} %"
