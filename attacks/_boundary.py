"""How far records lie from where a model changes its mind, by questions that only labels answer.

A search from another label's side: a line to a record that the model calls something else is bisected,
the boundary's normal there is estimated from the labels of small displacements, and the search goes on
in a direction turned towards it (Chen, Jordan and Wainwright, "HopSkipJumpAttack", arXiv 1904.02144,
sections III.B and IV). Two things are otherwise than there: displacements of one step are orthonormal,
which estimates the normal better from as many questions, and a turn keeps the distance reached, so that it
never grows. Every record spends the same questions, so all are asked about at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.interface import Floats
from privfed.randomness import Stream
from privfed.records import Records

Label = Callable[[Tensor], Tensor]
"""The labels that a model gives, int64 of shape (m,), to inputs of shape (m, ...)."""

TURNS = (1.0, 0.5, 0.25)
"""How far a direction may turn towards the normal; the first that stays beyond the boundary is taken."""
_ELEMENTS = 1 << 22  # values of displaced records held at once: 16 MB of float32
_STEP = 32  # questions of one estimate and turn that pay


@dataclass(frozen=True, slots=True)
class Plan:
    """How the questions about one record are spent, beside the one for its own label.

    Attributes:
        line: bisections of the line to the start.
        steps: estimates of the normal.
        probes: displacements an estimate.
        refinements: bisections after each.
    """

    line: int
    steps: int
    probes: int
    refinements: int

    @property
    def questions(self) -> int:
        """About one record, its own label included."""
        return 1 + self.line + self.steps * (self.probes + len(TURNS) + self.refinements)


def plan(queries: int) -> Plan:
    """What `queries` questions a record buy; few buy the line alone.

    Raises:
        ValueError: when they do not buy a single bisection.
    """
    if queries < 2:
        raise ValueError(f"expected queries >= 2, got queries={queries}")
    line, refinements = min(queries - 1, 8), 6
    steps = (queries - 1 - line) // _STEP
    if not steps:
        return Plan(min(queries - 1, 16), 0, 0, 0)
    probes = (queries - 1 - line) // steps - len(TURNS) - refinements
    return Plan(line, steps, probes, refinements)


def boundary_distances(
    label: Label, records: Records, starts: Tensor, queries: int, stream: Stream
) -> Floats:
    """L2 distance of each record to a point that the model gives another label.

    Never below the distance to the boundary: where the search ends, another label was seen.

    Args:
        label: the model, which is asked `queries` times a record at most, and once for each start.
        records: n records.
        starts: inputs of the same shape from which a search may begin; each record takes the nearest of
            those with another label.
        queries: questions a record.
        stream: of the displacements, which all records share.

    Returns:
        Shape (n,): 0 for a record that is given another label than its own, NaN where no start is.

    Raises:
        ValueError: when `queries` is below 2.
    """
    how, found = plan(queries), np.full(len(records), np.nan)
    given = label(records.inputs)
    labels = records.labels.to(given.device)
    right = (given == labels).nonzero().flatten()
    found[(given != labels).cpu().numpy()] = 0.0
    if len(right) and len(starts):
        inputs, begins = records.inputs.to(given.device), starts.to(given.device)
        called = label(begins)
        step = max(1, _ELEMENTS // (begins[0].numel() * max(how.probes, len(TURNS), 1)))
        for part in right.split(step):
            nearest, known = _nearest_other(inputs[part], labels[part], begins, called)
            at = part[known]
            lanes = _Lanes(label, inputs[at].flatten(1), labels[at], tuple(inputs.shape[1:]))
            if len(at):
                ends = _searched(lanes, begins[nearest[known]].flatten(1), how, stream)
                found[at.cpu().numpy()] = ends.double().cpu().numpy()
    return found


@dataclass(frozen=True, slots=True)
class _Lanes:
    """Records under search: flat inputs (n, d), the labels that they are given (n,), shape of one input."""

    label: Label
    inputs: Tensor
    labels: Tensor
    shape: tuple[int, ...]

    def beyond(self, points: Tensor) -> Tensor:
        """Whether each of k points a record is given another label; points (n, k, d), answer (n, k)."""
        given = self.label(points.reshape(-1, *self.shape)).view(points.shape[:2])
        return given != self.labels.unsqueeze(1)

    def at(self, direction: Tensor, radius: Tensor) -> Tensor:
        """The point that far from each record, shape (n, d)."""
        return self.inputs + radius.unsqueeze(1) * direction


@dataclass(frozen=True, slots=True)
class _Bracket:
    """A unit direction of each record (n, d) and radii (n,): its own label at `low`, another at `high`."""

    direction: Tensor
    low: Tensor
    high: Tensor


def _searched(lanes: _Lanes, starts: Tensor, how: Plan, stream: Stream) -> Tensor:
    gap = starts - lanes.inputs
    # A start cannot coincide with the record, unless answers are noisy.
    high = gap.norm(dim=1).clamp_min(torch.finfo(gap.dtype).tiny)
    bracket = _Bracket(gap / high.unsqueeze(1), torch.zeros_like(high), high)
    bracket = _bisected(lanes, bracket, how.line)
    for step in range(how.steps):
        units = _orthonormal(how.probes, gap.shape[1], stream.child(step)).to(gap)
        bracket = _turned(lanes, bracket, _normal(lanes, bracket, units))
        bracket = _bisected(lanes, bracket, how.refinements)
    return bracket.high


def _bisected(lanes: _Lanes, bracket: _Bracket, times: int) -> _Bracket:
    low, high = bracket.low, bracket.high
    for _ in range(times):
        middle = (low + high) / 2
        other = lanes.beyond(lanes.at(bracket.direction, middle).unsqueeze(1))[:, 0]
        low, high = torch.where(other, low, middle), torch.where(other, middle, high)
    return _Bracket(bracket.direction, low, high)


def _normal(lanes: _Lanes, bracket: _Bracket, units: Tensor) -> Tensor:
    """Unit estimate of the boundary's normal, away from the record, shape (n, d).

    Displacements reach across the bracket in the direction of the normal, of which each has a share of
    about 1 / sqrt(d).
    """
    centre = lanes.at(bracket.direction, (bracket.low + bracket.high) / 2)
    reach = (bracket.high - bracket.low) * units.shape[1] ** 0.5
    points = centre.unsqueeze(1) + reach[:, None, None] * units
    sign = lanes.beyond(points).to(centre) * 2 - 1
    # The centre is a little off the boundary, which favours one label; equal answers say nothing at all.
    sign = sign - sign.mean(1, keepdim=True)
    normal = sign @ units
    size = normal.norm(dim=1, keepdim=True)
    return torch.where(size > 0, normal / size, bracket.direction)


def _turned(lanes: _Lanes, bracket: _Bracket, normal: Tensor) -> _Bracket:
    """The direction turned as far towards the normal as keeps the other label at the same distance."""
    mixed = [(1 - t) * bracket.direction + t * normal for t in TURNS]
    directions = torch.stack([m / m.norm(dim=1, keepdim=True) for m in mixed], 1)
    points = lanes.inputs.unsqueeze(1) + bracket.high[:, None, None] * directions
    other = lanes.beyond(points)
    chosen = directions[torch.arange(len(other)), other.int().argmax(1)]
    some = other.any(1)
    low = torch.where(some, torch.zeros_like(bracket.low), bracket.low)
    return _Bracket(torch.where(some.unsqueeze(1), chosen, bracket.direction), low, bracket.high)


def _orthonormal(count: int, dimension: int, stream: Stream) -> Tensor:
    """Unit vectors, orthogonal in blocks of at most `dimension`, shape (count, dimension)."""
    draw = torch.randn(count, dimension, generator=stream.torch(), dtype=torch.float64)
    blocks = [torch.linalg.qr(block.T)[0].T for block in draw.split(dimension)]
    return torch.cat(blocks)


def _nearest_other(inputs: Tensor, labels: Tensor, starts: Tensor, called: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest start with another label, and whether there is one; both of shape (n,)."""
    apart = torch.cdist(inputs.flatten(1), starts.flatten(1))
    apart = apart.masked_fill(called == labels.unsqueeze(1), torch.inf)
    distance, index = apart.min(1)
    return index, distance.isfinite()
