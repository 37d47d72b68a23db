"""One case under one seed: a federation is run, inverted and measured, and kept under what made it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.interface import Reconstruction
from audits.identification import Lineup, nearest_is_member, singled_out
from audits.reconstruction_attacks import attack_of
from audits.reconstruction_baselines import class_means, public_neighbours
from audits.reconstruction_bound import success
from audits.reconstruction_cases import Case
from audits.reconstruction_deal import Dealt, deal, pool
from audits.reconstruction_federation import observed
from audits.reconstruction_measures import l2, psnr
from audits.reconstruction_sources import sources
from audits.store import digest, read_json, source_digest, write_json
from privfed.randomness import Stream
from privfed.records import Records

if TYPE_CHECKING:
    from dp_accounting import DpEvent

FOLDER = "reconstruction"
MOST = 60.0
"""Decibels that a PSNR counts at most in a mean; an exact copy has infinitely many."""


@dataclass(frozen=True, slots=True)
class Work:
    """One case on one data set under one seed; `clients` clients of one federation."""

    source: str
    case: Case
    seed: int
    clients: int = 8


@dataclass(frozen=True, slots=True)
class Likeness:
    """What pictures made for one client look like beside its members; None where there is no picture.

    Attributes:
        first: whether the nearest candidate of the picture that the attack itself thinks best is a
            member; 0 without a picture.
        every: the same, mean over all pictures.
        found: share of the members to which some picture is closer than to every decoy.
        decibels: PSNR to the nearest member, mean over the pictures, each at most `MOST`.
    """

    first: float
    every: float | None
    found: float
    decibels: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """What one case under one seed gave, by client.

    Attributes:
        source, case, seed: what was run; the case by its digest.
        attacked: by the attack.
        means, drawn: by the public class means, and by public records drawn at random, of the
            members' own labels.
        lookup: PSNR of the nearest public record of a member, mean: likeness without any attack.
        chance: share of members among the candidates. member_chance: 1 / (decoys + 1).
        labels: share of the members' labels, as a multiset, that the reconstructions carry.
        pictures: how many came out.
        work: steps and queries over all clients. stopped: by a rule of the attack's own.
        seconds: processor time of the attack. total: of all.
        bound: the most often that any reconstruction can single the member out under the claim; None
            without a claim or with several members.
    """

    source: str
    case: str
    seed: int
    attacked: tuple[Likeness, ...]
    means: tuple[Likeness, ...]
    drawn: tuple[Likeness, ...]
    lookup: tuple[float, ...]
    chance: tuple[float, ...]
    member_chance: tuple[float, ...]
    labels: tuple[float, ...]
    pictures: tuple[int, ...]
    work: int
    stopped: bool
    seconds: float
    total: float
    bound: float | None = None


def name_of(case: Case) -> str:
    """Digest of a case, by which the cost of others like it is found."""
    return digest(asdict(case))[:16]


def place(root: Path, work: Work) -> Path:
    """The file of one result, named by the digest of all that made it."""
    found = pool(work.source)
    attack = attack_of(work.case.attack, work.case, found.by_class[0].inputs[0].numel())
    made = {
        "case": asdict(work.case),
        "clients": work.clients,
        "seed": work.seed,
        "data": found.sha256,
        "shares": asdict(found.shares),
        "attack": repr(attack),
        "source": source_digest(*sources(_module(attack))),
        "torch": torch.__version__,
    }
    return root / FOLDER / f"{digest(made)[:32]}.json"


def recall(path: Path) -> Result | None:
    """The result kept there, or None."""
    found = read_json(path)
    if found is None:
        return None
    like = {k: tuple(Likeness(**one) for one in found[k]) for k in ("attacked", "means", "drawn")}
    lists = {k: tuple(v) for k, v in found.items() if isinstance(v, list)}
    return Result(**{**found, **lists, **like})


def perform(root: Path, work: Work) -> Result:
    """The result kept, or else that of a run, which is then kept."""
    path = place(root, work)
    kept = recall(path)
    if kept is not None:
        return kept
    torch.set_num_threads(1)
    result = measure(work)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(result))
    return result


def measure(work: Work) -> Result:
    """Runs, inverts and measures."""
    began = time.process_time()
    found, case = pool(work.source), work.case
    # Of the data and the number of records alone, so that attacks on the same clients are paired.
    stream = Stream(work.seed, ("reconstruction", found.sha256, case.sharing, case.records))
    dealt = deal(found, case, work.clients, stream)
    attack = attack_of(case.attack, case, found.by_class[0].inputs[0].numel())
    seen = observed(work.source, case, attack, dealt, stream)
    start = time.process_time()
    made = attack.reconstruct(seen.view, seen.known, stream.child("attack"))
    seconds = time.process_time() - start
    pictures = [_of_client(made, k) for k in range(work.clients)]
    attacked = [_likeness(p, dealt, k) for k, p in enumerate(pictures)]
    lineups = [_lineup(dealt.clients[k].inputs[:0], dealt, k) for k in range(work.clients)]
    public = dealt.public
    return Result(
        work.source, name_of(case), work.seed,
        attacked=tuple(attacked),
        means=tuple(_likeness(class_means(public, c.labels), dealt, k) for k, c in enumerate(dealt.clients)),
        drawn=tuple(
            _likeness(drawn_records(public, c, stream.child("drawn", k)), dealt, k)
            for k, c in enumerate(dealt.clients)
        ),
        lookup=tuple(_lookup(public, c) for c in dealt.clients),
        chance=tuple(lineup.chance for lineup in lineups),
        member_chance=tuple(lineup.chance_of_member for lineup in lineups),
        labels=tuple(shared_labels(p, c) for p, c in zip(pictures, dealt.clients, strict=True)),
        pictures=tuple(len(p) for p in pictures),
        work=0 if made is None else made.work,
        stopped=made is not None and made.stopped_early,
        seconds=seconds,
        total=time.process_time() - began,
        bound=_bound(seen.event, lineups) if case.records == 1 else None,
    )  # fmt: skip


def drawn_records(public: Records, members: Records, stream: Stream) -> Records:
    """For each member a public record of its label, drawn at random."""
    generator = stream.torch()
    index = []
    for c in members.labels.tolist():
        at = (public.labels == c).nonzero().flatten()
        index.append(at[torch.randint(len(at), (1,), generator=generator)])
    return public.take(torch.cat(index))


def shared_labels(pictures: Records, members: Records) -> float:
    """Share of the members' labels that the pictures carry, each picture used once, in [0, 1]."""
    classes = 1 + int(torch.cat([pictures.labels, members.labels]).max())
    counts = [r.labels[r.labels >= 0].bincount(minlength=classes) for r in (pictures, members)]
    return float(torch.minimum(*counts).sum()) / len(members)


