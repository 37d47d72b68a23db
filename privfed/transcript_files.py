"""Transcripts on disk: a folder with a JSON manifest and one safetensors file, never a pickle.

`manifest.json` lists the releases in order with the names, shapes and types of their tensors, the
nets, and SHA-256 digests; `releases.safetensors` holds the tensors. Loading refuses whatever does
not match. The digests find damage; they are no signature and do not say who wrote the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError

from privfed.nets import NetSpec
from privfed.release import Kind, Release, Transcript

MANIFEST: Final = "manifest.json"
RELEASES: Final = "releases.safetensors"
LIMIT = 4 * 2**30
"""Most bytes a transcript may have on disk unless the caller says otherwise."""

_TypeName = Literal[
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"
]
_TYPES: tuple[str, ...] = get_args(_TypeName)
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=0)]
_Client = "client:(0|[1-9][0-9]*)"


class TranscriptError(ValueError):
    """A folder that is not a whole, undamaged transcript, or a transcript that cannot be saved."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class TensorEntry(_Strict):
    """Shape and type of one tensor."""

    shape: tuple[_Count, ...]
    dtype: _TypeName


class ReleaseEntry(_Strict):
    """One release without its values; `tensors` keeps their order."""

    round: _Count
    sender: Annotated[str, Field(pattern=f"^(server|aggregator|{_Client})$")]
    receiver: Annotated[str, Field(pattern=f"^(server|clients|aggregator|public|{_Client})$")]
    kind: Kind
    name: str
    about: _Count | None
    tensors: dict[str, TensorEntry]


class Manifest(_Strict):
    """What `manifest.json` holds.

    Attributes:
        schema_version: of this format.
        releases: in order; tensor NAME of release I is the key "I/NAME" of the tensor file, with I in
            at least five digits.
        nets: public architectures by model name.
        files: SHA-256 of each other file of the folder.
        sha256: of this manifest without this field, as JSON with sorted keys, no spaces, ASCII only.
    """

    schema_version: Literal[1]
    releases: tuple[ReleaseEntry, ...]
    nets: dict[str, NetSpec]
    files: dict[Literal["releases.safetensors"], _Digest]
    sha256: _Digest


def save(transcript: Transcript, folder: Path) -> None:
    """Writes `transcript` to the new folder `folder`, whole or not at all.

    Everything goes to a temporary sibling first, which is renamed at the end: no reader ever sees a
    half-written transcript, and of two writers to one folder the second is refused.

    Raises:
        TranscriptError: if the folder exists, or the transcript has what the format does not know.
    """
    if folder.exists():
        raise TranscriptError(f"expected a folder that does not exist yet, got folder={folder}")
    tensors = {
        _key(i, name): _stored(_key(i, name), t)
        for i, r in enumerate(transcript.releases)
        for name, t in r.tensors.items()
    }
    content = safetensors.torch.save(tensors)
    manifest = _describe(transcript, hashlib.sha256(content).hexdigest(), folder)
    try:
        _place(folder, {MANIFEST: manifest.model_dump_json(indent=1).encode(), RELEASES: content})
    except OSError as error:
        raise TranscriptError(f"expected to write a new folder, got folder={folder} ({error})") from error


def load(folder: Path, limit: int = LIMIT) -> Transcript:
    """Reads what `save` wrote, bit for bit, and refuses anything else.

    Args:
        folder: a transcript's folder; its content is untrusted.
        limit: most bytes both files may have together; nothing beyond is read.

    Raises:
        TranscriptError: naming the file and the rule that was broken.
    """
    _check_files(folder, limit)
    manifest = _read_manifest(folder / MANIFEST)
    tensors = _read_tensors(folder / RELEASES, manifest)
    releases = tuple(
        Release(
            **entry.model_dump(exclude={"tensors"}),
            tensors={name: tensors[_key(i, name)] for name in entry.tensors},
        )
        for i, entry in enumerate(manifest.releases)
    )
    return Transcript(releases, manifest.nets)


