"""Combinations of pipelines and defences in a plan: what promises nothing is refused with line and reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from audits.document import DocumentError
from audits.feasibility import check
from audits.plan import ReadyPlan, read_plan
from privfed.datasets import load
from tests.audits import tiny

OPTIONS = "    options:\n      rounds: 1\n      local: {epochs: 10, batch: 16, lr: 0.1}\n"
FEDAVG = "rounds: 2, weighting: equal"
CENTRAL = "{noise_multiplier: 1.0, clip: 1.0, expected_clients: 2.0}"
SAMPLED = "{noise_multiplier: 1.0, clip: 1.0, expected_clients: 1.0, client_rate: 0.5}"
LOCAL = "{noise_multiplier: 1.0, clip: 1.0}"
DP_SGD = "{noise_multiplier: 1.0, clip: 1.0, sampling_rate: 0.5, steps: 4, expected_batch: 8, lr: 0.5}"
QUANTISED = ("quantisation", "{bits: 4}")
SECURE = ("secure_aggregation", "{minimum: 2}")
FIRST = 28
"""Line of the first defence: the arm begins at 23, and each defence takes two lines."""


def read(folder: Path, pipeline: str, options: str, *defenses: tuple[str, str]) -> ReadyPlan:
    """The tiny plan from a file, its first arm with these defences."""
    listed = "".join(f"      - name: {name}\n        options: {knobs}\n" for name, knobs in defenses)
    text = tiny.PLAN.replace(OPTIONS, f"    options: {{{options}}}\n    defenses:\n{listed}", 1)
    return read_plan(str(tiny.write(folder, text.replace("pipeline: fedavg", f"pipeline: {pipeline}", 1))))


def refused(
    folder: Path, pipeline: str, options: str, defenses: list[tuple[str, str]], place: int, reason: str
) -> None:
    at = f"plan.yaml:{FIRST + 2 * place}: arms[0].defenses[{place}]: "
    with pytest.raises(DocumentError, match=re.escape(at + reason)):
        read(folder, pipeline, options, *defenses)


@pytest.mark.parametrize(
    "defenses",
    [
        [("local_noise", LOCAL), ("top_k", "{keep: 0.1}")],
        [("top_k", "{keep: 0.1}"), ("local_noise", LOCAL)],
        [("local_noise", LOCAL), QUANTISED],
        [("dp_sgd", DP_SGD), ("local_noise", LOCAL), ("dp_fedavg", CENTRAL), SECURE],
        [("soteria", "{share: 0.5}"), QUANTISED, ("dp_fedavg", CENTRAL)],
        [("dp_fedavg", CENTRAL), ("top_k", "{keep: 0.1}")],
        [("dp_fedavg", CENTRAL), ("random_k", "{keep: 0.1, rescale: false}")],
    ],
    ids=lambda d: "-".join(name for name, _ in d),
)
def test_what_fits_is_let_through_in_its_order(tmp_path: Path, defenses: list[tuple[str, str]]) -> None:
    arm = read(tmp_path, "fedavg", FEDAVG, *defenses).arms[0]
    assert [d.split("(")[0].lower() for d in arm.defenses] == [n.replace("_", "") for n, _ in defenses]


# A server that needs single updates


@pytest.mark.parametrize("defense", [SECURE, ("dp_fedavg", CENTRAL)])
@pytest.mark.parametrize(
    ("pipeline", "options", "reason"),
    [
        ("feddgm", "rounds: 1", "it matches the movement of each client; target 'aggregate'"),
        ("fedbkd", "rounds: 2", "side 'client'"),
        ("fedbkd", "rounds: 2, side: client", "share_heads false keeps them at home"),
        ("fedrep", "rounds: 2, share_heads: true", "share_heads false keeps them at home"),
        ("local_only", "rounds: 1", "its clients send nothing"),
    ],
)
def test_noise_on_a_sum_needs_a_server_that_works_on_one(
    tmp_path: Path, defense: tuple[str, str], pipeline: str, options: str, reason: str
) -> None:
    rule = f"expected a pipeline whose server works on a sum for {defense[0]}, got pipeline={pipeline!r}: "
    with pytest.raises(DocumentError, match=re.escape(rule)) as found:
        read(tmp_path, pipeline, options, defense)
    assert reason in str(found.value)


@pytest.mark.parametrize(
    ("pipeline", "options"),
    [
        ("feddgm", "rounds: 1, target: aggregate"),
        ("fedbkd", "rounds: 2, side: client, share_heads: false, global_head: federated"),
        ("fedrep", "rounds: 2"),
    ],
)
def test_the_variant_that_the_refusal_names_is_let_through(
    tmp_path: Path, pipeline: str, options: str
) -> None:
    arm = read(tmp_path, pipeline, options, ("dp_fedavg", CENTRAL), SECURE).arms[0]
    assert arm.hooks.hides_updates


def test_weights_by_records_are_no_sum_of_bounded_updates(tmp_path: Path) -> None:
    reason = "expected weighting 'equal' beside dp_fedavg, got weighting='records'"
    refused(tmp_path, "fedavg", "rounds: 2, weighting: records", [("dp_fedavg", CENTRAL)], 0, reason)


# Sampling of clients


def test_the_stated_rate_is_the_one_that_clients_are_drawn_with(tmp_path: Path) -> None:
    reason = "expected client_rate to be the pipeline's fraction 0.25, got 0.5"
    refused(tmp_path, "fedavg", f"{FEDAVG}, fraction: 0.25", [("dp_fedavg", SAMPLED)], 0, reason)
    reason = "expected client_rate to be the pipeline's fraction 1, got 0.5"
    refused(tmp_path, "fedavg", FEDAVG, [("dp_fedavg", SAMPLED)], 0, reason)
    assert read(tmp_path, "fedavg", f"{FEDAVG}, fraction: 0.5", ("dp_fedavg", SAMPLED)).arms[0].hooks.poisson


def test_a_last_round_with_everybody_leaves_no_sampling_to_count_on(tmp_path: Path) -> None:
    reason = "expected client_rate 1 for 'fedrep', whose last round has all clients, got 0.5"
    refused(tmp_path, "fedrep", "rounds: 2, fraction: 0.5", [("dp_fedavg", SAMPLED)], 0, reason)


def test_secure_aggregation_refuses_small_rounds_and_coins_make_them(tmp_path: Path) -> None:
    reason = "expected client_rate 1 beside secure aggregation, which refuses small rounds, got 0.5"
    options = f"{FEDAVG}, fraction: 0.5"
    refused(tmp_path, "fedavg", options, [SECURE, ("dp_fedavg", SAMPLED)], 1, reason)


@pytest.mark.parametrize(
    ("defense", "options", "reason"),
    [
        (
            ("secure_aggregation", "{minimum: 3}"),
            FEDAVG,
            "expected minimum <= 2, the clients of a round, got",
        ),
        (SECURE, f"{FEDAVG}, fraction: 0.5", "expected minimum <= 1, the clients of a round, got minimum=2"),
        (
            ("dp_fedavg", CENTRAL.replace("2.0", "3.0")),
            FEDAVG,
            "expected expected_clients 2, those of a round on average, got expected_clients=3",
        ),
        (
            ("dp_fedavg", SAMPLED.replace("expected_clients: 1.0", "expected_clients: 2.0")),
            f"{FEDAVG}, fraction: 0.5",
            "expected expected_clients 1, those of a round on average, got expected_clients=2",
        ),
    ],
)
def test_numbers_of_clients_are_those_of_every_setting(
    tmp_path: Path, defense: tuple[str, str], options: str, reason: str
) -> None:
    found = read(tmp_path, "fedavg", options, defense)
    at = f"plan.yaml:{FIRST - 1}: arms[0].defenses: "
    with pytest.raises(DocumentError, match=re.escape(at + reason)):
        check(found, load("digits"), 3)


# After a clip that noise on a sum rests on


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        QUANTISED,
        ("random_k", "{keep: 0.1}"),
        ("local_noise", LOCAL),
    ],
)
def test_what_can_make_an_update_longer_comes_before_the_clip(tmp_path: Path, name: str, knobs: str) -> None:
    reason = f"expected {name} before dp_fedavg, whose noise rests on its clip, got it after: it can make an"
    refused(tmp_path, "fedavg", FEDAVG, [("dp_fedavg", CENTRAL), (name, knobs)], 1, reason)
    read(tmp_path, "fedavg", FEDAVG, (name, knobs), ("dp_fedavg", CENTRAL))


def test_a_defence_in_between_does_not_hide_the_order(tmp_path: Path) -> None:
    chain = [("dp_fedavg", CENTRAL), ("top_k", "{keep: 0.5}"), SECURE, QUANTISED]
    reason = "expected quantisation before dp_fedavg, whose noise rests on its clip, got it after"
    refused(tmp_path, "fedavg", FEDAVG, chain, 3, reason)


def test_a_sum_is_divided_once(tmp_path: Path) -> None:
    reason = (
        "expected one defence that clips updates and adds noise to their sum, got dp_fedavg and dp_fedavg"
    )
    refused(tmp_path, "fedavg", FEDAVG, [("dp_fedavg", CENTRAL), ("dp_fedavg", CENTRAL)], 1, reason)


# A defence that would never act


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("local_noise", LOCAL),
        ("top_k", "{keep: 0.1}"),
        ("random_k", "{keep: 0.1}"),
        QUANTISED,
        ("soteria", "{share: 0.5}"),
    ],
)
def test_clients_that_send_nothing_have_nothing_to_defend(tmp_path: Path, name: str, knobs: str) -> None:
    reason = (
        f"expected a pipeline whose clients send updates for {name}, got pipeline='local_only': its clients "
        "send nothing"
    )
    refused(tmp_path, "local_only", "rounds: 1", [(name, knobs)], 0, reason)


@pytest.mark.parametrize("options", ["rounds: 2", "rounds: 2, share_heads: false, side: client"])
def test_a_mask_on_a_head_that_stays_at_home_hides_nothing(tmp_path: Path, options: str) -> None:
    pipeline = "fedbkd" if "side" in options else "fedrep"
    reason = (
        "expected a pipeline whose clients send a head for soteria, which masks one, "
        f"got pipeline={pipeline!r} with share_heads=False"
    )
    refused(tmp_path, pipeline, options, [("soteria", "{share: 0.5}")], 0, reason)


@pytest.mark.parametrize(
    ("pipeline", "options"),
    [
        ("fedrep", "rounds: 2, share_heads: true"),
        ("fedbkd", "rounds: 2"),
        ("fedbkd", "rounds: 2, share_heads: false, side: client, global_head: federated"),
        ("feddgm", "rounds: 1"),
    ],
)
def test_a_mask_on_a_head_that_is_sent_is_let_through(tmp_path: Path, pipeline: str, options: str) -> None:
    assert read(tmp_path, pipeline, options, ("soteria", "{share: 0.5}")).arms[0].hooks.local is not None


@pytest.mark.parametrize("defense", [("top_k", "{keep: 0.1}"), ("dp_sgd", DP_SGD)])
def test_a_control_is_not_defended(tmp_path: Path, defense: tuple[str, str]) -> None:
    """A positive control that leaks less, or sends its records past the defence, controls nothing."""
    reason = f"expected no {defense[0]} on a control, which is there to leak or not to, got pipeline='twin'"
    refused(tmp_path, "twin", "trained_on: members", [defense], 0, reason)


def test_one_defence_brings_the_training(tmp_path: Path) -> None:
    both = [("dp_sgd", DP_SGD), ("soteria", "{share: 0.5}")]
    with pytest.raises(DocumentError, match="expected at most one local defence, got 2"):
        read(tmp_path, "fedavg", FEDAVG, *both)


@pytest.mark.parametrize(
    ("name", "knobs", "reason"),
    [
        ("mix_up", "{alpha: 0.4}", "that clips record by record: it mixes records"),
        ("label_smoothing", "{smoothing: 0.1}", "that trains by a loss of its own: it would do nothing"),
    ],
)
def test_what_a_private_training_leaves_no_room_for(
    tmp_path: Path, name: str, knobs: str, reason: str
) -> None:
    text = f"expected no {name} beside a defence {reason}"
    refused(tmp_path, "fedavg", FEDAVG, [("dp_sgd", DP_SGD), (name, knobs)], 1, text)
    read(tmp_path, "fedavg", FEDAVG, (name, knobs), ("local_noise", LOCAL))


def test_a_refusal_that_looks_at_records_is_outside_a_claim_for_them(tmp_path: Path) -> None:
    text = "expected weights_only of model_inspection beside a defence with a claim for records, got false"
    refused(tmp_path, "fedavg", FEDAVG, [("dp_sgd", DP_SGD), ("model_inspection", "{}")], 1, text)
    read(tmp_path, "fedavg", FEDAVG, ("dp_sgd", DP_SGD), ("model_inspection", "{weights_only: true}"))
    read(tmp_path, "fedavg", FEDAVG, ("model_inspection", "{}"), ("local_noise", LOCAL))
