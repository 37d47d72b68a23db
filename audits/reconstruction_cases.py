"""The grid of the reconstruction benchmark: every axis varied from one default, not their full product."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

Net = Literal["mlp", "convnet"]
Sharing = Literal["mixed", "one class"]
Pipeline = Literal["fedavg", "feddgm", "fedbkd", "fedbkd heads"]
Defence = Literal["none", "DP-SGD", "top-k", "label smoothing", "soteria", "mixup"]

NETS: tuple[Net, ...] = get_args(Net)
SIZES = (1, 2, 8, 32)
STEPS = (5, 20)
LATER = 50
SMALL = (1, 2, 8)
GUARDS: tuple[Defence, ...] = ("DP-SGD", "top-k", "label smoothing", "soteria")
AXES = {
    "records": "Records of a client, one full-batch step",
    "steps": "Local steps",
    "round": "After rounds of training, one full-batch step a round",
    "defence": "Defences, one full-batch step",
    "feddgm": "FedDGM, a small shard of one class",
    "fedbkd": "FedBKD, its first round and its head epochs alone",
    "malicious": "A malicious server",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table.

    Attributes:
        axis: which of `AXES` it belongs to.
        net: family of the net that clients train.
        attack: name in `audits.reconstruction_attacks.ATTACKS`.
        records: of each client.
        epochs: local ones.
        batch: records a local step; None = all of them.
        defence: at the clients.
        sharing: "mixed" = labels as they come; "one class" = a client's records share their label.
        pipeline: what is run.
        round: that is attacked; nothing of other rounds is shown to the attack.
    """

    axis: str
    net: Net
    attack: str
    records: int = 1
    epochs: int = 1
    batch: int | None = None
    defence: Defence = "none"
    sharing: Sharing = "mixed"
    pipeline: Pipeline = "fedavg"
    round: int = 0

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise ValueError(f"expected axis among {', '.join(AXES)}, got axis={self.axis!r}")
        for name in ("records", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")

    @property
    def size(self) -> int:
        """Records a local step."""
        return self.records if self.batch is None else min(self.batch, self.records)

    @property
    def steps(self) -> int:
        """Local steps of a client."""
        return self.epochs * -(-self.records // self.size)


def grid() -> tuple[Case, ...]:
    """All cases, cheap axes and the ones that decide first."""
    return tuple(
        dict.fromkeys([*_sizes(), *_malicious(), *_guarded(), *_bkd(), *_later(), *_steps(), *_dgm()])
    )


def quick_grid() -> tuple[Case, ...]:
    """A few cheap ones, of three axes."""
    first = Case("records", "mlp", "analytic")
    return (
        first,
        replace(first, records=8),
        replace(first, attack="exact recovery", records=8),
        replace(first, attack="inverting gradients"),
        replace(first, net="convnet", attack="inverting gradients"),
        replace(first, axis="defence", defence="DP-SGD"),
        Case("malicious", "mlp", "imprint", records=8),
    )


def _sizes() -> Iterator[Case]:
    for n in SIZES:
        for attack in ("analytic", "exact recovery", "inverting gradients"):
            if attack != "exact recovery" or n <= 8:
                yield Case("records", "mlp", attack, n)
        yield Case("records", "convnet", "inverting gradients", n)
    for net in NETS:
        yield Case("records", net, "DLG", 1)
    for n in (1, 8):
        yield Case("records", "convnet", "prior inversion", n)
        yield Case("records", "convnet", "prior alone", n)


def _steps() -> Iterator[Case]:
    for n in (1, 8):
        for epochs in STEPS:
            yield Case("steps", "mlp", "analytic", n, epochs)
            yield Case("steps", "mlp", "exact recovery", n, epochs)
            for net in NETS:
                yield Case("steps", net, "surrogate point", n, epochs)
    for net in NETS:
        for n in (1, 8):
            yield Case("steps", net, "inverting gradients", n, STEPS[0])
        yield Case("steps", net, "surrogate point", 8, 5, 2)
        yield Case("steps", net, "simulated epochs", 8, 5, 2)
    yield Case("steps", "mlp", "analytic", 8, 5, 2)


def _later() -> Iterator[Case]:
    for n in (1, 8):
        yield Case("round", "mlp", "analytic", n, round=LATER)
        for net in NETS:
            yield Case("round", net, "inverting gradients", n, round=LATER)


def _guarded() -> Iterator[Case]:
    rows: Iterable[tuple[Net, str]] = (
        ("mlp", "analytic"),
        ("mlp", "inverting gradients"),
        ("convnet", "inverting gradients"),
    )
    for net, attack in rows:
        for defence in GUARDS:
            yield Case("defence", net, attack, 1, defence=defence)
        yield Case("defence", net, attack, 2, defence="mixup")


def _dgm() -> Iterator[Case]:
    for n in SMALL:
        for attack in ("distilled images", "warm inversion", "surrogate point"):
            yield Case("feddgm", "convnet", attack, n, STEPS[0], sharing="one class", pipeline="feddgm")


def _bkd() -> Iterator[Case]:
    rounds: tuple[Pipeline, ...] = ("fedbkd", "fedbkd heads")
    for pipeline in rounds:
        for net, attack in (("mlp", "analytic"), *((n, "inverting gradients") for n in NETS)):
            yield Case("fedbkd", net, attack, 1, pipeline=pipeline)


def _malicious() -> Iterator[Case]:
    for n, epochs in ((8, 1), (32, 1), (8, 5)):
        for attack in ("imprint", "trap weights", "fishing", "LOKI, sum alone"):
            yield Case("malicious", "mlp", attack, n, epochs)
