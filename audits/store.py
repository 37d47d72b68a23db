"""What federations left behind, on disk, addressed by the content of what made them.

One folder per federation: its transcript, how its models did on the test records, the claim it
earned, and the signals that attacks read from it. A federation is made in a folder of its own and
renamed when it is whole, its `outcome.json` written last; anything else is an interrupted run and is
done again. Several audits may share a store: what two of them make at once is the same, so whoever
comes second drops its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from attacks.interface import Signals
from privfed.claims import Assumption, Claim
from privfed.release import Transcript
from privfed.transcript_files import load, save

OUTCOME = "outcome.json"
CORRECT = "correct.safetensors"
PERSONAL = "personal"
TRANSCRIPT = "transcript"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one federation beside its transcript.

    Attributes:
        correct: by model ("surrogate", "large"), uint8, shape (test,): 1 where it was right. A model
            without a head, or with one that nobody trained, is left out.
        claims: the formal statements of the run.
        seconds: processor time it took.
        personal: shape (test,): share of the clients that the record is meant for whose own model was
            right, NaN where it is for nobody; None where clients have no models of their own.
        spent: mechanisms that acted on the data of the client with most of them.
    """

    correct: dict[str, NDArray[np.uint8]]
    claims: tuple[Claim, ...]
    seconds: float
    personal: NDArray[np.float64] | None = None
    spent: int = 0


def default_root() -> Path:
    """`$PRIVFED_CACHE`, else `privfed` below the user's cache folder."""
    named = os.environ.get("PRIVFED_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(named) if named else Path(base) / "privfed"


def digest(value: Any) -> str:
    """SHA-256 (hexadecimal) of a JSON-able value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def source_digest(*parts: str) -> str:
    """SHA-256 over the source of these packages and files, so that old results never pass as new.

    Args:
        parts: relative to the folder that holds the packages, for example "attacks" or
            "audits/game.py".
    """
    root = Path(__file__).resolve().parent.parent
    places = [root / part for part in parts]
    files = sorted(f for p in places for f in ([p] if p.is_file() else p.rglob("*.py")))
    content = hashlib.sha256()
    for path in files:
        content.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return content.hexdigest()


def is_complete(folder: Path) -> bool:
    """Whether the federation kept in `folder` was finished."""
    return (folder / OUTCOME).is_file()


def keep(folder: Path, transcript: Transcript, kept: Kept) -> None:
    """Writes one federation, whole or not at all; one that is there already stays as it is."""
    draft = _beside(folder)
    draft.mkdir(parents=True)
    try:
        _write(draft, transcript, kept)
        _settle(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(folder: Path, transcript: Transcript, kept: Kept) -> None:
    save(transcript, folder / TRANSCRIPT)
    own: dict[str, NDArray[Any]] = {} if kept.personal is None else {PERSONAL: kept.personal}
    save_file({**kept.correct, **own}, folder / CORRECT)
    claims = [asdict(claim) for claim in kept.claims]
    write_json(folder / OUTCOME, {"claims": claims, "seconds": kept.seconds, "spent": kept.spent})


def _settle(draft: Path, folder: Path) -> None:
    """Renames a draft to its place unless a whole federation is there; what is broken makes room."""
    if folder.exists() and not is_complete(folder):
        broken = _beside(folder)
        # Another writer may be quicker with it: then the place is free, or taken by its draft.
        with contextlib.suppress(FileNotFoundError):
            folder.rename(broken)
        shutil.rmtree(broken, ignore_errors=True)
    try:
        draft.rename(folder)
    except OSError:
        if not is_complete(folder):
            raise


def _beside(path: Path) -> Path:
    """A name next to `path` that nobody else writes to."""
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file of one's own to write to, which takes the place of `path` when the block ends well."""
    part = _beside(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def recall(folder: Path) -> Kept:
    """What was kept in `folder`; raises ValueError naming a damaged file."""
    try:
        outcome = json.loads((folder / OUTCOME).read_text())
        correct = load_file(folder / CORRECT)
        personal = correct.pop(PERSONAL, None)
        claims = tuple(_claim(fields) for fields in outcome["claims"])
        return Kept(correct, claims, float(outcome["seconds"]), personal, int(outcome["spent"]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"expected a federation kept whole, got {folder}: {error}") from error


def transcript(folder: Path) -> Transcript:
    """The transcript kept in `folder`."""
    return load(folder / TRANSCRIPT)


def keep_arrays(folder: Path, key: str, arrays: Mapping[str, NDArray[Any]] | None) -> None:
    """Writes what was read by one key; None is kept as an empty file list."""
    path = folder / f"signals-{key}.safetensors"
    whole = {name: np.ascontiguousarray(a) for name, a in (arrays or {}).items()}
    with replacing(path) as part:
        save_file(whole, part)
    _failure(folder, key).unlink(missing_ok=True)


def recall_arrays(folder: Path, key: str) -> dict[str, NDArray[Any]] | None:
    """What was read by one key, or None if there was nothing to read; ValueError where damaged."""
    path = folder / f"signals-{key}.safetensors"
    try:
        return load_file(path) or None
    except (OSError, SafetensorError) as error:
        raise ValueError(f"expected signals kept whole, got {path}: {error}") from error


def keep_signals(folder: Path, key: str, signals: Signals | None) -> None:
    """Writes the signals of one observation; None is kept as an empty file list."""
    keep_arrays(folder, key, None if signals is None else asdict(signals))


def recall_signals(folder: Path, key: str) -> Signals | None:
    """The signals of one observation, or None if the view said nothing; ValueError where damaged."""
    arrays = recall_arrays(folder, key)
    try:
        return None if arrays is None else Signals(**arrays)
    except TypeError as error:
        raise ValueError(
            f"expected signals in {folder} under {key}, got arrays={sorted(arrays or ())}"
        ) from error


def keep_failure(folder: Path, key: str, message: str) -> None:
    """Notes that an observation crashed; it is tried again in the next run."""
    write_json(_failure(folder, key), {"message": message})


def recall_failure(folder: Path, key: str) -> str:
    """Why the observation is missing; empty if it did not crash."""
    note = read_json(_failure(folder, key))
    return "" if note is None else str(note["message"])


def has_signals(folder: Path, key: str) -> bool:
    """Whether that observation was made of this federation."""
    return (folder / f"signals-{key}.safetensors").is_file()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON through a temporary file, so that a reader never meets half of it."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=1))


def read_json(path: Path) -> Any:
    """The JSON value in `path`, or None if there is no readable one."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return None


def _failure(folder: Path, key: str) -> Path:
    return folder / f"signals-{key}.failed.json"


def _claim(fields: dict[str, Any]) -> Claim:
    assumptions = tuple(Assumption(**a) for a in fields.pop("assumptions"))
    outside, against = tuple(fields.pop("outside")), tuple(fields.pop("against"))
    return Claim(**fields, assumptions=assumptions, outside=outside, against=against)
