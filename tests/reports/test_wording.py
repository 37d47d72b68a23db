from __future__ import annotations

import pytest

from reports import wording
from reports.record import Check
from tests.reports.example import example
from tests.reports.example_checks import check
from tests.reports.example_results import estimate

PLACE = ("same-classes", "feddgm", "RMIA", "server")


def _open(code: str = "ci_straddles", needs: int | None = None, metric: str = "auc") -> Check:
    judged = estimate(metric, 0.6, 0.1)
    return check("X", "INCONCLUSIVE", judged, 0.6, PLACE, reason_code=code, n_required=needs)


@pytest.mark.parametrize(
    ("judged", "part"),
    [
        (_open(needs=1280), "run n ≥ 1,280 per side to decide (now 720)."),
        (_open(needs=10_000_000), "too close to the limit"),
        (_open(), "how many cannot be said"),
        (_open("assumption_unverified"), "assumptions"),
        (_open("instrument_invalid"), "control"),
        (_open("nothing_evaluated"), "measured or claimed"),
        (_open("unresolvable_fpr", needs=1000), "n ≥ 1,000"),
        (check("X", "FAIL", estimate("auc", 0.8, 0.1), 0.6, PLACE), "leaks less"),
        (check("X", "FAIL", estimate("accuracy", 0.3, 0.1), 0.6, PLACE), "more accurate"),
        (check("X", "FAIL", estimate("formal_epsilon", 0.9, 0.0), 0.6, PLACE), "stronger formal claim"),
        (check("X", "ERROR", None, 0.6, PLACE), "completes"),
        (check("X", "PASS", estimate("auc", 0.5, 0.01), 0.6, PLACE), "measure again"),
    ],
)
def test_every_verdict_says_what_would_change_it(judged: Check, part: str) -> None:
    assert part in wording.decide(judged)


def test_checks_that_lack_data_share_one_line_with_the_range() -> None:
    (change,) = wording.changes([_open(needs=800), _open(needs=2000)])
    assert change.sentence == "run n ≥ 800 to 2,000 per side to decide them, as listed with each."
    assert len(change.checks) == 2


def test_a_number_of_units_far_beyond_the_data_is_not_printed() -> None:
    assert wording.needs(_open(needs=1280)) == "n ≥ 1,280"
    assert wording.needs(_open(needs=72_001)) == "no practical n"
    assert wording.needs(_open()) == ""


def test_precision_follows_bayes() -> None:
    assert wording.precision(0.01, 0.01) == pytest.approx(0.01)
    assert wording.precision(1.0, 0.0) == 1.0
    assert wording.precision(0.0, 0.0) is None


def test_the_base_rate_example_gives_the_numbers_it_was_computed_from() -> None:
    sentence = wording.base_rate(estimate("tpr_at_fpr", 0.3, 0.1, fpr=0.01))
    assert "TPR of 30 %" in sentence
    assert "23.3 % of the accusations" in sentence
    unresolved = estimate("tpr_at_fpr", 0.3, 0.1, fpr=0.001).model_copy(update={"value": None})
    assert "not resolved" in wording.base_rate(unresolved)


@pytest.mark.parametrize(
    ("ours", "relation"), [(0.9, "above"), (0.5, "below"), (0.72, "not distinguishable from")]
)
def test_only_separate_intervals_are_called_different(ours: float, relation: str) -> None:
    assert wording.compare(estimate("accuracy", ours, 0.02), estimate("accuracy", 0.7, 0.02)) == relation


def test_nothing_evaluated_is_never_worded_as_a_verdict() -> None:
    summary = example().summary.model_copy(update={"verdict": "PASS", "exit_code": 5})
    assert wording.overall(summary) == wording.NOTHING


def test_a_claim_that_bounds_next_to_nothing_is_not_quoted_as_a_bound() -> None:
    row = example().inquiries[0]
    said = [wording.ceiling(row.model_copy(update={"ceiling": x})) for x in (None, 0.5313, 0.99999)]
    assert said == [
        "",
        "under its claim at most 53.1 % could be identified",
        "its claim bounds next to nothing",
    ]
