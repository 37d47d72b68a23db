"""The report as one self-contained HTML page: no scripts, no network, the same bytes every time.

Everything in the record is untrusted. The template engine escapes every value, in text, attributes and
charts alike, and the page's content security policy forbids all loading besides.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports import axes, bars, checklist, coverage, findings, roc, text, tradeoff, wording
from reports.record import Record


def render(record: Record) -> str:
    """The whole page.

    Args:
        record: what the audit found; the page shows nothing else.
    """
    return templates().get_template("report.html").render(_context(record))


@cache
def templates() -> Environment:
    """The templates of all pages, with their filters."""
    environment = Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    functions = (text.number, text.plain, text.percent, text.interval, text.limit, text.metric, text.units)
    environment.filters |= {f.__name__: f for f in (*functions, text.digest, text.shorten)}
    environment.globals |= {
        "wording": wording,
        "findings": findings,
        "coverage": coverage,
        "palette": axes.PALETTE,
    }
    return environment


def _printable(value: Any) -> Any:
    return value if isinstance(value, Markup) else text.printable(str(value))


def _context(record: Record) -> dict[str, Any]:
    return {
        "record": record,
        "names": findings.titles(record),
        "series": {arm: i for i, arm in enumerate(a for a in findings.arm_order(record) if a)},
        "roles": findings.roles(record),
        "checks": checklist.checklist(record),
        "bars": {f"check-{i}": bar for i, bar in enumerate(bars.bars(record.checks), start=1)},
        "trade_off": tradeoff.trade_off(record),
        "numbered": tradeoff.numbered,
        "rocs": roc.roc_panels(record),
    }
