"""Untrusted text made printable, and numbers as a reader wants them: one way for every format."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping

from reports.record import Estimate, Limit

# Formatting characters that reorder what a reader sees: a name could show as another one.
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
NONE = "–"
_METRICS = {
    "auc": "AUC",
    "tpr_at_fpr": "TPR at FPR",
    "formal_epsilon": "formal epsilon",
    "r_squared": "R² of shares",
    "attribute_advantage": "advantage on a hidden detail",
}


def printable(text: str) -> str:
    r"""The text with control, surrogate and bidirectional-override characters made visible.

    >>> printable("evil\x00name\n")
    'evil\ufffdname\n'
    """
    return "".join(c if c in "\n\t" or not _hidden(c) else "\ufffd" for c in text)


def _hidden(character: str) -> bool:
    return character in BIDI or unicodedata.category(character) in ("Cc", "Cs", "Cn", "Zl", "Zp")


def shorten(text: str, length: int = 24) -> str:
    """The text on one line, cut with an ellipsis after `length` characters.

    >>> shorten("a name that does not end", 10)
    'a name th…'
    """
    line = " ".join(printable(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def digest(sha256: str) -> str:
    """The first twelve characters of a digest, enough to compare by eye."""
    return sha256[:12]


def number(value: float | None, digits: int = 3) -> str:
    """A number with up to `digits` decimals, or significant digits when it is tiny.

    >>> number(0.6), number(0.00042), number(7.0), number(None)
    ('0.600', '0.00042', '7.000', '–')
    """
    if value is None:
        return NONE
    if value and abs(value) < 10**-digits:
        return f"{value:.2g}"
    return f"{value:.{digits}f}"


def plain(value: float | None) -> str:
    """A number as short as it can be written, for limits and settings.

    >>> plain(0.65), plain(1e-05), plain(8.0), plain(31.0)
    ('0.65', '1e-05', '8', '31')
    """
    return NONE if value is None else f"{value:g}"


def percent(share: float | None) -> str:
    """A probability in percent with a sensible number of digits.

    >>> percent(0.01), percent(0.294), percent(0.001), percent(1.0)
    ('1 %', '29.4 %', '0.1 %', '100 %')
    """
    if share is None:
        return NONE
    digits = max(3, 1 + math.ceil(-math.log10(share))) if 0 < share < 0.001 else 3
    return f"{100 * share:.{digits}g} %" if share < 0.9995 else f"{100 * share:.4g} %"


def interval(estimate: Estimate | None) -> str:
    """An estimate with its bounds in brackets.

    >>> interval(None)
    'not measured'
    """
    if estimate is None:
        return "not measured"
    if estimate.value is estimate.lower is estimate.upper is None:
        return "not resolved"
    if estimate.value is not None and estimate.value == estimate.lower == estimate.upper:
        return number(estimate.value)
    return f"{_fixed(estimate.value)} [{_fixed(estimate.lower)}, {_fixed(estimate.upper)}]"


def _fixed(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def limit(rule: Limit) -> str:
    """The rule in symbols.

    >>> limit(Limit(op="<=", value=0.65))
    '≤ 0.65'
    """
    return f"{'≤' if rule.op == '<=' else '≥'} {plain(rule.value)}"


def metric(name: str, params: Mapping[str, float]) -> str:
    """The name of a metric in words, with what it is evaluated at.

    >>> metric("tpr_at_fpr", {"fpr": 0.01})
    'TPR at FPR 1 %'
    """
    if name == "tpr_at_fpr" and "fpr" in params:
        return f"TPR at FPR {percent(params['fpr'])}"
    words = _METRICS.get(name, name)
    given = ", ".join(f"{key} = {plain(value)}" for key, value in params.items())
    return f"{words} ({given})" if given else words


def units(estimate: Estimate | None) -> str:
    """How many privacy units stand behind an estimate.

    >>> units(None)
    '–'
    """
    if estimate is None or not (estimate.n_in or estimate.n_out):
        return NONE
    return f"{estimate.n_in:,} in / {estimate.n_out:,} out" if estimate.n_out else f"{estimate.n_in:,}"
