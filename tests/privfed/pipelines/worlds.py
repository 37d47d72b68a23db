"""Worlds small enough to run a federation in a tenth of a second: noise images, tiny nets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privfed.federation import Federation, Outcome
from privfed.nets import NetSpec, Params, module_of
from privfed.pipelines.interface import Pipeline, World
from privfed.prior import Prior, fit
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release

SURROGATE = NetSpec("convnet", channels=1, size=8, classes=4, width=4, depth=1)
LARGE = NetSpec("mlp", channels=1, size=8, classes=4, width=8, depth=1)
SIZES = (8, 6, 5)


CUTS = {"ipc": 1, "epochs": 2, "batch": 5, "iterations": 1, "steps": 2, "size": 12, "hidden": 8}
"""Largest value of a knob, by its name, in a pipeline and in the parts it is made of."""


def small(pipeline: Pipeline, rounds: int = 2) -> Pipeline:
    """The same pipeline with little to do: whatever says how long or how much is cut short."""
    known = {f.name for f in fields(pipeline)}  # type: ignore[arg-type]
    return replace(_cut(pipeline), **({"rounds": rounds} if "rounds" in known else {}))  # type: ignore[no-any-return]


def _cut(part: Any) -> Any:
    change: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if is_dataclass(value):
            change[field.name] = _cut(value)
        elif field.name in CUTS:
            change[field.name] = min(value, CUTS[field.name])
    return replace(part, **change)


@contextmanager
def double_precision() -> Iterator[None]:
    """Everything in float64, so that two orders of summation differ by rounding only."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def noise(n: int, seed: int, classes: Sequence[int] = (0, 1, 2, 3)) -> Records:
    generator = Stream(seed, ("noise",)).torch()
    images = torch.rand(n, 1, 8, 8, generator=generator) * 2 - 1
    chosen = torch.randint(len(classes), (n,), generator=generator)
    return Records(images, torch.tensor(classes)[chosen])


class Pooling(nn.Module):
    """The cheapest autoencoder: latents are images of half the side."""

    def encode(self, images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=F.avg_pool2d(images, 2)))

    def decode(self, latents: Tensor, return_dict: bool) -> tuple[Tensor]:
        assert not return_dict
        return (F.interpolate(latents, scale_factor=2, mode="bilinear"),)


def prior() -> Prior:
    return fit(Pooling(), noise(30, 1_000), SURROGATE.classes, conditional=True)


def world(**change: Any) -> World:
    return replace(_world(torch.get_default_dtype()), **change)


@lru_cache(maxsize=2)
def _world(dtype: torch.dtype) -> World:
    public = noise(30, 1_000)
    assert public.inputs.dtype == dtype
    return World(SURROGATE, LARGE, public, True, prior(), engine="stacked", large_engine="stacked")


def federation(seed: int, sizes: Sequence[int] = SIZES) -> Federation:
    clients = tuple(noise(n, 100 * seed + k) for k, n in enumerate(sizes))
    return Federation(clients, Stream(seed, ("federation",)))


def updates(outcome: Outcome) -> list[Release]:
    return [r for r in outcome.transcript.releases if r.name == "update"]


def named(outcome: Outcome, name: str) -> list[Release]:
    return [r for r in outcome.transcript.releases if r.name == name]


def same(first: Outcome, second: Outcome) -> bool:
    """Whether two transcripts are equal to the bit."""
    a, b = first.transcript.releases, second.transcript.releases
    return len(a) == len(b) and all(_same_release(x, y) for x, y in zip(a, b, strict=True))


def assert_close(first: Outcome, second: Outcome) -> None:
    """Float64 rounding, amplified by training and by Adam on the latents, stays below 1e-6."""
    for a, b in zip(first.transcript.releases, second.transcript.releases, strict=True):
        assert _heading(a) == _heading(b)
        assert_params_close(dict(a.tensors), dict(b.tensors))


def assert_params_close(first: Params, second: Params) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-6, atol=1e-7, equal_nan=True)


def gradient(spec: NetSpec, params: Params, records: Records) -> Params:
    """Of the mean cross-entropy over the records, by PyTorch on the module itself."""
    module = module_of(spec, params)
    F.cross_entropy(module(records.inputs), records.labels).backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def equal(first: Params, second: Params) -> bool:
    return first.keys() == second.keys() and all(_same_bits(v, second[k]) for k, v in first.items())


def _heading(release: Release) -> tuple[Any, ...]:
    r = release
    return r.round, r.sender, r.receiver, r.kind, r.name, r.about, tuple(r.tensors)


def _same_release(a: Release, b: Release) -> bool:
    return _heading(a) == _heading(b) and equal(dict(a.tensors), dict(b.tensors))


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a.nan_to_num(7), b.nan_to_num(7)))
