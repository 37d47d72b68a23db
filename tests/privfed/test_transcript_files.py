import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privfed.nets import NetSpec
from privfed.release import Release, Transcript
from privfed.transcript_files import MANIFEST, RELEASES, TranscriptError, load, save

WEIGHTS = torch.arange(12.0).reshape(3, 4)
TRANSCRIPT = Transcript(
    (
        Release(0, "server", "clients", "weights", "surrogate", {"0.weight": WEIGHTS, "0.bias": WEIGHTS[0]}),
        Release(
            0, "client:1", "server", "weights", "update", {"0.weight": WEIGHTS.T, "0.bias": WEIGHTS[1]}, 1
        ),
        Release(
            1,
            "server",
            "public",
            "synthetic",
            "inputs",
            {"inputs": torch.zeros(2, 1, 8, 8), "labels": torch.tensor([3, 0])},
        ),
        Release(1, "client:0", "server", "label_set", "held", {}, 0),
    ),
    {"surrogate": NetSpec("mlp", channels=1, size=8, classes=10, width=16, depth=1)},
)
DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(TRANSCRIPT, tmp_path / "t")
    return tmp_path / "t"


def assert_same(first: Transcript, second: Transcript) -> None:
    assert first.nets == second.nets
    assert len(first.releases) == len(second.releases)
    for a, b in zip(first.releases, second.releases, strict=True):
        assert replace(a, tensors={}) == replace(b, tensors={})
        assert list(a.tensors) == list(b.tensors)
        for x, y in zip(a.tensors.values(), b.tensors.values(), strict=True):
            assert x.dtype == y.dtype
            assert x.shape == y.shape
            assert bits(x) == bits(y)


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


def test_what_goes_through_an_aggregator_comes_back_the_same(tmp_path: Path) -> None:
    """Where updates are added up before the server sees them, it is neither client nor server."""
    releases = (
        Release(0, "client:0", "aggregator", "weights", "update", {"w": WEIGHTS}, 0),
        Release(0, "aggregator", "server", "weights", "aggregate", {"w": WEIGHTS}),
    )
    summed = Transcript(releases, TRANSCRIPT.nets)
    save(summed, tmp_path / "summed")
    assert_same(load(tmp_path / "summed"), summed)


