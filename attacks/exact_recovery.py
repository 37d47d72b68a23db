"""Exact recovery of a small batch from the movement of a first linear layer followed by ReLU.

Source: Dimitrov et al., "SPEAR: Exact gradient inversion of batches in federated learning" (arXiv
2403.03945), sections 3 to 5: the movement of the weights is a product of b columns, one a record, with
the b records; ReLU leaves zeros in the columns, which single them out among all factorisations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks._first_layer import LAYERS, FirstLayer, excess, explained_labels, first_layer, in_shape
from attacks._inversion import check_positive
from attacks._updates import Movement, movements, rebuilt_each
from attacks.interface import Known, Reconstruction
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.release import View

GAP = 30.0  # fall between neighbouring singular values that counts as the end of the spectrum
TRIALS = 512  # sets of neurons drawn at a time
ZEROS = (1e-7, 1e-5, 1e-3)
"""Shares of a column's root mean square below which an entry counts as zero, tried in turn.

The first suits exact movements. Records of one label push almost alike while the model is untrained, so
that a lax rule takes the difference of their columns for one with many zeros; single precision needs it.
"""
INDEPENDENT = 1e-4  # least residual of a unit column against those chosen before


@dataclass(frozen=True, slots=True)
class ExactRecovery:
    """Rebuild a whole batch exactly from the low rank and the zeros of a first layer's movement.

    For b records, b - 1 neurons that record i left inactive fix its column up to scale; such sets are
    drawn at random until b independent columns with the most zeros explain which neurons each record
    activates. About b 2^b draws are needed. Holds for one step and for several full-batch steps, as long as
    activations stay as they are; noise, batches and more records than neurons or values end it, which
    the missing fall in the spectrum shows, and such an update gives no record. The objective is the
    share of neurons whose activation a record does not explain, plus that by which it leaves the range
    of pixels: 0 for an exact one.

    Attributes:
        records: largest batch that is tried.
        rounds: first updates of each client that are inverted.
        trials: sets of neurons drawn for an update, at most.
        tolerance: mean objective of a batch at which the search ends.
    """

    records: int = 8
    rounds: int = 1
    trials: int = 20_000
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        check_positive(self, "records", "rounds", "trials")
        if not self.tolerance >= 0:
            raise ValueError(f"expected tolerance >= 0, got tolerance={self.tolerance}")

    def reconstruct(self, view: View, known: Known, stream: Stream) -> Reconstruction | None:
        """The batch of each client and round that has one; None without a linear layer and a ReLU first."""
        found = movements(view, self.rounds, whole=False)
        if found is None or found[0].family != "mlp":
            return None
        spec, moves = found
        parts, work, stopped = [], 0, True
        for move in moves:
            generator = stream.child("round", move.round, "client", move.client).torch()
            part, spent = self._one(spec, move, generator)
            parts.append(part)
            work += spent
            stopped &= spent < self.trials
        return rebuilt_each(moves, spec.input_shape, parts, work, stopped)

    def _one(
        self, spec: NetSpec, move: Movement, generator: torch.Generator
    ) -> tuple[tuple[Tensor, Tensor, Tensor], int]:
        """Records, labels and objectives of one movement, and the trials spent."""
        layer = first_layer(spec, move)
        assert layer is not None
        nothing = in_shape(layer.weight[:0], spec.input_shape), torch.empty(0, dtype=torch.int64)
        left, right = factors(layer.weight, self.records)
        b, best, work = left.shape[1], None, 0
        kept = {zero: left.new_empty(0, b) for zero in ZEROS}
        while b and work < self.trials and not (best and float(best[1].mean()) <= self.tolerance):
            count = min(TRIALS, self.trials - work) if b > 1 else 1
            work += count
            fresh = drawn(left, count, generator)
            for zero in ZEROS:
                kept[zero] = chosen(left, torch.cat([kept[zero], fresh]), zero)
                if len(kept[zero]) == b:
                    now = self._solved(spec, move, layer, (left, right), kept[zero], zero)
                    best = now if best is None or now[1].mean() < best[1].mean() else best
            if b == 1:
                break
        if best is None:
            return (*nothing, layer.bias[:0]), work
        inputs = in_shape(best[0], spec.input_shape)
        return (inputs, explained_labels(spec, move, inputs, best[2]), best[1]), work

    def _solved(
        self,
        spec: NetSpec,
        move: Movement,
        layer: FirstLayer,
        product: tuple[Tensor, Tensor],
        columns: Tensor,
        zero: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Flat records (b, d), their objective (b,) and their columns (b, rows)."""
        left, right = product
        directions = left @ columns.T
        scale = torch.linalg.lstsq(directions, layer.bias.unsqueeze(1)).solution.flatten()
        pushes = (directions * scale).T
        flat = torch.linalg.lstsq((columns * scale.unsqueeze(1)).T, right).solution
        weight, bias = (move.start[n].double() for n in LAYERS[spec.family])
        active = flat @ weight.T + bias > 0
        wrong = (active != ~is_zero(pushes, zero)).double().mean(1)
        return flat, wrong + excess(flat, spec.input_shape), pushes


