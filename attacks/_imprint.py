"""What crafted models share: a first layer that reads the records, and a head that silences what it has read.

A client's records pass through the first fully connected layer as they are. The gradient of row i of that
layer is the sum over the records that activate it of an upstream scalar times the record, and that of its
bias is the sum of the scalars: with one record, the quotient is the record. So a server that chooses the
rows chooses which records share one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from attacks._head_movements import labelled
from attacks._releases import lacks_head, net_of, owner, received, weights
from attacks.interface import Floats, Known, Reconstruction
from privfed.nets import NetSpec, Params, head_names, parameter_shapes
from privfed.records import Records
from privfed.release import Release, View, client_name

if TYPE_CHECKING:
    from privfed.deviation import Turn

WEIGHT, BIAS = "1.weight", "1.bias"  # of the first layer of an mlp; layer 0 flattens
SURE = 20.0  # logit: all other classes together then have a share of about 1e-8
BOX = 1.05  # pixels lie in [-1, 1]; beyond this a quotient is no record
SUM = "aggregate"  # name of a sum of updates in a transcript
TO_ONE = "client:"  # how a receiver that is one client is called
QUIET = 1e-5  # a row whose bias moved by less, against the row that moved most, was not hit


CraftedRound = tuple[list[int], list[Params], Params]
"""Clients, the model each was sent, and the unweighted mean of what they trained."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Records read off one update.

    Attributes:
        inputs: shape (m, *spec.input_shape).
        objective: shape (m,), at least 0: the attack's own doubt that a reading is a single record; 0 = none.
    """

    inputs: Tensor
    objective: Floats


@dataclass(frozen=True, slots=True)
class Exchange:
    """A whole model that went to a client, and what came back."""

    client: int
    round: int
    sent: Params
    returned: Params


def check_fits(spec: NetSpec) -> None:
    """Refuses nets whose first layer does not read the records themselves.

    Raises:
        ValueError: naming the family.
    """
    if spec.family != "mlp":
        raise ValueError(
            f"expected a net whose first layer reads the records (mlp), got family={spec.family!r}"
        )


def check_label(spec: NetSpec, label: int) -> None:
    """Refuses a label that the net does not have.

    Raises:
        ValueError: naming it.
    """
    if not 0 <= label < spec.classes:
        raise ValueError(f"expected a label from 0 to {spec.classes - 1}, got label={label}")


def known_inputs(known: Known) -> Tensor:
    """Flat public records, or the population where there are none, float64, shape (n, d).

    Raises:
        ValueError: when the attacker knows no record.
    """
    pool = known.public if len(known.public) else known.population
    if not len(pool):
        raise ValueError("expected public records to craft a model on, got public=0 and population=0 records")
    return pool.inputs.flatten(1).double()


def silencing(spec: NetSpec, start: Params, label: int, pull: float) -> Params:
    """All of a net above its first layer, such that every row gets the same upstream scalar.

    Every hidden layer passes on a mean, and the head gives all of it to `label`, of which it is sure. Then
    p = onehot(label) whatever the record, and the upstream scalar is `pull` (times the ratio of widths) for
    records of other labels and 0 for those of this one, which stay unseen. It is positive: a step of
    gradient descent lowers the row for what hit it. With `pull` well above the weights of the row, the
    row is then below zero for good, and later steps add nothing to what the first one wrote.

    Args:
        spec: an mlp.
        start: parameters whose dtype and device are kept.
        label: of the records that are given up.
        pull: weights of the head.
    """
    head_weight, head_bias = head_names(spec)
    above = {k: v for k, v in start.items() if k not in (WEIGHT, BIAS)}
    made = {
        k: torch.full_like(v, 1.0 / v.shape[1]) if v.ndim == 2 else torch.zeros_like(v)
        for k, v in above.items()
    }
    made[head_weight] = torch.zeros_like(start[head_weight])
    made[head_weight][label] = pull
    made[head_bias] = torch.zeros_like(start[head_bias])
    made[head_bias][label] = SURE
    return made


def silences(spec: NetSpec, sent: Params) -> bool:
    """Whether the head is one that `silencing` makes: all of it given to one label."""
    weight, bias = (sent[name] for name in head_names(spec))
    used = weight.abs().amax(1) > 0
    return bool(used.sum() == 1 and (bias[used] == SURE).all() and (bias[~used] == 0).all())


def layer(like: Params, weight: Tensor, bias: Tensor) -> Params:
    """A first layer, (rows, d) and (rows,), in the dtype and on the device of `like`."""
    return {WEIGHT: weight.to(like[WEIGHT]), BIAS: bias.to(like[BIAS])}


def moved(before: Params, after: Params) -> tuple[Tensor, Tensor]:
    """Start less end of the first layer: float64 on the CPU, shapes (rows, d) and (rows,)."""
    weight, bias = ((before[k].double() - after[k].double()).cpu() for k in (WEIGHT, BIAS))
    return weight, bias


def quotients(spec: NetSpec, weight: Tensor, bias: Tensor, floor: float) -> Recovered:
    """Each row of `weight` over its entry of `bias`, where that is a record.

    Doubt is how far the bias is from its median over the rows in use: under a head that silences, a row hit
    by c records moves c times as far as one hit by one, so it is 0 at one record as long as most rows
    in use have one.

    Args:
        spec: for the shape of a record.
        weight: shape (rows, d).
        bias: shape (rows,).
        floor: movement of a bias that counts as none.
    """
    used = bias.abs() > floor
    inputs = weight[used] / bias[used, None]
    size = bias[used].abs()
    doubt = (size / size.median() - 1).abs() if len(size) else size
    real = (inputs.abs() <= BOX).all(1)
    shaped = inputs[real].clamp(-1, 1).float().unflatten(1, spec.input_shape)
    return Recovered(shaped, doubt[real].numpy())


def exchanges(view: View) -> tuple[NetSpec, list[Exchange]] | None:
    """Whole models sent to clients beside what each returned, in order; None without any.

    What was addressed to one client stands before what was sent to all.
    """
    updates, sent = received(view, "weights", "update"), received(view, "weights", "surrogate")
    if not updates or not sent:
        return None
    spec = net_of(view, "surrogate")
    found = []
    for update in updates:
        start = _sent_to(owner(update), update.round, sent)
        if start is not None and not lacks_head(update, spec) and not lacks_head(start, spec):
            found.append(Exchange(owner(update), update.round, weights(start, spec), weights(update, spec)))
    return (spec, found) if found else None


def reconstructed(
    view: View,
    known: Known,
    crafted: Callable[[NetSpec, Params], bool],
    recover: Callable[[NetSpec, Params, Params], Recovered],
) -> Reconstruction | None:
    """What `recover` reads in every update of a model that was `crafted`; None when none was."""
    found = exchanges(view)
    if found is None or found[0].family != "mlp":
        return None
    spec, all_ = found
    ours = [e for e in all_ if crafted(spec, e.sent)]
    if not ours:
        return None
    return gathered(spec, known, [(e.client, recover(spec, e.sent, e.returned)) for e in ours])


def fits(turn: Turn) -> bool:
    """Whether what a server would send is a whole mlp; anything else is sent as it is, and gives nothing."""
    shapes = {k: tuple(v.shape) for k, v in turn.honest.items()}
    return turn.world.surrogate.family == "mlp" and shapes == parameter_shapes(turn.world.surrogate)


def knowledge(turn: Turn) -> Known:
    """What a malicious server may craft a model on: what is public, and nothing of its targets."""
    return Known(turn.world.public, turn.world.public, turn.world.prior)


def crafted_rounds(
    view: View, crafted: Callable[[NetSpec, Params], bool]
) -> tuple[NetSpec, list[CraftedRound]] | None:
    """Every round in which each client was sent a model of its own that was `crafted`; None without any.

    Where updates are hidden, a round's clients stand together with the mean of their models; where they are
    shown, each client is a round of its own.
    """
    if not received(view, "weights", "surrogate"):
        return None
    spec = net_of(view, "surrogate")
    if spec.family != "mlp":
        return None
    shown = exchanges(view)
    found = _summed(view, spec, crafted) or [
        ([e.client], [e.sent], e.returned) for e in (shown[1] if shown else []) if crafted(spec, e.sent)
    ]
    return (spec, found) if found else None


def gathered(spec: NetSpec, known: Known, parts: list[tuple[int, Recovered]]) -> Reconstruction:
    """Readings of clients as one reconstruction, each labelled as the nearest labelled record known."""
    inputs = torch.cat([r.inputs for _, r in parts])
    clients = torch.tensor([k for k, r in parts for _ in range(len(r.inputs))], dtype=torch.int64)
    objective = np.concatenate([r.objective for _, r in parts])
    return Reconstruction(
        Records(inputs, nearest_labels(spec, inputs, known)), clients, objective, len(parts), False
    )


def nearest_labels(spec: NetSpec, inputs: Tensor, known: Known) -> Tensor:
    """Label of the nearest labelled record that the attacker knows, shape (m,); 0 where it knows none."""
    pool = labelled(known, spec.classes)
    if not len(pool) or not len(inputs):
        return torch.zeros(len(inputs), dtype=torch.int64)
    apart = torch.cdist(inputs.flatten(1).double(), pool.inputs.flatten(1).double().cpu())
    return pool.labels.cpu()[apart.argmin(1)]


def hidden_shapes(spec: NetSpec) -> tuple[int, int]:
    """Rows of the first layer and numbers in a record."""
    rows, d = parameter_shapes(spec)[WEIGHT]
    return rows, d


def _summed(view: View, spec: NetSpec, crafted: Callable[[NetSpec, Params], bool]) -> list[CraftedRound]:
    found: list[CraftedRound] = []
    for mean in received(view, "weights", SUM):
        models = {
            int(r.receiver.removeprefix(TO_ONE)): weights(r, spec)
            for r in received(view, "weights", "surrogate")
            if r.round == mean.round and r.receiver.startswith(TO_ONE) and not lacks_head(r, spec)
        }
        if models and all(crafted(spec, p) for p in models.values()):
            found.append((list(models), list(models.values()), weights(mean, spec)))
    return found


def _sent_to(client: int, round: int, sent: tuple[Release, ...]) -> Release | None:
    of_round = [r for r in sent if r.round == round]
    own = [r for r in of_round if r.receiver == client_name(client)]
    for_all = [r for r in of_round if not r.receiver.startswith(TO_ONE)]
    return next(iter(own or for_all), None)
