"""The privacy profile behind a claim: pairs of epsilon and delta that all hold at once."""

from __future__ import annotations

import math
from importlib.metadata import version

import numpy as np

from audits.store import default_root, digest, read_json, source_digest, write_json
from privfed.accounting import Accountant, delta_at, supports
from privfed.claims import Claim, Neighbouring
from privfed.event_trees import loads

READ = "accounting claims composition dp_events event_trees opacus_accountants trade_off"
ACCOUNTING = tuple(f"privfed/{name}.py" for name in READ.split())
"""Source that what is kept of a claim depends on."""
POINTS = 24
"""Epsilons at which the profile is read, even from 0 to a little above the claim's."""
_BEYOND = 1.25

Profile = tuple[tuple[float, float], ...]


def privacy_profile(claim: Claim, exchanged: bool = False) -> Profile:
    """(epsilon, delta) pairs that follow from a claim, its own among them; kept.

    Args:
        claim: with the events behind it, or else its one pair alone is known.
        exchanged: whether two data sets differ by one unit in place of another, also where the claim is
            about one that is added or removed: what events leave then if they are read so, and otherwise what
            a group of two leaves, (2 epsilon, (1 + e^epsilon) delta).
    """
    relation: Neighbouring = "replace_one" if exchanged else claim.neighbouring
    code = [source_digest(*ACCOUNTING, "audits/privacy_profile.py"), version("dp-accounting")]
    made_of = [claim.trace, claim.epsilon, claim.delta, claim.neighbouring, relation, code]
    place = default_root() / "calibrations" / f"profile-{digest(made_of)[:24]}.json"
    known = read_json(place)
    if isinstance(known, list):
        return tuple((float(e), float(d)) for e, d in known)
    found = (_own(claim, relation), *_read(claim, relation))
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, found)
    return found


def _own(claim: Claim, relation: Neighbouring) -> tuple[float, float]:
    if relation == claim.neighbouring:
        return claim.epsilon, claim.delta
    return 2 * claim.epsilon, min(1.0, (1 + math.exp(min(claim.epsilon, 700.0))) * claim.delta)


def _read(claim: Claim, relation: Neighbouring) -> Profile:
    if not claim.trace:
        return ()
    events = loads(claim.trace)
    # A random number of trainings is known to RDP alone.
    readers: tuple[Accountant, ...] = ("pld", "rdp")
    accountant = next((a for a in readers if supports(events, a, relation)), None)
    if accountant is None:
        return ()
    grid = np.linspace(0.0, _BEYOND * _own(claim, relation)[0], POINTS).tolist()
    return tuple((e, delta_at(events, e, accountant, relation)) for e in grid)
