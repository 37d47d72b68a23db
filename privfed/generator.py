"""Data-free conditional generator: records out of noise and a label, judged by frozen local models.

FedBKD (arXiv 2506.20245) after its released code: the multi-layer perceptron of FedGen (Zhu et al.,
arXiv 2105.10056) extended to emit whole inputs, DAFL's one-hot loss (Chen et al., arXiv 1904.01186,
section 3.1) and FedGen's diversity loss. A bank of noise and labels is drawn once; the generator is
fresh in every round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from privfed.nets import NetSpec, Params, forward
from privfed.randomness import Stream
from privfed.records import Records, concatenate

Mode = Literal["released", "paper", "conditioned"]
NOISE = 64
EMBEDDING = 64
MEMORISING_STEPS = 500
MEMORISING_LR = 1e-2


@dataclass(frozen=True, slots=True)
class Bank:
    """Fixed inputs of every generator of one federation.

    Attributes:
        noise: uniform in [0, 1), shape (m, 64).
        embedding: of each label, standard normal, shape (classes, 64).
        labels: int64, shape (m,), equally many of each class up to one.
    """

    noise: Tensor
    embedding: Tensor
    labels: Tensor

    @property
    def inputs(self) -> Tensor:
        """Noise beside the label's embedding, shape (m, 128)."""
        return torch.cat([self.noise, self.embedding[self.labels]], 1)

    def to_params(self) -> Params:
        """As tensors by name."""
        return {"noise": self.noise, "embedding": self.embedding, "labels": self.labels}


