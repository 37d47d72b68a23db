"""Training again what a released synthetic set was made to train: the way to its update, start and end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch

from attacks._features import Shard, digest
from attacks._releases import labelled_inputs, lacks_head, net_of, received, to_one, weights
from attacks.interface import Candidates
from privfed.nets import NetSpec, Params, initial
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Release, View
from privfed.training import Recipe, Task, train

Start = Literal["fresh", "public"]
NET = "surrogate"
_LATENTS = ("client_latents", "latents")


@dataclass(frozen=True, slots=True)
class Replay:
    """One released set trained on.

    Attributes:
        round: of the set.
        about: the client whose data alone made it, or None.
        start, end: models before and after.
    """

    round: int
    about: int | None
    start: Params
    end: Params


@dataclass(frozen=True, slots=True)
class How:
    """What the attacker assumes of the training that a set stands for.

    Attributes:
        recipe: of the training.
        steps: full-batch steps at the learnt step size, where it was released with the latents; 0 = the
            recipe is used there too.
        start: where no broadcast whole model was seen: "fresh" weights or those trained on "public".
    """

    recipe: Recipe
    steps: int
    start: Start


def replays(
    view: View, artefact: str, how: How, candidates: Candidates, stream: Stream
) -> tuple[NetSpec, tuple[Replay, ...]] | None:
    """Every synthetic release of that name trained on, by round.

    It starts from the newest whole model that was sent to all clients up to the round of the set; an
    observer who saw none starts as `how` says, from the same weights in every federation.

    Returns:
        The architecture and the replays; None without such sets, or when one class leaves no label to be
        confident of.
    """
    sets = [(r, labelled_inputs(r)) for r in received(view, "synthetic", artefact)]
    sets = [(r, made) for r, made in sets if len(made)]
    if not sets or (spec := net_of(view, NET)).classes < 2:
        return None
    sent = [r for r in received(view, "weights", NET) if not to_one(r) and not lacks_head(r, spec)]
    known = {id(r): weights(r, spec) for r in sent}
    own: Params | None = None
    tasks, starts = [], []
    for release, made in sets:
        earlier = [r for r in sent if r.round <= release.round]
        if earlier:
            start = known[id(max(earlier, key=lambda r: r.round))]
        else:
            own = start = own or _own_start(spec, how, candidates.public)
        recipe = _recipe(view, release, made, how)
        place = stream.child("round", release.round, "client", -1 if release.about is None else release.about)
        starts.append(start)
        tasks.append(Task(spec, start, made, recipe, place))
    ends = train(tasks, "stacked")
    rows = zip(sets, starts, ends, strict=True)
    return spec, tuple(Replay(r.round, r.about, start, end) for (r, _), start, end in rows)


def _recipe(view: View, release: Release, made: Records, how: How) -> Recipe:
    """Gradient descent at the step size learnt with the set, where that is known; else the recipe."""
    eta = _learnt(
        [r for name in _LATENTS for r in received(view, "latents", name)], release.round, release.about
    )
    if eta is None or not how.steps:
        return how.recipe
    return Recipe(epochs=how.steps, batch=len(made), lr=eta)


def _learnt(latents: Sequence[Release], round: int, about: int | None) -> float | None:
    sizes = [
        float(r.tensors["eta"])
        for r in latents
        if (r.round, r.about) == (round, about) and "eta" in r.tensors
    ]
    return next((s for s in reversed(sizes) if 0 < s < float("inf")), None)


def _own_start(spec: NetSpec, how: How, public: Records) -> Params:
    if how.start == "fresh":
        return _start(spec, None, how.recipe)
    fits = tuple(public.inputs.shape[1:]) == spec.input_shape
    known = public.take((public.labels >= 0) & (public.labels < spec.classes))
    shard = Shard(known, digest(known.inputs, known.labels)) if fits and len(known) else None
    return _start(spec, shard, how.recipe)


@lru_cache(maxsize=4)
def _start(spec: NetSpec, shard: Shard | None, recipe: Recipe) -> Params:
    # Not from the stream of the observation: one start for all federations, so that they compare.
    stream = Stream(0, ("replay",))
    start = initial(spec, stream.child("initial").torch())
    if shard is None:
        return start
    start = {name: t.to(shard.records.inputs) for name, t in start.items()}
    plain = replace(recipe, dsa=None)
    return train([Task(spec, start, shard.records, plain, stream.child("train"))])[0]


def moved(replay: Replay) -> torch.Tensor:
    """Start less end, flat, shape (P,): it points where the gradients of the set point."""
    return torch.cat([(replay.start[n] - replay.end[n]).flatten() for n in replay.start])
