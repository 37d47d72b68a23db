"""Knobs as typed: lists of numbers, names of defences and options, and one line for every mistake."""

from __future__ import annotations

import math

import pytest

from audits.sweep_knob import Knob, defense_named, knob_of, label, options_of, values_of

NONE: dict[str, str | None] = {"epsilon": None, "noise": None, "keep": None}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1", (1,)),
        ("1,2,4,8,inf", (1, 2, 4, 8, math.inf)),
        (" inf , 8,  0.5 ", (0.5, 8, math.inf)),
        ("1e-3,.5,-2", (-2, 1e-3, 0.5)),
        ("INF", (math.inf,)),
    ],
)
def test_numbers_between_commas_come_in_order(text: str, values: tuple[float, ...]) -> None:
    assert values_of("--knob", text, "clip") == values


def test_whole_numbers_stay_whole_but_an_epsilon_is_always_a_float() -> None:
    """A calibration is remembered by what was asked."""
    assert [type(v) for v in values_of("--knob", "3,4", "steps")] == [int, int]
    assert [type(v) for v in values_of("--epsilon", "3,4", "epsilon")] == [float, float]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a number between all commas for --epsilon, got nothing"),
        ("1,,2", "expected a number between all commas for --epsilon, got nothing"),
        ("1,2,", "expected a number between all commas for --epsilon, got nothing"),
        ("1,two", "expected numbers between commas for --epsilon, got 'two'"),
        ("nan", "expected numbers between commas for --epsilon, got 'nan'"),
        ("-inf", "expected numbers between commas for --epsilon, got '-inf'"),
        ("1e999", "expected numbers between commas for --epsilon, got '1e999'"),
        ("1 2", "expected numbers between commas for --epsilon, got '1 2'"),
        ("1,2,1", "expected distinct numbers for --epsilon, got 1 twice"),
        ("1,2,1.0", "expected distinct numbers for --epsilon, got 1.0 twice"),
        ("inf,infinity", "expected distinct numbers for --epsilon, got infinity twice"),
    ],
)
def test_what_is_no_list_of_distinct_numbers_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        values_of("--epsilon", text, "epsilon")
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["dp_sgd", "dpsgd", "DP-SGD", "DpSgd"])
def test_a_defence_is_known_however_its_words_are_joined(text: str) -> None:
    assert defense_named(text) == "dp_sgd"


def test_an_unknown_defence_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"--defense to be one of .*dp_sgd, .*got 'dp_sdg' \(did you mean"):
        defense_named("dp_sdg")


def test_a_shorthand_is_the_option_that_begins_with_it() -> None:
    found = knob_of("localnoise", NONE | {"noise": "1,0.5"}, None, ["clip=2", "delta=1e-5"])
    assert found == Knob("local_noise", "noise_multiplier", (0.5, 1), {"clip": 2, "delta": 1e-5}, "--noise ")


def test_any_option_of_a_defence_can_be_the_knob() -> None:
    found = knob_of("dp_sgd", NONE, "steps=10,5", [])
    assert (found.name, found.values, found.typed) == ("steps", (5, 10), "--knob steps=")


@pytest.mark.parametrize(
    ("typed", "general", "options", "message"),
    [
        ({}, None, [], "expected one knob .*--epsilon, --noise, --keep.*, got none"),
        ({"epsilon": "1", "noise": "1"}, None, [], "expected one knob .*, got --epsilon and --noise"),
        ({"epsilon": "1"}, "clip=1", [], "expected one knob .*, got --epsilon and --knob"),
        ({}, "clip", [], r"expected NAME=V1,V2,... for --knob, got 'clip'"),
        ({}, "clp=1", [], r"expected a knob of dp_sgd to be one of .*, got 'clp' \(did you mean 'clip'\?\)"),
        ({"keep": "1"}, None, [], "expected a knob of dp_sgd to be one of .*epsilon, .*, got 'keep'"),
        ({"epsilon": "1"}, None, ["clip"], "expected NAME=VALUE for --option, got 'clip'"),
        ({"epsilon": "1"}, None, ["=1"], "expected NAME=VALUE for --option, got '=1'"),
        ({"epsilon": "1"}, None, ["clip=1", "clip=2"], "expected each --option once, got clip twice"),
        ({"epsilon": "1"}, None, ["epsilon=1"], "expected the knob epsilon to be given once, got --option"),
        ({"epsilon": "1"}, None, ["clip=[1"], "expected a value as in a plan for --option, got 'clip="),
        ({"epsilon": "1"}, None, ["clip=!!python/name:os.system x"], "expected a value as in a plan"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    typed: dict[str, str | None], general: str | None, options: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        knob_of("dp_sgd", NONE | typed, general, options)
    assert "\n" not in str(caught.value)


def test_options_are_read_as_in_a_plan() -> None:
    found = options_of(["a=1", "b=1.5", "c=true", "d=text", "e=[1, 2]", "f=x=y", "g="], "knob")
    assert found == {"a": 1, "b": 1.5, "c": True, "d": "text", "e": [1, 2], "f": "x=y", "g": None}


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1"), (1.0, "1"), (10.0, "10"), (1e-5, "1e-05"), (math.inf, "inf")]
)
def test_a_label_is_short(value: float, text: str) -> None:
    assert label(value) == text
    assert float(text) == value