def forge(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edits the manifest and renews its own digest, as someone would who knows the format."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    rest = {k: v for k, v in manifest.items() if k != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    manifest["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def forge_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Replaces the tensor file and its digest in the manifest."""
    tensors = safetensors.torch.load((folder / RELEASES).read_bytes())
    change(tensors)
    content = safetensors.torch.save(tensors)
    (folder / RELEASES).write_bytes(content)
    forge(folder, lambda m: m["files"].update({RELEASES: hashlib.sha256(content).hexdigest()}))


def test_round_trip_is_bitwise(saved: Path) -> None:
    assert_same(load(saved), TRANSCRIPT)


def test_saving_again_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save(load(saved), tmp_path / "again")
    for name in (MANIFEST, RELEASES):
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@settings(max_examples=40)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(0, 3), max_size=3),
    name=st.text(min_size=1, max_size=8),
    seed=st.integers(0, 99),
)
def test_any_tensor_survives(
    tmp_path_factory: pytest.TempPathFactory, dtype: torch.dtype, shape: list[int], name: str, seed: int
) -> None:
    raw = torch.randint(
        0, 256, (*shape, dtype.itemsize), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    values = (raw[..., 0] > 127) if dtype == torch.bool else raw.view(dtype).reshape(shape)
    transcript = Transcript((Release(0, "client:0", "server", "weights", name, {name: values}),))
    folder = tmp_path_factory.mktemp("t") / "t"
    save(transcript, folder)
    assert_same(load(folder), transcript)


def test_an_empty_transcript_survives(tmp_path: Path) -> None:
    save(Transcript(()), tmp_path / "t")
    assert load(tmp_path / "t") == Transcript(())


def test_save_leaves_no_draft_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(TranscriptError, match=r"expected to write a new folder.*disk full"):
        save(TRANSCRIPT, tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_save_refuses_an_existing_folder(saved: Path) -> None:
    with pytest.raises(TranscriptError, match=r"expected a folder that does not exist yet, got folder=.*t$"):
        save(TRANSCRIPT, saved)


@pytest.mark.parametrize(
    ("release", "message"),
    [
        (
            Release(0, "client:0", "server", "weights", "w", {"x": torch.zeros(1, dtype=torch.complex64)}),
            "expected dense tensors of type .*got '00000/x' of type complex64",
        ),
        (
            Release(0, "client:0", "server", "weights", "w", {"x": torch.eye(2).to_sparse()}),
            "got '00000/x' of type float32 and layout torch.sparse_coo",
        ),
        (Release(0, "alice", "server", "weights", "w", {}), "with 'releases.0.sender': String should match"),
        (
            Release(0, "server", "client:", "weights", "w", {}),
            "with 'releases.0.receiver': String should match",
        ),
    ],
)
def test_save_refuses_what_the_format_does_not_know(tmp_path: Path, release: Release, message: str) -> None:
    with pytest.raises(TranscriptError, match=message):
        save(Transcript((release,)), tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [MANIFEST, RELEASES])
def test_every_flipped_byte_is_refused_or_harmless(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    for place in range(0, len(content), 7):
        for mask in (0x01, 0x80):
            damaged = bytearray(content)
            damaged[place] ^= mask
            (saved / name).write_bytes(damaged)
            if name == MANIFEST and chr(content[place]).isspace() and chr(damaged[place]).isspace():
                continue
            with pytest.raises(TranscriptError):
                load(saved)


@pytest.mark.parametrize("name", [MANIFEST, RELEASES])
@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_truncation_is_refused(saved: Path, name: str, keep: int) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[:keep])
    with pytest.raises(TranscriptError, match=name):
        load(saved)


def test_other_folders_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match=r"expected the folder of a transcript, got folder=.*none"):
        load(tmp_path / "none")
    with pytest.raises(TranscriptError, match=r"expected exactly manifest.json and releases.safetensors"):
        load(tmp_path)
    (saved / "extra.pkl").write_bytes(b"")
    with pytest.raises(TranscriptError, match=r"expected exactly .*got .*'extra.pkl'"):
        load(saved)


def test_a_missing_file_is_refused(saved: Path) -> None:
    (saved / RELEASES).unlink()
    with pytest.raises(TranscriptError, match="expected exactly"):
        load(saved)


def test_a_link_is_refused(saved: Path, tmp_path: Path) -> None:
    (saved / RELEASES).rename(tmp_path / "elsewhere")
    (saved / RELEASES).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TranscriptError, match=r"expected a regular file, got .*releases.safetensors"):
        load(saved)


def test_more_than_the_limit_is_refused(saved: Path) -> None:
    size = sum(p.stat().st_size for p in saved.iterdir())
    load(saved, limit=size)
    with pytest.raises(
        TranscriptError, match=f"expected at most limit={size - 1} bytes, got .* of {size} bytes"
    ):
        load(saved, limit=size - 1)


def _set(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")]

    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for step in parents:
            place = place[step]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("extra", 1), "'extra': Extra inputs are not permitted"),
        (_set("schema_version", 2), "'schema_version': Input should be 1"),
        (_set("releases/0/extra", 1), "'releases.0.extra': Extra inputs"),
        (_set("releases/0/round", -1), "'releases.0.round': Input should be greater than or equal to 0"),
        (_set("releases/0/round", "0"), "'releases.0.round': Input should be a valid integer"),
        (_set("releases/0/kind", "pickle"), "'releases.0.kind': Input should be 'weights'"),
        (_set("releases/0/sender", "../../etc"), "'releases.0.sender': String should match"),
        (_set("releases/1/about", 1.0), "'releases.1.about': Input should be a valid integer"),
        (_set("nets/surrogate/extra", 1), "'nets.surrogate.extra': Unexpected keyword"),
        (_set("nets/surrogate/width", 0), "'nets.surrogate': Value error, expected width >= 1"),
        (_set("files", {"../x": "0" * 64}), "'files.*': Input should be 'releases.safetensors'"),
        (_set("files", {}), "expected the digest of releases.safetensors, got .*manifest.json without it"),
        (
            _set("files/releases.safetensors", "0" * 64),
            r"expected SHA-256 0+, got .*releases.safetensors with",
        ),
        (_set("files/releases.safetensors", "zz"), "String should match pattern"),
        (_set("releases/0/tensors/0.bias/dtype", "object"), "Input should be 'float64'"),
        (_set("releases/0/tensors/0.bias/dtype", "int32"), "'00000/0.bias' of shape .* and type int32 by"),
        (
            _set("releases/0/tensors/0.bias/shape", [2, 2]),
            r"'00000/0.bias' of shape \(2, 2\) .*with shape \(4,\)",
        ),
        (
            _set("releases/0/tensors/new", {"shape": [1], "dtype": "bool"}),
            "got .*releases.safetensors with '00000/new' missing",
        ),
        (lambda m: m["releases"][0]["tensors"].pop("0.bias"), "with '00000/0.bias' unlisted"),
        (lambda m: m["releases"].reverse(), "missing|unlisted"),
    ],
)
def test_a_forged_manifest_is_refused(
    saved: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    forge(saved, change)
    with pytest.raises(TranscriptError, match=message) as caught:
        load(saved)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_fails_its_own_digest_is_refused(saved: Path) -> None:
    text = (saved / MANIFEST).read_text()
    (saved / MANIFEST).write_text(text.replace('"round": 1', '"round": 2'))
    with pytest.raises(
        TranscriptError, match=r"expected a manifest with SHA-256 .*, got .*manifest.json with"
    ):
        load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("00001/0.bias"), "with '00001/0.bias' missing"),
        (lambda t: t.update({"00001/x": t.pop("00001/0.bias")}), "with '00001/0.bias' missing"),
        (lambda t: t.update({"00009/x": torch.zeros(1)}), "with '00009/x' unlisted"),
        (lambda t: t.update({"00001/0.bias": torch.zeros(5)}), r"of shape \(4,\) .* with shape \(5,\)"),
    ],
)
def test_forged_tensors_are_refused(
    saved: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    forge_tensors(saved, change)
    with pytest.raises(TranscriptError, match=message):
        load(saved)


def test_bytes_that_are_no_tensors_are_refused(saved: Path) -> None:
    (saved / RELEASES).write_bytes(b"\x80\x04not a tensor file")
    digest = hashlib.sha256((saved / RELEASES).read_bytes()).hexdigest()
    forge(saved, lambda m: m["files"].update({RELEASES: digest}))
    with pytest.raises(TranscriptError, match=r"expected a safetensors file, got .*releases.safetensors"):
        load(saved)
