from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import text
from reports.record import Limit
from tests.reports.example_results import estimate


@given(st.text())
def test_printable_text_holds_nothing_that_hides_or_reorders(value: str) -> None:
    shown = text.printable(value)
    assert len(shown) == len(value)
    assert not set(shown) & text.BIDI
    assert all(c in "\n\t" or c.isprintable() or c.isspace() or ord(c) > 0x7F for c in shown)


@given(st.text(), st.integers(2, 40))
def test_shortened_text_is_one_line_of_at_most_the_length(value: str, length: int) -> None:
    line = text.shorten(value, length)
    assert len(line) <= length
    assert len(line.splitlines()) <= 1


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, "0.600 [0.500, 0.700]"),
        ({"value": None, "lower": None, "upper": None}, "not resolved"),
        ({"value": None}, "– [0.500, 0.700]"),
        ({"upper": None}, "0.600 [0.500, –]"),
        ({"lower": 0.6, "upper": 0.6}, "0.600"),
    ],
)
def test_an_interval_says_what_is_missing(fields: dict[str, float | None], shown: str) -> None:
    assert text.interval(estimate("auc", 0.6, 0.1).model_copy(update=fields)) == shown


@pytest.mark.parametrize(
    ("n_in", "n_out", "shown"), [(1200, 800, "1,200 in / 800 out"), (280, 0, "280"), (0, 0, "–")]
)
def test_units_name_only_the_sides_there_are(n_in: int, n_out: int, shown: str) -> None:
    judged = estimate("accuracy", 0.6, 0.1).model_copy(update={"n_in": n_in, "n_out": n_out})
    assert text.units(judged) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0 %"), (0.00012, "0.012 %"), (0.9999, "99.99 %"), (1.0, "100 %"), (None, "–")],
)
def test_percentages_keep_what_matters_at_both_ends(share: float | None, shown: str) -> None:
    assert text.percent(share) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("r_squared", "R² of shares"),
        ("attribute_advantage", "advantage on a hidden detail"),
        ("else", "else"),
    ],
)
def test_figures_have_names_in_words(name: str, shown: str) -> None:
    assert text.metric(name, {}) == shown


def test_limits_are_written_in_symbols() -> None:
    assert text.limit(Limit(op=">=", value=0.7)) == "≥ 0.7"