def factors(weight: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The movement as left (rows, b) times right (b, d), b its rank up to `most`; b = 0 where none shows.

    The rank ends at the largest fall between neighbouring singular values, if that is a real one.
    """
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    s = s.clamp_min(torch.finfo(s.dtype).eps * float(s[0]) + torch.finfo(s.dtype).tiny)
    falls = (s[:-1] / s[1:])[:most]
    b = int(falls.argmax()) + 1 if len(falls) and float(falls.max()) >= GAP else 0
    return u[:, :b] * s[:b], v[:b]


def drawn(left: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Unit vectors (count, b), each with no part in b - 1 random rows of `left`."""
    rows, b = left.shape
    if b == 1:
        return left.new_ones(count, 1)
    norm = left.norm(dim=1)
    alive = (norm > norm.max() * torch.finfo(left.dtype).eps * rows).nonzero().flatten()
    if len(alive) < b:
        return left.new_empty(0, b)
    order = torch.rand(count, len(alive), generator=generator).argsort(1)[:, : b - 1].to(alive.device)
    # Rows of one length: a neuron that hardly moved says as much as one that moved far.
    picked = (left / norm.clamp_min(torch.finfo(left.dtype).tiny).unsqueeze(1))[alive[order]]
    last: Tensor = torch.linalg.svd(picked, full_matrices=True).Vh[:, -1]
    return last


def chosen(left: Tensor, columns: Tensor, zero: float) -> Tensor:
    """Up to b independent vectors with the most zeros in `left @ v`, each refitted to all its zeros.

    A mixture of columns is zero only where all of them are, so that taking vectors in order of their
    zeros, as long as they are independent, never takes a mixture before its parts.
    """
    b = left.shape[1]
    zeros = is_zero(columns @ left.T, zero).sum(1)
    kept: list[Tensor] = []
    for i in zeros.argsort(descending=True, stable=True).tolist():
        if len(kept) == b or int(zeros[i]) < b:
            break
        refitted = _refitted(left, columns[i], zero)
        basis = torch.linalg.qr(torch.stack(kept).T).Q if kept else None
        rest = refitted if basis is None else refitted - basis @ (basis.T @ refitted)
        if float(rest.norm()) > INDEPENDENT:
            kept.append(refitted)
    if b == 1:
        return left.new_ones(1, 1)
    return torch.stack(kept) if kept else left.new_empty(0, b)


def is_zero(values: Tensor, zero: float) -> Tensor:
    """Entries (m, rows) that are zero next to the rest of their row."""
    return values.abs() < zero * values.square().mean(1, keepdim=True).sqrt()


def _refitted(left: Tensor, column: Tensor, zero: float) -> Tensor:
    """The unit vector that all rows in which `column` has no part agree on best."""
    rows = left[is_zero((left @ column).unsqueeze(0), zero)[0]]
    last: Tensor = torch.linalg.svd(rows, full_matrices=True).Vh[-1]
    return last
