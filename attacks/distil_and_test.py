"""Distil and test: the server turns a client's update into images and looks for its records there.

The distiller of FedDGM (Jia et al. 2024, arXiv 2312.01537) matches a client's update through a
generative prior, which makes it an inversion of that update (compare Fang et al., "GIFD", 2023). Its
images of one client are then attacked as any synthetic set is: Chen et al., "GAN-Leaks" (2020),
calibrated as in Watson et al. (2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch

from attacks._calibration import calibrated
from attacks._distances import nearest
from attacks._releases import (
    labelled_inputs,
    lacks_head,
    net_of,
    owner,
    received,
    start_of,
    weights,
    with_head,
)
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.distillation import Job, Matched, Matching, match
from privfed.nets import NetSpec
from privfed.prior import Prior
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import Release, View

Distil = Callable[[NetSpec, Sequence[Job], Prior, Matching], list[Matched]]


@dataclass(frozen=True, slots=True)
class DistilledNearest:
    """Minus the L2 distance of each record to the nearest image distilled from its client's updates.

    Higher = closer. A candidate meets the images of its own client only, of all rounds together; NaN
    where the client has none. A server that distils by design holds those images already; from any
    other one this observation distils them itself, in every round from the broadcast weights to the
    client's, for which the candidates must carry a prior, the inputs be images and the client's
    model be whole. Where a representation is broadcast without its head, the client's own head
    stands in for it: the movement that is matched is then that of the representation. A round in
    which no client moved says nothing and is passed over.

    Attributes:
        artefact: name of the per-client synthetic releases.
        same_label: compare only with images of the record's own label.
        ipc: images a class, client and round, where it distils itself.
        matching: knobs of the distillation, where it distils itself.
        distil: the distiller.
    """

    artefact: str = "client_images"
    same_label: bool = False
    ipc: int = 3
    matching: Matching = field(default_factory=Matching)
    distil: Distil = match

    def __repr__(self) -> str:
        """Names the distiller where it is defined: what is read depends on it, its address does not."""
        knobs = {f.name: repr(getattr(self, f.name)) for f in fields(self)}
        name = getattr(self.distil, "__qualname__", None)
        knobs |= {"distil": f"{self.distil.__module__}.{name}"} if name else {}
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in knobs.items())})"

    def __post_init__(self) -> None:
        if self.ipc < 1:
            raise ValueError(f"expected ipc >= 1, got ipc={self.ipc}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Closeness of candidates and population; None with neither images nor means to make them."""
        images = _held(view, self.artefact) or self._distilled(view, candidates.prior, stream)
        return _signals(images, candidates, self.same_label) if images else None

    def _distilled(self, view: View, prior: Prior | None, stream: Stream) -> dict[int, Records]:
        updates = received(view, "weights", "update")
        if prior is None or not updates:
            return {}
        spec = net_of(view, "surrogate")
        updates = with_head(updates, spec)
        sent = received(view, "weights", "surrogate")
        known = [(u, start_of(u, sent)) for u in updates]
        pairs = [(u, self._job(spec, u, start, stream)) for u, start in known if start is not None]
        told = {u.round for u, job in pairs if _moved(job)}
        pairs = [(u, job) for u, job in pairs if u.round in told]
        if not pairs or len(spec.input_shape) != 3:
            return {}
        matched = self.distil(spec, [job for _, job in pairs], prior, self.matching)
        return _by_client([owner(u) for u, _ in pairs], [Records(m.images, m.labels) for m in matched])

    def _job(self, spec: NetSpec, update: Release, start: Release, stream: Stream) -> Job:
        labels = torch.arange(spec.classes).repeat_interleave(self.ipc)
        target = weights(update, spec)
        before = weights(start, spec) if not lacks_head(start, spec) else {**target, **start.tensors}
        return Job(before, target, labels, stream.child("round", update.round, "client", owner(update)))


@dataclass(frozen=True, slots=True)
class DistilAndTest:
    """Score each record by how much closer it is to its client's distilled images than without it.

    Attributes:
        observation: the closeness that is read.
    """

    observation: Observation = field(default_factory=DistilledNearest)

    def score(self, target: Signals, references: References) -> Floats:
        """Closeness less its mean over references without the record, shape (n,)."""
        return calibrated(target, references)


def _moved(job: Job) -> bool:
    return any(not torch.equal(job.start[name], after) for name, after in job.target.items())


def _held(view: View, artefact: str) -> dict[int, Records]:
    """Images of each client that the view already holds."""
    releases = received(view, "synthetic", artefact)
    return _by_client([owner(r) for r in releases], [labelled_inputs(r) for r in releases])


def _by_client(owners: Sequence[int], images: Sequence[Records]) -> dict[int, Records]:
    pairs = list(zip(owners, images, strict=True))
    return {k: concatenate([i for o, i in pairs if o == k]) for k in sorted(set(owners))}


def _signals(images: dict[int, Records], candidates: Candidates, same_label: bool) -> Signals:
    owners = candidates.clients.cpu().numpy().astype(np.int64)
    clients = int(owners.max(initial=-1)) + 1
    of_candidates = np.full((len(owners), 1), np.nan)
    of_population = np.full((len(candidates.population), 1, clients), np.nan)
    for client in images.keys() & set(range(clients)):
        mine = np.flatnonzero(owners == client)
        records = concatenate([candidates.records.take(torch.from_numpy(mine)), candidates.population])
        closeness = -nearest(records, images[client], same_label)
        of_candidates[mine, 0] = closeness[: len(mine)]
        of_population[:, 0, client] = closeness[len(mine) :]
    return Signals(of_candidates, of_population, owners)
