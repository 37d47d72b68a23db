"""Plug-ins are found by walking folders, and named after their classes."""

from __future__ import annotations

import inspect

import pytest

from audits.catalogue import KINDS, find, names, snake, summary
from audits.coverage import every

EXPECTED = {
    "attacks": {
        "calibrated_nearest",
        "class_mean",
        "distil_and_test",
        "lira",
        "loss_threshold",
        "nearest_neighbour",
        "rmia",
    },
    "defenses": {"dp_sgd"},
    "deviations": {"ascent", "imprint", "isolation"},
    "inquiries": {
        "gradient_inversion",
        "label_inference",
        "mi_face",
        "pseudo_label_inversion",
        "released_records",
    },
    "pipelines": {
        "ditto",
        "fedavg",
        "fedavg_fine_tuned",
        "fedbkd",
        "feddgm",
        "fedprox",
        "fedrep",
        "local_only",
        "twin",
    },
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_everything_that_ships_is_found(kind: str) -> None:
    assert set(names(kind)) >= EXPECTED[kind]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_plug_in_is_a_class_with_one_line_about_itself(kind: str) -> None:
    for name, cls in names(kind).items():
        assert inspect.isclass(cls)
        assert find(kind, name) is cls
        assert summary(cls).endswith(".")
        assert "\n" not in summary(cls)


def test_no_interface_or_private_class_is_listed() -> None:
    found = [cls for kind in KINDS for cls in names(kind).values()]
    assert [c for c in found if c.__module__.endswith("interface") or c.__name__.startswith("_")] == []


def test_every_attack_is_played() -> None:
    assert {snake(type(p.attack).__name__) for p in every("images")} == set(names("attacks"))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"expected pipelines to be one of ditto, fedavg, .*, got 'fedsgd'"):
        find("pipelines", "fedsgd")
