"""The attacks of the reconstruction benchmark: one row each, with its budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from attacks._descent import Budget
from attacks.analytic_inversion import AnalyticInversion
from attacks.exact_recovery import ExactRecovery
from attacks.fishing import Fishing
from attacks.gradient_inversion import GradientInversion
from attacks.imprint import Imprint
from attacks.interface import Known, Reconstruction, ReconstructionAttack
from attacks.label_inference import LabelInference
from attacks.loki import Loki
from attacks.prior_inversion import PriorInversion
from attacks.trap_weights import TrapWeights
from attacks.update_inversion import UpdateInversion
from attacks.warm_inversion import WarmInversion
from audits.reconstruction_cases import Case
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.release import View

LR = 0.1
"""Learning rate of every client, which the attacker knows."""
ITERATIONS = Budget(iterations=300, patience=100)
FEWER = Budget(iterations=150, patience=75)
"""Where every iteration replays several steps, or the pixels are many."""
LAYERED = Budget(iterations=60, restarts=1, patience=30)
LINE_SEARCHES = Budget(iterations=15, restarts=1, patience=5)
TRIALS = 8_000
SPARSE = ("top-k", "soteria")
"""Defences that leave entries out: those that did not move then say nothing."""


@dataclass(frozen=True, slots=True)
class DistilledImages:
    """The images that the server distilled of each client's update, taken for the client's records."""

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """All of them, in order; None when the server keeps none."""
        kept = [r for r in view.select("synthetic", "client_images") if r.about is not None]
        if not kept:
            return None
        records = concatenate([Records(r.tensors["inputs"], r.tensors["labels"]) for r in kept])
        clients = np.repeat([r.about for r in kept], [len(r.tensors["labels"]) for r in kept])
        return Reconstruction(records, torch.from_numpy(clients), np.zeros(len(clients)), 0, False)


@dataclass(frozen=True, slots=True)
class OfLikeliestLabel:
    """Those of another attack's records that carry the label which most of a client's update speaks of.

    Attributes:
        inner: attack that rebuilds records of every label, held or not.
        labels: what says how much of the update each label explains.
    """

    inner: ReconstructionAttack
    labels: LabelInference = field(default_factory=LabelInference)

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """None when the other attack gives none."""
        made = self.inner.reconstruct(view, known, stream)
        shares = self.labels.infer(view, known, stream.child("labels"))
        if made is None or shares is None:
            return made
        likeliest = torch.from_numpy(np.nan_to_num(shares.values, nan=-1.0).argmax(1))
        kept = made.records.labels == likeliest[made.clients]
        return replace(
            made,
            records=made.records.take(kept),
            clients=made.clients[kept],
            objective=made.objective[kept.numpy()],
        )


def attack_of(name: str, case: Case, pixels: int) -> ReconstructionAttack:
    """The attack of that row, told the client's recipe and number of records, never its data.

    Args:
        name: one of `ATTACKS`.
        case: the row.
        pixels: of one record; sets the budget.

    Raises:
        ValueError: for an attack that is not there.
    """
    if name not in ATTACKS:
        raise ValueError(f"expected an attack among {', '.join(ATTACKS)}, got attack={name!r}")
    return ATTACKS[name](case, budget(case, pixels))


def budget(case: Case, pixels: int) -> Budget:
    """Steps of those attacks that change pixels."""
    return FEWER if case.steps > 1 or pixels > 256 else ITERATIONS


def _inverting(case: Case, steps: Budget) -> ReconstructionAttack:
    masked = case.defence in SPARSE
    return GradientInversion(
        records=case.records, local_lr=LR, local_steps=case.epochs, masked=masked, budget=steps
    )


def _dlg(case: Case, steps: Budget) -> ReconstructionAttack:
    return GradientInversion(
        records=case.records, objective="squared", optimiser="lbfgs", labels="joint", tv=0.0, lr=1.0,
        local_lr=LR, local_steps=case.epochs, budget=LINE_SEARCHES,
    )  # fmt: skip


def _epochs(case: Case, steps: Budget) -> ReconstructionAttack:
    return UpdateInversion(
        records=case.records, epochs=case.epochs, batch=case.size, local_lr=LR, budget=steps
    )


def _surrogate(case: Case, steps: Budget) -> ReconstructionAttack:
    # One gradient whatever the number of steps: as cheap as a single step.
    return UpdateInversion(
        records=case.records, simulate="surrogate", epochs=case.epochs, batch=case.size, local_lr=LR,
        budget=steps,
    )  # fmt: skip


def _prior(case: Case, matching: bool) -> ReconstructionAttack:
    return PriorInversion(
        records=case.records, local_lr=LR, local_steps=case.epochs, matching=matching, budget=LAYERED
    )


ATTACKS: dict[str, Callable[[Case, Budget], ReconstructionAttack]] = {
    "analytic": lambda case, steps: AnalyticInversion(records=case.records),
    "exact recovery": lambda case, steps: ExactRecovery(records=case.records, trials=TRIALS),
    "inverting gradients": _inverting,
    "DLG": _dlg,
    "simulated epochs": _epochs,
    "surrogate point": _surrogate,
    "prior inversion": lambda case, steps: _prior(case, True),
    "prior alone": lambda case, steps: _prior(case, False),
    "distilled images": lambda case, steps: OfLikeliestLabel(DistilledImages()),
    "warm inversion": lambda case, steps: OfLikeliestLabel(
        WarmInversion(local_steps=case.epochs, local_lr=LR, budget=steps)
    ),
    "imprint": lambda case, steps: Imprint(),
    "trap weights": lambda case, steps: TrapWeights(records=max(2, case.size)),
    "fishing": lambda case, steps: Fishing(),
    "LOKI, sum alone": lambda case, steps: Loki(),
}
"""By name: what runs, from the row and the budget of steps on pixels."""
MALICIOUS = ("imprint", "trap weights", "fishing", "LOKI, sum alone")
"""Those that choose what clients are sent."""
WITH_PRIOR = ("prior inversion", "prior alone")
