"""Released conditional generators as plain functions of noise and label.

`privfed.generator` normalises its hidden layer by the batch at hand, so that what it makes of one noise
vector depends on the others. An attacker who holds the bank knows the statistics that the released
records were made with; with these, every record has an answer of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks._releases import describe, received
from privfed.generator import EMBEDDING, NOISE
from privfed.records import Records
from privfed.release import Release, View

_EPS = 1e-5  # of batch normalisation
_WEIGHTS = ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias", "bound")
_NAMES = (*_WEIGHTS, "bank.noise", "bank.embedding", "bank.labels")


@dataclass(frozen=True, slots=True)
class Generator:
    """A generator whose batch normalisation is fixed to the statistics of its own bank.

    Attributes:
        slope: of the hidden layer in the noise, shape (hidden, 64).
        offsets: of the hidden layer for each label, shape (classes, hidden).
        weight, bias: of the output, shapes (d, hidden) and (d,).
        bound: largest absolute value of the output; 0 = unbounded.
        noise, labels: of the bank, shapes (m, 64) and (m,).
    """

    slope: Tensor
    offsets: Tensor
    weight: Tensor
    bias: Tensor
    bound: float
    noise: Tensor
    labels: Tensor

    @property
    def classes(self) -> int:
        """Labels that it knows."""
        return len(self.offsets)

    def make(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Records of noise (n, 64) in [0, 1) and labels (n,), flat: shape (n, d)."""
        return self.output(F.relu(torch.addmm(self.offsets[labels], noise, self.slope.T)))

    def output(self, hidden: Tensor) -> Tensor:
        """Records of activations of the hidden layer, (n, hidden) -> (n, d)."""
        out = F.linear(hidden, self.weight, self.bias)
        return self.bound * torch.tanh(out) if self.bound else out


def check_records(generator: Generator, records: Records) -> None:
    """Refuse records that the generator cannot make.

    Raises:
        ValueError: when they have another size or labels that it does not know.
    """
    size = records.inputs[:1].numel()
    if len(records) and size != len(generator.bias):
        raise ValueError(
            f"expected a generator of records of {size} values, got a generator of {len(generator.bias)}"
        )
    if len(records) and not 0 <= int(records.labels.min()) <= int(records.labels.max()) < generator.classes:
        raise ValueError(
            f"expected labels from 0 to {generator.classes - 1}, "
            f"got labels from {int(records.labels.min())} to {int(records.labels.max())}"
        )


def generators(view: View, name: str, newest: int) -> tuple[Generator, ...]:
    """The last `newest` generators of that name, newest first, each once.

    What is published was on the server before, which sees it twice.
    """
    found: list[Release] = []
    for release in reversed(received(view, "generator", name)):
        if len(found) < newest and not any(_same(release, f) for f in found):
            found.append(release)
    return tuple(_read(r) for r in found)


def _same(one: Release, other: Release) -> bool:
    return all(n in one.tensors and n in other.tensors for n in _NAMES) and all(
        torch.equal(one.tensors[n], other.tensors[n]) for n in _NAMES
    )


def _read(release: Release) -> Generator:
    """The generator in a release; tensors that no generator needs are not read.

    Raises:
        ValueError: naming release and tensor when one is missing, of another shape, not finite or, for
            the labels, without embedding.
    """
    tensors = {n: _present(release, n) for n in _NAMES}
    hidden, out, classes, m = (
        len(tensors[n].flatten()) for n in ("0.bias", "3.bias", "bank.embedding", "bank.labels")
    )
    classes //= EMBEDDING
    for name, shape in (
        ("0.weight", (hidden, NOISE + EMBEDDING)),
        ("0.bias", (hidden,)),
        ("1.weight", (hidden,)),
        ("1.bias", (hidden,)),
        ("3.weight", (out, hidden)),
        ("3.bias", (out,)),
        ("bound", ()),
        ("bank.noise", (m, NOISE)),
        ("bank.embedding", (classes, EMBEDDING)),
        ("bank.labels", (m,)),
    ):
        if tuple(tensors[name].shape) != shape or not bool(torch.isfinite(tensors[name]).all()):
            raise ValueError(
                f"expected a finite tensor {name!r} of shape {shape} in {describe(release)}, "
                f"got {name}={tuple(tensors[name].shape)} {tensors[name].dtype}"
            )
    labels = tensors["bank.labels"]
    whole = not labels.is_floating_point() and labels.dtype != torch.bool
    if not (m and whole and 0 <= int(labels.min()) <= int(labels.max()) < classes):
        raise ValueError(
            f"expected whole labels from 0 to {classes - 1} in the bank of {describe(release)}, "
            f"got bank.labels={sorted(set(labels.tolist()))[:9]}"
        )
    return _folded(tensors)


def _present(release: Release, name: str) -> Tensor:
    if name not in release.tensors:
        raise ValueError(
            f"expected tensor {name!r} in {describe(release)}, got tensors={sorted(release.tensors)}"
        )
    return release.tensors[name]


def _folded(t: dict[str, Tensor]) -> Generator:
    """The first layer and its normalisation as one affine function of noise and label."""
    t = {n: v.long() if n == "bank.labels" else v.float() for n, v in t.items()}
    noise, embedding, labels = t["bank.noise"], t["bank.embedding"], t["bank.labels"]
    hidden = F.linear(torch.cat([noise, embedding[labels]], 1), t["0.weight"], t["0.bias"])
    scale = t["1.weight"] / (hidden.var(0, unbiased=False) + _EPS).sqrt()
    by_label = F.linear(embedding, t["0.weight"][:, NOISE:], t["0.bias"])
    return Generator(
        scale.unsqueeze(1) * t["0.weight"][:, :NOISE],
        scale * (by_label - hidden.mean(0)) + t["1.bias"],
        t["3.weight"],
        t["3.bias"],
        float(t["bound"]),
        noise,
        labels,
    )
