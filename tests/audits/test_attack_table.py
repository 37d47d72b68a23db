"""The table of attacks: every attack that ran has its row, and a second run trains nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audits.attack_rows import interval, markdown
from audits.attack_table import PLANS, main
from audits.coverage import Scope, probes
from audits.plan import read_plan
from reports.record import Estimate
from tests.audits import tiny

PLAN = tiny.PLAN.partition("  - id: null-twin")[0].replace(
    "federations: 6", "federations: 4\nattacks: full\nleave_out: [distil-and-test]"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    tiny.write(folder, PLAN)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    arguments = [str(folder / "plan.yaml"), "--jobs", "1", "--quick", "--out", str(folder / "page.md")]
    assert main(arguments, folder / "cache") == 0
    return (folder / "page.md").read_text(encoding="utf-8")


def test_every_attack_that_ran_has_its_row_under_its_observer(page: str) -> None:
    read_here = ("client update", "broadcast surrogate", "released model")
    shown = [
        p
        for p in probes(Scope(suite="full", leave_out=frozenset({"distil-and-test"})))
        if p.artefact in read_here
    ]
    several_rounds = ("loss slope", "isolation")
    for probe in shown:
        section = page.split(f"### {probe.observer.label}: {probe.artefact}\n")[1].split("###")[0]
        assert f"| {probe.name}" in section or probe.name.startswith(several_rounds)


def test_the_page_says_what_it_is_of(page: str) -> None:
    assert page.startswith("# Every attack by every observer\n\n`make benchmark-attacks ARGS=")
    assert "4 federations an arm" in page
    assert "64 records and 16 canaries" in page
    assert " min. Left out by the plan: distil-and-test.\n" in page
    assert "| distil-and-test |" not in page
    assert "### The strongest attack of each observer, and the simplest" in page
    assert "Order of leakage: " in page
    assert "| FedAvg | label inference | labels held, AUC |" in page
    assert "| FedAvg | source inference | client named |" in page
    assert "nan" not in page


def test_a_second_run_trains_nothing(folder: Path, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder / "plan.yaml"), "--jobs", "1", "--quick"], folder / "cache") == 0
    out, err = capsys.readouterr()
    assert "0 of 8 federations to train" in " ".join(err.split())
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert tables == [line for line in out.splitlines() if line.startswith("|")]


def test_the_packaged_plans_run_every_attack_with_the_federations_they_promise() -> None:
    counts = {name: read_plan(name).plan.federations for name in PLANS}
    assert counts == {"attacks": 64, "attacks-fashion": 16, "attacks-clients": 16, "attacks-subjects": 16}
    assert {read_plan(name).plan.attacks for name in PLANS[:2]} == {"full"}
    assert [read_plan(name).plan.unit.kind for name in PLANS[2:]] == ["client", "subject"]
    for name in PLANS:
        audited = [a.pipeline_name for a in read_plan(name).arms if a.role == "audited"]
        assert audited == ["fedavg", "feddgm", "fedbkd"]


def test_figures_and_tables_in_words() -> None:
    known = Estimate(
        metric="auc", value=0.5, lower=0.4, upper=np.round(0.61234, 5), method="", n_in=1, n_out=1,
        n_federations=1, scope="artefact",
    )  # fmt: skip
    assert interval(known) == "0.500 [0.400, 0.612]"
    assert interval(known, signed=True) == "+0.500 [+0.400, +0.612]"
    assert interval(known.model_copy(update={"value": None})) == "–"
    assert interval(known.model_copy(update={"lower": None})) == "0.500 [–, 0.612]"
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
