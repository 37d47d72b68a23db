"""What attacks are told of the recipe of clients: steps counted by hand, nothing else changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attacks.analytic_inversion import AnalyticInversion
from attacks.label_fishing import LabelFishing
from attacks.prior_inversion import PriorInversion
from attacks.sentence_recovery import SentenceRecovery
from attacks.update_inversion import UpdateInversion
from attacks.warm_inversion import WarmInversion
from audits.inquiry import Inquiry
from audits.inquiry_list import inquiries_listed
from audits.inquiry_recipe import LocalSteps, informed, local_steps
from audits.probe import SERVER
from audits.setting import Setting
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.fedrep import FedRep
from privfed.training import Recipe
from tests.audits.null_games import null_settings

RECIPE = Recipe(epochs=3, batch=8, lr=0.2)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """80 candidates of 2 clients: about 20 records each."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRIVFED_CACHE", str(tmp_path_factory.mktemp("cache")))
        (made,) = null_settings([3], 80, 2)
    return made


def told(attack: Any, setting: Setting, pipeline: object = FedAvg(local=RECIPE)) -> Any:
    return informed(Inquiry("a", attack, SERVER, "client update", "records"), pipeline, setting).attack


def test_steps_are_those_of_whole_epochs() -> None:
    assert local_steps(FedAvg(local=RECIPE), 20.0) == LocalSteps(3, 3, 0.2)
    assert local_steps(FedAvg(local=RECIPE), 16.0) == LocalSteps(3, 2, 0.2)
    assert LocalSteps(3, 3, 0.2).steps == 9


def test_of_two_phases_that_of_the_representation_counts() -> None:
    pipeline = FedRep(head=replace(RECIPE, epochs=7), representation=RECIPE)
    assert local_steps(pipeline, 8.0) == LocalSteps(3, 1, 0.2)


def test_a_pipeline_that_says_nothing_changes_nothing(setting: Setting) -> None:
    assert local_steps(object(), 20.0) is None
    assert local_steps(FedAvg(local=replace(RECIPE, epochs=0)), 20.0) is None
    assert told(LabelFishing(), setting, object()) == LabelFishing()


def test_an_attack_that_assumes_no_recipe_stays_as_it_is(setting: Setting) -> None:
    assert told(AnalyticInversion(), setting) == AnalyticInversion()


def test_each_is_told_what_it_asks_for(setting: Setting) -> None:
    update = UpdateInversion(simulate="surrogate", records=8, epochs=20, batch=32)
    assert told(update, setting) == replace(update, epochs=3, batch=3, local_lr=0.2)
    assert told(LabelFishing(), setting) == LabelFishing(local_lr=0.2, local_steps=9)
    assert told(SentenceRecovery(records=8), setting) == SentenceRecovery(records=8, local_steps=9)
    assert told(PriorInversion(), setting).local_lr == pytest.approx(0.2 * 9)
    warm = told(WarmInversion(local_steps=5), setting)
    assert (warm.local_steps, warm.local_lr) == (5, pytest.approx(0.2 * 9 / 5))


def test_more_steps_than_records_to_rebuild_leave_one_record_a_step(setting: Setting) -> None:
    fine = FedAvg(local=replace(RECIPE, batch=1))
    assert told(UpdateInversion(records=8), setting, fine).batch == 1


def test_whoever_is_listed_can_be_told(setting: Setting) -> None:
    for inquiry in inquiries_listed():
        changed = informed(inquiry, FedAvg(local=RECIPE), setting)
        assert replace(changed, attack=inquiry.attack) == inquiry
