"""pydantic's complaints in this project's words: expected <rule>, got <value>."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Key = str | int

_RULES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "literal_error": "one of {expected}",
    "greater_than": "a number > {gt:g}",
    "greater_than_equal": "a number >= {ge:g}",
    "less_than": "a number < {lt:g}",
    "less_than_equal": "a number <= {le:g}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "text of at least {min_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
}


class Misplaced(ValueError):
    """Raised in a validator that sees several keys, to name the one at fault.

    `path` leads from the validated model to that key; the message reads "expected ..., got ...".
    """

    def __init__(self, path: tuple[Key, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where, and what to say; `about_key` when the text itself names the last key."""

    path: tuple[Key, ...]
    text: str
    about_key: bool = False


def problems(error: ValidationError, model: type[Any], content: object) -> list[Problem]:
    """Every mistake pydantic found in `content`, one per key path.

    `model` is what was validated, a pydantic model or a dataclass, so that misspelt keys are guessed.
    """
    found: dict[tuple[Key, ...], Problem] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            continue  # pydantic does not count items that are wrong themselves and have their own message
        problem = _problem(dict(detail), model, content)
        found.setdefault(problem.path, problem)
    return list(found.values())


def key_path(path: tuple[Key, ...]) -> str:
    """A path as people write it.

    >>> key_path(("checks", 1, "limit", "value"))
    'checks[1].limit.value'
    """
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


def shown(value: object) -> str:
    """A value found in a document, in one short line."""
    text = " ".join((str(value) if isinstance(value, date) else repr(value)).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _problem(detail: dict[str, Any], model: type[Any], content: object) -> Problem:
    path, kind = _within(detail["loc"], content), detail["type"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return Problem(path, f"unknown key {path[-1]!r}{_guess(str(path[-1]), model, path[:-1])}", True)
    if kind in ("missing", "missing_argument"):
        path = (*_within(detail["loc"][:-1], content), detail["loc"][-1])
        return Problem(path, f"expected key {path[-1]!r}, got none", True)
    cause = context.get("error")
    if isinstance(cause, Misplaced):
        return Problem(path + cause.path, str(cause))
    if isinstance(cause, ValueError):
        return Problem(path, str(cause))
    rule = _interval(_field(model, path)) if "than" in kind else ""
    rule = rule or _RULES.get(kind, detail["msg"]).format(**context)
    return Problem(path, f"expected {rule}, got {shown(detail['input'])}")


def _within(path: tuple[Key, ...], content: object) -> tuple[Key, ...]:
    """The part of pydantic's location that exists in the document; it adds names of union members."""
    kept: list[Key] = []
    for key in path:
        try:
            content = content[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            continue
        kept.append(key)
    return tuple(kept)


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """The nearest of the known names as a question to append, or nothing.

    >>> did_you_mean("epoch", ["epochs", "batch"])
    " (did you mean 'epochs'?)"
    """
    near = difflib.get_close_matches(key, sorted(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _guess(key: str, model: type[Any], path: tuple[Key, ...]) -> str:
    return did_you_mean(key, {f.alias or n for m in _models_at(model, path) for n, f in _fields(m).items()})


def _models_at(model: type[Any], path: tuple[Key, ...]) -> list[type[Any]]:
    """Models that may stand at a path; several where a field is a union."""
    found = [model]
    for key in path:
        if isinstance(key, str):
            named = [_named(m, key) for m in found]
            found = [m for field in named if field is not None for m in _models_in(field.annotation)]
    return found


def _models_in(annotation: object) -> Iterator[type[Any]]:
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _field(model: type[Any], path: tuple[Key, ...]) -> FieldInfo | None:
    if not path or not isinstance(path[-1], str):
        return None
    return next((f for m in _models_at(model, path[:-1]) if (f := _named(m, path[-1]))), None)


def _named(model: type[Any], key: str) -> FieldInfo | None:
    return next((f for n, f in _fields(model).items() if key in (n, f.alias)), None)


def _fields(model: type[Any]) -> dict[str, FieldInfo]:
    """Fields by name, with their annotations resolved."""
    if issubclass(model, BaseModel):
        return dict(model.model_fields)
    hints = get_type_hints(model) if is_dataclass(model) else {}
    return {f.name: FieldInfo(annotation=hints[f.name]) for f in fields(model)} if hints else {}


def _interval(field: FieldInfo | None) -> str:
    """Both ends of a bounded field, so that one message tells the whole range."""
    limits: dict[str, float] = {}
    for part in _metadata(field):
        limits |= {end: getattr(part, end) for end in ("ge", "gt", "le", "lt") if hasattr(part, end)}
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    if low is None or high is None:
        return ""
    return f"a number in {'[' if 'ge' in limits else '('}{low:g}, {high:g}{']' if 'le' in limits else ')'}"


def _metadata(part: object) -> Iterator[object]:
    """Constraints on a field, also those inside Annotated and optional types."""
    for constraint in (*getattr(part, "metadata", ()), *getattr(part, "__metadata__", ())):
        yield constraint
        yield from _metadata(constraint)
    for inner in (getattr(part, "annotation", None), *get_args(part)):
        if inner is not None:
            yield from _metadata(inner)
