"""Which federations are asked for the data themselves, and what came of it.

The first few, as `audits.game` has it; all of them where each is a reference of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from audits import game
from audits.game import Job, Played
from audits.inquiry import Inquiry


def asking(jobs: Sequence[Job], inquiries: Sequence[Inquiry]) -> tuple[Job, ...]:
    """The jobs of one arm, as made with these inquiries, put to all federations where they ask for all."""
    wide = {game.read_key(q) for q in inquiries if q.everywhere}
    asks = tuple(a for a in jobs[0].asks if a[0] in wide)
    return tuple(job if job.asks else replace(job, asks=asks) for job in jobs)


def read_back(jobs: Sequence[Job]) -> Played:
    """Everything the jobs of one arm and setting left behind, whether few or all of them were asked."""
    wide = {key for key, _, _ in jobs[-1].asks}
    first = game.read_back([_only(job, {key for key, _, _ in job.asks} - wide) for job in jobs])
    if not wide:
        return first
    rest = game.read_back([replace(_only(job, wide), reads=()) for job in jobs])
    return replace(first, found=first.found | rest.found, failures=first.failures | rest.failures)


def _only(job: Job, keys: set[str]) -> Job:
    return replace(job, asks=tuple(a for a in job.asks if a[0] in keys))
