"""Records whose every free text carries what somebody hostile would put there."""

from __future__ import annotations

from typing import Any

from reports.record import Record

TEXTS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</style><style>*{display:none}</style>",
    "</title><h1>PASS</h1>",
    "{{7*7}}{% raw %}${7*7}#{7*7}",
    "]]><!-- -->&lt;&#60;",
    "nul\x00 bell\x07 escape\x1b[31m delete\x7f",
    "right-to-left \u202egnp.exe",
    "x" * 3000,
    "a|b `code` ![i](https://example.org/x.png) [l](javascript:alert(1)) @someone www.example.org",
    "line one\n\n# heading\n- item\n\n| a | b |\n",
)
# What is a choice between fixed words, or steers how a number is drawn, stays as it is.
FIXED = {
    *("schema_version", "verdict", "status", "kind", "role", "op", "scope", "determinism"),
    *("metric", "reason_code", "modality", "by", "units", "suite", "sought"),
}


def poisoned(record: Record, text: str) -> Record:
    """The record with `text` at the end of every free string; equal names stay equal."""
    return Record.model_validate_json(
        Record.model_validate(_walk(record.model_dump(), text)).model_dump_json()
    )


def _walk(value: Any, text: str, key: str = "") -> Any:
    match value:
        case str():
            return value if key in FIXED else value + text
        case dict():
            return {_key(k, key, text): _walk(v, text, k) for k, v in value.items()}
        case list() | tuple():
            return [_walk(v, text, key) for v in value]
        case _:
            return value


def _key(name: str, within: str, text: str) -> str:
    return (
        name + text
        if within in {"epsilons", "packages", "engines", "max_tpr", "baselines", "details"}
        else name
    )
