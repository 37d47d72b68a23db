"""Gradients of single records, and what clients' updates are held against them.

A client's training moves the weights against the sum of its records' gradients, so a record that took
part leaves its own gradient in the movement (Nasr et al. 2019, section III). The server knows the model
that was sent and the one that came back; everything here is made of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attacks._releases import lacks_head, net_of, owner, received, start_of, to_one, weights
from attacks.interface import Candidates, Floats, Signals
from privfed.nets import NetSpec, Params, forward, head_names, head_of, parameter_shapes
from privfed.records import Records, concatenate
from privfed.release import Release, View

Part = Literal["all", "head", "representation"]
Columns = NDArray[np.int64]
Read = Callable[["Site", Records, Columns], Floats]
"""Values of (members, then population) against each client of a site, shape (n, clients of the site, ...).

The columns, one a member, say which client of the site each member belongs to.
"""

_ELEMENTS = 1 << 22  # floats held at once for gradients and activations: 16 MB


@dataclass(frozen=True, slots=True)
class Site:
    """A model at which gradients are taken, and how far clients moved in the round it belongs to.

    Attributes:
        round: of the updates.
        model: all parameters.
        names: the parameters that are read.
        clients: who moved, one a row of `moved`.
        moved: start less trained of the parameters read, flat, shape (clients, P): it points where
            the gradients of the client's records point.
    """

    round: int
    model: Params
    names: tuple[str, ...]
    clients: tuple[int, ...]
    moved: Tensor


@dataclass(frozen=True, slots=True)
class Aligned:
    """Products of n records' gradients with the movements of a site's clients, float64.

    Attributes:
        dots: shape (n, clients): <moved, gradient>.
        squares: shape (n, clients): squared length of the gradient, over the coordinates that moved.
        lengths: shape (clients,): of the movements; 0 for a client that stayed where it was.
    """

    dots: Floats
    squares: Floats
    lengths: Floats


def check_part(part: str) -> None:
    """Refuse parts of a net that there are not.

    Raises:
        ValueError: naming those there are.
    """
    if part not in get_args(Part):
        raise ValueError(f"expected part to be one of {', '.join(get_args(Part))}, got part={part!r}")


def check_place(at: float) -> None:
    """Refuse places that do not lie between what was sent and what came back.

    Raises:
        ValueError: naming the value.
    """
    if not 0 <= at <= 1:
        raise ValueError(f"expected at in [0, 1], got at={at}")


def sites(view: View, part: Part = "all", at: float = 0.0) -> tuple[NetSpec, tuple[Site, ...]] | None:
    """Where clients' updates of every round started, or a place on the line to where they ended.

    Where a whole model went to all clients and `at` is 0, those of a round share one site; else each
    has its own. Where the broadcast lacks its head (FedRep, FedBKD), the head that the client sends back
    stands in: exact where it was trained first and then frozen. The movement is then known for
    the representation only, which is what "all" reads; "head" takes up the client's previous upload, on
    the broadcast representation, and says nothing of its first. Updates without a head give no label
    and no gradient, and so does a round whose broadcast this observer did not see.

    Args:
        view: what was seen.
        part: parameters that are read.
        at: 0 = what was sent, 1 = what came back.

    Returns:
        The architecture and the sites by round; None when there are none.
    """
    updates = received(view, "weights", "update")
    if not updates:
        return None
    spec = net_of(view, "surrogate")
    if spec.classes < 2:
        return None
    sent = received(view, "weights", "surrogate")
    heads: dict[int, Params] = {}
    legs = []
    for update in sorted(updates, key=lambda u: (u.round, owner(u))):
        start = start_of(update, sent)
        if start is None or lacks_head(update, spec):
            continue
        leg = _leg(spec, start, update, part, heads.get(owner(update)))
        heads[owner(update)] = head_of(spec, weights(update, spec))
        legs += [leg] if leg is not None else []
    found = _shared(spec, legs) if at == 0 else tuple(_between(leg, at) for leg in legs)
    return (spec, found) if found else None


def gradients(spec: NetSpec, model: Params, names: tuple[str, ...], records: Records) -> Iterator[Tensor]:
    """Cross-entropy's gradient of each record in the parameters `names`, flat, a few records at once.

    Every record gets a copy of the model of its own: in a grouped net that takes half the time of
    torch.func's vmap over grad, and the numbers are the same.

    Yields:
        float32, shape (records of this part, P), in the order of the records, not tracked.
    """
    size = sum(p.numel() for p in model.values())
    step = max(1, _ELEMENTS // (3 * size + 8 * spec.size**2 * max(spec.width, spec.channels)))
    device = next(iter(model.values())).device
    for inputs, labels in zip(records.inputs.split(step), records.labels.split(step), strict=True):
        own = {k: v.detach().expand(len(labels), *v.shape) for k, v in model.items()}
        own |= {k: own[k].clone().requires_grad_() for k in names}
        logits = forward(spec, own, inputs.to(device).unsqueeze(1)).squeeze(1)
        total = F.cross_entropy(logits, labels.to(device), reduction="sum")
        parts = torch.autograd.grad(total, [own[k] for k in names])
        yield torch.cat([p.flatten(1) for p in parts], 1).cpu()


def align(spec: NetSpec, site: Site, records: Records) -> Aligned:
    """Products of the records' gradients at a site with its clients' movements.

    A coordinate that a client did not move at all is left out of the gradients' length too: of what a
    sparse update leaves out it says nothing.
    """
    moved = site.moved.cpu()
    there = (moved != 0).to(moved.dtype)
    dots, squares = [moved.new_empty(0, len(moved))], [moved.new_empty(0, len(moved))]
    for part in gradients(spec, site.model, site.names, records):
        dots.append(part @ moved.T)
        squares.append(part.square() @ there.T)
    return Aligned(
        torch.cat(dots).double().numpy(),
        torch.cat(squares).double().numpy(),
        moved.double().norm(dim=1).numpy(),
    )


def cosines(aligned: Aligned) -> Floats:
    """Cosine of gradient and movement, shape (n, clients); NaN where either has no length."""
    length = np.sqrt(aligned.squares) * aligned.lengths
    cosine = np.full(length.shape, np.nan)
    np.divide(aligned.dots, length, out=cosine, where=length > 0)
    return cosine


def laid_out(found: tuple[Site, ...], candidates: Candidates, read: Read, width: int = 1) -> Signals:
    """Signals with `width` queries a round: candidates against their own client, population against all.

    NaN where a client has no site in a round.
    """
    owners = candidates.clients.cpu().numpy().astype(np.int64)
    rounds = sorted({s.round for s in found})
    n, z, clients = len(owners), len(candidates.population), int(owners.max(initial=-1)) + 1
    of_candidates = np.full((n, len(rounds), width), np.nan)
    of_population = np.full((z, len(rounds), width, clients), np.nan)
    for site in found:
        mine = np.flatnonzero(np.isin(owners, site.clients))
        order = np.searchsorted(np.array(site.clients), owners[mine])
        records = concatenate([candidates.records.take(torch.from_numpy(mine)), candidates.population])
        values = read(site, records, order).reshape(len(mine) + z, len(site.clients), width)
        query = rounds.index(site.round)
        of_candidates[mine, query] = values[np.arange(len(mine)), order]
        for column, client in enumerate(site.clients):
            if client < clients:
                of_population[:, query, :, client] = values[len(mine) :, column]
    queries = len(rounds) * width
    return Signals(of_candidates.reshape(n, queries), of_population.reshape(z, queries, clients), owners)


def record_counts(view: View, candidates: Candidates, clients: tuple[int, ...]) -> Floats:
    """How many records each client trains on, at least 2, shape (clients,).

    What it stated last where it stated anything; else half of its candidates, which is how many are in
    when each is in or out by a fair coin.
    """
    stated = {r.about: float(r.tensors["n"]) for r in received(view, "counts", "count")}
    owned = candidates.clients.cpu()
    known = [stated.get(k, float((owned == k).sum()) / 2) for k in clients]
    return np.array([max(n, 2.0) for n in known])


@dataclass(frozen=True, slots=True)
class _Leg:
    """One client's way in one round: whole models before and after, and what of them is read."""

    round: int
    client: int
    start: Params
    end: Params
    names: tuple[str, ...]
    shared: bool


