"""The tables of the personalisation benchmark: means over seeds with Student-t intervals, as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy.stats import t

from audits.personalisation_methods import Method
from audits.personalisation_run import RECENT, TUNING, Result
from audits.personalisation_tasks import Setting

CONFIDENCE = 0.95
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: its head.
        read: the value of one seed, or None.
        scale: what values are multiplied by.
        digits: after the point.
    """

    title: str
    read: Callable[[Result, Method], float | None]
    scale: float = 1.0
    digits: int = 1


def _recent(result: Result, method: Method) -> float | None:
    return result.tuned_recent if method.tuned else result.recent


def _final(result: Result, method: Method) -> float | None:
    return result.tuned_final if method.tuned else result.final


COLUMNS = (
    Column(f"personal, last {RECENT} rounds (%)", _recent, 100),
    Column("personal, end (%)", _final, 100),
    Column("G1 (%)", lambda r, _: r.pooled, 100),
    Column("G1, end (%)", lambda r, _: r.pooled_final, 100),
    Column("G2 (%)", lambda r, _: r.newcomers, 100),
    Column("G3 (%)", lambda r, _: r.probe, 100),
    Column("up (kB)", lambda r, _: r.up, 1e-3),
    Column("down (kB)", lambda r, _: r.down, 1e-3),
    Column("client (CPU s)", lambda r, _: r.client_seconds, digits=3),
    Column("client / FedAvg", lambda r, _: r.ratio, digits=2),
    Column("server (CPU s)", lambda r, _: r.server_seconds, digits=3),
)


def half_width(values: Sequence[float], confidence: float = CONFIDENCE) -> float:
    """Half the width of the two-sided Student-t interval of the mean of independent values.

    Assumes means of seeds to be about normal; NaN for fewer than two values.

    >>> round(half_width([1.0, 2.0, 3.0]), 3)
    2.484
    """
    if len(values) < 2:
        return math.nan
    return float(t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def cell(values: Sequence[float | None], column: Column) -> str:
    """Mean and half-width; the mean alone of equal values or a single one; a dash where a seed has none."""
    known = [v * column.scale for v in values if v is not None]
    if not known or len(known) != len(values):
        return NOTHING
    half = half_width(known)
    text = f"{mean(known):,.{column.digits}f}"
    return text if math.isnan(half) or half == 0 else f"{text} ± {half:.{column.digits}f}"


def rows(results: Mapping[str, Sequence[Result]], methods: Mapping[str, Method]) -> list[list[str]]:
    """One row a method that has results: title and cells."""
    return [
        [m.title, *(cell([c.read(r, m) for r in results[name]], c) for c in COLUMNS)]
        for name, m in methods.items()
        if results.get(name)
    ]


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A pipe table, numbers to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *body))


def caption(setting: Setting, seeds: int) -> str:
    """What was run, in one paragraph that names no machine."""
    deal = f"{setting.held} classes each" if setting.held else "each with a concept of its own"
    sgd = setting.sgd
    epochs = (
        f"{setting.head} head and {setting.representation} representation epochs (FedRep, FedBKD), "
        f"{setting.averaging} epochs (FedAvg, FedProx, Ditto's global model), "
        f"{setting.own} epochs (local only, Ditto's own models)"
    )
    return (
        f"{setting.clients} clients and {setting.newcomers} new ones, {deal}, "
        f"{setting.train} training and {setting.test} test records a client; "
        f"{setting.fraction:.0%} of the clients in each of {setting.rounds} rounds, for FedRep and FedBKD "
        f"then all of them in one more. Net: {setting.net.family} {setting.net.hidden}. "
        f"SGD: lr {sgd.lr:g}, momentum {sgd.momentum:g}, weight decay {sgd.weight_decay:g} "
        f"(not on biases), batch {sgd.batch}; {epochs}. "
        f"G3's probe is trained on {setting.origin}. {_seeds(seeds)}."
    )


def headline(setting: Setting, seeds: int) -> str:
    """Task, seeds and rounds."""
    return f"{setting.title}, {_seeds(seeds)}, T={setting.rounds}"


def legend() -> str:
    """What the columns mean."""
    return f"""\
Mean ± half-width of the {CONFIDENCE:.0%} Student-t interval over seeds; a seed draws the clients' records,
the initial model, who takes part and every batch, and is the same for all methods. No ± where all
seeds agree.

- **personal**: share of the training clients' test records that each client's own model gets right
  (classes of the client alone), mean after the last {RECENT} of the T rounds, and at the end: after the
  last round, of all clients, where the method has one. "+ fine-tuning": every client trains the head of
  the global model for {TUNING} epochs before it is scored, which is not in its CPU seconds.
- **G1**: the global model on the test records of all clients together, after round T and at the end.
- **G2**: clients that took no part train a head from the common initial one for {TUNING} epochs on the
  frozen representation; accuracy on their own test records.
- **G3**: logistic regression on the frozen representation of equally many records of each class, on the
  test records of all clients together.
- **up, down**: payload of one client in one of the T rounds. FedRep's clients also send their heads, so
  that there is a global model to score; without them the other columns are the same.
- **client, server**: processor seconds of one client's turn at its side and at the server's, one thread.
  **client / FedAvg**: over a FedAvg client's turn timed in the same process."""


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"
