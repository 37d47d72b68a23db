"""Spaces in which records are compared: pixels, their principal components, or features nobody's data made.

Features come from a classifier that the attacker trains on the public shard, or from the encoder of the
public prior. Both are the same in every federation, so that distances of several compare, and neither
has seen a client. Distances between activations in place of pixels: Zhang et al., "The unreasonable
effectiveness of deep features" (arXiv 1801.03924), here with the attacker's own small net.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits
from torch import Tensor

from attacks.interface import Candidates
from privfed.nets import NetSpec, Params, features, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, Task, train

Space = Literal["pixels", "pca", "net", "prior"]
FeatureMap = Callable[[Tensor], Tensor]
"""Inputs (n, ...) to features (n, d); differentiable in the space "net"."""

COMPONENTS = 40  # principal components, at most
_STEPS, _BATCH = 300, 64
_WIDTH = 16
_RARE = 1e-6  # smallest spread that a feature is divided by


def check_space(space: str) -> None:
    """Refuse spaces that there are not.

    Raises:
        ValueError: naming those there are.
    """
    if space not in get_args(Space):
        raise ValueError(f"expected space to be one of {', '.join(get_args(Space))}, got space={space!r}")


def feature_map(space: Space, candidates: Candidates) -> FeatureMap | None:
    """The way into a space; None where what it is made from is not there.

    That is a prior and images for "prior"; a public shard of at least two labels, of square images or
    embedded sentences, for "net"; and two public records for "pca".
    """
    public = candidates.public
    if space == "pixels":
        return _flat
    if space == "prior":
        prior = candidates.prior
        return None if prior is None or public.inputs.ndim != 4 else lambda x: _flat(prior.encode(x))
    if space == "pca":
        return _principal(public) if len(public) > 1 else None
    return net_features(public)


def in_space(records: Records, into: FeatureMap) -> Records:
    """The same labels with features of shape (n, d) in place of inputs."""
    with torch.no_grad():
        return Records(into(records.inputs), records.labels)


def net_features(public: Records) -> FeatureMap | None:
    """Last activations of a classifier of the public shard, each divided by its spread there.

    Trained once a process and shard, always to the same bits.
    """
    spec = _spec_for(public)
    if spec is None:
        return None
    params, scale = _trained(spec, Shard(public, digest(public.inputs, public.labels)))

    def into(inputs: Tensor) -> Tensor:
        return features(spec, params, inputs.float().unsqueeze(0)).squeeze(0) / scale

    return into


def digest(*tensors: Tensor) -> str:
    """A name for the content of tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Public records that are equal by content."""

    records: Records
    name: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shard) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


@lru_cache(maxsize=4)
def _trained(spec: NetSpec, shard: Shard) -> tuple[Params, Tensor]:
    # Not from the stream of the observation, which is another one in each federation.
    public, stream = shard.records, Stream(0, ("feature net",))
    recipe = Recipe(epochs=-(-_STEPS * _BATCH // len(public)), batch=_BATCH, lr=0.05, momentum=0.9)
    start = {k: t.to(public.inputs) for k, t in initial(spec, stream.child("initial").torch()).items()}
    (params,) = train([Task(spec, start, public, recipe, stream.child("train"))])
    single = {name: t.unsqueeze(0) for name, t in params.items()}
    with torch.no_grad():
        spread = features(spec, single, public.inputs.unsqueeze(0)).squeeze(0).std(0)
    return single, torch.where(spread > _RARE, spread, 1.0)


def _spec_for(public: Records) -> NetSpec | None:
    shape, labels = public.inputs.shape[1:], public.labels
    if len(labels.unique()) < 2 or int(labels.min()) < 0 or not public.inputs.is_floating_point():
        return None
    classes = int(labels.max()) + 1
    if len(shape) == 3 and shape[1] == shape[2] > 1:
        depth = max(1, min(3, int(shape[1]).bit_length() - 2))
        return NetSpec("convnet", shape[0], shape[1], classes, width=_WIDTH, depth=depth)
    if len(shape) == 2:
        return NetSpec("lstm", shape[1], shape[0], classes, hidden=(2 * _WIDTH, _WIDTH))
    return None


def _principal(public: Records) -> FeatureMap:
    points = _flat(public.inputs).cpu().numpy()
    with threadpool_limits(1):
        fitted = PCA(min(COMPONENTS, *points.shape), svd_solver="full").fit(points)
    mean, axes = torch.from_numpy(fitted.mean_), torch.from_numpy(fitted.components_)
    return lambda inputs: (_flat(inputs).cpu() - mean) @ axes.T


def _flat(inputs: Tensor) -> Tensor:
    return inputs.flatten(1).double()
