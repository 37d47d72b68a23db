"""LOKI: each client gets its own block of rows, so that a sum over clients still tells them apart.

Zhao et al., "LOKI: large-scale data reconstruction attack against federated learning through model
manipulation" (arXiv 2303.12233), section 4. There, convolution kernels of each client route its images to
its block; here the rows of the first layer are the client's own already, and all others are shut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attacks._imprint import (
    BIAS,
    WEIGHT,
    Recovered,
    check_fits,
    check_label,
    crafted_rounds,
    fits,
    gathered,
    hidden_shapes,
    knowledge,
    known_inputs,
    layer,
    silences,
    silencing,
)
from attacks.imprint import bins, check_knobs, thresholds
from attacks.interface import Known, Reconstruction
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.release import View

if TYPE_CHECKING:
    from privfed.deviation import Turn


@dataclass(frozen=True, slots=True)
class Loki:
    """Rebuild every client's records from the sum of all updates, each client's from its own block of rows.

    A client's block is an imprint (`attacks.imprint.Imprint`) of rows / clients bins; its other rows have no
    weights and a bias below 0, are never active, and stay where they are. So in the sum of the clients'
    models a block moves by what its own client wrote, and secure aggregation hides nothing.

    Attributes:
        gain, pull, label: as `attacks.imprint.Imprint`.
    """

    gain: float = 1e-3
    pull: float = 1.0
    label: int = 0

    def __post_init__(self) -> None:
        check_knobs(self.gain, self.pull)

    def craft(
        self, spec: NetSpec, known: Known, start: Params, stream: Stream, client: int = 0, clients: int = 1
    ) -> Params:
        """The model to send one client in place of `start`.

        Args:
            spec: an mlp with at least as many hidden units as clients.
            known: what the attacker knows.
            start: what the honest broadcast would be.
            stream: the same for all clients.
            client: from 0.
            clients: that share the rows.

        Raises:
            ValueError: when the net is no mlp, has no such label or too few rows, or no record is public.
        """
        check_fits(spec)
        check_label(spec, self.label)
        rows, d = hidden_shapes(spec)
        own = block(rows, client, clients)
        measured, cuts = thresholds(known_inputs(known), own.stop - own.start, stream)
        weight = measured.new_zeros(rows, d)
        # Shut by no more than the open rows' scale, so that the sum keeps its digits.
        bias = cuts.new_full((rows,), -self.gain)
        weight[own], bias[own] = self.gain * measured, self.gain * cuts
        return {**layer(start, weight, bias), **silencing(spec, start, self.label, self.pull)}

    def send(self, turn: Turn) -> Params:
        """As a deviation: each client's own block; whatever is no whole mlp is sent as it is."""
        if not fits(turn):
            return turn.honest
        stream = turn.stream.child("craft", turn.round)
        spec, known = turn.world.surrogate, knowledge(turn)
        return self.craft(spec, known, turn.honest, stream, turn.client, turn.clients)

    def recover(self, spec: NetSpec, before: Params, after: Params) -> Recovered:
        """What one client's training of a crafted model says of its records."""
        return self.separate(spec, [before], after)[0]

    def separate(self, spec: NetSpec, before: list[Params], mean: Params) -> list[Recovered]:
        """What the mean of the clients' models says of each client's records.

        Args:
            spec: the net.
            before: the crafted models, one a client, with blocks that do not overlap.
            mean: of what they trained, unweighted.
        """
        return [bins(spec, *(total[owned(p)] for total in summed_movement(before, mean))) for p in before]

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """Records of all clients, from sums where updates are hidden; None without a model crafted so."""
        found_rounds = crafted_rounds(view, blocked)
        if found_rounds is None:
            return None
        spec, rounds = found_rounds
        parts = [
            (client, found)
            for clients, before, mean in rounds
            for client, found in zip(clients, self.separate(spec, before, mean), strict=True)
        ]
        return gathered(spec, known, parts)


def block(rows: int, client: int, clients: int) -> slice:
    """The rows of one client; equally many each, the remainder is nobody's.

    Raises:
        ValueError: when there is no row for each client, or no such client.
    """
    if not 0 <= client < clients:
        raise ValueError(f"expected a client from 0 to {clients - 1}, got client={client}")
    if rows < clients:
        raise ValueError(f"expected a hidden unit for each of {clients} clients, got units={rows}")
    size = rows // clients
    return slice(client * size, (client + 1) * size)


def owned(sent: Params) -> Tensor:
    """Which rows of a crafted model are open, on the CPU, shape (rows,)."""
    return (sent[WEIGHT].abs().amax(1) > 0).cpu()


def summed_movement(before: list[Params], mean: Params) -> tuple[Tensor, Tensor]:
    """Sum over clients of start less end of the first layer, float64: shapes (rows, d) and (rows,)."""
    weight, bias = (
        torch.stack([p[k].double().cpu() for p in before]).sum(0) - len(before) * mean[k].double().cpu()
        for k in (WEIGHT, BIAS)
    )
    return weight, bias


def blocked(spec: NetSpec, sent: Params) -> bool:
    """Whether a model is of this crafting: some rows open and alike, the others shut, a silencing head."""
    open_, weight, bias = owned(sent), sent[WEIGHT].cpu(), sent[BIAS].cpu()
    if not open_.any() or open_.all():
        return False
    own = weight[open_]
    risen = bool((bias[open_].diff() <= 0).all()) and bool((bias[~open_] < 0).all())
    return bool((own == own[0]).all()) and risen and silences(spec, sent)
