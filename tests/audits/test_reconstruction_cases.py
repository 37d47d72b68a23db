"""The grid of the reconstruction benchmark: what the docs promise is in it, and every row can be built."""

from __future__ import annotations

import pytest

from audits.reconstruction_attacks import ATTACKS, FEWER, ITERATIONS, attack_of, budget
from audits.reconstruction_cases import AXES, Case, grid, quick_grid
from audits.reconstruction_federation import IMAGES, LARGE, MATCHING, distilling, pipeline_of
from privfed.pipelines.fedbkd import FedBKD

CASES = grid()


def test_every_axis_attack_and_knob_has_a_row() -> None:
    assert {c.axis for c in CASES} == set(AXES)
    assert {c.attack for c in CASES} == set(ATTACKS)
    assert {c.net for c in CASES} == {"mlp", "convnet"}
    assert {c.records for c in CASES if c.axis == "records"} == {1, 2, 8, 32}
    assert {c.steps for c in CASES} >= {1, 5, 20}
    assert any(c.size < c.records for c in CASES)
    defences = {c.defence for c in CASES}
    assert defences == {"none", "DP-SGD", "top-k", "label smoothing", "soteria", "mixup"}
    assert {c.records for c in CASES if c.pipeline == "feddgm"} == {1, 2, 8}
    assert {c.sharing for c in CASES if c.pipeline == "feddgm"} == {"one class"}


def test_no_row_stands_twice() -> None:
    assert len(set(CASES)) == len(CASES)
    assert len(set(quick_grid())) == len(quick_grid())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_attacker_is_told_the_recipe_of_its_row(case: Case) -> None:
    attack = attack_of(case.attack, case, 64)
    told = getattr(attack, "inner", attack)
    assert getattr(told, "records", case.records) in (case.records, max(2, case.size))
    assert getattr(told, "local_steps", case.epochs) == case.epochs
    assert getattr(told, "epochs", case.epochs) == case.epochs
    assert pipeline_of(case, 64).rounds == (2 if case.pipeline == "fedbkd" else 1 + case.round)


def test_steps_are_those_of_all_epochs() -> None:
    assert Case("steps", "mlp", "analytic", 8, 5, 2).steps == 20
    assert Case("steps", "mlp", "analytic", 3, 2, 2).steps == 4
    assert Case("steps", "mlp", "analytic", 8, 5).steps == 5
    assert Case("steps", "mlp", "analytic", 2, 5, 32).size == 2


def test_head_epochs_alone_are_the_last_round() -> None:
    pipeline = pipeline_of(Case("fedbkd", "mlp", "analytic", pipeline="fedbkd heads"), 64)
    assert isinstance(pipeline, FedBKD)
    assert pipeline.rounds == 1


def dgm(attack: str, records: int = 8) -> Case:
    return Case("feddgm", "convnet", attack, records, 5, sharing="one class", pipeline="feddgm")


def test_distillation_shrinks_where_pixels_are_many_and_where_nobody_reads_it() -> None:
    images, matching = distilling(dgm("distilled images"), LARGE)
    assert (images, matching.iterations, matching.steps) == (IMAGES, MATCHING.iterations, 5)
    assert distilling(dgm("distilled images", 1), LARGE)[0] == 1
    images, matching = distilling(dgm("warm inversion"), LARGE + 1)
    assert (images, matching.iterations) == (1, MATCHING.iterations // 2)
    assert distilling(dgm("surrogate point"), LARGE)[1].iterations == 0


def test_budgets_shrink_where_an_iteration_is_dear() -> None:
    one = Case("records", "mlp", "DLG")
    assert budget(one, 64) == ITERATIONS
    assert budget(one, 784) == FEWER
    assert budget(Case("steps", "mlp", "DLG", epochs=5), 64) == FEWER


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected axis among records, .*, got axis='colour'"):
        Case("colour", "mlp", "DLG")
    with pytest.raises(ValueError, match="expected records >= 1, got records=0"):
        Case("records", "mlp", "DLG", 0)
    with pytest.raises(ValueError, match="expected epochs >= 1, got epochs=0"):
        Case("records", "mlp", "DLG", 1, 0)
    with pytest.raises(ValueError, match=r"expected an attack among analytic, .*, got attack='guess'"):
        attack_of("guess", Case("records", "mlp", "guess"), 64)
