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

from attacks.interface import Reconstruction
from audits.identification import Lineup
from audits.reconstruction_attacks import attack_of
from audits.reconstruction_baselines import class_means, public_neighbours
from audits.reconstruction_bound import success
from audits.reconstruction_cases import Case
from audits.reconstruction_deal import deal, pool
from audits.reconstruction_federation import observed
from audits.reconstruction_judge import judge_of
from audits.reconstruction_likeness import MOST, Likeness, beside
from audits.reconstruction_measures import psnr
from audits.reconstruction_sources import sources
from audits.store import digest, read_json, source_digest, write_json
from privfed.randomness import Stream
from privfed.records import Records

if TYPE_CHECKING:
    from dp_accounting import DpEvent

FOLDER = "reconstruction"


@dataclass(frozen=True, slots=True)
class Work:
    """One case on one data set under one seed; `clients` clients of one federation."""

    source: str
    case: Case
    seed: int
    clients: int = 8


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
    """The result kept there, or None, as for one with other fields than today's."""
    found = read_json(path)
    if found is None:
        return None
    lists = {k: tuple(v) for k, v in found.items() if isinstance(v, list)}
    try:
        like = {k: tuple(Likeness(**one) for one in found[k]) for k in ("attacked", "means", "drawn")}
        return Result(**{**found, **lists, **like})
    except (KeyError, TypeError):
        return None


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
    judge = judge_of(work.source, work.seed)
    places = [beside(dealt, k, judge) for k in range(work.clients)]
    lineups = [one.lineup for one in places]
    public = dealt.public
    return Result(
        work.source, name_of(case), work.seed,
        attacked=tuple(one.likeness(p) for one, p in zip(places, pictures, strict=True)),
        means=tuple(
            one.likeness(class_means(public, c.labels)) for one, c in zip(places, dealt.clients, strict=True)
        ),
        drawn=tuple(
            one.likeness(drawn_records(public, dealt.clients[k], stream.child("drawn", k)))
            for k, one in enumerate(places)
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
