from __future__ import annotations

import pytest

from reports import coverage, findings
from reports.checklist import checklist
from reports.record import Cell
from tests.reports.example import empty, example


def test_failures_come_before_errors_before_the_undecided() -> None:
    found = findings.undecided(example())
    assert [c.verdict for c in found] == ["FAIL", "FAIL", "INCONCLUSIVE", "INCONCLUSIVE"]
    assert all(c.blocking for c in found)
    assert findings.worst_first(example().checks)[2].verdict == "ERROR"


def test_arms_and_settings_that_only_results_mention_are_not_lost() -> None:
    record = example().model_copy(update={"arms": (), "settings": ()})
    assert set(findings.arm_order(record)) == set(findings.arm_order(example()))
    assert findings.titles(record)["fedavg"] == "fedavg"
    assert set(findings.roles(record).values()) == {"audited"}


def test_every_audited_model_is_set_against_every_baseline_of_its_setting() -> None:
    rows = findings.comparisons(example())
    assert len(rows) == 2 * 3 * 2
    assert all(row.ours.setting == row.theirs.setting for row in rows)


def test_the_base_rate_example_is_never_drawn_from_a_yardstick() -> None:
    record = example()
    marked = tuple(c.model_copy(update={"baseline": True}) for c in record.cells)
    assert findings.sharpest_tpr(record) is not None
    assert findings.sharpest_tpr(record.model_copy(update={"cells": marked})) is None


def test_an_arm_with_a_claim_is_not_listed_as_without() -> None:
    assert "feddgm-dp" not in findings.without_claim(example())
    assert "fedavg" in findings.without_claim(example())


def test_a_criterion_without_a_test_says_so() -> None:
    singling, linking, inference = findings.criteria(example())
    assert (singling.direct, singling.gap) == (("gradient inversion", "imprint"), "")
    assert "No reconstruction attack" in findings.criteria(empty())[0].gap
    assert "No linkage attack" in linking.gap
    assert inference.gap == ""
    assert {"property loss test", "attribute inference of the label"} <= set(inference.direct)
    gap = findings.criteria(empty())[2].gap
    assert gap == "Not run: membership inference, property inference, attribute inference."


def test_what_a_protocol_hands_out_is_no_attack_on_any_criterion() -> None:
    record = example()
    told = tuple(q for q in record.inquiries if q.attack == "labels disclosed")
    _, _, inference = findings.criteria(record.model_copy(update={"inquiries": told}))
    assert "labels disclosed" not in inference.direct
    assert inference.gap == "Not run: property inference, attribute inference."


def test_a_criterion_names_each_rule_once() -> None:
    record = example()
    twice = record.model_copy(update={"checks": record.checks * 2})
    assert findings.criteria(twice) == findings.criteria(record)


def test_a_published_id_names_the_attacks_that_ran_under_it() -> None:
    rows = findings.taxonomy(example())
    assert [entry.id for entry, _ in rows] == ["NISTAML.033", "AML.T0024.000", "ML04:2023"]
    assert all(set(attacks) == {"loss", "LiRA online", "RMIA"} for _, attacks in rows)


def test_accuracies_stand_beside_their_baselines() -> None:
    same, other = findings.utility_tables(example())
    assert (same.setting, other.setting) == ("same-classes", "other-classes")
    assert same.baselines == ("prior-only", "public-classifier")
    relations = {row.arm: found for row, found in same.rows}
    assert relations["fedavg"] == ("above", "above")
    assert relations["prior-only"] == ("", "")


def test_coverage_shows_the_worst_audited_arm_and_counts_those_that_ran() -> None:
    table = coverage.coverage(example())[0]
    line = next(line for line in table.lines if line.attack == "LiRA online")
    server, client, _, images = line.spots
    assert server.worst is not None
    assert server.worst.arm == "fedavg"
    assert (server.ran, table.audited) == (3, 3)
    assert [c.arm for c in client.errors] == ["feddgm"]
    assert images.worst is None
    assert {c.status for c in images.others} == {"not applicable", "not tested"}


def test_an_attack_that_ran_nowhere_is_one_gap_at_the_end() -> None:
    record = example()
    gap = Cell(
        setting="same-classes", arm="fedavg", attack="inversion", observer="server",
        artefact="client update", status="not tested", reason="not part of this version",
    )  # fmt: skip
    table = coverage.coverage(record.model_copy(update={"cells": (gap, *record.cells)}))[0]
    assert table.lines[-1].gap == "not tested: not part of this version"
    assert all(line.gap is None for line in table.lines[:-1])


def test_checks_are_grouped_by_rule_and_each_keeps_its_own_anchor() -> None:
    record = example()
    rules = checklist(record).rules
    anchors = [row.anchor for rule in rules for row in rule.rows]
    assert sorted(anchors) == sorted(f"check-{i}" for i in range(1, len(record.checks) + 1))
    assert [rule.blocking for rule in rules] == sorted((r.blocking for r in rules), reverse=True)
    assert checklist(record).columns == (("same-classes", ("feddgm", "feddgm-dp")),)


def test_two_checks_of_one_rule_share_a_group_worst_first() -> None:
    record = example()
    other = record.checks[0].model_copy(update={"arm": "fedavg", "verdict": "PASS"})
    twice = checklist(record.model_copy(update={"checks": (other, record.checks[0])}))
    (rule,) = twice.rules
    assert [row.check.verdict for row in rule.rows] == ["FAIL", "PASS"]
    assert [row.anchor for row in rule.at("same-classes", "fedavg")] == ["check-1"]


@pytest.mark.parametrize(("arms", "widths"), [(1, [1]), (6, [6]), (7, [4, 3]), (10, [5, 5]), (13, [5, 5, 3])])
def test_many_arms_are_spread_over_tables_that_fit_a_page(arms: int, widths: list[int]) -> None:
    record = example()
    names = [f"arm-{i:02}" for i in range(arms)]
    row = record.arms[0]
    many = record.model_copy(
        update={
            "arms": tuple(row.model_copy(update={"id": n, "title": n, "role": "audited"}) for n in names),
            "checks": tuple(record.checks[0].model_copy(update={"arm": n}) for n in names),
        }
    )
    found = checklist(many).columns
    assert [len(part) for _, part in found] == widths
    assert [a for _, part in found for a in part] == names


def test_the_best_without_access_is_the_highest_that_is_known() -> None:
    rebuilt, disclosed, *_ = example().inquiries
    assert findings.best_baseline(disclosed) is None
    found = findings.best_baseline(rebuilt)
    assert found is not None
    assert found[0] == "prior only"
    names = [name for name, _ in findings.further(rebuilt)]
    assert names == ["one to one", "without access: prior only"]
