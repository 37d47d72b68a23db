"""`privfed epsilon` as typed: the schema for machines, the table for people, one line for each mistake."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from audits import epsilon_command
from audits.cli import app
from privfed.accounting import epsilon
from privfed.claims import max_tpr

RUN = "--rate 0.2 --steps 10 --delta 1e-5"
LIBRARIES = ("dp-accounting RDP", "dp-accounting PLD", "opacus RDP", "opacus PRV")


def privfed(options: str) -> Result:
    return CliRunner().invoke(app, ["epsilon", *shlex.split(options)])


def answered(options: str) -> dict[str, Any]:
    done = privfed(f"{options} --json")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def epsilons(found: dict[str, Any]) -> dict[tuple[str, str], float | None]:
    """By library and method, without the version, and by sampling."""
    return {
        (f"{row['accountant'].split()[0]} {row['accountant'].split()[-1]}", row["sampling"]): row["epsilon"]
        for row in found["epsilons"]
    }


def test_the_answer_for_machines() -> None:
    found = answered(f"--noise 1.0 {RUN}")
    assert list(found) == [
        "schema", "noise", "calibrated_for_epsilon", "rate", "steps", "delta", "neighbouring", "runs",
        "stopping", "epsilons", "gdp_mu", "max_tpr",
    ]  # fmt: skip
    assert found["schema"] == "privfed-epsilon/1"
    assert (found["noise"], found["rate"], found["steps"], found["delta"]) == (1.0, 0.2, 10, 1e-5)
    assert (found["calibrated_for_epsilon"], found["neighbouring"]) == (None, "add_or_remove_one")
    assert (found["runs"], found["stopping"]) == (1, "fixed")
    by = epsilons(found)
    assert set(by) == {(name, sampling) for name in LIBRARIES for sampling in ("poisson", "shuffled")}
    event = epsilon_command._event(epsilon_command.Question(1.0, None, 0.2, 10, 1e-5), 1.0)
    assert by["dp-accounting PLD", "poisson"] == epsilon([event], 1e-5)
    poisson, shuffled = found["gdp_mu"]
    assert (poisson["sampling"], poisson["exact"]) == ("poisson", False)
    # Each record is in two of the ten batches.
    assert shuffled == {"sampling": "shuffled", "mu": pytest.approx(2**0.5), "exact": True}
    assert 0 < poisson["mu"] < shuffled["mu"]


def test_no_bound_on_the_tpr_is_above_that_of_epsilon_and_delta() -> None:
    rows = answered(f"--noise 1.0 {RUN}")["max_tpr"]
    assert [(r["sampling"], r["fpr"]) for r in rows] == [
        (sampling, fpr) for sampling in ("poisson", "shuffled") for fpr in (0.0001, 0.001, 0.01, 0.1)
    ]
    for row in rows:
        assert row["fpr"] <= row["tpr"] <= row["tpr_by_epsilon_and_delta"] <= 1
        assert row["accountant"].endswith("PLD")
    event = epsilon_command._event(epsilon_command.Question(1.0, None, 0.2, 10, 1e-5), 1.0)
    assert rows[2]["tpr_by_epsilon_and_delta"] == max_tpr(epsilon([event], 1e-5), 1e-5, 0.01)


def test_an_epsilon_is_met_by_the_noise_that_is_found() -> None:
    found = answered(f"--epsilon 3 {RUN}")
    spent = epsilons(found)["dp-accounting PLD", "poisson"]
    assert spent is not None
    assert 2.98 < spent <= 3
    assert found["calibrated_for_epsilon"] == 3
    again = answered(f"--noise {found['noise']} {RUN}")
    assert again["epsilons"] == found["epsilons"]


def test_tuning_and_replacing_have_their_price() -> None:
    once = epsilons(answered(f"--noise 1.0 {RUN}"))["dp-accounting RDP", "poisson"]
    assert once is not None
    random = answered(f"--noise 1.0 {RUN} --runs 10 --stopping geometric")
    spent = epsilons(random)
    assert set(spent) == {("dp-accounting RDP", "poisson"), ("dp-accounting RDP", "shuffled")}
    many = spent["dp-accounting RDP", "poisson"]
    assert many is not None
    assert many > once
    assert [row["mu"] for row in random["gdp_mu"]] == [None, None]
    assert all(row["accountant"].endswith("RDP") for row in random["max_tpr"])
    fixed = epsilons(answered(f"--noise 1.0 {RUN} --runs 10"))
    same = epsilons(answered("--noise 1.0 --rate 0.2 --steps 100 --delta 1e-5"))
    assert fixed["dp-accounting PLD", "poisson"] == pytest.approx(same["dp-accounting PLD", "poisson"])
    replaced = epsilons(answered("--noise 2.0 --rate 1 --steps 3 --delta 1e-5 --neighbouring replace_one"))
    added = epsilons(answered("--noise 1.0 --rate 1 --steps 3 --delta 1e-5"))
    assert replaced == {key: pytest.approx(value) for key, value in added.items()}


@pytest.mark.parametrize("noise", ["1e-7", "0.0001"])
def test_next_to_no_noise_is_answered(noise: str) -> None:
    found = answered(f"--noise {noise} --rate 0.4 --steps 40 --delta 1e-5")
    assert all(value is None or value > 1e6 for value in epsilons(found).values())
    assert [row["tpr"] for row in found["max_tpr"]] == [1.0] * 8
    assert ("no bound" in privfed(f"--noise {noise} {RUN}").stdout) == (noise == "1e-7")


def test_the_table_for_people() -> None:
    done = privfed("--noise 2 --rate 1 --steps 4 --delta 1e-5")
    assert done.exit_code == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0].startswith("Noise multiplier 2, rate 1, 4 steps, delta 1e-05; neighbours: one added")
    # Exactly 1-GDP: epsilon 4.3772 at this delta, TPR 9.236 % at FPR 1 %, which is rounded up.
    assert "GDP mu 1 (exact) 1 (exact)" in lines
    assert "at FPR 1 % 9.24 % 9.24 %" in lines
    assert sum(" PLD 4.377 4.377" in line for line in lines) == 1
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "finds members at no more than the TPR" in " ".join(lines)


def test_the_table_says_what_was_calibrated_and_tuned() -> None:
    told = " ".join(
        privfed("--epsilon 5 --rate 1 --steps 2 --delta 1e-5 --runs 3 --stopping poisson").stdout.split()
    )
    assert "(the least for epsilon 5 with Poisson sampling)" in told
    assert "3 runs to tune, a poisson number by its mean" in told
    assert "GDP mu - -" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RUN, "expected one of --noise and --epsilon, got neither"),
        (f"--noise 1 --epsilon 8 {RUN}",
         "expected one of --noise and --epsilon, got both: --noise=1 --epsilon=8"),
        (f"--noise 0 {RUN}", "expected --noise in (0, 1e+06], got --noise=0.0"),
        (f"--noise nan {RUN}", "expected --noise in (0, 1e+06], got --noise=nan"),
        (f"--noise 1e7 {RUN}", "expected --noise in (0, 1e+06], got --noise=10000000.0"),
        (f"--epsilon=-1 {RUN}", "expected a finite --epsilon > 0, got --epsilon=-1.0"),
        (f"--epsilon inf {RUN}", "expected a finite --epsilon > 0, got --epsilon=inf"),
        ("--noise 1 --rate 1.5 --steps 9 --delta 0.1", "expected --rate in (0, 1], got --rate=1.5"),
        ("--noise 1 --rate 0 --steps 9 --delta 0.1", "expected --rate in (0, 1], got --rate=0.0"),
        ("--noise 1 --rate 1 --steps 0 --delta 0.1", "expected --steps in [1, 1000000], got --steps=0"),
        ("--noise 1 --rate 1 --steps 9 --delta 1", "expected --delta in (0, 1), got --delta=1.0"),
        ("--noise 1 --rate 1 --steps 9 --delta 0", "expected --delta in (0, 1), got --delta=0.0"),
        (f"--noise 1 {RUN} --runs 0", "expected --runs >= 1, got --runs=0"),
        (f"--noise 1 {RUN} --runs 100001", "expected --runs x --steps <= 1000000, got --runs=100001"),
        (f"--noise 1 {RUN} --stopping poisson", "expected --runs beside --stopping, got --stopping=poisson"),
        (f"--noise 1 {RUN} --runs 2 --stopping poisson --neighbouring replace_one",
         "expected --neighbouring add_or_remove_one or --rate 1 beside a random number of runs, "
         "got --neighbouring=replace_one"),
        (f"--epsilon 1e9 {RUN}",
         "--epsilon: expected an epsilon that asks for noise >= 0.001, got epsilon=1000000000.0"),
        ("--epsilon 1 --rate 1e-7 --steps 1 --delta 1e-5",
         "--epsilon: expected delta below 1e-07, the chance that a record is used at all, got delta=1e-05"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(options: str, message: str) -> None:
    done = privfed(options)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"privfed: {message}\n")


@pytest.mark.parametrize("options", ["--noise 1", f"--noise x {RUN}", f"--noise 1 {RUN} --stopping best"])
def test_what_cannot_be_read_is_a_mistake_too(options: str) -> None:
    assert privfed(options).exit_code == 2
