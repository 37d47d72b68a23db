"""What the commands check before they run, and how they write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console

from audits import command
from audits.command import Mistake, read_record, run_report, write
from reports.record import Record, to_json
from tests.test_readme import small_record


def test_what_is_written_is_read_again_and_leaves_no_parts(tmp_path: Path) -> None:
    record = small_record()
    paths = write(record, tmp_path / "deep" / "run")
    assert [p.name for p in paths] == ["record.json", "report.html", "report.md"]
    assert read_record(paths[0]) == record
    assert sorted(p.name for p in paths[0].parent.iterdir()) == sorted(p.name for p in paths)


def test_the_record_is_on_disk_even_if_a_renderer_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(record: Record) -> str:
        raise RuntimeError("no picture")

    monkeypatch.setattr("reports.html.render", broken)
    with pytest.raises(RuntimeError, match="no picture"):
        write(small_record(), tmp_path / "run")
    assert read_record(tmp_path / "run" / "record.json") == small_record()


def test_a_report_is_the_same_from_the_folder_and_from_its_record(tmp_path: Path) -> None:
    write(small_record(), tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for p in tmp_path.glob("report.*"):
        p.unlink()
    assert run_report(tmp_path / "record.json") == 0
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_an_unknown_key_of_a_record_is_refused_by_name(tmp_path: Path) -> None:
    text = to_json(small_record()).replace('"title"', '"titel"', 1)
    (tmp_path / "record.json").write_text(text, encoding="utf-8")
    with pytest.raises(Mistake, match="damaged at title: Field required"):
        read_record(tmp_path / "record.json")


def test_workers_default_to_the_cores_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command._workers(3) == 3
    assert command._workers(0) >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert (command._workers(0), command._workers(3)) == (5, 3)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert command._workers(0) == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Mistake, match="expected a writable folder for --out"):
        command.check_folder(tmp_path / "run", "--out")


def test_names_from_a_record_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Square brackets are markup to the terminal library; a policy may be called anything."""
    record = small_record().model_copy(
        update={"policy": small_record().policy.model_copy(update={"id": "[red]x[/]"})}
    )
    command._tell(Console(stderr=True, width=200), record, [tmp_path])
    printed = capsys.readouterr()
    assert "[red]x[/]" in printed.err
    assert printed.out == f"{tmp_path}\n"
