"""Which knob of which defence is turned through which values, as typed; every mistake is one line."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from audits.catalogue import names
from audits.problems import did_you_mean, shown

Number = int | float

CALIBRATED = "epsilon"
INFINITIES = ("inf", "infinity", ".inf")


@dataclass(frozen=True, slots=True)
class Knob:
    """One option of one defence and the values it takes.

    Attributes:
        defense: name as in a plan.
        name: of the option.
        values: distinct, ascending; infinity is no noise where the option is "epsilon".
        options: the others that were typed; they win over the plan's.
        typed: what stood before the values, for messages.
    """

    defense: str
    name: str
    values: tuple[Number, ...]
    options: Mapping[str, Any]
    typed: str


def knob_of(
    defense: str, knobs: Mapping[str, str | None], general: str | None, options: Sequence[str]
) -> Knob:
    """The knob that was asked for.

    Args:
        defense: name of a defence; underscores, hyphens and case do not matter.
        knobs: values by the shorthand that was typed before them ("epsilon", "noise", "keep"); None where
            it was not.
        general: "NAME=V1,V2", or None.
        options: "NAME=VALUE" each, with the value as in a plan.

    Raises:
        ValueError: one line that names the option, the value and the rule.
    """
    name = defense_named(defense)
    cls = names("defenses")[name]
    typed = {f"--{short}": (short, text) for short, text in knobs.items() if text is not None}
    if general is not None:
        head, equals, text = general.partition("=")
        if not equals:
            raise ValueError(f"expected NAME=V1,V2,... for --knob, got {shown(general)}")
        typed["--knob"] = (head.strip(), text)
    if len(typed) != 1:
        rule = f"expected one knob (--knob NAME=V1,V2,... or {', '.join(f'--{k}' for k in knobs)})"
        raise ValueError(f"{rule}, got {' and '.join(typed) or 'none'}")
    ((flag, (short, text)),) = typed.items()
    knob = option_named(cls, name, short)
    values = values_of(flag, text, knob)
    start = f"{flag} {knob}=" if flag == "--knob" else f"{flag} "
    return Knob(name, knob, values, options_of(options, knob), start)


def defense_named(text: str) -> str:
    """The name of a defence as plans have it."""
    known = {_plain(name): name for name in names("defenses")}
    if _plain(text) not in known:
        rule = f"expected --defense to be one of {', '.join(sorted(known.values()))}"
        raise ValueError(f"{rule}, got {shown(text)}{did_you_mean(text, known.values())}")
    return known[_plain(text)]


def option_named(cls: type[Any], defense: str, short: str) -> str:
    """The option of that name, or the only one that begins with it and an underscore."""
    known = [*calibrated(cls), *(f.name for f in dataclasses.fields(cls))]
    near = [name for name in known if name.startswith(f"{short}_")]
    if short in known:
        return short
    if len(near) == 1:
        return near[0]
    rule = f"expected a knob of {defense} to be one of {', '.join(sorted(known))}"
    raise ValueError(f"{rule}, got {shown(short)}{did_you_mean(short, known)}")


def calibrated(cls: type[Any]) -> tuple[str, ...]:
    """The option that asks for the least noise that keeps a promise, where the defence makes one."""
    return (CALIBRATED,) if hasattr(cls, "for_epsilon") else ()


def beside_epsilon(cls: type[Any]) -> frozenset[str]:
    """Options that go with an epsilon; all others are what it stands for."""
    parameters = inspect.signature(cls.for_epsilon).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def values_of(flag: str, text: str, knob: str) -> tuple[Number, ...]:
    """Numbers between commas, ascending.

    >>> values_of("--epsilon", "8, 1,inf", "epsilon")
    (1.0, 8.0, inf)
    """
    parts = [part.strip() for part in text.split(",")]
    found = [_number(flag, part) for part in parts]
    for i, value in enumerate(found):
        if value in found[:i]:
            raise ValueError(f"expected distinct numbers for {flag}, got {parts[i]} twice")
    # A calibration is remembered by what was asked, and 8 is not written as 8.0 is.
    return tuple(sorted(float(v) if knob == CALIBRATED else v for v in found))


def options_of(typed: Sequence[str], knob: str) -> dict[str, Any]:
    """Options by name, their values read as in a plan.

    >>> options_of(["clip=1.0", "delta=1e-5"], "epsilon")
    {'clip': 1.0, 'delta': 1e-05}
    """
    found: dict[str, Any] = {}
    for text in typed:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise ValueError(f"expected NAME=VALUE for --option, got {shown(text)}")
        if name in found:
            raise ValueError(f"expected each --option once, got {name} twice")
        if name == knob:
            raise ValueError(f"expected the knob {knob} to be given once, got --option {shown(text)} too")
        found[name] = _yaml(text, value)
    return found


def label(value: Number) -> str:
    """A value as it is written at its point: the shortest text that is this very number.

    >>> label(8.0), label(0.1), label(float("inf"))
    ('8', '0.1', 'inf')
    """
    return str(value).removesuffix(".0")


def _number(flag: str, part: str) -> Number:
    if not part:
        raise ValueError(f"expected a number between all commas for {flag}, got nothing")
    if re.fullmatch(r"[+-]?\d+", part):
        return int(part)
    try:
        value = float(part)
    except ValueError:
        value = math.inf if part in INFINITIES else math.nan
    if math.isnan(value) or (math.isinf(value) and part.lower() not in INFINITIES):
        raise ValueError(f"expected numbers between commas for {flag}, got {shown(part)}")
    return value


def _yaml(text: str, value: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(value)
    except YAMLError as error:
        raise ValueError(f"expected a value as in a plan for --option, got {shown(text)}") from error


def _plain(name: str) -> str:
    return re.sub(r"[_-]", "", name).lower()
