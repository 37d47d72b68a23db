"""What leaves a trust boundary, and who sees it.

A pipeline emits `Release` values; a `Transcript` holds those of one federation in order; an attack
is handed a `View`: the releases its `Observer` saw, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import torch

    from privfed.nets import NetSpec
    from privfed.randomness import Stream

Kind = Literal["weights", "latents", "synthetic", "generator", "logits", "label_set", "counts", "answers"]
Role = Literal["server", "malicious_server", "client", "outsider"]

KINDS: tuple[str, ...] = get_args(Kind)
ROLES: tuple[str, ...] = get_args(Role)
SERVER = "server"
CLIENTS = "clients"
PUBLIC = "public"
AGGREGATOR = "aggregator"
"""What sums the clients' uploads without showing any single one: a protocol, or a party of its own."""


def client_name(index: int) -> str:
    """The name a client has as sender or receiver of a release."""
    return f"client:{index}"


@dataclass(frozen=True, slots=True)
class Release:
    """One message across a trust boundary.

    Attributes:
        round: communication round, from 0.
        sender: "server", "client:K" or "aggregator".
        receiver: "server", "client:K", "clients" (all of them), "aggregator" or "public".
        kind: what the tensors are.
        name: which artefact it is, for example "update", "surrogate", "large", "inputs".
        tensors: the payload by name; floating point for weights (parameter names as keys), inputs
            (n, channels, height, width) or (n, tokens, dimension) with labels (n,) for synthetic sets.
            For answers, the weights and the knobs of the interface before them (`privfed.answers`):
            whoever serves the model holds them, and no view of anybody else does.
        about: index of the client whose data alone made it, or None.
    """

    round: int
    sender: str
    receiver: str
    kind: Kind
    name: str
    tensors: Mapping[str, torch.Tensor]
    about: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected kind to be one of {', '.join(KINDS)}, got kind={self.kind!r}")
        if self.round < 0:
            raise ValueError(f"expected round >= 0, got round={self.round}")

    @property
    def payload_bytes(self) -> int:
        """Bytes that cross the boundary, without framing; none where a model only answers."""
        if self.kind == "answers":
            return 0
        return sum(t.numel() * t.element_size() for t in self.tensors.values())


@dataclass(frozen=True, slots=True)
class Observer:
    """An adversary's point of observation.

    The server is honest but curious and sees what it sends, receives and computes; a malicious
    server sees the same and may choose what it sends. A client sees what reaches it. An outsider
    sees the published artefacts named in `holds` (all published ones when empty).
    """

    role: Role
    client: int | None = None
    holds: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(
                f"expected role to be one of {', '.join(get_args(Role))}, got role={self.role!r}"
            )
        if (self.role == "client") != (self.client is not None):
            raise ValueError(f"expected a client index for role 'client' only, got client={self.client}")

    @property
    def label(self) -> str:
        """Short name for reports, for example "outsider with large"."""
        if self.role == "outsider" and self.holds:
            return "outsider with " + ", ".join(sorted(self.holds))
        return "malicious server" if self.role == "malicious_server" else self.role

    def sees(self, release: Release) -> bool:
        """Whether `release` reached this observer."""
        ends = {release.sender, release.receiver}
        match self.role:
            case "server" | "malicious_server":
                return True if PUBLIC in ends else SERVER in ends
            case "client":
                return bool(ends & {client_name(self.client or 0), CLIENTS, PUBLIC})
            case "outsider":
                return release.receiver == PUBLIC and (not self.holds or release.name in self.holds)


@dataclass(frozen=True, slots=True)
class View:
    """The releases one observer saw, in order, with the public description of the nets involved.

    Attributes:
        interfaces: by name, what answers for a model whose weights this observer does not hold; its
            release is here without tensors.
    """

    observer: Observer
    releases: tuple[Release, ...]
    nets: Mapping[str, NetSpec] = field(default_factory=dict)
    interfaces: Mapping[str, Callable[[torch.Tensor, Stream], torch.Tensor]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def ask(self, name: str, inputs: torch.Tensor, stream: Stream) -> torch.Tensor:
        """Answers of the model `name`: logits, or logarithms of rounded confidences, shape (n, classes).

        Args:
            name: one of `interfaces`.
            inputs: shape (n, *input_shape) of that net.
            stream: of this query; where answers are noisy, another stream brings other noise.

        Raises:
            ValueError: when no model of that name answers, or the inputs do not fit it.
        """
        if name not in self.interfaces:
            known = ", ".join(sorted(self.interfaces)) or "none"
            raise ValueError(f"expected a model that answers ({known}), got name={name!r}")
        return self.interfaces[name](inputs, stream)

    def select(
        self, kind: Kind | None = None, name: str | None = None, about: int | None = None
    ) -> tuple[Release, ...]:
        """Releases of that kind, name and client (None: any), in order."""
        return tuple(
            r
            for r in self.releases
            if (kind is None or r.kind == kind)
            and (name is None or r.name == name)
            and (about is None or r.about == about)
        )


@dataclass(frozen=True, slots=True)
class Transcript:
    """All releases of one federation in order.

    `nets` maps the name of a released model to its public architecture.
    """

    releases: tuple[Release, ...]
    nets: Mapping[str, NetSpec] = field(default_factory=dict)

    def view(self, observer: Observer) -> View:
        """What `observer` saw."""
        seen = tuple(r for r in self.releases if observer.sees(r))
        if not any(r.kind == "answers" for r in seen):
            return View(observer, seen, self.nets)
        from privfed.answers import interfaces, shown

        asked = interfaces(seen, self.nets, observer)
        return View(observer, tuple(shown(r, observer) for r in seen), self.nets, asked)
