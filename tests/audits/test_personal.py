"""The clients' own models: whom a test record is for, and the mean over them, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audits.personal import classes_held, mean_over_clients, meant_for, personal_accuracy, right
from audits.plan import read_plan
from audits.setting import Setting, prepare
from audits.statistics import federated_mean
from privfed.datasets import load
from privfed.nets import Params, head_names, initial
from privfed.records import Records
from tests.audits import tiny


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    root = tmp_path_factory.mktemp("cache")
    return prepare(read_plan(str(tiny.write(root))), 0, load("digits"), 3, root)


def constant(setting: Setting, label: int) -> Params:
    """A model that answers `label` whatever it sees."""
    spec = setting.world.surrogate
    params = {k: torch.zeros_like(v) for k, v in initial(spec, torch.Generator()).items()}
    return {**params, head_names(spec)[1]: torch.eye(spec.classes)[label]}


def test_a_record_counts_as_the_share_of_its_holders_that_are_right() -> None:
    all_right = np.array([[1, 1, 0, 1], [0, 1, 0, 1], [1, 0, 1, 1]], dtype=bool)
    meant = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0]], dtype=bool)
    found = mean_over_clients(all_right, meant)
    np.testing.assert_array_equal(found[:3], [1 / 2, 2 / 3, 0.0])
    assert np.isnan(found[3])


def test_the_mean_over_federations_is_the_mean_of_those_shares() -> None:
    shares = np.array([[0.5, 1.0, np.nan], [0.25, 0.75, 1.0], [0.5, 0.5, 0.5]])
    estimate = federated_mean(shares, 0.95)
    mean = (0.75 + 2 / 3 + 0.5) / 3
    assert estimate.value == pytest.approx(mean)
    assert estimate.lower is not None
    assert estimate.upper is not None
    assert estimate.lower < mean < estimate.upper
    assert (estimate.n_in, estimate.n_federations) == (3, 3)


def test_shares_of_one_federation_have_bounds_over_records() -> None:
    """Clopper-Pearson counts successes, which shares are not."""
    estimate = federated_mean(np.array([[0.5, 1.0, 0.25, 0.75]]), 0.95)
    assert estimate.value == pytest.approx(0.625)
    assert estimate.scope == "artefact"
    assert "Clopper-Pearson" not in estimate.method
    assert "Clopper-Pearson" in federated_mean(np.array([[1.0, 0.0]]), 0.95).method


def test_a_class_is_held_by_who_has_a_member_of_it_whose_label_is_true(setting: Setting) -> None:
    held = classes_held(setting, 1)
    members, records = setting.members(1), setting.candidates.records
    for client in range(setting.clients):
        mine = members & (setting.candidates.clients == client) & ~setting.canaries
        assert set(np.flatnonzero(held[client])) == set(records.labels[mine].tolist())
    wrong = replace(setting, canaries=torch.ones_like(setting.canaries))
    assert not classes_held(wrong, 1).any()


def test_whom_a_test_record_is_for(setting: Setting) -> None:
    by_class = meant_for(setting, 1)
    held = classes_held(setting, 1)
    for i, label in enumerate(setting.test.labels.tolist()):
        np.testing.assert_array_equal(by_class[:, i], held[:, label])
    owners = torch.arange(len(setting.test)) % setting.clients
    of_users = meant_for(replace(setting, test_owners=owners), 1)
    np.testing.assert_array_equal(of_users.argmax(0), owners.numpy())
    np.testing.assert_array_equal(of_users.sum(0), np.ones(len(setting.test)))


def test_models_that_always_say_one_class_are_right_on_that_class_alone(setting: Setting) -> None:
    models = [constant(setting, 4), constant(setting, 7)]
    test = Records(setting.test.inputs[:2], torch.tensor([4, 7]))
    known = replace(setting, test=test, test_owners=torch.tensor([0, 0]))
    np.testing.assert_array_equal(right(setting.world.surrogate, models[0], test), [True, False])
    found = personal_accuracy(known, models, 1)
    assert found is not None
    np.testing.assert_array_equal(found, [1.0, 0.0])
    assert personal_accuracy(known, (), 1) is None


def test_the_users_of_a_data_set_meet_their_own_test_records(tmp_path: Path) -> None:
    dataset = load("sentiment:12")
    setting = prepare(read_plan(str(tiny.write(tmp_path, tiny.TEXT))), 0, dataset, 3, tmp_path)
    assert setting.test_owners is not None
    assert set(setting.test_owners.tolist()) == {0, 1, 2, 3}
    assert dataset.users is not None
    assert dataset.embedding is not None
    tokens = dataset.embedding[dataset.records.inputs].flatten(1)
    for client in range(4):
        users: set[int] = set()
        for records, owners in (
            (setting.test, setting.test_owners),
            (setting.candidates.records, setting.candidates.clients),
        ):
            for sentence in records.inputs[owners == client].flatten(1):
                users.update(dataset.users[(tokens == sentence).all(1)].tolist())
        assert len(users) == 1, client
