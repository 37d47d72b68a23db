"""The command: tables from fixed results, a second run that trains nothing, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import t

from audits import personalisation_data as data
from audits import personalisation_run as running
from audits.personalisation import _setting, by_method, main, page
from audits.personalisation_deal import Cohort
from audits.personalisation_methods import METHODS, Method
from audits.personalisation_run import Result, Work
from audits.personalisation_table import COLUMNS, Column, caption, cell, half_width, markdown, rows
from audits.personalisation_tasks import SETTINGS
from audits.personalisation_works import Asked, Done
from privfed.datasets import load
from privfed.records import Records
from tests.audits.personal_setting import TINY_TEXT

PERCENT = Column("x", lambda r, _: r.recent, 100)
METHOD = Method("M", None)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "text", TINY_TEXT)


def result(seed: int, **values: float) -> Result:
    return Result("text", "fedavg", seed, **values)  # type: ignore[arg-type]


def test_half_width_is_scipys_interval() -> None:
    values = [0.2, 0.5, 0.7, 0.8, 0.1]
    lower, upper = t.interval(0.95, 4, loc=np.mean(values), scale=np.std(values, ddof=1) / math.sqrt(5))
    assert math.isclose(half_width(values), (upper - lower) / 2)
    assert math.isnan(half_width([0.5]))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.01, 0.02, 0.03], "2.0 ± 2.5"),
        ([0.5, 0.5], "50.0"),
        ([0.123], "12.3"),
        ([None, None], "–"),
        ([0.5, None], "–"),
        ([], "–"),
    ],
)
def test_cells(values: list[float | None], text: str) -> None:
    assert cell(values, PERCENT) == text


def test_rows_read_tuned_accuracies_where_heads_are_tuned() -> None:
    results = [result(s, recent=0.5, tuned_recent=0.75, final=0.25, tuned_final=1.0, up=2000) for s in (0, 1)]
    methods = {n: METHODS[n] for n in ("fedavg", "fedavg-ft", "fedrep")}
    got = rows({"fedavg": results, "fedavg-ft": results}, methods)
    assert [r[0] for r in got] == ["FedAvg", "FedAvg + fine-tuning"]
    assert [r[1:3] for r in got] == [["50.0", "25.0"], ["75.0", "100.0"]]
    up = 1 + [c.title for c in COLUMNS].index("up (kB)")
    assert [r[up] for r in got] == ["2.0", "2.0"]


def test_tables_in_markdown() -> None:
    assert markdown(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_captions_say_where_the_probe_comes_from() -> None:
    assert "trained on training records of the new clients. 1 seed." in caption(TINY_TEXT, 1)
    fashion = caption(SETTINGS["fashion"], 5)
    assert "20 clients and 5 new ones, 2 classes each, 288 training and 96 test records" in fashion
    assert "25% of the clients in each of 40 rounds" in fashion
    assert "trained on records that no client owns. 5 seeds." in fashion


def test_page_from_fixed_results() -> None:
    methods = {n: METHODS[n] for n in ("fedavg", "fedrep")}
    asked = Asked((TINY_TEXT,), {"text": "generated"}, methods, 2, 1, Path())
    works = [Work(TINY_TEXT, "generated", name, s) for name in methods for s in (1, 0)]
    done = [Done(w, result(w.seed, recent=0.5 + w.seed / 10)) for w in works[:3]] + [
        Done(works[3], None, "no")
    ]
    got = by_method(TINY_TEXT, done)
    assert [r.seed for r in got["fedavg"]] == [0, 1]
    assert "fedrep" not in got
    text = page(asked, done, ["--task", "text"])
    assert text.startswith(
        "# Personalised federated learning, side by side\n\n`make benchmark-personalisation "
    )
    assert "ARGS='--task text'`" in text
    assert "## Tiny text" in text
    assert [line for line in text.splitlines() if line.startswith("| Fed")] == [
        "| FedAvg | 55.0 ± 63.5 | " + " | ".join(["–"] * (len(COLUMNS) - 1)) + " |"
    ]


def test_a_second_run_trains_nothing_and_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--task", "text", "--methods", "untrained,fedavg,fedavg-ft", "--seeds", "2", "--jobs", "1"]
    pages = [tmp_path / "first.md", tmp_path / "second.md"]
    assert main([*words, "--out", str(pages[0])], tmp_path) == 0
    first = capsys.readouterr().out
    assert "4 trainings to do" in first
    monkeypatch.delattr(running, "measure")
    assert main([*words, "--out", str(pages[1])], tmp_path) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert pages[0].read_text().replace("first.md", "second.md") == pages[1].read_text()
    assert "FedAvg + fine-tuning" in first


def test_quick_is_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--task", "text", "--jobs", "1", "--methods", "untrained"], tmp_path) == 0
    assert "Tiny text, 2 seeds, T=3" in capsys.readouterr().out


def test_a_failure_is_told_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> Cohort:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(running, "cohort_of", broken)
    words = ["--task", "text", "--methods", "fedrep", "--seeds", "1", "--jobs", "1"]
    assert main(words, tmp_path) == 1
    assert "failed: text fedrep seed 0: RuntimeError: no such thing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "words"], "expected tasks among fashion, cifar, text, got task='words'"),
        (["--task", "text", "--methods", "x"], "got method='x'"),
        (["--task", "text", "--seeds", "0"], "expected seeds >= 1, got seeds=0"),
        (["--task", "text", "--jobs", "0"], "expected jobs >= 1, got jobs=0"),
        (["--task", "text", "--rounds", "0"], "expected rounds >= 1, got rounds=0"),
    ],
)
def test_what_it_refuses(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(words, tmp_path)
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


def test_fashion_loses_its_padding_and_keeps_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.TRAINED, "fashion", 3)
    inputs = torch.full((5, 1, 32, 32), -1.0)
    inputs[:, :, 2:-2, 2:-2] = torch.arange(5.0).view(5, 1, 1, 1)
    train, test = data.parts("fashion", Records(inputs, torch.arange(5)))
    assert (train.inputs.shape, test.inputs.shape) == ((3, 1, 28, 28), (2, 1, 28, 28))
    assert (test.inputs.amin((1, 2, 3)).tolist(), test.labels.tolist()) == ([3, 4], [3, 4])


def test_data_without_a_test_part_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 50000 records for task 'cifar', got records=2"):
        data.parts("cifar", Records(torch.zeros(2, 3, 32, 32), torch.arange(2)))


def test_a_folder_of_images_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "images"
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), dtype=np.uint8)
    for k, image in enumerate(pixels):
        (folder / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "ab"[k % 2] / f"{k}.png")
    source = f"image-folder:{folder}"
    archive = data.packed(source, tmp_path)
    direct, kept = load(source).records, load(archive).records
    assert torch.equal(direct.inputs, kept.inputs)
    assert torch.equal(direct.labels, kept.labels)
    monkeypatch.delattr(data, "load")
    assert data.packed(source, tmp_path) == archive
    assert data.packed("fashion-mnist", tmp_path) == "fashion-mnist"


def test_generated_text_belongs_to_its_seed() -> None:
    first, again, other = (running._stream(Work(TINY_TEXT, "", "", s)) for s in (0, 0, 1))
    prints = [data.fingerprint(TINY_TEXT, data.GENERATED, s) for s in (first, again, other)]
    assert prints[0] == prints[1] != prints[2]
    cohort = data.cohort_of(TINY_TEXT, data.GENERATED, first)
    assert cohort.clients[0].train.inputs.shape == (TINY_TEXT.train, 12, 16)
    assert len(cohort.clients) == TINY_TEXT.clients


def test_jpeg_copies_are_called_so() -> None:
    assert _setting("cifar", None, "image-folder:x").title == "CIFAR-10 (JPEG)"
    assert _setting("cifar", 3, "cifar10") == replace(SETTINGS["cifar"], rounds=3)
