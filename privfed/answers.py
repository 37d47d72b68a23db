"""A model that answers and is not handed out: what stands between its weights and those who ask.

A release of kind "answers" holds the weights, for whoever serves the model has them, and the knobs of
the interface as scalar tensors beside them. A view of anyone else holds the release without tensors
and a function to ask. That keeps attacks honest, not Python code out that goes looking for the
function's inside: it could open the transcript's file as well.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from privfed.nets import NetSpec, Params, head_names, parameter_shapes
from privfed.randomness import Stream
from privfed.release import SERVER, Observer, Release, client_name
from privfed.training import predict

Ask = Callable[[Tensor, Stream], Tensor]
"""Answers to inputs of shape (n, *spec.input_shape): float64, shape (n, classes)."""

MOST_DECIMALS = 9
_PREFIX = "answers:"
_DECIMALS, _DEVIATION, _SEED = (_PREFIX + knob for knob in ("decimals", "deviation", "seed"))


@dataclass(frozen=True, slots=True)
class Interface:
    """What happens to logits on their way out: noise first, rounding after, however they were set.

    Attributes:
        decimals: of the confidences that are answered; None = logits are answered.
        deviation: standard deviation of Gaussian noise on every logit.
        seed: of the noise, known to whoever serves the model alone.
    """

    decimals: int | None = None
    deviation: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.decimals is not None and not 0 <= self.decimals <= MOST_DECIMALS:
            raise ValueError(f"expected decimals from 0 to {MOST_DECIMALS}, got decimals={self.decimals}")
        if not 0 <= self.deviation < math.inf:
            raise ValueError(f"expected a finite deviation >= 0, got deviation={self.deviation}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"expected seed from 0 to 2^63 - 1, got seed={self.seed}")


def put_behind(release: Release, interface: Interface) -> Release:
    """The released model behind an interface; one that has an interface keeps the stricter of both.

    Noise of two interfaces adds up in variance, and of two roundings the coarser one counts.

    Raises:
        ValueError: for a release that is no model.
    """
    if release.kind not in ("weights", "answers"):
        raise ValueError(f"expected a model to put behind an interface, got kind={release.kind!r}")
    had = interface_of(release) if release.kind == "answers" else Interface()
    known = [d for d in (had.decimals, interface.decimals) if d is not None]
    decimals = min(known, default=None)
    deviation = math.hypot(had.deviation, interface.deviation)
    seed = interface.seed if interface.deviation else had.seed
    knobs = {
        _DEVIATION: torch.tensor(deviation, dtype=torch.float64),
        _SEED: torch.tensor(seed),
        **({} if decimals is None else {_DECIMALS: torch.tensor(decimals)}),
    }
    return replace(release, kind="answers", tensors={**weights_of(release), **knobs})


def weights_of(release: Release) -> Params:
    """The model's parameters, for whoever serves it or measures it."""
    return {name: t for name, t in release.tensors.items() if not name.startswith(_PREFIX)}


def interface_of(release: Release) -> Interface:
    """What stands before the weights.

    Raises:
        ValueError: when a knob is missing, unknown, no scalar or out of range.
    """
    knobs = {name: t for name, t in release.tensors.items() if name.startswith(_PREFIX)}
    if not {_DEVIATION, _SEED} <= knobs.keys() <= {_DEVIATION, _SEED, _DECIMALS}:
        raise ValueError(f"expected the knobs of an interface, got {', '.join(sorted(knobs)) or 'none'}")
    for name, t in knobs.items():
        if t.numel() != 1 or t.is_floating_point() != (name == _DEVIATION):
            raise ValueError(f"expected a scalar {name}, got {name}={tuple(t.shape)} {t.dtype}")
    decimals = int(knobs[_DECIMALS]) if _DECIMALS in knobs else None
    return Interface(decimals, float(knobs[_DEVIATION]), int(knobs[_SEED]))


def answer(spec: NetSpec, release: Release, inputs: Tensor, stream: Stream) -> Tensor:
    """What the interface answers.

    Fresh noise comes with every query: it hangs on the interface's own seed, on the stream of whoever
    asks and on all inputs asked at once, so that nobody who asks can take it off again. The same question
    on the same stream has the same answer.

    Args:
        spec: the architecture.
        release: of kind "answers".
        inputs: shape (n, *spec.input_shape).
        stream: of this one query.

    Returns:
        float64, shape (n, classes): logits; with rounding the logarithms of the rounded confidences, of
        half the last place where one is rounded to zero (0.005 at two decimals), which says the same.

    Raises:
        ValueError: when the weights or the inputs do not fit the architecture.
    """
    interface, params = interface_of(release), weights_of(release)
    shapes = {name: tuple(t.shape) for name, t in params.items()}
    if shapes != parameter_shapes(spec):
        name = sorted(set(shapes.items()) ^ set(parameter_shapes(spec).items()))[0][0]
        raise ValueError(f"expected a whole model behind the interface, got {name}={shapes.get(name)}")
    if tuple(inputs.shape[1:]) != spec.input_shape:
        raise ValueError(f"expected inputs of shape {spec.input_shape}, got inputs={tuple(inputs.shape[1:])}")
    device = next(iter(params.values())).device
    logits = predict(spec, params, inputs.to(device)).double()
    if interface.deviation:
        asked = (hashlib.sha256(_content(inputs)).hexdigest(), stream.integer())
        generator = Stream(interface.seed, ("answers", *asked)).torch()
        noise = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
        logits = logits + interface.deviation * noise.to(device)
    return logits if interface.decimals is None else _rounded(logits, interface.decimals)


def labels_of(answers: Tensor) -> Tensor:
    """The label each answer names, shape (n,): the first of the largest, as ties are common when rounded."""
    classes = answers.shape[1]
    largest = answers == answers.amax(1, keepdim=True)
    places = torch.arange(classes, device=answers.device).expand_as(answers)
    return torch.where(largest, places, classes).amin(1)


def shown(release: Release, observer: Observer) -> Release:
    """The release as `observer` gets it: whoever serves the model holds the bare weights, others nothing."""
    if release.kind != "answers":
        return release
    if release.sender == _party(observer):
        return replace(release, kind="weights", tensors=weights_of(release))
    return replace(release, tensors={})


def interfaces(
    releases: tuple[Release, ...], nets: Mapping[str, NetSpec], observer: Observer
) -> dict[str, Ask]:
    """What `observer` can ask, by the model's name; of several releases of a name the newest answers.

    A representation without a head gives no answers, and a net that nobody described cannot be run.
    """
    found: dict[str, Ask] = {}
    for release in releases:
        spec = nets.get(release.name)
        if release.kind == "answers" and spec is not None and shown(release, observer).kind == "answers":
            found.pop(release.name, None)
            if set(head_names(spec)) <= release.tensors.keys():
                found[release.name] = _function(spec, release)
    return found


def _party(observer: Observer) -> str:
    """The observer as a sender; empty for an outsider, who sends nothing."""
    if observer.client is not None:
        return client_name(observer.client)
    return "" if observer.role == "outsider" else SERVER


def _function(spec: NetSpec, release: Release) -> Ask:
    # A closure: a partial would show what it holds as an attribute.
    def ask(inputs: Tensor, stream: Stream) -> Tensor:
        return answer(spec, release, inputs, stream)

    return ask


def _rounded(logits: Tensor, decimals: int) -> Tensor:
    unit = 10.0**-decimals
    steps = (logits.softmax(1) / unit).round()
    return (torch.where(steps > 0, steps, 0.5) * unit).log()


def _content(inputs: Tensor) -> bytes:
    return inputs.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