def _leg(spec: NetSpec, sent: Release, update: Release, part: Part, previous: Params | None) -> _Leg | None:
    end, whole = weights(update, spec), not lacks_head(sent, spec)
    names = _names(spec, part if whole or part == "head" else "representation")
    if not names:
        return None
    if whole:
        return _Leg(update.round, owner(update), weights(sent, spec), end, names, not to_one(sent))
    shared, own = dict(sent.tensors), head_of(spec, end)
    if part != "head":
        return _Leg(update.round, owner(update), {**shared, **own}, end, names, False)
    if previous is None:
        return None
    return _Leg(update.round, owner(update), {**shared, **previous}, {**shared, **own}, names, False)


def _names(spec: NetSpec, part: Part) -> tuple[str, ...]:
    head = head_names(spec)
    return tuple(n for n in parameter_shapes(spec) if part == "all" or (n in head) == (part == "head"))


def _shared(spec: NetSpec, legs: list[_Leg]) -> tuple[Site, ...]:
    rounds = sorted({leg.round for leg in legs})
    groups = [[leg for leg in legs if leg.round == r and leg.shared] for r in rounds]
    groups += [[leg] for leg in legs if not leg.shared]
    return tuple(
        Site(g[0].round, g[0].start, g[0].names, tuple(leg.client for leg in g), _moved(g))
        for g in groups
        if g
    )


def _between(leg: _Leg, at: float) -> Site:
    model = {name: torch.lerp(t, leg.end[name], at) for name, t in leg.start.items()}
    return Site(leg.round, model, leg.names, (leg.client,), _moved([leg]))


def _moved(legs: list[_Leg]) -> Tensor:
    return torch.stack([torch.cat([(g.start[n] - g.end[n]).flatten() for n in g.names]) for g in legs])
