from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reports.record import Estimate, Record, from_json, to_json
from tests.reports.example import empty, example
from tests.reports.example_results import estimate


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_any_text_survives_the_trip_through_json(name: str) -> None:
    record = empty().model_copy(update={"title": name})
    assert from_json(to_json(record)) == record


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["value", "lower", "upper"])
def test_a_number_that_json_does_not_have_never_enters_a_record(field: str, number: float) -> None:
    fields = estimate("auc", 0.6, 0.1).model_dump() | {field: number}
    with pytest.raises(ValidationError, match="finite"):
        Estimate.model_validate(fields)


def test_parts_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        example().title = "another"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema_version": "2.0"}', to_json(example())[:-40]])
def test_what_is_no_whole_record_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        from_json(text)


def test_a_probability_outside_its_range_is_refused() -> None:
    point = example().cells[0].roc[0].model_dump() | {"tpr": 1.2}
    cell = example().cells[0].model_dump() | {"roc": [point]}
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Record.model_validate(example().model_dump() | {"cells": [cell]})
