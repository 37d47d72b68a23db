"""Does a local defence keep what it claims? A lower bound on epsilon from one worst-case record.

The hook trains many times with and many times without one extra record whose gradient points in a
known direction; the score of a run is how far the parameters moved that way. The threshold is fixed
on one half of the runs and the bound taken on the other (Jagielski, Ullman and Oprea,
arXiv 2006.07709; Nasr et al., arXiv 2101.04535: the two-sample Clopper-Pearson bound of
`audits.epsilon`). A bound above the claim refutes it; one below shows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from audits.epsilon import epsilon_lower_bound
from privfed.hooks import LocalHook
from privfed.nets import NetSpec, Params
from privfed.randomness import Stream
from privfed.records import Records, concatenate
from privfed.training import Recipe, Task

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Canary:
    """A training task, and the one record whose presence is asked after.

    Attributes:
        task: without the record; its stream is replaced in every run.
        record: one record of the task's shape.
        direction: where the record's gradient points, by parameter; of any length. Training moves the
            parameters the other way.
    """

    task: Task
    record: Records
    direction: Params


@dataclass(frozen=True, slots=True)
class CanaryTest:
    """What the runs showed.

    Attributes:
        bound: epsilon, in nats, that is refuted with `confidence`: the truth is at least as large.
        delta: that the bound holds at.
        confidence: one less the chance that a defence which keeps epsilon gets a larger bound.
        threshold: on scores; higher = the record was in.
        true_positives, false_positives: runs above it, of the half that the threshold was not fixed on.
        n_in, n_out: runs in that half.
    """

    bound: float
    delta: float
    confidence: float
    threshold: float
    true_positives: int
    false_positives: int
    n_in: int
    n_out: int

    def refutes(self, claimed: float) -> bool:
        """Whether a claim of epsilon (nats) at the same delta is red."""
        return self.bound > claimed


def linear_canary(records: int = 0, width: int = 4, scale: float = 8.0, frozen_bias: bool = True) -> Canary:
    """Two classes, a linear net of zeros, and a record at a right angle to all others.

    With two classes the gradient of a record x is a multiple of (1, -1) times x whatever the weights,
    so its direction never changes; at weights of zero its length is `scale` / sqrt 2, and it stays near
    while the weights do. The record is a worst case for clips below that and learning rates below about
    one over scale, steps and noise.

    Args:
        records: others, on the remaining axes in turn, in both classes.
        width: axes, at least 2.
        scale: length of every input.
        frozen_bias: keeps the bias out, which all records would share.
    """
    if width < 2 or records < 0 or not scale > 0:
        got = f"width={width}, records={records}, scale={scale}"
        raise ValueError(f"expected width >= 2, records >= 0 and scale > 0, got {got}")
    spec = NetSpec("linear", channels=1, size=1, classes=2, width=width)
    start = {"0.weight": torch.zeros(2, width), "0.bias": torch.zeros(2)}
    axes = scale * torch.eye(width)
    others = Records(axes[1 + torch.arange(records) % (width - 1)], torch.arange(records) % 2)
    record = Records(axes[:1], torch.zeros(1, dtype=torch.int64))
    towards = torch.zeros(2, width)
    towards[:, 0] = torch.tensor([-1.0, 1.0])  # probability less label, times the input
    task = Task(spec, start, others, Recipe(1, 1, 1.0), Stream(0), ("0.bias",) if frozen_bias else ())
    return Canary(task, record, {"0.weight": towards})


def scores(hook: LocalHook, canary: Canary, runs: int, stream: Stream) -> tuple[Floats, Floats]:
    """Scores of `runs` trainings with the record and as many without, each shape (runs,).

    Higher = moved further against the direction. Every run has a stream of its own: noise that both
    sides share would cancel and show a leak that is none.
    """
    present = replace(canary.task, records=concatenate([canary.task.records, canary.record]))
    found = [
        [_score(hook, canary, replace(task, stream=stream.child(side, run))) for run in range(runs)]
        for side, task in (("in", present), ("out", canary.task))
    ]
    return np.array(found[0]), np.array(found[1])


def gradient_canaries(
    hook: LocalHook, canary: Canary, runs: int, stream: Stream, *, delta: float, confidence: float = 0.95
) -> CanaryTest:
    """Lower bound on the epsilon of one training by `hook`, from 2 x `runs` trainings.

    Assumes runs independent of each other given the data, which a stream of its own gives each. With
    n runs a side the bound is at most about ln(n / 8): 1.8 nats from 48, 3.4 from 200.

    Args:
        hook: the defence; any local hook.
        canary: the record and what it is trained beside.
        runs: trainings a side; the first half of each side fixes the threshold.
        stream: of the whole test.
        delta: of the claim that the bound will be held against.
        confidence: of the bound, in (0, 1).
    """
    if runs < 4:
        raise ValueError(f"expected at least 4 runs a side, got runs={runs}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected confidence in (0, 1), got confidence={confidence}")
    return judge(*scores(hook, canary, runs, stream), delta=delta, confidence=confidence)


def judge(inside: Floats, outside: Floats, *, delta: float, confidence: float = 0.95) -> CanaryTest:
    """The bound from scores of runs with and without the record, each shape (runs,), in random order."""
    half_in, half_out = len(inside) // 2, len(outside) // 2
    alpha = 1 - confidence
    threshold = _threshold(inside[:half_in], outside[:half_out], delta, alpha)
    hits = int((inside[half_in:] > threshold).sum())
    alarms = int((outside[half_out:] > threshold).sum())
    n_in, n_out = len(inside) - half_in, len(outside) - half_out
    bound = epsilon_lower_bound(hits, alarms, n_in, n_out, delta, alpha)
    return CanaryTest(bound, delta, confidence, threshold, hits, alarms, n_in, n_out)


def _score(hook: LocalHook, canary: Canary, task: Task) -> float:
    after = hook.train(task).value
    return float(sum(((task.start[k] - after[k]) * d).sum() for k, d in canary.direction.items()))


def _threshold(inside: Floats, outside: Floats, delta: float, alpha: float) -> float:
    """Half way between two neighbouring scores, where the bound on these runs is largest."""
    values = np.unique(np.concatenate([inside, outside]))
    between = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    hits = (inside[:, None] > between).sum(axis=0)
    alarms = (outside[:, None] > between).sum(axis=0)
    bounds = [
        epsilon_lower_bound(int(h), int(a), len(inside), len(outside), delta, alpha)
        for h, a in zip(hits, alarms, strict=True)
    ]
    # Without a bound to choose by, the most right answers.
    best = np.lexsort((hits - alarms, bounds))[-1]
    return float(between[best])
