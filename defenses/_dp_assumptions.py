"""What the steps that the witness saw say about each assumption of a DP-SGD claim.

Each statistical check raises a false alarm with probability at most 1e-6 a run: by non-asymptotic
bounds (Laurent and Massart 2000, Lemma 1, for the noise; Bernstein's inequality for the sampling),
and by chi-square quantiles for the few numbers of noise on a count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import chi2

from defenses._dp_stated import Adaptation, Stated
from defenses._dp_witness import Step
from privfed.claims import Assumption

ALARM = 1e-6
LOG_ALARM = math.log(2 / ALARM)


def assumptions(stated: Stated, seen: Sequence[Step]) -> tuple[Assumption, ...]:
    """What the run says about each assumption of Poisson-sampled DP-SGD."""
    found = [_sampled(stated, [step.size for step in seen]), _clipped(stated, seen), _noisy(stated, seen)]
    if stated.adaptation is not None:
        found.append(_counted(stated.adaptation, [step.count_noise for step in seen]))
    if stated.random == "system":
        found.append(_secure(stated, [step.handed for step in seen]))
    steps = f"{len(seen)} steps ran, {stated.steps} accounted"
    return (*found, Assumption("all steps counted", len(seen) == stated.steps, steps))


def _clipped(stated: Stated, seen: Sequence[Step]) -> Assumption:
    within = all(step.excess <= 1 for step in seen)  # false for NaN, unlike a comparison of the maximum
    followed = all(step.followed for step in seen)
    recounted = sum(step.recounted for step in seen)
    sums = f"the sum of every step {'is' if within else 'is not'} the sum of gradients clipped one by one to"
    match stated.clipping:
        case "flat":
            how = f"{sums} L2 norm {stated.clip:g}, recomputed to within rounding"
        case "per_layer":
            how = (
                f"{sums} equal shares of L2 norm {stated.clip:g}, a share a parameter tensor, recomputed to "
                "within rounding"
            )
        case "adaptive":
            how = (
                f"{sums} the L2 norm of its step, recomputed to within rounding; that norm started at "
                f"{stated.clip:g} and {'moved' if followed else 'did not move'} by noisy counts alone"
            )
        case "ghost":
            how = (
                f"in {recounted} of {len(seen)} steps each record's gradient was recomputed without ghost "
                f"clipping, and {'every' if within else 'not every'} sum is that of gradients clipped one by "
                f"one to L2 norm {stated.clip:g}; the sums of the other steps were only held against the "
                "norms that ghost clipping reported"
            )
    return Assumption("every per-sample gradient clipped", within and followed, how)


def _sampled(stated: Stated, sizes: Sequence[int]) -> Assumption:
    draws = stated.records * len(sizes)
    rate = stated.sampling_rate
    slack = math.sqrt(2 * draws * rate * (1 - rate) * LOG_ALARM) + LOG_ALARM / 3 if rate < 1 else 0.0
    within = abs(sum(sizes) - draws * rate) <= slack
    return Assumption(
        "Poisson sampling",
        within,
        f"every record is drawn by itself with rate {rate:g} in every step; the number of records drawn is "
        f"{'within' if within else 'outside'} Bernstein's bound for that rate",
    )


def _noisy(stated: Stated, seen: Sequence[Step]) -> Assumption:
    name = "Gaussian noise of the stated size"
    if stated.noise_multiplier == 0:
        return Assumption(name, False, "noise multiplier 0: no noise was added")
    count = sum(step.draws for step in seen)
    power = sum(step.power for step in seen)
    echo = sum(step.echo for step in seen)
    repeats = abs(echo) > math.sqrt(2 * count * LOG_ALARM) + LOG_ALARM
    source = "a seeded pseudo-random stream that no attack is handed"
    if stated.random == "system":
        source = "the operating system"
    return Assumption(
        name,
        _chi_square(power, count) and not repeats,
        f"added noise has {power / max(count, 1):.4f} of its stated variance over {count} draws and "
        f"{'repeats' if repeats else 'does not repeat'} from step to step; it comes from {source}",
    )


def _counted(how: Adaptation, noise: Sequence[float]) -> Assumption:
    """Exact quantiles: of a few numbers, wider bounds would let missing noise pass."""
    power = sum(x * x for x in noise)
    return Assumption(
        "Gaussian noise on the count that moves the clip",
        bool(ALARM / 2 <= chi2.cdf(power, len(noise)) <= 1 - ALARM / 2),
        f"noise on the sum over records of (unclipped - 1/2) has {power / max(len(noise), 1):.4f} of the "
        f"variance of deviation {how.count_noise:g} over {len(noise)} steps; it was divided by the expected "
        "number of records, never by their number",
    )


def _secure(stated: Stated, handed: Sequence[bool]) -> Assumption:
    same = all(handed)
    return Assumption(
        "noise from a cryptographically secure source",
        same,
        f"the noise of every step {'is' if same else 'is not'} what the operating system's source of random "
        "numbers gave, four draws summed against floating-point attacks; records are drawn by it too",
    )


def _chi_square(power: float, count: int) -> bool:
    spread = 2 * math.sqrt(count * LOG_ALARM)
    return -spread <= power - count <= spread + 2 * LOG_ALARM
