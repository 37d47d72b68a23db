"""What is kept comes back as it was; what is damaged or unfinished never passes as whole."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.interface import Signals
from audits import store
from audits.store import Kept
from privfed.claims import Assumption, Claim
from privfed.release import PUBLIC, SERVER, Release, Transcript

CLAIM = Claim(
    epsilon=3.0, delta=1e-5, unit="record", neighbouring="add_or_remove_one", accountant="pld",
    sampling="poisson", mechanism="gaussian", outside=("counts",),
    assumptions=(Assumption("Poisson sampling", True, "watched"),),
)  # fmt: skip
CENTRAL = replace(CLAIM, unit="client", against=("clients", "outsiders"), trace="[]")
ROOT = Path(__file__).resolve().parents[2]
SIGNALS = Signals(np.ones((3, 2)), np.zeros((4, 2, 1)), np.arange(3))


def transcript() -> Transcript:
    return Transcript((Release(0, SERVER, PUBLIC, "label_set", "labels", {"x": torch.arange(3)}),))


def keep(folder: Path, *claims: Claim) -> Kept:
    kept = Kept({"large": np.array([1, 0, 1], dtype=np.uint8)}, claims or (CLAIM,), 1.5, spent=3)
    store.keep(folder, transcript(), kept)
    return kept


@pytest.mark.parametrize("claims", [(CLAIM,), (CLAIM, CENTRAL)])
def test_what_is_kept_comes_back(tmp_path: Path, claims: tuple[Claim, ...]) -> None:
    kept = keep(tmp_path / "f", *claims)
    found = store.recall(tmp_path / "f")
    assert (found.claims, found.seconds, found.spent) == (claims, 1.5, 3)
    assert found.correct["large"].tolist() == kept.correct["large"].tolist()
    (release,) = store.transcript(tmp_path / "f").releases
    assert release.tensors["x"].tolist() == [0, 1, 2]


def test_how_the_clients_own_models_did_comes_back_or_stays_absent(tmp_path: Path) -> None:
    keep(tmp_path / "without")
    assert store.recall(tmp_path / "without").personal is None
    own = np.array([0.5, np.nan, 1.0])
    kept = Kept({"large": np.array([1, 0, 1], dtype=np.uint8)}, (), 1.5, own)
    store.keep(tmp_path / "with", transcript(), kept)
    found = store.recall(tmp_path / "with")
    assert found.personal is not None
    np.testing.assert_array_equal(found.personal, own)
    assert set(found.correct) == {"large"}


def test_a_federation_is_complete_once_its_outcome_is_there(tmp_path: Path) -> None:
    assert not store.is_complete(tmp_path / "f")
    keep(tmp_path / "f")
    assert store.is_complete(tmp_path / "f")
    (tmp_path / "f" / store.OUTCOME).unlink()
    assert not store.is_complete(tmp_path / "f")


def test_the_outcome_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        keep(tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


def test_a_federation_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    """Its signals may have been read already, by another audit."""
    keep(tmp_path / "f")
    store.keep_signals(tmp_path / "f", "a", SIGNALS)
    keep(tmp_path / "f", CENTRAL)
    assert store.recall(tmp_path / "f").claims == (CLAIM,)
    assert store.has_signals(tmp_path / "f", "a")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_broken_federation_makes_room(tmp_path: Path) -> None:
    keep(tmp_path / "f")
    store.keep_signals(tmp_path / "f", "a", SIGNALS)
    (tmp_path / "f" / store.OUTCOME).unlink()
    keep(tmp_path / "f", CENTRAL)
    assert store.recall(tmp_path / "f").claims == (CENTRAL,)
    assert not store.has_signals(tmp_path / "f", "a")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from audits import store
from tests.audits.test_store import SIGNALS, keep

root, start = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
while not start.exists():
    pass
for i in range(int(sys.argv[3])):
    folder = root / f"f{i}"
    if not store.is_complete(folder):
        keep(folder)
    for _ in range(5):
        store.keep_signals(folder, "a", SIGNALS)
        store.write_json(root / "engine.json", {"looped": 1.0})
    store.recall(folder), store.transcript(folder), store.recall_signals(folder, "a")
"""


def test_two_audits_may_share_a_store(tmp_path: Path) -> None:
    """Each finds what it kept whole, and neither crashes the other: they race for 60 federations."""
    root, start = tmp_path / "store", tmp_path / "start"
    root.mkdir()
    command = [sys.executable, "-c", WRITER, str(root), str(start), "60"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    racers = [
        subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    start.touch()
    told = [racer.communicate(timeout=120)[1] for racer in racers]
    assert [(racer.returncode, text) for racer, text in zip(racers, told, strict=True)] == [(0, ""), (0, "")]
    assert sorted(p.name for p in root.iterdir()) == sorted(["engine.json", *(f"f{i}" for i in range(60))])
    for folder in root.glob("f*"):
        assert store.recall(folder).claims == (CLAIM,)
        assert sorted(p.name for p in folder.iterdir()) == [
            store.CORRECT, store.OUTCOME, "signals-a.safetensors", store.TRANSCRIPT,
        ]  # fmt: skip


@pytest.mark.parametrize("name", [store.OUTCOME, store.CORRECT])
@pytest.mark.parametrize("content", [b"", b"{", b'{"claims": [{"epsilon": 1}]}', b"\xff"])
def test_a_damaged_federation_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    keep(tmp_path / "f")
    (tmp_path / "f" / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"expected a federation kept whole, got .*f: "):
        store.recall(tmp_path / "f")


def test_signals_come_back_and_so_does_their_absence(tmp_path: Path) -> None:
    assert not store.has_signals(tmp_path, "a")
    store.keep_signals(tmp_path, "a", SIGNALS)
    store.keep_signals(tmp_path, "b", None)
    found = store.recall_signals(tmp_path, "a")
    assert found is not None
    for field in ("candidates", "population", "clients"):
        np.testing.assert_array_equal(getattr(found, field), getattr(SIGNALS, field))
    assert store.has_signals(tmp_path, "b")
    assert store.recall_signals(tmp_path, "b") is None
    assert list(tmp_path.glob("*.part")) == []


def test_damaged_signals_are_named(tmp_path: Path) -> None:
    (tmp_path / "signals-a.safetensors").write_bytes(b"half of it")
    with pytest.raises(ValueError, match=r"expected signals kept whole, got .*signals-a\.safetensors"):
        store.recall_signals(tmp_path, "a")


def test_a_crash_is_remembered_until_it_is_mended(tmp_path: Path) -> None:
    assert store.recall_failure(tmp_path, "a") == ""
    store.keep_failure(tmp_path, "a", "ValueError: no")
    assert store.recall_failure(tmp_path, "a") == "ValueError: no"
    store.keep_signals(tmp_path, "a", SIGNALS)
    assert store.recall_failure(tmp_path, "a") == ""


def test_digests_are_of_content_in_canonical_form() -> None:
    assert store.digest({"a": 1, "b": [2]}) == store.digest({"b": [2], "a": 1})
    assert store.digest({"a": 1}) != store.digest({"a": 2})


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVFED_CACHE", "/somewhere")
    assert store.default_root() == Path("/somewhere")
    monkeypatch.delenv("PRIVFED_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert store.default_root() == Path("/caches/privfed")


def test_half_written_json_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"looped": 1.')
    assert store.read_json(tmp_path / "x.json") is None
    store.write_json(tmp_path / "x.json", {"a": 1})
    assert store.read_json(tmp_path / "x.json") == {"a": 1}
