"""Logits exchanged for distillation: a student of one client's logits repeats what its teacher memorised.

The records under attack are not among those whose logits are sent, so the attacker distils a student from
them and asks the student. Sources: Jagielski et al., "Students parrot their teachers" (arXiv 2303.03446),
whose attack on students never asks the teacher about members; Shi et al. (arXiv 2502.08001), likelihood
ratios from clients' logits on public records; Hinton et al. (arXiv 1503.02531), section 2, distillation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks import lira
from attacks._releases import describe, labelled_inputs, net_of, owner, received
from attacks.confidence import confidences
from attacks.interface import Candidates, Floats, Observation, References, Signals
from privfed.nets import NetSpec, Params, forward, initial
from privfed.randomness import Stream
from privfed.release import Release, View


@dataclass(frozen=True, slots=True)
class StudentConfidence:
    """Logit-scaled confidence of a student distilled from the logits that a record's client sent.

    Higher = more confident. One student a client, of the surrogate's architecture and from one fresh start
    for all, learns all that the client said in all rounds. Candidates meet the student of their own client
    only; NaN where the client sent no logits.

    Attributes:
        artefact: name of the releases with logits; they are about the newest records that the server
            sent to all clients in an earlier round.
        bank: name of the releases with those records.
        steps, lr, batch: of Adam; records a step, drawn afresh for each.
        temperature: of both sides; the higher, the more unlikely labels count.
    """

    artefact: str = "logits"
    bank: str = "shared_bank"
    steps: int = 150
    lr: float = 0.01
    batch: int = 64
    temperature: float = 4.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")
        for name in ("lr", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, got {name}={getattr(self, name)}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Confidences of candidates and population; None without logits, their records or rival classes."""
        sent, banks = received(view, "logits", self.artefact), received(view, "synthetic", self.bank)
        pairs = [(r, b) for r in sent if (b := _newest(banks, r.round)) is not None]
        if not pairs or (spec := net_of(view, "surrogate")).classes < 2:
            return None
        start = initial(spec, stream.child("student").torch())
        owners = candidates.clients.cpu().numpy().astype(np.int64)
        clients = int(owners.max(initial=-1)) + 1
        of_candidates = np.full((len(owners), 1), np.nan)
        of_population = np.full((len(candidates.population), 1, clients), np.nan)
        for client in sorted({owner(r) for r, _ in pairs} & set(range(clients))):
            said = [_lesson(spec, r, b) for r, b in pairs if owner(r) == client]
            inputs, logits = (torch.cat(parts) for parts in zip(*said, strict=True))
            model = self._student(spec, start, inputs, logits, stream.child("batches"))
            mine = np.flatnonzero(owners == client)
            own = candidates.records.take(torch.from_numpy(mine))
            of_candidates[mine, 0] = confidences(spec, model, own)[0]
            of_population[:, 0, client] = confidences(spec, model, candidates.population)[0]
        return Signals(of_candidates, of_population, owners)

    def _student(
        self, spec: NetSpec, start: Params, inputs: Tensor, logits: Tensor, stream: Stream
    ) -> Params:
        """A model that says of `inputs` what `logits` (m, classes) say; parameters of shape (1, ...)."""
        params = {k: t[None].to(inputs.device, copy=True).requires_grad_() for k, t in start.items()}
        optimiser = torch.optim.Adam(list(params.values()), lr=self.lr)
        wanted, draw = (logits / self.temperature).log_softmax(1), stream.torch()
        for _ in range(self.steps):
            at = torch.randperm(len(inputs), generator=draw)[: self.batch].to(inputs.device)
            given = (forward(spec, params, inputs[at][None])[0] / self.temperature).log_softmax(1)
            loss = self.temperature**2 * F.kl_div(given, wanted[at], reduction="batchmean", log_target=True)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        return {name: t.detach() for name, t in params.items()}


@dataclass(frozen=True, slots=True)
class ParrotedLogits:
    """Score each record by a likelihood ratio of the confidence of its client's student.

    LiRA with references; no client is ever asked about a candidate.

    Attributes:
        observation: the confidence that is read.
        mode: as in `Lira`; a student adds noise of its own to the confidence, from which a few references
            learn a mean sooner than two.
    """

    observation: Observation = field(default_factory=StudentConfidence)
    mode: lira.Mode = "offline"

    def score(self, target: Signals, references: References) -> Floats:
        """As `Lira` scores, shape (n,)."""
        return lira.Lira(self.observation, self.mode).score(target, references)


def _newest(banks: Sequence[Release], round: int) -> Release | None:
    """The records that clients had been sent before that round; None before the first."""
    return max((b for b in banks if b.round < round), key=lambda b: b.round, default=None)


def _lesson(spec: NetSpec, sent: Release, bank: Release) -> tuple[Tensor, Tensor]:
    """The records, and what the client said of them.

    Raises:
        ValueError: when there are no finite logits for each of them.
    """
    inputs = labelled_inputs(bank).inputs
    logits = sent.tensors.get("logits", torch.empty(0))
    if logits.shape != (len(inputs), spec.classes) or not logits.is_floating_point():
        raise ValueError(
            f"expected logits of shape {(len(inputs), spec.classes)}, floating, in {describe(sent)}, "
            f"got logits={tuple(logits.shape)} {logits.dtype}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise ValueError(f"expected finite logits in {describe(sent)}, got logits with NaN or infinity")
    return inputs, logits
