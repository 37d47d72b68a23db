"""A measured number with its interval, and the parts every finding is made of.

Frozen pydantic models. JSON has neither NaN nor infinity, so a number that cannot be given is null
and a reason stands beside it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Scope = Literal["artefact", "training algorithm"]
Probability = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """A frozen part of the record; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(Part):
    """A measured number with the interval that says how well it is known.

    Attributes:
        metric: "auc", "tpr_at_fpr", "accuracy", "formal_epsilon", ...
        params: what the metric is evaluated at, for example {"fpr": 0.01}.
        value: point estimate; null with a reason when it cannot be resolved.
        lower, upper: one-sided bounds at `level_lower` and `level_upper`.
        method: how the bounds were computed, with its source.
        n_in, n_out: privacy units scored as members and as non-members.
        n_federations: federations that the bounds account for.
        scope: what the bounds generalise to: this artefact, or the training algorithm.
        reason: why `value` or a bound is null.
    """

    metric: str
    params: dict[str, float] = {}
    value: float | None
    lower: float | None
    upper: float | None
    level_lower: Probability = 0.95
    level_upper: Probability = 0.95
    method: str
    n_in: int
    n_out: int
    n_federations: int
    scope: Scope
    reason: str = ""


class RocPoint(Part):
    """One point of a ROC curve with pointwise Clopper-Pearson bounds on both axes' conditions."""

    fpr: Probability
    tpr: Probability
    lower: Probability
    upper: Probability


class Taxonomy(Part):
    """An id in a published taxonomy of attacks."""

    scheme: str
    version: str
    id: str
    name: str
