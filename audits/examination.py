"""What came of asking for the data themselves: the truth is looked up here, each kind of it its own way.

It is looked up here and in the files named after what is sought, nowhere else; no attack is handed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from attacks.interface import Bools, Floats
from attacks.source_inference import guess
from audits.examination_clients import attributes, properties
from audits.examination_records import records
from audits.examined import Examined, Measure
from audits.game import Played, members_of, read_key
from audits.inquiry import Inquiry, Sought
from audits.property_game import (
    L1_BOUND,
    improvement,
    l1,
    label_shares,
    mean_error,
    padded,
    presence_auc,
    prior_shares,
)
from audits.reading import Arrays, inference_of, signals_of
from audits.setting import Setting
from audits.source import Ints, SourceFinding, source_accuracy
from reports.record import Estimate

__all__ = ["Examined", "examine"]


def examine(inquiry: Inquiry, played: Played, setting: Setting) -> Examined:
    """Holds what came out against the truth; a crash becomes part of the finding."""
    key = read_key(inquiry)
    if key in played.failures:
        return Examined(inquiry, crashed=played.failures[key])
    found = played.found.get(key, ())
    known = [(f, arrays) for f, arrays in enumerate(found) if arrays is not None]
    if not known:
        return Examined(inquiry, asked=len(found))
    look = _LOOK[inquiry.sought]
    try:
        return look(inquiry, known, setting)
    except Exception as error:  # a plug-in may return anything; the rest of the audit must not fall
        return Examined(inquiry, crashed=f"{type(error).__name__}: {error}")


def _labels(inquiry: Inquiry, known: Sequence[tuple[int, Arrays]], setting: Setting) -> Examined:
    clients, classes = setting.clients, setting.world.surrogate.classes
    estimates = np.stack([padded(inference_of(a).values, clients, classes) for _, a in known])
    truth = np.stack([label_shares(members_of(setting, f), classes) for f, _ in known])
    details: dict[str, Measure] = {}
    baselines: dict[str, Measure] = {}
    prior = prior_shares(setting.candidates.population, truth)
    if not inquiry.disclosed:
        seen = np.where(np.isnan(estimates), np.nan, prior)
        baselines["shares of the population"] = partial(presence_auc, seen, truth)
    sums = np.nansum(estimates, axis=-1)
    shares = bool(np.allclose(sums[sums != 0], 1.0)) and not inquiry.disclosed
    if shares:
        ours, theirs = (
            np.where(np.isnan(estimates[..., 0]), np.nan, l1(e, truth)) for e in (estimates, prior)
        )
        metric = "label_share_l1"
        details["L1 error of the shares"] = partial(_error, ours, metric)
        details["L1 error less than that of the population's shares"] = partial(_gain, ours, theirs, metric)
    return Examined(inquiry, partial(presence_auc, estimates, truth), 0.5, details, baselines, 0, len(known))


def _error(errors: Floats, metric: str, level: float) -> Estimate:
    return mean_error(errors, L1_BOUND, level, metric)


def _gain(ours: Floats, theirs: Floats, metric: str, level: float) -> Estimate:
    return improvement(ours, theirs, L1_BOUND, level, metric)


def _source(inquiry: Inquiry, known: Sequence[tuple[int, Arrays]], setting: Setting) -> Examined:
    """Chance is the best that counts of classes alone would do: naming a client by the label is no leak."""
    guesses = np.stack([guess(signals_of(a)) for _, a in known])
    included = np.stack([setting.members(f).numpy() for f, _ in known])
    look = partial(_source_of, guesses, included, setting)
    found = look(0.95)
    details: dict[str, Measure] = {
        f"class {c.label}, by counts {max(c.majority, c.histogram):.3f}": partial(_of_class, look, i)
        for i, c in enumerate(found.by_class)
    }
    return Examined(inquiry, partial(_accuracy, look), found.baseline, details, {}, 0, len(known))


def _source_of(guesses: Ints, included: Bools, setting: Setting, level: float) -> SourceFinding:
    candidates = setting.candidates
    owners, labels = candidates.clients.numpy(), candidates.records.labels.numpy()
    return source_accuracy(guesses, owners, labels, included, setting.clients, level)


def _accuracy(look: Callable[[float], SourceFinding], level: float) -> Estimate:
    return look(level).accuracy


def _of_class(look: Callable[[float], SourceFinding], at: int, level: float) -> Estimate:
    return look(level).by_class[at].accuracy


_LOOK: dict[Sought, Callable[[Inquiry, Sequence[tuple[int, Arrays]], Setting], Examined]] = {
    "records": records,
    "labels": _labels,
    "source": _source,
    "property": properties,
    "attribute": attributes,
}