def _key(position: int, name: str) -> str:
    return f"{position:05d}/{name}"


def _stored(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """The values alone: on the CPU, contiguous, sharing memory with no other tensor."""
    if _type_name(tensor) not in _TYPES or tensor.layout != torch.strided:
        raise TranscriptError(
            f"expected dense tensors of type {', '.join(_TYPES)}, "
            f"got {key!r} of type {_type_name(tensor)} and layout {tensor.layout}"
        )
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _place(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        for name, content in files.items():
            (draft / name).write_bytes(content)
        os.rename(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _type_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _entry(tensor: torch.Tensor) -> dict[str, object]:
    return {"shape": tuple(tensor.shape), "dtype": _type_name(tensor)}


def _describe(transcript: Transcript, digest: str, folder: Path) -> Manifest:
    """The manifest, held against the same rules as one that is read."""
    releases = [
        {
            "round": r.round,
            "sender": r.sender,
            "receiver": r.receiver,
            "kind": r.kind,
            "name": r.name,
            "about": r.about,
            "tensors": {name: _entry(t) for name, t in r.tensors.items()},
        }
        for r in transcript.releases
    ]
    fields = {
        "schema_version": 1,
        "releases": releases,
        "nets": {name: spec.to_json() for name, spec in transcript.nets.items()},
        "files": {RELEASES: digest},
    }
    return _parse(json.dumps(fields | {"sha256": _self_digest(fields)}).encode(), folder)


def _self_digest(fields: Mapping[str, object]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(text: bytes, path: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TranscriptError(
            f"expected a manifest of schema version 1, got {path} with {place!r}: {first['msg']}"
        ) from error
    if set(manifest.files) != {RELEASES}:
        raise TranscriptError(f"expected the digest of {RELEASES}, got {path} without it")
    return manifest


def _check_files(folder: Path, limit: int) -> None:
    """Exactly the two files, both regular and not links, within the limit."""
    if not folder.is_dir():
        raise TranscriptError(f"expected the folder of a transcript, got folder={folder}")
    found = sorted(p.name for p in folder.iterdir())
    if found != [MANIFEST, RELEASES]:
        raise TranscriptError(f"expected exactly {MANIFEST} and {RELEASES}, got {folder} with {found[:5]}")
    for name in found:
        if (folder / name).is_symlink() or not (folder / name).is_file():
            raise TranscriptError(f"expected a regular file, got {folder / name}")
    size = sum((folder / name).stat().st_size for name in found)
    if size > limit:
        raise TranscriptError(f"expected at most limit={limit} bytes, got {folder} of {size} bytes")


def _read_manifest(path: Path) -> Manifest:
    manifest = _parse(path.read_bytes(), path)
    digest = _self_digest(manifest.model_dump(mode="json", exclude={"sha256"}))
    if digest != manifest.sha256:
        raise TranscriptError(f"expected a manifest with SHA-256 {manifest.sha256}, got {path} with {digest}")
    return manifest


def _read_tensors(path: Path, manifest: Manifest) -> dict[str, torch.Tensor]:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != manifest.files[RELEASES]:
        raise TranscriptError(f"expected SHA-256 {manifest.files[RELEASES]}, got {path} with {digest}")
    try:
        tensors = safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise TranscriptError(f"expected a safetensors file, got {path} ({error})") from error
    expected = {_key(i, n): t for i, r in enumerate(manifest.releases) for n, t in r.tensors.items()}
    for key in sorted(set(expected) ^ set(tensors)):
        where = "unlisted" if key in tensors else "missing"
        raise TranscriptError(f"expected the tensors of {MANIFEST}, got {path} with {key!r} {where}")
    for key, entry in expected.items():
        found = TensorEntry.model_validate(_entry(tensors[key]))
        if found != entry:
            raise TranscriptError(
                f"expected {key!r} of shape {entry.shape} and type {entry.dtype} by {MANIFEST}, "
                f"got {path} with shape {found.shape} and type {found.dtype}"
            )
    return tensors
