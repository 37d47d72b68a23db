"""The reconstruction table: its page says what ran and what did not, and a second run runs nothing."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from audits import reconstruction_run as running
from audits import reconstruction_table as command
from audits.reconstruction_cases import Case, quick_grid
from audits.reconstruction_likeness import Likeness
from audits.reconstruction_rows import HEADER, alike, decibels, identified, percent, row, tables
from audits.reconstruction_run import Result, Work, name_of, perform
from audits.reconstruction_table import main, page
from audits.reconstruction_works import Asked, done_and_missing, estimate, run_missing
from audits.store import write_json

FIRST = Case("records", "mlp", "analytic")
CASES = (FIRST, replace(FIRST, records=2), Case("malicious", "mlp", "imprint", 4))
SOURCE = "digits"
NONE = Likeness(0.0, None, 0.0, None, None, None, 0.0, None)


def asked(root: Path, seeds: int = 1, cases: tuple[Case, ...] = CASES, jobs: int = 1) -> Asked:
    return Asked({SOURCE: seeds}, {SOURCE: "Digits"}, cases, 2, jobs, root)


def hits(share: float) -> Likeness:
    return Likeness(share, share, share, 30.0, 0.5, 0.25, share, share)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "quick_grid", lambda: CASES)


def run(root: Path, *words: str) -> int:
    return main(["--quick", "--clients", "2", "--jobs", "1", *words], root)


@pytest.mark.usefixtures("few")
def test_the_page_says_what_it_is_of(tmp_path: Path) -> None:
    assert run(tmp_path, "--out", str(tmp_path / "page.md")) == 0
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.startswith("# How far data can be rebuilt\n\n`make benchmark-reconstruction ARGS=")
    assert "## Digits, 8x8\n\n3 of 3 runs" in page
    assert "3 cases, 1 federations each, 2 clients a federation." in page
    assert "### Records of a client, one full-batch step" in page
    assert "### A malicious server" in page
    assert "nan" not in page
    assert "Not run" not in page


@pytest.mark.usefixtures("few")
def test_a_run_that_was_cut_short_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    perform(tmp_path, Work(SOURCE, FIRST, 0, 2))
    assert run(tmp_path, "--kept") == 0
    out, err = capsys.readouterr()
    assert "2 runs to do" in err
    assert "1 of 3 runs" in out
    assert (
        "Not run: 2 runs; 2 cases have none and are not in the tables "
        "(Records of a client, one full-batch step: 1; A malicious server: 1)." in out
    )
    assert run(tmp_path) == 0
    first, err = capsys.readouterr()
    assert "2 runs to do" in err
    assert run(tmp_path) == 0
    second, err = capsys.readouterr()
    assert "Every run is kept; nothing to do." in err
    assert first == second


def test_the_page_does_not_say_where_images_are_kept(tmp_path: Path) -> None:
    text = page(asked(tmp_path), [], [], ["--cifar", "image-folder:/home/somebody/images", "--kept"])
    assert "ARGS='--cifar image-folder:PATH --kept'" in text
    assert "somebody" not in text


@pytest.mark.usefixtures("few")
def test_one_failure_costs_no_other_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(work: Work) -> Result:
        if work.case.records == 2:
            raise RuntimeError("no luck")
        return original(work)

    original = running.measure
    monkeypatch.setattr(running, "measure", measure)
    assert run(tmp_path) == 1
    out, err = capsys.readouterr()
    assert "2 of 3 runs" in out
    assert "## Failed\n\n- digits fedavg mlp analytic (2 records, 1 steps, none) seed 0: RuntimeError" in out
    assert "failed: digits fedavg mlp analytic" in " ".join(err.split())


def test_all_cases_come_under_the_first_seed_before_any_under_the_second(tmp_path: Path) -> None:
    done, missing = done_and_missing(asked(tmp_path, seeds=2))
    assert done == []
    assert [w.seed for w in missing] == [0] * 3 + [1] * 3


def test_estimates_are_means_of_what_is_kept(tmp_path: Path) -> None:
    """The first case took 2 and 4 s, the second 9; the third, alone on its axis, counts as their mean."""
    fourth = replace(FIRST, records=3)
    wanted = asked(tmp_path, cases=(*CASES, fourth))
    _, missing = done_and_missing(wanted)
    assert estimate(wanted, missing) is None
    (tmp_path / running.FOLDER).mkdir()
    heard = run_missing(replace(wanted, root=tmp_path / "other"), missing[:1], lambda _: None)
    result = heard[0].result
    assert result is not None
    assert result.case == name_of(FIRST)
    for k, seconds in enumerate((2.0, 4.0)):
        write_json(tmp_path / running.FOLDER / f"{k}.json", {**asdict(result), "total": seconds})
    other = {**asdict(result), "case": name_of(CASES[1]), "total": 9.0}
    write_json(tmp_path / running.FOLDER / "2.json", other)
    guess = estimate(wanted, missing)
    assert guess is not None
    assert math.isclose(guess, 3.0 + 9.0 + 6.0 + 6.0)
    assert estimate(replace(wanted, jobs=2), missing) == guess / 2
    fifth = Work(SOURCE, replace(CASES[2], records=5), 0, 2)
    write_json(tmp_path / running.FOLDER / "3.json", {**other, "case": name_of(CASES[2]), "total": 30.0})
    assert estimate(wanted, [fifth]) == 30.0


def test_a_row_adds_up_its_clients() -> None:
    hit, miss = Likeness(1.0, 0.5, 1.0, 30.0, 0.9, 0.125, 1.0, 0.75), NONE
    result = Result(
        SOURCE, name_of(FIRST), 0, (hit, miss), (hit, hit), (miss, miss), (12.0, 14.0), (0.1, 0.1),
        (0.01, 0.01), (1.0, 0.0), (2, 0), 30, False, 4.0, 5.0, 0.25,
    )  # fmt: skip
    cells = dict(zip(HEADER, row(FIRST, [result]), strict=True))
    assert cells["identified"] == "50 % [2.5 %, 97 %] of 2"
    assert (cells["chance"], cells["in features"], cells["of all"]) == ("10 %", "50 %", "50 %")
    assert cells["members found"] == "50 % (1.0 %)"
    assert cells["PSNR / SSIM / perceptual"] == "30.0 / 0.90 / 0.12"
    assert cells["class mean"] == "50 % (75 %), 30.0 / 0.90 / 0.12"
    assert (cells["public record"], cells["labels"]) == ("–, – (13.0)", "50 %")
    assert cells["iterations"] == "15, 2.00 s"
    assert cells["bound under the claim"] == "≤ 25 %"
    minibatch = replace(FIRST, axis="steps", records=8, epochs=5, batch=2)
    cells = dict(zip(HEADER, row(minibatch, [replace(result, bound=None)]), strict=True))
    assert (cells["steps"], cells["bound under the claim"]) == ("20 of 2", "–")


def test_columns_of_defences_stand_where_there_are_some() -> None:
    like = hits(1.0)
    plain = Result(
        SOURCE, name_of(FIRST), 0, (like,), (like,), (like,), (12.0,), (0.1,), (0.01,), (1.0,), (1,), 30,
        False, 4.0, 5.0,
    )  # fmt: skip
    guarded = replace(FIRST, axis="defence", defence="DP-SGD")
    found = dict(tables({FIRST: [plain], guarded: [replace(plain, bound=0.25)], CASES[1]: []}))
    assert list(found) == ["Records of a client, one full-batch step", "Defences, one full-batch step"]
    first, second = (table.splitlines()[0] for table in found.values())
    assert "defence" not in first
    assert "bound" not in first
    assert "| defence |" in second
    assert "| bound under the claim |" in second


def test_figures_in_words() -> None:
    assert identified([hits(0.0)] * 8, 0.01) == "0 % [0 %, 31 %]"
    assert identified([hits(1.0)] * 8, 0.01) == "**100 % [69 %, 100 %]**"
    assert identified([hits(1.0)] * 8, 0.7) == "100 % [69 %, 100 %]"
    assert alike([NONE]) == "– / – / –"
    assert alike([NONE, hits(1.0), replace(hits(1.0), perceptual=None)]) == "30.0 / 0.50 / 0.25"
    assert (percent(None), percent(0.0), percent(0.0312), percent(0.5)) == ("–", "0 %", "3.1 %", "50 %")
    assert (decibels(None), decibels(12.34)) == ("–", "12.3")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "mnist"], "expected data among digits, fashion, cifar, got data='mnist'"),
        (["--seeds", "0"], "expected seeds >= 1, got seeds=0"),
        (["--clients", "0"], "expected clients >= 1, got clients=0"),
        (["--jobs", "0"], "expected jobs >= 1, got jobs=0"),
    ],
)
def test_what_cannot_be_run_is_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--quick"], tmp_path)
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_quick_form_is_part_of_what_the_digits_show() -> None:
    assert {c.axis for c in quick_grid()} == {"records", "defence", "malicious"}