@dataclass(frozen=True, slots=True)
class GeneratorTraining:
    """How a round's generator is trained.

    Attributes:
        mode: "released" = what the published code does on images and text: its output is detached
            before the local models see it, so that only the diversity loss trains the generator,
            and images are cast to whole grey levels; "paper" = gradients reach the generator, its
            output is bounded, and the models' own argmax is the label to confirm; "conditioned" =
            as "paper", and the label that the noise came with is demanded too.
        size: entries of the bank.
        hidden: hidden units.
        epochs: passes over the clients of a round.
        steps: Adam steps a client and pass.
        lr, weight_decay: of Adam.
        diversity: weight of the diversity loss.
        sub_batch: entries that the diversity loss compares in a step; all pairs of the whole bank
            cost far more and teach no more.
        bound: largest absolute value of the output; 1 spans the range of images. The mode
            "released" is unbounded.
    """

    mode: Mode = "conditioned"
    size: int = 500
    hidden: int = 256
    epochs: int = 6
    steps: int = 5
    lr: float = 3e-4
    weight_decay: float = 1e-2
    diversity: float = 0.3
    sub_batch: int = 40
    bound: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(
                f"expected mode to be one of {', '.join(get_args(Mode))}, got mode={self.mode!r}"
            )
        for name in ("size", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {name}={getattr(self, name)}")
        for name in ("epochs", "steps", "weight_decay", "diversity"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"expected {name} >= 0, got {name}={getattr(self, name)}")
        for name in ("lr", "bound"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} > 0, got {name}={getattr(self, name)}")
        if self.sub_batch < 2:
            raise ValueError(f"expected sub_batch >= 2, got sub_batch={self.sub_batch}")


@dataclass(frozen=True, slots=True)
class Discriminator:
    """A frozen local model and the labels its client holds."""

    params: Params
    labels: Tensor


def draw_bank(size: int, classes: int, stream: Stream, device: torch.device) -> Bank:
    """Noise, label embedding and shuffled labels, drawn on the CPU so that every device has the same."""
    generator = stream.torch()
    labels = (torch.arange(size) % classes)[torch.randperm(size, generator=generator)]
    noise = torch.rand(size, NOISE, generator=generator)
    embedding = torch.randn(classes, EMBEDDING, generator=generator)
    return Bank(noise.to(device), embedding.to(device), labels.to(device))


def train_generator(
    spec: NetSpec,
    models: Sequence[Discriminator],
    bank: Bank,
    recipe: GeneratorTraining,
    stream: Stream,
    planted: Sequence[Records] = (),
) -> Params:
    """A fresh generator, trained against every model in turn.

    Args:
        spec: architecture of the models.
        models: in the order in which they are visited.
        bank: the fixed inputs.
        recipe: mode and knobs.
        stream: randomness of the initial weights and of the diversity loss.
        planted: records to reproduce; only the control with a planted leak has any.

    Returns:
        Parameters by name, and the bound of the output, for `generate`.
    """
    params = _fresh(recipe, spec, bank, stream.child("initial"))
    bound = torch.tensor(0.0 if recipe.mode == "released" else recipe.bound, device=bank.noise.device)
    leaves = [p.requires_grad_() for p in params.values()]
    optimizer = torch.optim.Adam(leaves, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    params["bound"] = bound
    draw = stream.child("diversity").torch()
    parts = [(m, _part(bank, m.labels)) for m in models]
    for model, part in (pair for _ in range(recipe.epochs) for pair in parts if len(pair[1].labels) > 1):
        frozen = {name: t.unsqueeze(0) for name, t in model.params.items()}
        for _ in range(recipe.steps):
            loss = _loss(spec, frozen, params, part, recipe, draw)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    if planted:
        _memorise(params, leaves, bank, concatenate(list(planted)))
    return {name: p.detach() for name, p in params.items()}


def generate(params: Mapping[str, Tensor], inputs: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Records of the given shape, shape (n, *shape).

    Batch normalisation uses the statistics of `inputs`, as in training: the records of a bank
    depend on one another.

    Args:
        params: as `train_generator` gives; "bound" 0 stands for an unbounded output.
        inputs: noise beside label embeddings, shape (n, 128).
        shape: of one record.
    """
    hidden = F.linear(inputs, params["0.weight"], params["0.bias"])
    hidden = F.batch_norm(hidden, None, None, params["1.weight"], params["1.bias"], training=True)
    out = F.linear(F.relu(hidden), params["3.weight"], params["3.bias"])
    bound = float(params["bound"])
    out = bound * torch.tanh(out) if bound else out
    return out.view(len(inputs), *shape)


@torch.no_grad()
def synthesise(spec: NetSpec, params: Params, bank: Bank, mode: Mode) -> Records:
    """The records of the whole bank.

    In the mode "released" images are cast to bytes and read back as grey levels, which makes black
    of every value between -1 and 1.
    """
    made = generate(params, bank.inputs, spec.input_shape)
    if mode == "released" and len(spec.input_shape) == 3:
        made = made.trunc().remainder(256) / 127.5 - 1
    return Records(made, bank.labels)


def holding(records: Records, labels: Tensor) -> Records:
    """Those of the records whose label is in `labels`."""
    return records.take(torch.isin(records.labels, labels))


def diversity(noise: Tensor, made: Tensor) -> Tensor:
    """FedGen's diversity loss in (0, 1]: small where different noise gives different records.

    exp(-mean over pairs of (mean squared difference of the noise) x (mean absolute difference of
    the records)); noise of shape (n, 64), records of shape (n, d).
    """
    apart = (noise.unsqueeze(0) - noise.unsqueeze(1)).square().mean(2)
    changed = torch.cdist(made, made, p=1) / made.shape[1]
    return torch.exp(-(apart * changed).mean())


def _loss(
    spec: NetSpec,
    frozen: Params,
    params: Params,
    part: Bank,
    recipe: GeneratorTraining,
    draw: torch.Generator,
) -> Tensor:
    made = generate(params, part.inputs, spec.input_shape)
    chosen = torch.randperm(len(made), generator=draw)[: recipe.sub_batch].to(made.device)
    loss = recipe.diversity * diversity(part.noise[chosen], made[chosen].flatten(1))
    if recipe.mode == "released":
        # The published code detaches what the models see: their loss has no gradient to give.
        return loss
    logits = forward(spec, frozen, made.unsqueeze(0)).squeeze(0)
    loss = loss + F.cross_entropy(logits, logits.argmax(1))
    return loss + F.cross_entropy(logits, part.labels) if recipe.mode == "conditioned" else loss


def _memorise(params: Params, leaves: Sequence[Tensor], bank: Bank, records: Records) -> None:
    """Regression of the bank onto the records of the same label, over and over where it is larger."""
    wanted = torch.zeros(len(bank.labels), dtype=torch.int64)
    for label in records.labels.unique():
        places, mine = (
            (bank.labels == label).nonzero().flatten(),
            (records.labels == label).nonzero().flatten(),
        )
        wanted[places] = mine[torch.arange(len(places)) % len(mine)]
    targets = records.inputs[wanted]
    if not float(params["bound"]):
        params["bound"] = torch.ones_like(params["bound"])
    optimizer = torch.optim.Adam(leaves, lr=MEMORISING_LR, fused=True)
    for _ in range(MEMORISING_STEPS):
        loss = (generate(params, bank.inputs, tuple(targets.shape[1:])) - targets).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def _part(bank: Bank, labels: Tensor) -> Bank:
    mine = torch.isin(bank.labels, labels)
    return Bank(bank.noise[mine], bank.embedding, bank.labels[mine])


def _fresh(recipe: GeneratorTraining, spec: NetSpec, bank: Bank, stream: Stream) -> Params:
    """PyTorch's default weights of [linear, batch norm, ReLU, linear]."""
    generator = stream.torch()
    out = 1
    for side in spec.input_shape:
        out *= side

    def linear(rows: int, columns: int) -> tuple[Tensor, Tensor]:
        bound = columns**-0.5
        weight = torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)
        return weight, torch.empty(rows).uniform_(-bound, bound, generator=generator)

    first, second = linear(recipe.hidden, NOISE + EMBEDDING), linear(out, recipe.hidden)
    params = {
        "0.weight": first[0],
        "0.bias": first[1],
        "1.weight": torch.ones(recipe.hidden),
        "1.bias": torch.zeros(recipe.hidden),
        "3.weight": second[0],
        "3.bias": second[1],
    }
    return {name: t.to(bank.noise.device) for name, t in params.items()}


__all__ = [
    "Bank",
    "Discriminator",
    "GeneratorTraining",
    "Mode",
    "diversity",
    "draw_bank",
    "generate",
    "holding",
    "synthesise",
    "train_generator",
]
