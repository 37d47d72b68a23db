"""One federation of the reconstruction benchmark: what its server saw, and beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import torch

from attacks.interface import Known, ReconstructionAttack
from audits.reconstruction_attacks import LR, MALICIOUS, WITH_PRIOR
from audits.reconstruction_cases import Case
from audits.reconstruction_deal import Dealt, pool, public_of
from defenses.dp_sgd import DpSgd
from defenses.label_smoothing import LabelSmoothing
from defenses.mixup import MixUp
from defenses.secure_aggregation import SecureAggregation
from defenses.soteria import Soteria
from defenses.top_k import TopK
from privfed.deviation import Deviation, MaliciousServer, Targets
from privfed.distillation import Matching
from privfed.federation import Federation, run
from privfed.hooks import Hooks
from privfed.nets import NetSpec
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.fedbkd import FedBKD
from privfed.pipelines.feddgm import FedDGM
from privfed.pipelines.interface import Pipeline, World
from privfed.prior import Prior, PriorRecipe, train_prior
from privfed.randomness import Stream
from privfed.release import Observer, View
from privfed.training import Recipe

if TYPE_CHECKING:
    from dp_accounting import DpEvent

EPSILON, DELTA, CLIP = 8.0, 1e-5, 1.0
KEPT = 0.1
SMOOTHING = 0.2
MASKED = 0.8
BLENDS = 1.0
MATCHING = Matching(iterations=100, steps=5)
UNTRAINED = Recipe(epochs=0, batch=64, lr=0.01)
"""The server's own models: nothing that the clients send in a first round depends on them."""
PRIOR = PriorRecipe(widths=(8, 16), steps=400)
IMAGES = 2
"""Synthetic ones a class and client in FedDGM, at most."""
LARGE = 256
"""Pixels above which there is one image a class, and half the iterations: more take minutes a run."""
ON_IMAGES = ("distilled images", "warm inversion")
"""Attacks that read what FedDGM's server distils; for others it distils nothing, which changes no update."""
HEAD_EPOCHS = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """What the attacker has before it.

    Attributes:
        view: of the server.
        known: beside it.
        event: what a client's training spent; None where there is no guarantee.
    """

    view: View
    known: Known
    event: DpEvent | None


def net_of(case: Case, shape: tuple[int, ...], classes: int) -> NetSpec:
    """The net that clients train on images of that shape (channels, side, side)."""
    channels, side = shape[:2]
    small = side <= 8
    if case.net == "mlp":
        return NetSpec("mlp", channels, side, classes, width=128 if small else 256)
    return NetSpec("convnet", channels, side, classes, width=16, depth=2)


def hooks_of(case: Case) -> Hooks:
    """The defence of that row; sums alone are shown where the attack is one on sums."""
    aggregate = (SecureAggregation(minimum=2),) if "sum" in case.attack else ()
    match case.defence:
        case "DP-SGD":
            local = DpSgd.for_epsilon(
                EPSILON, DELTA, 1, clip=CLIP, sampling_rate=case.size / case.records, steps=case.steps,
                expected_batch=case.size, lr=LR,
            )  # fmt: skip
            return Hooks(local=local, aggregate=aggregate)
        case "top-k":
            return Hooks(uplink=(TopK(KEPT),), aggregate=aggregate)
        case "label smoothing":
            return Hooks(tasks=(LabelSmoothing(SMOOTHING),), aggregate=aggregate)
        case "soteria":
            return Hooks(local=Soteria(MASKED), aggregate=aggregate)
        case "mixup":
            return Hooks(tasks=(MixUp(BLENDS),), aggregate=aggregate)
        case "none":
            return Hooks(aggregate=aggregate)


def pipeline_of(case: Case, pixels: int) -> Pipeline:
    """What is run on images of that many pixels."""
    local = Recipe(epochs=case.epochs, batch=case.size, lr=LR)
    match case.pipeline:
        case "fedavg":
            return FedAvg(rounds=case.round + 1, local=local, weighting="equal")
        case "feddgm":
            images, matching = distilling(case, pixels)
            return FedDGM(
                rounds=1, local=local, surrogate_training=UNTRAINED, large_training=UNTRAINED,
                ipc=images, matching=matching,
            )  # fmt: skip
        case "fedbkd" | "fedbkd heads":
            # The server's turn comes after what is attacked. The last round is one of heads alone.
            head = Recipe(epochs=HEAD_EPOCHS, batch=case.size, lr=LR)
            rounds = 1 if case.pipeline == "fedbkd heads" else 2
            return FedBKD(rounds=rounds, head=head, representation=local, generator=None)


def distilling(case: Case, pixels: int) -> tuple[int, Matching]:
    """Images a class and client that FedDGM's server distils, and how."""
    if case.attack not in ON_IMAGES:
        return 1, replace(MATCHING, iterations=0, steps=case.steps)
    if pixels > LARGE:
        return 1, replace(MATCHING, iterations=MATCHING.iterations // 2, steps=case.steps)
    return min(case.records, IMAGES), replace(MATCHING, steps=case.steps)


def observed(source: str, case: Case, attack: ReconstructionAttack, dealt: Dealt, stream: Stream) -> Seen:
    """Runs the federation, and hands out what its server saw."""
    spec = net_of(case, tuple(dealt.public.inputs.shape[1:]), len(pool(source).by_class))
    needs_prior = case.attack in WITH_PRIOR or case.pipeline == "feddgm"
    prior = prior_of(source) if needs_prior else None
    hooks = hooks_of(case)
    deviation = None
    if case.attack in MALICIOUS:
        nobody = Targets(dealt.public.take(torch.arange(0)), torch.empty(0, dtype=torch.int64))
        deviation = MaliciousServer(cast(Deviation, attack), nobody)
    world = World(spec, spec, dealt.public, True, prior, hooks, deviation=deviation)
    (outcome,) = run(
        pipeline_of(case, dealt.public.inputs[0].numel()),
        world,
        [Federation(dealt.clients, stream.child("federation"))],
    )
    view = outcome.transcript.view(Observer("malicious_server" if deviation else "server"))
    view = replace(view, releases=tuple(r for r in view.releases if r.round == case.round))
    event = getattr(hooks.local, "event", None)
    return Seen(view, Known(dealt.public, dealt.public, prior), event)


@lru_cache(maxsize=4)
def prior_of(source: str) -> Prior:
    """The generative prior of a data set's public records, which are the same under every seed."""
    found = pool(source)
    return train_prior(public_of(found), len(found.by_class), PRIOR, Stream(0, ("reconstruction", "prior")))
