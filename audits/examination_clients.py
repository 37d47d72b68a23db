"""What clients' records have in common, and what is hidden of one: the truth about shares and attributes.

How an attack's numbers follow a share is learnt from other clients in other federations, and held against
the share of the population, which anybody knows. What is filled in of a record is held against records
that were not trained on, whose hidden part a model that remembers nothing would guess as often.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from attacks.attribute_inference import imputed, right, true_values
from attacks.interface import AttributeAttack, Bools, Floats, Known
from attacks.property_inference import OfProperty, mean_shares, share_estimates, true_shares
from audits.examined import Examined, Measure
from audits.game import members_of
from audits.inquiry import Inquiry
from audits.property_game import (
    attribute_advantage,
    excess_over_imputation,
    improvement,
    mean_error,
    padded,
    r_squared,
)
from audits.reading import Arrays, inference_of, scores_of
from audits.setting import Setting
from audits.statistics import federated_mean
from reports.record import Estimate

CHANCE = 0.0
"""What both measures are where nothing was learnt."""


def properties(inquiry: Inquiry, known: Sequence[tuple[int, Arrays]], setting: Setting) -> Examined:
    """How much of the differences in clients' shares is explained, beyond the share of the population.

    The mean share of other clients, what the regression falls back on, is no fair start: it leaves out the
    client itself, and so lies on the far side of the mean of all.

    Raises:
        ValueError: when the attack does not say which property it asks after.
    """
    attack = inquiry.attack
    if not isinstance(attack, OfProperty):
        raise ValueError(f"expected an attack that names its property, got attack={attack!r}")
    public, population = setting.candidates.public, setting.candidates.population
    values = [inference_of(arrays).values for _, arrays in known]
    features = np.stack([padded(v, setting.clients, values[0].shape[1]) for v in values])
    truth = np.stack([true_shares(members_of(setting, f), attack.property, public) for f, _ in known])
    found = share_estimates(features, truth)
    told, everybody = (
        np.where(np.isnan(found), np.nan, x)
        for x in (mean_shares(truth), true_shares([population], attack.property, public)[0])
    )
    ours, theirs = np.abs(found - truth), np.abs(everybody - truth)
    details: dict[str, Measure] = {
        "mean absolute error of the share": partial(_error, ours),
        "the same of the population's share": partial(_error, theirs),
        "error less than that of the population's share": partial(_gain, ours, theirs),
    }
    baselines: dict[str, Measure] = {
        "mean share of other clients": partial(r_squared, told, everybody, truth)
    }
    measure = partial(r_squared, found, everybody, truth)
    return Examined(inquiry, measure, CHANCE, details, baselines, 0, len(known))


def attributes(inquiry: Inquiry, known: Sequence[tuple[int, Arrays]], setting: Setting) -> Examined:
    """How much oftener what is hidden is filled in rightly of members than of others, canaries apart.

    Raises:
        ValueError: when the attack does not say which attribute is hidden.
    """
    attack, candidates = inquiry.attack, setting.candidates
    if not isinstance(attack, AttributeAttack):
        raise ValueError(f"expected an attack that names its attribute, got attack={attack!r}")
    knows = Known(candidates.public, candidates.population, candidates.prior)
    truth = true_values(attack.attribute, candidates.records, knows, setting.world.surrogate)
    included = np.stack([setting.members(f).numpy() for f, _ in known])
    correct = np.stack([right(scores_of(arrays), truth) for _, arrays in known])
    guess = right(imputed(attack.attribute, candidates.records, knows, setting.world.surrogate), truth)
    canaries = setting.canaries.numpy()
    ours = np.where(canaries, np.nan, correct)
    theirs = np.where(np.isnan(ours), np.nan, guess)
    details: dict[str, Measure] = {
        "accuracy on members": partial(_accuracy, ours, included),
        "the same of an imputation without the model": partial(_accuracy, theirs, included),
        "accuracy on members above the imputation's": partial(_excess, ours, theirs, included),
    }
    if canaries.any():
        marked = np.where(canaries, correct, np.nan)
        details["advantage on canaries"] = partial(attribute_advantage, marked, included)
    baselines: dict[str, Measure] = {"imputation": partial(attribute_advantage, theirs, included)}
    measure = partial(attribute_advantage, ours, included)
    return Examined(inquiry, measure, CHANCE, details, baselines, 0, len(known))


def _error(errors: Floats, level: float) -> Estimate:
    return mean_error(errors, 1.0, level, "property_share_error")


def _gain(ours: Floats, theirs: Floats, level: float) -> Estimate:
    return improvement(ours, theirs, 1.0, level, "property_share_error")


def _accuracy(correct: Floats, included: Bools, level: float) -> Estimate:
    return federated_mean(np.where(included, correct, np.nan), level, "attribute_accuracy")


def _excess(correct: Floats, imputation: Floats, included: Bools, level: float) -> Estimate:
    return excess_over_imputation(correct, imputation, included, level)
