"""The plan of a sweep: which arms it has, which options they get, and who is blamed for a mistake."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from audits.document import Document, load_document
from audits.plan_schema import Plan
from audits.sweep_knob import knob_of
from audits.sweep_plan import Derived, Variant, derive
from defenses.dp_sgd import DpSgd
from defenses.local_noise import LocalNoise
from tests.audits import tiny
from tests.audits.test_cli import DP, NOISY

NONE: dict[str, str | None] = {"epsilon": None, "noise": None, "keep": None}
SECOND = """\
  - id: defended
    title: FedAvg with DP-SGD
    pipeline: fedavg
    options:
      rounds: 1
      local: {epochs: 10, batch: 16, lr: 0.1}
"""


def plan(defended: str = DP) -> Document[Plan]:
    text = tiny.PLAN.replace("  - id: positive-twin", SECOND + defended + "  - id: positive-twin", 1)
    return load_document(text, Plan, "plan.yaml")


def sweep(
    defense: str, knob: str, options: Sequence[str] = (), arms: Sequence[str] = (), defended: str = DP
) -> Derived:
    return derive(plan(defended), knob_of(defense, NONE, knob, options), arms)


def test_every_value_is_an_arm_beside_the_undefended_one_and_the_controls() -> None:
    found = sweep("local_noise", "noise_multiplier=1,0.5", ["clip=2"])
    assert found.swept == ("fedavg",)
    assert [(a.id, a.role) for a in found.ready.arms] == [
        ("fedavg", "audited"),
        ("fedavg-local-noise-noise-multiplier-0-5", "audited"),
        ("fedavg-local-noise-noise-multiplier-1", "audited"),
        ("positive-twin", "control"),
        ("null-twin", "control"),
    ]
    assert found.variants[0] == Variant("fedavg", "fedavg-local-noise-noise-multiplier-0-5", "0.5")
    hooks = [a.hooks.uplink for a in found.ready.arms[1:3]]
    assert hooks == [(LocalNoise(0.5, 2.0),), (LocalNoise(1.0, 2.0),)]
    assert found.ready.arms[0].hooks.uplink == ()


def test_without_noise_is_the_defence_with_clipping_alone() -> None:
    """The other options are those of the plan's first use of it; what it calibrates is not among them."""
    found = sweep("dpsgd", "epsilon=inf")
    (arm,) = (a for a in found.ready.arms if a.id == "fedavg-dp-sgd-epsilon-inf")
    assert isinstance(arm.hooks.local, DpSgd)
    assert (arm.hooks.local.noise_multiplier, arm.hooks.local.clip, arm.hooks.local.steps) == (0.0, 1.0, 5)
    assert arm.delta == 1e-5
    assert "epsilon" not in found.options


def test_a_knob_that_an_epsilon_stands_for_replaces_it() -> None:
    found = sweep("dp_sgd", "noise_multiplier=0,2")
    noises = [a.hooks.local.noise_multiplier for a in found.ready.arms if isinstance(a.hooks.local, DpSgd)]
    assert noises == [0.0, 2.0]
    assert found.options["delta"] == 1e-5


def test_an_epsilon_replaces_the_noise_that_the_plan_gives() -> None:
    found = sweep("dp_sgd", "epsilon=inf", ["delta=1e-6"], defended=NOISY)
    assert "noise_multiplier" not in found.options
    assert found.options["delta"] == 1e-6


def test_what_is_typed_wins_over_the_plan() -> None:
    assert sweep("dp_sgd", "noise_multiplier=1", ["clip=3"]).options["clip"] == 3


def test_the_same_values_in_another_order_are_the_same_plan() -> None:
    one, other = (sweep("dp_sgd", f"noise_multiplier={v}") for v in ("1,2", "2,1"))
    assert one.ready.document.sha256 == other.ready.document.sha256
    assert one.ready.document.sha256 != sweep("dp_sgd", "noise_multiplier=1,3").ready.document.sha256


@pytest.mark.parametrize(
    ("defense", "knob", "options", "arms", "message"),
    [
        ("dp_sgd", "epsilon=-1", [], [], "--knob epsilon=-1 on arm 'fedavg': epsilon: expected epsilon > 0"),
        ("dp_sgd", "noise_multiplier=inf", [], [], "fedavg': noise_multiplier: expected a finite noise_m"),
        ("dp_sgd", "steps=1.5", [], [], "--knob steps=1.5 on arm 'fedavg': steps: expected a whole number"),
        ("dp_sgd", "noise_multiplier=1", ["clp=1"], [], "on arm 'fedavg': unknown key 'clp'"),
        ("dp_sgd", "epsilon=inf", ["noise_multiplier=1"], [], "unknown key 'noise_multiplier'"),
        ("local_noise", "noise_multiplier=1", [], [], "on arm 'fedavg': expected key 'clip', got none"),
        ("local_noise", "epsilon=inf", ["clip=1"], [], "epsilon: expected a delta beside epsilon"),
        (
            "dp_sgd",
            "clip=1",
            [],
            ["nope"],
            "--arm to be an audited arm .*one of fedavg, defended, got 'nope'",
        ),
        ("dp_sgd", "clip=1", [], ["fedvag"], r"got 'fedvag' \(did you mean 'fedavg'\?\)"),
        ("dp_sgd", "clip=1", [], ["null-twin"], "expected --arm to be an audited arm .*got 'null-twin'"),
        ("dp_sgd", "clip=1", [], ["fedavg", "fedavg"], "expected each --arm once, got 'fedavg' twice"),
        ("dp_sgd", "clip=1", [], ["defended"], "expected --arm without dp_sgd of its own, got 'defended'"),
    ],
)
def test_a_mistake_names_the_value_the_arm_and_the_rule(
    defense: str, knob: str, options: list[str], arms: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        sweep(defense, knob, options, arms)
    assert "\n" not in str(caught.value)
    assert "arms[" not in str(caught.value)


def test_a_plan_whose_arms_are_all_defended_needs_a_choice() -> None:
    text = tiny.PLAN.replace("  - id: positive-twin", DP + "  - id: positive-twin", 1)
    knob = knob_of("local_noise", NONE, "noise_multiplier=1", ["clip=1"])
    document = load_document(text, Plan, "plan.yaml")
    with pytest.raises(ValueError, match="expected an audited arm without defences in the plan or --arm"):
        derive(document, knob, ())
