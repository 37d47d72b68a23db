"""Documents: lines, digests, and one line for every kind of mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from audits.document import Document, DocumentError, canonical_json, load_document
from audits.problems import Misplaced


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Arm(Part):
    name: str
    rate: float = Field(default=0.5, ge=0, le=1)
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    rounds: int = Field(default=1, ge=1)


class Example(Part):
    form: Literal["example/1"] = Field(default="example/1", alias="schema")
    federations: int = 8
    verbose: bool = False
    arms: tuple[Arm, ...] = Field(default=(Arm(name="a"),), min_length=1)
    best: Arm | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Example:
        for index, arm in enumerate(self.arms):
            if arm.name == "taken":
                raise Misplaced(("arms", index, "name"), "expected a free name, got 'taken'")
        return self


GOOD = """\
# a comment
schema: example/1
federations: 12
arms:
  - name: first
    rate: 0.25
  - {name: second,
     rounds: 3}
best:
  name: third
"""


def load(text: str) -> Document[Example]:
    return load_document(text, Example, "plan.yaml")


def test_values_lines_and_source() -> None:
    document = load(GOOD)
    assert document.value.arms[1].rounds == 3
    assert document.source == "plan.yaml"
    assert [document.line_of(*path) for path in (
        ("federations",), ("arms", 0), ("arms", 0, "rate"), ("arms", 1, "rounds"), ("best", "name"))
    ] == [3, 5, 6, 8, 10]  # fmt: skip


def test_a_key_left_to_its_default_has_the_line_of_what_holds_it() -> None:
    assert load(GOOD).line_of("best", "rate") == 9
    assert load(GOOD).line_of("verbose") == 2


def test_the_digest_is_of_the_content() -> None:
    document = load(GOOD)
    same = load(GOOD.replace("# a comment\n", "\n\n").replace("0.25", "2.5e-1"))
    spelt_out = load(GOOD + "verbose: false\n")
    assert document.sha256 == same.sha256 == spelt_out.sha256
    assert document.sha256 != load(GOOD.replace("12", "13")).sha256
    assert canonical_json(document.value).startswith('{"arms":[{"name":"first","rate":0.25,')


def test_a_file_is_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("﻿" + GOOD, encoding="utf-8")
    assert load_document(path, Example).sha256 == load(GOOD).sha256
    path.write_text("federatons: 3\n")
    with pytest.raises(DocumentError, match=re.escape(f"{path}:1: unknown key 'federatons'")):
        load_document(path, Example)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\nfederatons: 3", "plan.yaml:3: unknown key 'federatons' (did you mean 'federations'?)"),
        ("shema: example/1", "plan.yaml:1: unknown key 'shema' (did you mean 'schema'?)"),
        ("zzz: 1", "plan.yaml:1: unknown key 'zzz'"),
        ("arms:\n- name: a\n  rats: 1", "plan.yaml:3: arms[0]: unknown key 'rats' (did you mean 'rate'?)"),
        ("best:\n  name: a\n  rund: 1", "plan.yaml:3: best: unknown key 'rund' (did you mean 'rounds'?)"),
        ("arms:\n- rate: 0", "plan.yaml:2: arms[0]: expected key 'name', got none"),
        ("arms:\n- nam: a", "plan.yaml:2: arms[0]: unknown key 'nam' (did you mean 'name'?) (+1 more)"),
        ("arms:\n- name: a\n  rate: 1.7", "plan.yaml:3: arms[0].rate: expected a number in [0, 1], got 1.7"),
        ("arms: [{name: a, share: 1}]", "plan.yaml:1: arms[0].share: expected a number in (0, 1), got 1"),
        ("best: {name: a, rounds: 0}", "plan.yaml:1: best.rounds: expected a number >= 1, got 0"),
        ("federations: many", "plan.yaml:1: federations: expected a whole number, got 'many'"),
        ("federations: 1.5", "plan.yaml:1: federations: expected a whole number, got 1.5"),
        ("federations: [1]", "plan.yaml:1: federations: expected a whole number, got [1]"),
        ("verbose: 7", "plan.yaml:1: verbose: expected true or false, got 7"),
        ("arms: []", "plan.yaml:1: arms: expected at least 1 of them, got []"),
        ("arms: 3", "plan.yaml:1: arms: expected a list, got 3"),
        ("arms: [3]", "plan.yaml:1: arms[0]: expected a mapping, got 3"),
        ("arms: [{name: 3}]", "plan.yaml:1: arms[0].name: expected text, got 3"),
        ("best: {name: 2026-01-01}", "plan.yaml:1: best.name: expected text, got 2026-01-01"),
        ("schema: other/2", "plan.yaml:1: schema: expected one of 'example/1', got 'other/2'"),
        ("arms:\n- name: b\n- name: taken", "plan.yaml:3: arms[1].name: expected a free name, got 'taken'"),
        ("verbose: 7\nzzz: 1\nyyy: 2", "plan.yaml:1: verbose: expected true or false, got 7 (+2 more)"),
        ("", "plan.yaml:1: expected a mapping of keys to values, got NoneType"),
        ("- a", "plan.yaml:1: expected a mapping of keys to values, got list"),
        ("best: &x {name: a}", "plan.yaml:1: expected values written out, got an anchor or alias"),
        ("best: *x", "plan.yaml:1: expected values written out, got an anchor or alias"),
        ("best: !!python/name:os.system x", "plan.yaml:1: expected plain values, got tag tag:yaml.org,2002:"),
        ("a: " + "[" * 3000, "plan.yaml:1: expected at most 24 levels of nesting, got more"),
        ("verbose: true\n---\nverbose: true", "plan.yaml:2: expected one document, got a second"),
        ("verbose: true\nverbose: false", "plan.yaml:2: expected valid YAML: found duplicate key"),
        ("verbose: [true", "plan.yaml:1: expected valid YAML: expected ',' or ']'"),
        ("verbose: \x07", "plan.yaml: expected valid YAML: unacceptable character #x0007"),
        ("# " + "x" * 300_000, "plan.yaml: expected at most 256 KiB of YAML, got more"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line(text: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@given(st.text(max_size=200))
def test_no_text_gets_past_but_as_a_document_or_one_line(text: str) -> None:
    message = ""
    try:
        load(text)
    except DocumentError as error:
        message = str(error)
    assert "\n" not in message


def test_a_long_value_is_cut() -> None:
    with pytest.raises(DocumentError, match=r"got 'x{50,56}\.\.\.$"):
        load("federations: " + "x" * 500)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"absent\.yaml: expected a readable file, got No such file"):
        load_document(tmp_path / "absent.yaml", Example)
    with pytest.raises(DocumentError, match="expected a readable file, got Is a directory"):
        load_document(tmp_path, Example)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9t\xe9")
    with pytest.raises(DocumentError, match=r"latin\.yaml: expected UTF-8 text, got byte 0xe9"):
        load_document(tmp_path / "latin.yaml", Example)
