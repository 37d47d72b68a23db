"""Rows of the reconstruction table: what an attack gave over all clients of a case, beside its baselines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean

import numpy as np

from audits.attack_rows import NOTHING, markdown
from audits.identification import METRIC, exact
from audits.reconstruction_cases import AXES, Case
from audits.reconstruction_likeness import Likeness
from audits.reconstruction_run import Result

LEVEL = 0.95
HEADER = (
    "net", "attack", "records", "steps", "defence", "identified", "chance", "in features", "of all",
    "members found", "PSNR / SSIM / perceptual", "class mean", "public record", "labels", "iterations",
    "bound under the claim",
)  # fmt: skip
SELDOM = ("defence", "bound under the claim")
_PIPELINES = {"fedbkd heads": "head epochs alone", "fedbkd": "whole round"}


def tables(results: dict[Case, list[Result]]) -> Iterable[tuple[str, str]]:
    """Title and Markdown table of each axis that has a result.

    Args:
        results: of one data set: by case, one a seed.
    """
    for axis, title in AXES.items():
        body = [row(case, found) for case, found in results.items() if case.axis == axis and found]
        # Nearly all rows have neither a defence nor a claim.
        shown = [i for i, name in enumerate(HEADER) if not (name in SELDOM and _idle(i, body))]
        if body:
            yield title, markdown([HEADER[i] for i in shown], [[cells[i] for i in shown] for cells in body])


def row(case: Case, results: Sequence[Result]) -> list[str]:
    """The cells of one case, in the order of `HEADER`."""
    attacked = [one for r in results for one in r.attacked]
    chance = mean(c for r in results for c in r.chance)
    alone = mean(c for r in results for c in r.member_chance)
    found = mean(one.found for one in attacked)
    bounds = [r.bound for r in results if r.bound is not None]
    return [
        case.net,
        case.attack + (f", {_PIPELINES[case.pipeline]}" if case.pipeline in _PIPELINES else ""),
        str(case.records),
        f"{case.steps}" + ("" if case.size == case.records else f" of {case.size}"),
        case.defence,
        f"{identified(attacked, chance)} of {len(attacked)}",
        percent(chance),
        percent(mean(one.first_seen for one in attacked)),
        percent(_mean(one.every for one in attacked)),
        f"{percent(found)} ({percent(alone)})",
        alike(attacked),
        _of_means([one for r in results for one in r.means]),
        _of_public([one for r in results for one in r.drawn], mean(v for r in results for v in r.lookup)),
        percent(mean(v for r in results for v in r.labels)),
        f"{sum(r.work for r in results) / len(attacked):.0f}, "
        f"{sum(r.seconds for r in results) / len(attacked):.2f} s",
        f"≤ {percent(max(bounds))}" if bounds else NOTHING,
    ]


def identified(attacked: Sequence[Likeness], chance: float) -> str:
    """Share of clients of whom the best picture points at a member, with exact bounds.

    In bold where the lower bound is above chance.
    """
    hits = np.array([one.first for one in attacked])
    estimate = exact(hits, LEVEL, METRIC, len(attacked))
    text = f"{percent(estimate.value)} [{percent(estimate.lower)}, {percent(estimate.upper)}]"
    return f"**{text}**" if estimate.lower is not None and estimate.lower > chance else text


def percent(share: float | None) -> str:
    """A share in percent, or a dash."""
    return (
        NOTHING
        if share is None
        else f"{100 * share:.0f} %"
        if share >= 0.095 or not share
        else f"{100 * share:.1f} %"
    )


def decibels(value: float | None) -> str:
    """One digit, or a dash."""
    return NOTHING if value is None else f"{value:.1f}"


def alike(pictures: Sequence[Likeness]) -> str:
    """PSNR in dB, SSIM and perceptual distance, means over clients, in one cell."""
    of_pixels = decibels(_mean(one.decibels for one in pictures))
    others = (_mean(one.structure for one in pictures), _mean(one.perceptual for one in pictures))
    return " / ".join([of_pixels, *(NOTHING if v is None else f"{v:.2f}" for v in others)])


def _idle(column: int, body: Sequence[Sequence[str]]) -> bool:
    return {cells[column] for cells in body} <= {"none", NOTHING}


def _of_means(pictures: Sequence[Likeness]) -> str:
    every, seen = (percent(_mean(v)) for v in zip(*((p.every, p.every_seen) for p in pictures), strict=True))
    return f"{every} ({seen}), {alike(pictures)}"


def _of_public(pictures: Sequence[Likeness], nearest: float) -> str:
    every = percent(_mean(one.every for one in pictures))
    return f"{every}, {decibels(_mean(one.decibels for one in pictures))} ({decibels(nearest)})"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return mean(known) if known else None
