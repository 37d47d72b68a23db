"""Whom an attack finds: canaries, outliers, each client's records, each class.

An average hides the few who are found (Aerni et al., "Evaluations of machine learning privacy defenses
are misleading", arXiv 2404.17399). Parts of one division have bounds that hold for all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.spatial.distance import cdist

from attacks.interface import Bools, Candidates, Floats
from audits.coverage import OBSERVERS
from audits.evidence import Evidence
from audits.finding import Finding
from audits.setting import Setting
from audits.statistics import auc_at
from audits.strongest import strongest
from reports.record import Slice

Division = Literal["kind", "client", "class"]
OUTLIERS = 0.1
"""Share of the records that count as outliers."""
NEIGHBOURS = 5


def slices(findings: Sequence[Finding], level: float) -> tuple[Slice, ...]:
    """AUC of each observer's strongest attack on each part of the candidates, on every audited arm.

    Args:
        findings: of all arms.
        level: confidence of the bounds of each division, shared by its parts.

    The attack is the one with the highest AUC over all natural records of all federations. Units of several
    records are not divided: their records may be of any class and client.
    """
    divided = {f.setting.id: divisions(f.setting) for f in findings}
    rows: list[Slice] = []
    for f in findings:
        if f.arm.role != "audited" or f.setting.privacy_units.kind != "record":
            continue
        for observer in OBSERVERS:
            found = strongest([e for e in f.evidence if e.probe.observer == observer], level)
            if found is not None:
                rows += _rows(f, found.evidence, divided[f.setting.id], level)
    return tuple(rows)


def divisions(setting: Setting) -> dict[Division, dict[str, Bools]]:
    """The parts of each division, bool of shape (n,); clients and classes are of natural records."""
    candidates, canaries = setting.candidates, setting.canaries.numpy()
    natural = ~canaries
    strange = np.zeros_like(natural)
    strange[natural] = outliers(candidates, natural)
    owners, labels = candidates.clients.numpy(), candidates.records.labels.numpy()
    return {
        "kind": {
            "natural": natural,
            "outlier decile": strange,
            "the other nine": natural & ~strange,
            **({"canaries": canaries} if canaries.any() else {}),
        },
        "client": {f"client {k}": natural & (owners == k) for k in np.unique(owners)},
        "class": {f"class {c}": natural & (labels == c) for c in np.unique(labels[natural])},
    }


def outliers(candidates: Candidates, natural: Bools) -> Bools:
    """The tenth of the natural candidates that lie furthest from others of their label.

    By mean distance (L2 over pixels or tokens' embeddings) to the nearest `NEIGHBOURS` among candidates
    and population of the same label: known before any training. A label with too few takes what it has;
    a record alone of its label comes first.

    Returns:
        Shape (natural.sum(),).
    """
    records, population = candidates.records, candidates.population
    inputs = records.inputs.flatten(1).double().numpy()[natural]
    labels = records.labels.numpy()[natural]
    others = np.concatenate([inputs, population.inputs.flatten(1).double().numpy()])
    other_labels = np.concatenate([labels, population.labels.numpy()])
    away = np.empty(len(inputs))
    for label in np.unique(labels):
        mine, same = labels == label, other_labels == label
        away[mine] = _remoteness(cdist(inputs[mine], others[same]))
    found = np.zeros(len(away), dtype=np.bool_)
    found[np.argsort(-away, kind="stable")[: round(OUTLIERS * len(away))]] = True
    return found


def _remoteness(distance: Floats) -> Floats:
    """Mean of the smallest distances of each row, less the one to itself."""
    nearest: Floats = np.sort(distance, axis=1)[:, 1 : 1 + NEIGHBOURS]
    return nearest.mean(1) if nearest.shape[1] else np.full(len(distance), np.inf)


def _rows(
    finding: Finding, evidence: Evidence, divided: Mapping[Division, Mapping[str, Bools]], level: float
) -> list[Slice]:
    assert evidence.scores is not None
    # What federations share as references is known for the natural records as a whole; a part has more.
    rows, common = [], evidence.shared.get("natural")
    for by, parts in divided.items():
        shared = 1 - (1 - level) / max(1, len(parts))
        for name, chosen in parts.items():
            estimate = auc_at(evidence.scores[:, chosen], evidence.included[:, chosen], common)(shared)
            rows.append(
                Slice(
                    setting=finding.setting.id,
                    arm=finding.arm.id,
                    observer=evidence.probe.observer.label,
                    attack=evidence.probe.name,
                    by=by,
                    name=name,
                    estimate=estimate,
                )
            )
    return rows
