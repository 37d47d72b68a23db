"""Plans: every packaged one is ready to run, options reach their parts, and hooks their boundaries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from audits.document import DocumentError, load_document
from audits.plan import Plan, ReadyPlan, packaged, read_plan, ready
from audits.policy import packaged_policies
from defenses.dp_sgd import DpSgd
from privfed.partition import Dirichlet, Iid, Shards
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.twin import Twin
from privfed.prior import PriorRecipe
from privfed.training import Recipe
from tests.audits import tiny

NOISY = """\
    defenses:
      - name: dp_sgd
        options: {noise_multiplier: 1.0, clip: 1.0, sampling_rate: 0.5, steps: 4, expected_batch: 8, lr: 0.5}
"""


def plan(old: str = "", new: str = "", text: str = tiny.PLAN) -> ReadyPlan:
    assert old in text
    return ready(load_document(text.replace(old, new, 1), Plan, "plan.yaml"))


def test_packaged_plans_are_ready_to_run_against_a_packaged_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audits.plan._calibrated", uncalibrated)
    assert "digits" in packaged()
    for name in packaged():
        found = read_plan(name)
        assert found.plan.id == name
        assert found.plan.policy in packaged_policies()
        roles = {a.role for a in found.arms}
        assert roles >= {"audited", "control"}
        trained_on = {a.pipeline.trained_on for a in found.arms if isinstance(a.pipeline, Twin)}
        assert trained_on == {"members", "public"}


def test_options_reach_the_parts_they_configure() -> None:
    found = plan("public: 100", "public: 100\n      partition: {alpha: 0.5, minimum: 3}")
    assert found.arms[0].pipeline == FedAvg(rounds=1, local=Recipe(epochs=10, batch=16, lr=0.1))
    assert found.splits[0].partition == Dirichlet(0.5, 3)
    assert found.priors == (PriorRecipe(widths=(8, 16), steps=10),)
    assert [a.role for a in found.arms] == ["audited", "control", "control"]
    assert [a.delta for a in found.arms] == [None, None, None]


@pytest.mark.parametrize(("text", "expected"), [("{}", Iid()), ("{per_client: 2}", Shards(2))])
def test_a_partition_is_known_by_its_keys(text: str, expected: object) -> None:
    assert plan("public: 100", f"public: 100\n      partition: {text}").splits[0].partition == expected


def test_a_defence_stands_at_the_boundary_its_method_names() -> None:
    arm = plan("  - id: positive-twin", NOISY + "  - id: positive-twin").arms[0]
    assert isinstance(arm.hooks.local, DpSgd)
    assert (arm.hooks.uplink, arm.hooks.aggregate, arm.hooks.release) == ((), (), ())
    assert arm.defenses == (repr(arm.hooks.local),)
    assert arm.delta is None


def uncalibrated(
    cls: type[DpSgd], epsilon: float, delta: float, rounds: int, options: dict[str, Any]
) -> DpSgd:
    """Some noise in place of the search for the least, which takes seconds."""
    return cls(noise_multiplier=1.0, **options)


def test_an_epsilon_becomes_the_least_noise_and_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = NOISY.replace("noise_multiplier: 1.0", "epsilon: 8.0, delta: 1.0e-3")
    text = tiny.PLAN.replace("  - id: positive-twin", asked + "  - id: positive-twin")
    searched: list[tuple[float, float, int]] = []

    def for_epsilon(
        epsilon: float, delta: float, rounds: int, *, clip: float, sampling_rate: float, steps: int,
        expected_batch: float, lr: float,
    ) -> DpSgd:  # fmt: skip
        searched.append((epsilon, delta, rounds))
        return DpSgd(1.5, clip, sampling_rate, steps, expected_batch, lr)

    monkeypatch.setenv("PRIVFED_CACHE", str(tmp_path))
    monkeypatch.setattr(DpSgd, "for_epsilon", for_epsilon)
    first, second = plan(text=text).arms[0], plan(text=text).arms[0]
    assert searched == [(8.0, 1e-3, 1)]
    assert first == second
    assert (first.delta, first.hooks.local) == (1e-3, DpSgd(1.5, 1.0, 0.5, 4, 8, 0.5))


def test_an_epsilon_lasts_for_every_local_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """FedRep trains twice a round, and once in the last: noise for the rounds alone would be too little."""
    asked: list[int] = []

    def calibrated(
        cls: type[DpSgd], epsilon: float, delta: float, rounds: int, options: dict[str, Any]
    ) -> DpSgd:
        asked.append(rounds)
        return uncalibrated(cls, epsilon, delta, rounds, options)

    monkeypatch.setattr("audits.plan._calibrated", calibrated)
    noisy = NOISY.replace("noise_multiplier: 1.0", "epsilon: 8.0, delta: 1.0e-3")
    text = tiny.PLAN.replace("  - id: positive-twin", noisy + "  - id: positive-twin")
    local = "      local: {epochs: 10, batch: 16, lr: 0.1}\n"
    plan(text=text)
    plan(
        text=text.replace("pipeline: fedavg", "pipeline: fedrep")
        .replace("rounds: 1", "rounds: 3")
        .replace(local, "")
    )
    assert asked == [1, 5]


@pytest.mark.parametrize(
    ("net", "family", "hidden", "width"),
    [
        ("{family: mlp, width: 16, depth: 1}", "mlp", (), 16),
        ("{family: mlp, hidden: [8, 6]}", "mlp", (8, 6), None),
        ("{family: cnn, hidden: [4, 4, 8, 6]}", "cnn", (4, 4, 8, 6), None),
        ("{family: lstm, hidden: [8, 6]}", "lstm", (8, 6), None),
        ("{width: 8, depth: 2, groups: 2}", "convnet", (), 8),
    ],
)
def test_a_net_is_sized_by_its_hidden_layers_or_by_width_and_depth(
    net: str, family: str, hidden: tuple[int, ...], width: int | None
) -> None:
    found = plan("{family: mlp, width: 16, depth: 1}", net).plan.nets.surrogate
    assert (found.family, found.hidden, found.width) == (family, hidden, width)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("family: lstm, hidden: [8]", ".hidden: expected 2 hidden sizes for family 'lstm', got hidden=[8]"),
        ("family: cnn", ": expected 4 hidden sizes for family 'cnn', got hidden=[]"),
        ("hidden: [8, 6]", ".hidden: expected no hidden sizes for family 'convnet', got hidden=[8, 6]"),
        ("family: mlp, hidden: [8, 0]", ".hidden: expected hidden sizes >= 1, got hidden=[8, 0]"),
        (
            "family: lstm, hidden: [8, 6], width: 4",
            ".width: expected no width beside hidden sizes, got width=4",
        ),
        (
            "family: mlp, hidden: [8], depth: 1",
            ".depth: expected no depth beside hidden sizes, got depth=1",
        ),
        ("family: mlp, depth: 1", ": expected key 'width' for family 'mlp', got none"),
        ("width: 4", ": expected key 'depth' for family 'convnet', got none"),
        ("family: linear, width: 4", ".family: expected one of 'convnet', 'mlp', 'cnn' or 'lstm', got"),
    ],
)
def test_a_net_without_the_right_sizes_is_refused_with_its_line(net: str, message: str) -> None:
    with pytest.raises(DocumentError, match=re.escape("plan.yaml:10: nets.surrogate")) as refused:
        plan("family: mlp, width: 16, depth: 1", net)
    assert message in str(refused.value)


PRIOR = "    prior: {widths: [8, 16], steps: 10}\n"


@pytest.mark.parametrize("text", ["", "    prior: null\n"])
def test_a_setting_may_do_without_a_prior(text: str) -> None:
    assert plan(PRIOR, text).priors == (None,)


def test_an_arm_that_needs_a_prior_is_refused_in_a_setting_without_one() -> None:
    message = (
        "plan.yaml:24: arms[0].pipeline: expected a prior in every setting for pipeline 'feddgm', "
        "got setting 'same-classes' without one"
    )
    with pytest.raises(DocumentError, match=re.escape(message)):
        plan(PRIOR, "", plan_of_feddgm("rounds: 1"))


def test_raw_images_may_only_start_a_control() -> None:
    """They are an upper end to compare with, and no pipeline that anybody should run."""
    real = plan_of_feddgm("initial: real")
    message = "plan.yaml:27: arms[0].options.initial: expected role 'control' for initial 'real'"
    with pytest.raises(DocumentError, match=re.escape(message)):
        plan(text=real)
    control = real.replace("title: FedAvg", "title: FedAvg\n    role: control")
    assert plan(text=control).arms[0].role == "control"


def test_a_planted_leak_may_only_start_a_control() -> None:
    planted = plan_of_feddgm("planted: true").replace("pipeline: feddgm", "pipeline: fedbkd")
    message = "arms[0].options.planted: expected role 'control' for planted True"
    with pytest.raises(DocumentError, match=re.escape(message)):
        plan(text=planted)
    control = planted.replace("title: FedAvg", "title: FedAvg\n    role: control")
    assert plan(text=control).arms[0].role == "control"


def plan_of_feddgm(options: str) -> str:
    text = tiny.PLAN.replace("pipeline: fedavg", "pipeline: feddgm").replace("rounds: 1", options)
    return text.replace("      local: {epochs: 10, batch: 16, lr: 0.1}\n", "")


def test_the_digest_is_of_what_the_plan_says() -> None:
    first = plan().document.sha256
    assert plan("# ", "#  ", "# a comment\n" + tiny.PLAN).document.sha256 == first
    assert plan("seed: 3", "seed: 4").document.sha256 != first


def test_a_plan_that_is_nowhere_lists_those_that_ship(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"expected a plan file or one of .*digits.*, got plan='nope'"):
        read_plan("nope")
    with pytest.raises(DocumentError, match="expected a plan file"):
        read_plan(str(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "public: 100",
            "public: 100\n      partition: {alpha: 0}",
            "partition.alpha: expected a finite alpha",
        ),
        (
            "public: 100",
            "public: 100\n      partition: {alpa: 1}",
            "partition: unknown key 'alpa' (did you mean",
        ),
        ("public: 100", "public: 100\n      regime: all", "split.regime: expected one of 'same-classes' or"),
        ("public: 100", "public: x", "settings[0].split.public: expected a whole number, got 'x'"),
        ("widths: [8, 16]", "widths: 8", "settings[0].prior.widths: expected a list, got 8"),
        ("epochs: 10, ", "epochs: -1, ", "arms[0].options.local: expected epochs >= 0 and batch >= 1"),
        ("members", "1", "arms[1].options.trained_on: expected one of 'members' or 'public', got 1"),
    ],
)
def test_each_wrong_option_is_named(old: str, new: str, message: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(message)):
        plan(old, new)


def test_an_arm_may_name_the_settings_it_runs_in() -> None:
    everywhere = plan().arms[0]
    here = plan("    pipeline: fedavg\n", "    pipeline: fedavg\n    settings: [same-classes]\n").arms[0]
    assert everywhere.runs_in("anywhere")
    assert here.runs_in("same-classes")
    assert not here.runs_in("other-classes")
    with pytest.raises(DocumentError, match=r"settings\[0\]: expected settings of the plan .*got 'x'"):
        plan("    pipeline: fedavg\n", "    pipeline: fedavg\n    settings: [x]\n")


def test_trainings_before_this_one_are_declared_on_its_arm() -> None:
    text = "    pipeline: fedavg\n    tuning: {runs: 8, stopping: poisson}\n"
    found = plan("    pipeline: fedavg\n", text).arms[0].tuning
    assert found is not None
    assert (found.runs, found.stopping) == (8, "poisson")
    with pytest.raises(DocumentError, match=r"tuning.runs: expected a number >= 1, got 0"):
        plan("    pipeline: fedavg\n", "    pipeline: fedavg\n    tuning: {runs: 0}\n")
