"""From scores to estimates: one attack by one observer on one arm, with its controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from attacks.interface import Bools, Candidates, Floats, Signals
from audits.coverage import Probe
from audits.game import Played, read_key, score_all
from audits.leave_one_out import remembered, shared_variances
from audits.roc import roc, tpr_at_fpr
from audits.setting import Setting
from audits.statistics import auc_at, federated_auc, one_score_per_unit
from audits.units import Units
from privfed.randomness import Stream
from reports.record import Estimate, RocPoint

MISSING_LEVEL = 1 - 0.05 / 2 / 1000
"""Of each bound on the AUC of being unscored: 5 % shared by a thousand attacks on arms."""

BLIND_COMPONENTS = 32
BLIND_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """The scores of one probe, one a privacy unit: of n records, or of the clients or subjects they make up.

    Attributes:
        scores: shape (F, n); None when the probe has nothing to read on this arm.
        included: shape (F, n).
        canaries: shape (n,); of records only.
        stream: decides in which federation each unit is scored for TPR at FPR.
        crashed: why the attack failed to run, if it did.
        shared: by part, the least variance of the mean AUC where federations are each other's
            references (`audits.leave_one_out`); empty for attacks without references.
        known: measures already worked out, so that none is twice.
    """

    probe: Probe
    scores: Floats | None
    included: Bools
    canaries: Bools
    stream: Stream
    crashed: str = ""
    shared: Mapping[str, float] = field(default_factory=dict, repr=False)
    known: dict[tuple[str, float | None, str], Callable[[float], Estimate]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def estimate(self, metric: str, fpr: float | None, part: str, level: float) -> Estimate:
        """AUC, or TPR at `fpr`, over "all", "natural" or "canaries", with bounds at `level`."""
        return self.measure(metric, fpr, part)(level)

    def measure(self, metric: str, fpr: float | None, part: str) -> Callable[[float], Estimate]:
        """The same as a function of the level alone: what is costly is done once."""
        asked = (metric, fpr, part)
        if asked not in self.known:
            self.known[asked] = self._measure(*asked)
        return self.known[asked]

    def _measure(self, metric: str, fpr: float | None, part: str) -> Callable[[float], Estimate]:
        scores, included = self.part(part)
        if metric == "auc":
            return auc_at(scores, included, self.shared.get(part))
        inside, outside = one_score_per_unit(included, scores, self.stream)
        return lambda level: tpr_at_fpr(inside, outside, fpr or 0.0, level, len(scores))

    def curve(self, level: float) -> tuple[RocPoint, ...]:
        """ROC over candidates that are not canaries, one score a unit."""
        scores, included = self.part("natural")
        return roc(*one_score_per_unit(included, scores, self.stream), level)

    def part(self, part: str) -> tuple[Floats, Bools]:
        """Scores and membership of one part of the candidates, each of shape (F, records of the part)."""
        if self.scores is None:
            raise ValueError(f"expected scores, got none for {self.probe.name}")
        chosen = _parts(self.canaries)[part]
        return self.scores[:, chosen], self.included[:, chosen]


def gather(probe: Probe, played: Played, setting: Setting, root: Path | None = None) -> Evidence:
    """Scores every federation by one probe; a crash becomes part of the evidence.

    Args:
        probe: the attack and its observer.
        played: what it reads.
        setting: where.
        root: the store, which keeps what federations share as references; worked out anew without.
    """
    found = _gather(probe, played, setting, played.included)
    signals = played.signals[read_key(probe)]
    if found.scores is None or signals is None:
        return found
    score = partial(_scored, probe, setting.privacy_units)
    work = shared_variances if root is None else partial(remembered, root, probe.attack)
    try:
        shared = work(score, signals, found.included, found.scores, _parts(found.canaries))
    except Exception as error:  # without it the interval would be too narrow to be shown
        crashed = f"scored again with a federation left out: {type(error).__name__}: {error}"
        return replace(found, scores=None, crashed=crashed)
    return replace(found, shared=shared)


def decoy(probe: Probe, played: Played, setting: Setting) -> Evidence:
    """The same on membership that was drawn afresh and never reached the pipeline: must be chance.

    Given all other federations, a fresh draw leaves the AUC of each at 1/2 on average: what federations
    share as references is left out here, which halves the work.
    """
    draw = setting.stream.child("decoy", read_key(probe)).numpy()
    return _gather(probe, played, setting, draw.random(played.included.shape) < 0.5)


def blind_auc(
    candidates: Candidates, canaries: Bools, included: Bools, level: float, units: Units | None = None
) -> Estimate:
    """Cross-validated AUC of a classifier that guesses membership from the raw records alone.

    Pixels or embedded tokens, label and owner go through standardisation, PCA and logistic regression;
    above chance, members and non-members differ in distribution and no attack on them means anything
    (Das et al. 2024, arXiv 2406.16201). Records are judged by a classifier fitted on other records of the
    same federation; units of several records, which are few, by one fitted on other federations.

    Args:
        candidates: the records.
        canaries: shape (n,); left out.
        included: shape (F, units).
        level: confidence of each bound.
        units: what is in or out together; every record by itself when None.
    """
    records = candidates.records
    features = np.column_stack(
        [
            records.inputs.flatten(1).numpy(),
            np.eye(int(records.labels.max()) + 1)[records.labels.numpy()],
            np.eye(int(candidates.clients.max()) + 1)[candidates.clients.numpy()],
        ]
    )
    together = units is not None and units.kind != "record"
    if units is not None and together:
        features = units.mean(features.T).T
    else:
        features, included = features[~canaries], included[:, ~canaries]
    components = min(BLIND_COMPONENTS, *features.shape)
    reduced = make_pipeline(StandardScaler(), PCA(components, random_state=0)).fit_transform(features)
    with threadpool_limits(1):
        guess = _from_other_federations if together else _from_other_records
        return federated_auc(guess(reduced, included), included, level)


def _from_other_records(features: Floats, included: Bools) -> Floats:
    # Few features, so Newton steps are quick; one thread, since more of them would only wait.
    model = LogisticRegression(solver="newton-cholesky")
    return np.stack(
        [
            cross_val_predict(model, features, bits, cv=BLIND_FOLDS, method="decision_function")
            for bits in included
        ]
    )


def _from_other_federations(features: Floats, included: Bools) -> Floats:
    count = len(included)
    found: Floats = cross_val_predict(
        LogisticRegression(solver="newton-cholesky"),
        np.tile(features, (count, 1)),
        included.ravel(),
        groups=np.repeat(np.arange(count), len(features)),
        cv=GroupKFold(min(BLIND_FOLDS, count)),
        method="decision_function",
    )
    return found.reshape(included.shape)


def _parts(canaries: Bools) -> dict[str, Bools]:
    """Candidates that each part counts, shape (n,)."""
    return {"all": np.ones_like(canaries), "natural": ~canaries, "canaries": canaries}


def _gather(probe: Probe, played: Played, setting: Setting, included: Bools) -> Evidence:
    key = read_key(probe)
    units = setting.privacy_units
    canaries = setting.canaries.numpy() if units.kind == "record" else np.zeros(units.count, dtype=np.bool_)
    stream = setting.stream.child("unit", probe.name)
    signals = played.signals[key]
    crashed = played.failures.get(key, "")
    scores = None
    if signals is not None:
        try:
            scores = _scored(probe, units, signals, included)
        except Exception as error:  # a plug-in may fail in any way; the rest of the audit must not
            crashed = f"{type(error).__name__}: {error}"
    if scores is not None and (gap := _gap(scores, included)):
        scores, crashed = None, gap
    if scores is not None and probe.observer.role == "client":
        # A client knows its own records; what it learns of the others' is what counts.
        own = setting.candidates.clients.numpy() == probe.observer.client
        scores = np.where(_held_by(units, own), np.nan, scores)
    return Evidence(probe, scores, included, canaries, stream, crashed)


def _held_by(units: Units, own: Bools) -> Bools:
    """Units of which a client holds any record, given its records."""
    held = np.zeros(units.count, dtype=np.bool_)
    held[units.of.numpy()[own]] = True
    return held


def _scored(probe: Probe, units: Units, signals: Sequence[Signals], included: Bools) -> Floats:
    """The scores of the units as numbers of the right shape: nothing else may reach the statistics."""
    of_records = units.expand(included)
    scores = score_all(probe, signals, of_records)
    if scores.shape != of_records.shape:
        raise ValueError(f"expected scores of shape ({of_records.shape[1]},), got shape={scores.shape[1:]}")
    scores = scores.astype(np.float64, copy=False)
    return scores if units.kind == "record" else units.mean(scores)


def _gap(scores: Floats, included: Bools) -> str:
    """Why scores that are missing void the rest; empty where none are, or they are missing at random.

    Statistics leave out what is not scored. That is sound for records whose client sat out, say; it
    hides a leak if whole federations diverged, or if the members that stand out most are those left out.
    """
    missing = np.isnan(scores)
    if silent := int(missing.all(axis=1).sum()):
        return f"{silent} of {len(scores)} federations gave no score"
    if not missing.any():
        return ""
    estimate = federated_auc(missing.astype(np.float64), included, MISSING_LEVEL)
    if estimate.lower is None or estimate.upper is None or estimate.lower <= 0.5 <= estimate.upper:
        return ""
    return "whether a record is scored depends on its membership"


__all__ = ["Evidence", "blind_auc", "decoy", "gather"]
