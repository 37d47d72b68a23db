from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]
from pydantic import ValidationError as Refused

from reports.frontier import to_json as frontier_json
from reports.record import from_json, to_json
from reports.schema import DIALECT, FRONTIER, NAME, as_text, generate, shipped
from tests.reports.example import empty, example
from tests.reports.frontier_example import frontier


def test_the_shipped_schema_is_the_one_the_models_give() -> None:
    assert as_text(shipped()) == as_text(generate()), f"run `python -m reports.schema` to renew {NAME}"


def test_the_schema_is_a_schema() -> None:
    assert shipped()["$schema"] == DIALECT
    Draft202012Validator.check_schema(shipped())


@pytest.mark.parametrize("record", [example(), empty()], ids=["full", "empty"])
def test_a_record_fits_the_schema_and_survives_the_trip(record: Any) -> None:
    text = to_json(record)
    Draft202012Validator(shipped()).validate(json.loads(text))
    assert from_json(text) == record
    assert to_json(from_json(text)) == text


@pytest.mark.parametrize("path", [(), ("run",), ("checks", 0), ("cells", 0), ("dp", 0), ("summary",)])
def test_unknown_keys_are_refused_by_schema_and_models_alike(path: tuple[str | int, ...]) -> None:
    document = json.loads(to_json(example()))
    part = document
    for step in path:
        part = part[step]
    part["surprise"] = 1
    with pytest.raises(ValidationError, match="surprise"):
        Draft202012Validator(shipped()).validate(document)
    with pytest.raises(Refused, match="surprise"):
        from_json(json.dumps(document))


@pytest.mark.parametrize("word", ["NaN", "Infinity"])
def test_numbers_that_json_does_not_have_are_refused(word: str) -> None:
    text = (
        to_json(example())
        .replace('"value":0.79,', f'"value":{word},')
        .replace('"value": 0.79,', f'"value": {word},')
    )
    assert word in text
    with pytest.raises(Refused):
        from_json(text)


def test_a_frontier_has_a_shipped_schema_too() -> None:
    assert as_text(shipped(FRONTIER)) == as_text(generate(FRONTIER)), "run `python -m reports.schema`"
    Draft202012Validator.check_schema(shipped(FRONTIER))
    text = frontier_json(frontier(("fedavg", "feddgm")))
    Draft202012Validator(shipped(FRONTIER)).validate(json.loads(text))
