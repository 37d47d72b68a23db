"""Reading releases: which ones count as observed, and whether their tensors are what they claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from privfed.nets import NetSpec, Params, head_names, parameter_shapes
from privfed.records import Records
from privfed.release import Kind, Release, View, client_name

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def received(view: View, kind: Kind, name: str) -> tuple[Release, ...]:
    """Releases of that kind and name, less those a client sent itself: they tell it nothing new."""
    own = client_name(view.observer.client) if view.observer.client is not None else None
    return tuple(r for r in view.select(kind, name) if r.sender != own)


def net_of(view: View, name: str) -> NetSpec:
    """The architecture of the released model `name`.

    Raises:
        ValueError: when the view does not describe it.
    """
    if name not in view.nets:
        raise ValueError(f"expected the view to describe net {name!r}, got nets={sorted(view.nets)}")
    return view.nets[name]


def owner(release: Release) -> int:
    """The client whose data alone made `release`.

    Raises:
        ValueError: when the release does not say.
    """
    if release.about is None:
        raise ValueError(f"expected the client that {describe(release)} is about, got about=None")
    return release.about


def weights(release: Release, spec: NetSpec) -> Params:
    """The parameters in `release`, checked against the architecture.

    Raises:
        ValueError: naming release and tensor when one is missing, unknown, of another shape, not
            floating point or not finite.
    """
    _check_weights(release, parameter_shapes(spec))
    return dict(release.tensors)


def start_of(update: Release, sent: Sequence[Release]) -> Release | None:
    """The model that the client of `update` started from: what it alone was sent in that round, if anything.

    Args:
        update: from one client.
        sent: "surrogate" releases; a malicious server addresses them to single clients.

    Returns:
        None where neither the client nor all clients were sent one in that round.

    Raises:
        ValueError: when the update does not say whose it is.
    """
    own = client_name(owner(update))
    of_round = [r for r in sent if r.round == update.round]
    for_it, for_all = [r for r in of_round if r.receiver == own], [r for r in of_round if not to_one(r)]
    return next(reversed(for_it or for_all), None)


def to_one(release: Release) -> bool:
    """Whether it was sent to a single client."""
    return release.receiver.startswith(client_name(0).removesuffix("0"))


def lacks_head(release: Release, spec: NetSpec) -> bool:
    """Whether it is a representation sent without its head, which alone gives no label.

    That is so when neither tensor of the head is there and everything else is; weights of which
    anything else is missing are damaged.

    Raises:
        ValueError: as `weights`, of what a representation should hold.
    """
    head = head_names(spec)
    if not set(head).isdisjoint(release.tensors):
        return False
    _check_weights(release, {k: v for k, v in parameter_shapes(spec).items() if k not in head})
    return True


def with_head(releases: tuple[Release, ...], spec: NetSpec) -> tuple[Release, ...]:
    """Those that are whole models."""
    return tuple(r for r in releases if not lacks_head(r, spec))


def stack(releases: tuple[Release, ...], spec: NetSpec) -> Params:
    """Parameters of several releases of one architecture, each of shape (len(releases), ...)."""
    models = [weights(r, spec) for r in releases]
    return {name: torch.stack([m[name] for m in models]) for name in models[0]}


def labelled_inputs(release: Release) -> Records:
    """The images (or embedded sentences) and labels of a synthetic release.

    Raises:
        ValueError: naming release and tensor when one is missing, of another shape or kind, or not finite.
    """
    inputs, labels = (_tensor(release, name) for name in ("inputs", "labels"))
    _require(
        inputs.ndim in (3, 4) and inputs.is_floating_point(),
        release,
        "inputs of shape (m, c, h, w) or (m, tokens, dimension), floating",
        inputs,
    )
    _require(
        labels.shape == inputs.shape[:1] and labels.dtype in _INTEGERS,
        release,
        f"labels of shape ({inputs.shape[0]},), integers",
        labels,
    )
    if not bool(torch.isfinite(inputs).all()):
        raise ValueError(f"expected finite inputs in {describe(release)}, got inputs with NaN or infinity")
    return Records(inputs, labels.long())


def describe(release: Release) -> str:
    """A release in an error message."""
    return f"release {release.name!r} of round {release.round} from {release.sender}"


def _tensor(release: Release, name: str) -> Tensor:
    if name not in release.tensors:
        raise ValueError(
            f"expected tensor {name!r} in {describe(release)}, got tensors={sorted(release.tensors)}"
        )
    return release.tensors[name]


def _require(holds: bool, release: Release, rule: str, got: Tensor) -> None:
    if not holds:
        name = rule.split()[0]
        raise ValueError(
            f"expected {rule}, in {describe(release)}, got {name}={tuple(got.shape)} {got.dtype}"
        )


def _check_weights(release: Release, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name in sorted(shapes.keys() | release.tensors.keys()):
        _check_weight(release, name, shapes.get(name))


def _check_weight(release: Release, name: str, shape: tuple[int, ...] | None) -> None:
    if shape is None:
        raise ValueError(f"expected only parameters of the net in {describe(release)}, got tensor={name!r}")
    tensor = _tensor(release, name)
    if tuple(tensor.shape) != shape or not tensor.is_floating_point():
        raise ValueError(
            f"expected tensor {name!r} of shape {shape}, floating, in {describe(release)}, "
            f"got {name}={tuple(tensor.shape)} {tensor.dtype}"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(
            f"expected finite tensor {name!r} in {describe(release)}, got {name} with NaN or infinity"
        )
