"""A YAML file as a validated value that still knows its lines.

Plans and policies are written by hand and read by reviewers, so every mistake is told in one line:
file, line, key, rule and the value found. Nothing is guessed: unknown keys, duplicate keys, anchors,
tags and a second document are errors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, DocumentStartEvent, Event
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from audits.problems import Key, Problem, key_path, problems

M = TypeVar("M", bound=BaseModel)
Path_ = tuple[Key, ...]

_MOST_BYTES = 256 * 1024
_DEEPEST = 24


class DocumentError(ValueError):
    """A document that cannot be used; the message is one line for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Document(Generic[M]):
    """A validated document.

    Attributes:
        value: the model.
        lines: line (from 1) of each key path, for example ("checks", 0, "limit").
        sha256: digest of the content as `canonical_json` writes it, defaults included; comments
            and layout do not count.
        source: the file's path, or the name given to the text.
    """

    value: M
    lines: Mapping[Path_, int]
    sha256: str
    source: str

    def line_of(self, *path: Key) -> int:
        """Line of a key path; of its nearest ancestor where the file leaves the key to a default."""
        return _line(self.lines, path)


def load_document(source: Path | str, model: type[M], name: str = "document") -> Document[M]:
    """Read and validate a YAML document.

    Args:
        source: a `Path` to read, or the YAML text itself.
        model: pydantic model of the content, with extra="forbid".
        name: what messages call a text that has no path.

    Raises:
        DocumentError: the first problem by line, "(+N more)" when there are others.
    """
    label = str(source) if isinstance(source, Path) else name
    text = _read(source) if isinstance(source, Path) else source
    content, lines = _parse(text, label)
    try:
        value = model.model_validate(content)
    except ValidationError as error:
        raise DocumentError(report(problems(error, model, content), lines, label)) from None
    return Document(value, lines, hashlib.sha256(canonical_json(value).encode()).hexdigest(), label)


def canonical_json(value: BaseModel) -> str:
    """A model as JSON text that is the same for the same content: sorted keys, no white space."""
    plain = value.model_dump(mode="json", by_alias=True)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def report(found: list[Problem], lines: Mapping[Path_, int], label: str) -> str:
    """The first problem by line as one line of text, "(+N more)" when there are others."""
    first, more = min(found, key=lambda problem: _order(problem, found, lines)), len(found) - 1
    where = key_path(first.path[:-1] if first.about_key else first.path)
    text = f"{label}:{_line(lines, first.path)}: {where + ': ' if where else ''}{first.text}"
    return text + (f" (+{more} more)" if more else "")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        return data.decode("utf-8-sig")
    except OSError as error:
        raise DocumentError(f"{path}: expected a readable file, got {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{path}: expected UTF-8 text, got byte {error.object[error.start]:#04x}"
        ) from None


def _parse(text: str, label: str) -> tuple[object, dict[Path_, int]]:
    """The plain content and the line of every key path."""
    if len(text.encode()) > _MOST_BYTES:
        raise DocumentError(f"{label}: expected at most {_MOST_BYTES // 1024} KiB of YAML, got more")
    yaml = YAML(typ="safe", pure=True)
    try:
        _refuse_tricks(yaml, text, label)
        node = yaml.compose(text)
        content = yaml.load(text)
    except YAMLError as error:
        raise DocumentError(_yaml_message(error, label)) from None
    if not isinstance(content, dict):
        raise DocumentError(f"{label}:1: expected a mapping of keys to values, got {type(content).__name__}")
    return content, dict(_lines(node, ()))


def _refuse_tricks(yaml: YAML, text: str, label: str) -> None:
    """Refuse what a hand-written document does not need, before anything is built from it."""
    depth = documents = 0
    for event in yaml.parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        documents += isinstance(event, DocumentStartEvent)
        if rule := _broken_rule(event, depth, documents):
            raise DocumentError(f"{label}:{event.start_mark.line + 1}: expected {rule}")


def _broken_rule(event: Event, depth: int, documents: int) -> str:
    if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
        return "values written out, got an anchor or alias"
    if tag := getattr(event, "tag", None):
        return f"plain values, got tag {tag}"
    if depth > _DEEPEST:
        return f"at most {_DEEPEST} levels of nesting, got more"
    return "one document, got a second" if documents > 1 else ""


def _lines(node: Node | None, path: Path_) -> list[tuple[Path_, int]]:
    """(key path, line) of `node` and of all below; a key's own line where there is a key."""
    found: list[tuple[Path_, int]] = [] if node is None else [(path, node.start_mark.line + 1)]
    if isinstance(node, MappingNode):
        for key, value in node.value:
            below = _lines(value, (*path, key.value))
            found += [(below[0][0], key.start_mark.line + 1), *below[1:]]
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            found += _lines(value, (*path, index))
    return found


def _line(lines: Mapping[Path_, int], path: Path_) -> int:
    return next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), 1)


def _order(problem: Problem, found: list[Problem], lines: Mapping[Path_, int]) -> tuple[int, bool]:
    """By line; a missing key after a misspelt one beside it, which is most likely its cause."""
    missing = problem.about_key and problem.path not in lines
    beside = [p.path for p in found if missing and p.about_key and p.path[:-1] == problem.path[:-1]]
    return max(_line(lines, path) for path in (problem.path, *beside)), missing


def _yaml_message(error: YAMLError, label: str) -> str:
    """The parser's report of several lines as one."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    line = f":{mark.line + 1}" if mark else ""
    return f"{label}{line}: expected valid YAML: {' '.join(problem.split())[:160]}"
