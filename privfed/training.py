"""Local training of small nets on records in memory: plain SGD, many models side by side.

Two engines compute the same thing. `looped` trains one model after another; `stacked` trains all
models of one architecture and recipe in lock step, one group of a grouped convolution (or one batch
of a batched matrix product) a model, with ragged batches padded and masked. Both draw each model's
batches from that model's own stream, so they agree up to floating-point summation order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from privfed.augmentation import Dsa, apply, draw
from privfed.mixing import Blend, Pairing, blend, pairings
from privfed.nets import NetSpec, Params, feature_width, features, forward
from privfed.randomness import Stream
from privfed.records import Records

Engine = Literal["looped", "stacked"]
STACK = 32


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one model is trained.

    Attributes:
        epochs: passes over the records.
        batch: records a step; the last batch of an epoch may be smaller.
        lr, momentum, weight_decay: of SGD, as in torch.optim.SGD.
        dsa: differentiable siamese augmentation of each batch, or None.
        decay_biases: whether weight decay also acts on biases.
        proximal: weight mu of the term mu / 2 * ||w - anchor||^2 (FedProx, arXiv 1812.06127, eq. 2).
        smoothing: s, in (-1, 1), of labels: the target is (1 - s) times the label plus s / classes
            (Szegedy et al. 2016, arXiv 1512.00567, section 7; below 0: arXiv 2106.04149).
        mixup: alpha of MixUp (`privfed.mixing`); 0 = none. Blends come before augmentation.
    """

    epochs: int
    batch: int
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    dsa: Dsa | None = None
    decay_biases: bool = True
    proximal: float = 0.0
    smoothing: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1:
            raise ValueError(f"expected epochs >= 0 and batch >= 1, got {self.epochs} and {self.batch}")
        if not self.lr > 0:
            raise ValueError(f"expected lr > 0, got lr={self.lr}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"expected momentum in [0, 1), got momentum={self.momentum}")
        if not self.weight_decay >= 0:
            raise ValueError(f"expected weight_decay >= 0, got weight_decay={self.weight_decay}")
        if not self.proximal >= 0:
            raise ValueError(f"expected proximal >= 0, got proximal={self.proximal}")
        if not -1 < self.smoothing < 1:
            raise ValueError(f"expected smoothing in (-1, 1), got smoothing={self.smoothing}")
        if not 0 <= self.mixup < math.inf:
            raise ValueError(f"expected a finite mixup >= 0, got mixup={self.mixup}")


@dataclass(frozen=True, slots=True)
class Task:
    """One model to train: where it starts, on what, how, and with which randomness.

    Attributes:
        frozen: names of parameters that stay as they are; never all of them.
        anchor: what the recipe's proximal term pulls towards; the start when None.
        teacher: features of a teacher on the records, shape (n, width): the objective is then
            `feature_divergence` from them, and labels are not used.
    """

    spec: NetSpec
    start: Params
    records: Records
    recipe: Recipe
    stream: Stream
    frozen: tuple[str, ...] = ()
    anchor: Params | None = None
    teacher: Tensor | None = None

    def __post_init__(self) -> None:
        unknown = set(self.frozen) - self.start.keys()
        if unknown:
            raise ValueError(
                f"expected frozen to name parameters of the start, got frozen={', '.join(sorted(unknown))}"
            )
        if self.frozen and not self.start.keys() - set(self.frozen):
            raise ValueError(f"expected a parameter to train, got frozen={', '.join(self.frozen)}")
        recipe = self.recipe
        if self.teacher is not None and (recipe.smoothing or recipe.mixup):
            raise ValueError(
                "expected a recipe without smoothing and mixup for a task with a teacher, "
                f"got smoothing={recipe.smoothing}, mixup={recipe.mixup}"
            )
        if recipe.mixup and not self.records.inputs.is_floating_point():
            raise ValueError(
                f"expected inputs that can be blended for mixup, got inputs of {self.records.inputs.dtype}"
            )


@dataclass(frozen=True, slots=True)
class _Step:
    """One SGD step of M models.

    Attributes:
        index: record indices, shape (M, batch).
        weight: 1 for real and 0 for padding, shape (M, batch).
        active: 1 for models with a record in this step, shape (M, 1); None if all have one.
        generators: of the augmentation, one a model.
        blend: of records in pairs, or None.
    """

    index: Tensor
    weight: Tensor
    active: Tensor | None
    generators: list[torch.Generator]
    blend: Blend | None


def train(tasks: Sequence[Task], engine: Engine = "looped") -> list[Params]:
    """Trained parameters of every task, in the order given.

    Args:
        tasks: models to train; those of one architecture, recipe, objective and set of frozen
            parameters are stacked, at most 32 at once.
        engine: "looped" or "stacked".
    """
    size = stack_size(engine)
    trained: dict[int, Params] = {}
    groups: dict[tuple[NetSpec, Recipe, tuple[str, ...], bool], list[int]] = {}
    for i, task in enumerate(tasks):
        groups.setdefault((task.spec, task.recipe, task.frozen, task.teacher is None), []).append(i)
    for members in groups.values():
        # Neighbours in size share a stack, so that little of a stack is padding.
        members.sort(key=lambda i: (len(tasks[i].records), i))
        for chunk in _batched(members, size):
            results = _train_stack([tasks[i] for i in chunk])
            trained.update(zip(chunk, results, strict=True))
    return [trained[i] for i in range(len(tasks))]


def stack_size(engine: Engine) -> int:
    """Largest number of models that train in lock step."""
    return 1 if engine == "looped" else STACK


def stack(params: Sequence[Params]) -> Params:
    """Parameters of M models with a leading model dimension."""
    return {name: torch.stack([p[name] for p in params]) for name in params[0]}


def unstack(params: Params) -> list[Params]:
    """The M models of a stack, as copies."""
    models = next(iter(params.values())).shape[0]
    return [{name: t[m].clone() for name, t in params.items()} for m in range(models)]


def predict(spec: NetSpec, params: Params, inputs: Tensor, batch: int = 2048) -> Tensor:
    """Logits of one model, shape (n, classes), without gradients."""
    single = {k: v.unsqueeze(0) for k, v in params.items()}
    with torch.no_grad():
        parts = [forward(spec, single, x.unsqueeze(0)).squeeze(0) for x in inputs.split(batch)]
    return torch.cat(parts) if parts else torch.empty(0, spec.classes)


def represent(spec: NetSpec, params: Params, inputs: Tensor, batch: int = 2048) -> Tensor:
    """Features of one model, shape (n, width), without gradients; `params` may lack the head."""
    single = {k: v.unsqueeze(0) for k, v in params.items()}
    with torch.no_grad():
        parts = [features(spec, single, x.unsqueeze(0)).squeeze(0) for x in inputs.split(batch)]
    return torch.cat(parts) if parts else torch.empty(0, feature_width(spec))


def weighted_loss(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of each model, shape (M,): mean over the records with weight 1."""
    return _mean(label_losses(logits, labels), weight)


def label_losses(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of every record in nats, shape (M, n), against labels smoothed by `smoothing`.

    With p the softmax of the logits over K classes: -(1 - s) log p_y - s / K sum_k log p_k.

    Args:
        logits: shape (M, n, K).
        labels: int64, shape (M, n).
        smoothing: s, in (-1, 1).
    """
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    if not smoothing:
        return losses
    return (1 - smoothing) * losses - smoothing * logits.log_softmax(-1).mean(-1)


def feature_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Reverse Kullback-Leibler divergence between softmaxed features, in nats, shape (..., n).

    Sum over features of p (log p - log q), p the student's and q the teacher's; FedBKD's released
    code (arXiv 2506.20245) distils by it in both directions. Features: shape (..., n, width).
    """
    p, q = student.log_softmax(-1), teacher.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def is_bias(name: str) -> bool:
    """Whether a parameter is one: "3.bias", and a recurrent layer's "0.bias_ih" and "0.bias_hh"."""
    return name.rpartition(".")[2].startswith("bias")


class FlatParams:
    """Parameters of M models as views into one (M, P) buffer, so that an optimiser step is one operation."""

    def __init__(self, params: Params) -> None:
        self.buffer = torch.cat([t.flatten(1) for t in params.values()], 1)
        sizes = [t[0].numel() for t in params.values()]
        parts = self.buffer.split(sizes, 1)
        self.views = {
            name: part.view(t.shape).requires_grad_()
            for (name, t), part in zip(params.items(), parts, strict=True)
        }

    def gradient(self, loss: Tensor) -> Tensor:
        """Gradient of a scalar, shape (M, P)."""
        return torch.cat([g.flatten(1) for g in torch.autograd.grad(loss, list(self.views.values()))], 1)

    def mask(self, holds: Callable[[str], bool]) -> Tensor:
        """Shape (1, P): 1 for the parameters whose name `holds`, 0 for the others."""
        parts = [t.new_full((t[0].numel(),), float(holds(name))) for name, t in self.views.items()]
        return torch.cat(parts).detach().unsqueeze(0)

    def detached(self) -> Params:
        """The parameters by name, without gradient tracking."""
        return {name: view.detach() for name, view in self.views.items()}


@torch.no_grad()
def descend(
    buffer: Tensor,
    gradient: Tensor,
    velocity: Tensor,
    recipe: Recipe,
    active: Tensor | None = None,
    decayed: Tensor | None = None,
) -> None:
    """One SGD step in place, as torch.optim.SGD without dampening.

    Args:
        buffer: parameters, shape (M, P), updated.
        gradient: of the same shape.
        velocity: of the same shape, updated where there is momentum; zero before the first step.
        recipe: learning rate, momentum and weight decay.
        active: shape (M, 1); a model with 0, without a record in this step, stays where it is.
            None = all take the step, which needs fewer passes over memory and gives the same bits.
        decayed: shape (1, P): 1 for parameters that weight decay acts on; None = all.
    """
    if recipe.weight_decay:
        if decayed is None:
            gradient = gradient.add(buffer, alpha=recipe.weight_decay)
        else:
            gradient = torch.addcmul(gradient, buffer, decayed, value=recipe.weight_decay)
    if recipe.momentum:
        if active is None:
            velocity.mul_(recipe.momentum).add_(gradient)
        else:
            velocity.copy_(torch.where(active > 0, velocity * recipe.momentum + gradient, velocity))
        gradient = velocity
    buffer.sub_(gradient if active is None else gradient * active, alpha=recipe.lr)


def _train_stack(tasks: list[Task]) -> list[Params]:
    spec, recipe, frozen = tasks[0].spec, tasks[0].recipe, tasks[0].frozen
    if recipe.epochs == 0 or not any(len(t.records) for t in tasks):
        return [{k: v.clone() for k, v in t.start.items()} for t in tasks]
    inputs, labels, teacher = _padded(tasks)
    start = stack([t.start for t in tasks])
    fixed = {name: start[name] for name in frozen}
    flat = FlatParams({name: t for name, t in start.items() if name not in fixed})
    anchor = _anchor(tasks, flat) if recipe.proximal else None
    decayed = None if recipe.decay_biases else flat.mask(lambda name: not is_bias(name))
    velocity = torch.zeros_like(flat.buffer)
    lane = torch.arange(len(tasks), device=inputs.device).unsqueeze(1)
    for step in _steps(tasks):
        x = inputs[lane, step.index]
        if step.blend is not None:
            x = step.blend.inputs(x, inputs[lane, step.blend.partner])
        if recipe.dsa is not None:
            x = apply(x, draw(recipe.dsa, step.generators))
        params = {**fixed, **flat.views}
        if teacher is None:
            losses = _losses(forward(spec, params, x), labels, step, recipe.smoothing)
        else:
            losses = feature_divergence(features(spec, params, x), teacher[lane, step.index])
        gradient = flat.gradient(_mean(losses, step.weight).sum())
        if anchor is not None:
            gradient += recipe.proximal * (flat.buffer.detach() - anchor)
        descend(flat.buffer, gradient, velocity, recipe, step.active, decayed)
    trained = {**fixed, **flat.detached()}
    return unstack({name: trained[name] for name in start})


def _losses(logits: Tensor, labels: Tensor, step: _Step, smoothing: float) -> Tensor:
    """Of every record of a step against its label, or the blend of two, shape (M, batch)."""
    lane = torch.arange(len(labels), device=labels.device).unsqueeze(1)
    own = label_losses(logits, labels[lane, step.index], smoothing)
    if step.blend is None:
        return own
    return step.blend.losses(own, label_losses(logits, labels[lane, step.blend.partner], smoothing))


def _mean(losses: Tensor, weight: Tensor) -> Tensor:
    """Of each model, shape (M,), over the records with weight 1; 0 without any."""
    return (losses * weight).sum(1) / weight.sum(1).clamp_min(1.0)


def _anchor(tasks: list[Task], flat: FlatParams) -> Tensor:
    """What the proximal term pulls each model towards, shape (M, P)."""
    towards = stack([t.start if t.anchor is None else t.anchor for t in tasks])
    return torch.cat([towards[name].flatten(1) for name in flat.views], 1)


def _padded(tasks: list[Task]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs, labels and teachers' features, each (M, longest, ...); zero where a task has fewer records."""
    inputs = pad_sequence([t.records.inputs for t in tasks], batch_first=True)
    labels = pad_sequence([t.records.labels for t in tasks], batch_first=True)
    taught = [t.teacher for t in tasks if t.teacher is not None]
    return inputs, labels, pad_sequence(taught, batch_first=True) if taught else None


def _steps(tasks: list[Task]) -> Iterator[_Step]:
    """The steps of all models in lock step; a model that has finished is padded out."""
    recipe, device = tasks[0].recipe, tasks[0].records.inputs.device
    orders = [_order(t) for t in tasks]
    generators = [t.stream.child("augment").torch(str(device)) for t in tasks] if recipe.dsa else []
    mixing = [_pairings(t, o) for t, o in zip(tasks, orders, strict=True)] if recipe.mixup else []
    for s in range(max(len(o) for o in orders)):
        batches = [o[s] if s < len(o) else torch.empty(0, dtype=torch.int64) for o in orders]
        width = max(len(b) for b in batches)
        index = torch.stack([F.pad(b, (0, width - len(b))) for b in batches])
        weight = torch.stack([(torch.arange(width) < len(b)).float() for b in batches])
        active = None if all(map(len, batches)) else weight.amax(1, keepdim=True).to(device)
        pairs = [m[s] if s < len(m) else None for m in mixing]
        mixed = blend(pairs, width, device) if pairs else None
        yield _Step(index.to(device), weight.to(device), active, generators, mixed)


def _order(task: Task) -> list[Tensor]:
    """Record indices of every step of one model."""
    generator = task.stream.child("batches").torch()
    n = len(task.records)
    passes = (torch.randperm(n, generator=generator) for _ in range(task.recipe.epochs if n else 0))
    return [batch for order in passes for batch in order.split(task.recipe.batch)]


def _pairings(task: Task, order: list[Tensor]) -> list[Pairing]:
    return pairings(order, task.recipe.mixup, task.stream.child("mixup"))


def _batched(items: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    return (tuple(items[i : i + size]) for i in range(0, len(items), size))
