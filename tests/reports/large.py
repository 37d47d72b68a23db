"""An INVENTED record as large as an audit gets: 2 settings, 6 arms, 5 attacks, 4 observers."""

from __future__ import annotations

from itertools import product

from reports.record import Arm, Cell, Record
from tests.reports.example import example
from tests.reports.example_checks import check
from tests.reports.example_results import MEMBERSHIP, OBSERVERS, SETTINGS, estimate, roc

ARMS = tuple(f"arm-{i}" for i in range(6))
ATTACKS = tuple(f"attack {i}" for i in range(5))


def large(points: int = 60) -> Record:
    """The record; every cell ran and has a curve of `points` points."""
    places = list(product(SETTINGS, ARMS, OBSERVERS))
    aucs = {place: 0.5 + 0.02 * (i % 20) for i, place in enumerate(places)}
    return example().model_copy(
        update={
            "arms": tuple(Arm(id=a, title=a.title(), pipeline="feddgm", role="audited") for a in ARMS),
            "cells": tuple(_cell(p, a, aucs[p], points) for p, a in product(places, ATTACKS)),
            "checks": tuple(
                check(f"AUC-{o}", "FAIL", estimate("auc", aucs[s, a, o], 0.02), 0.5, (s, a, "attack 0", o))
                for s, a, o in places
            ),
        }
    )


def _cell(place: tuple[str, str, str], attack: str, auc: float, points: int) -> Cell:
    setting, arm, observer = place
    return Cell(
        setting=setting,
        arm=arm,
        attack=attack,
        observer=observer,
        artefact=OBSERVERS[observer],
        status="run",
        taxonomy=MEMBERSHIP,
        auc=estimate("auc", auc, 0.02),
        auc_canaries=estimate("auc", auc, 0.05),
        tprs=tuple(estimate("tpr_at_fpr", fpr * 2, fpr, fpr=fpr) for fpr in (0.01, 0.1)),
        roc=roc(auc, points),
    )