def _of_client(made: Reconstruction | None, client: int) -> Records:
    """One client's pictures in the range of pixels, the one that fits best by the attack itself first."""
    if made is None:
        return Records(torch.empty(0, 1), torch.empty(0, dtype=torch.int64))
    at = (made.clients == client).nonzero().flatten()
    order = np.argsort(made.objective[at.numpy()], kind="stable")
    own = made.records.take(at[torch.from_numpy(order)])
    return Records(own.inputs.clamp(-1, 1), own.labels)


def _lineup(pictures: torch.Tensor, dealt: Dealt, client: int) -> Lineup:
    own, decoys = dealt.clients[client].inputs, dealt.decoys[client].inputs
    members: NDArray[np.bool_] = np.arange(len(own) + len(decoys)) < len(own)
    return Lineup(l2(pictures.to(own), torch.cat([own, decoys])), members)


def _likeness(pictures: Records, dealt: Dealt, client: int) -> Likeness:
    if not len(pictures):
        return Likeness(0.0, None, 0.0, None)
    lineup = _lineup(pictures.inputs, dealt, client)
    hits = np.nan_to_num(nearest_is_member(lineup))
    decibels = np.minimum(np.nan_to_num(psnr(pictures.inputs, dealt.clients[client].inputs)), MOST)
    return Likeness(
        float(hits[0]),
        float(hits.mean()),
        float(np.nanmean(np.nan_to_num(singled_out(lineup))[lineup.members])),
        float(decibels.max(axis=1).mean()),
    )


def _lookup(public: Records, members: Records) -> float:
    nearest = public_neighbours(members, public)
    own = np.diag(psnr(nearest.inputs, members.inputs))
    return float(np.minimum(own, MOST).mean())


def _bound(event: DpEvent | None, lineups: Sequence[Lineup]) -> float | None:
    if event is None:
        return None
    kappa = max(lineup.chance_of_member for lineup in lineups)
    bound = success([event], kappa)
    return bound if math.isfinite(bound) else None


def _module(attack: object) -> str:
    inner = getattr(attack, "inner", attack)
    return type(inner).__module__
