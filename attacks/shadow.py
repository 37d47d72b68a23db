"""Shadow-model classifier: logistic regression learns from the references what membership looks like.

Source: Shokri et al., "Membership inference attacks against machine learning models" (S&P 2017), sections
V.B and V.D: an attack model a class, on the sorted posterior. The historical baseline; one boundary a
class for all records is weak at low false-positive rates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from attacks._models import Artefact, check_artefact
from attacks._posteriors import by_label, grouped, log_probabilities
from attacks._references import check
from attacks._signals import logit_confidence
from attacks.confidence import measured
from attacks.interface import Bools, Candidates, Floats, Observation, References, Signals
from privfed.randomness import Stream
from privfed.release import View


@dataclass(frozen=True, slots=True)
class SortedPosterior:
    """The largest posteriors in falling order, and that of the label; top + 1 queries a release or round.

    All as logarithms, the last one being minus the loss, which alone rises with membership by nature:
    the others are for a classifier to weigh. `clients` and the columns of the population go by client
    and label (`attacks._posteriors.by_label`).

    Attributes:
        artefact: as in `attacks.confidence.ModelConfidence`.
        top: posteriors that are read, >= 1; 0 stands for those beyond the number of classes.
    """

    artefact: Artefact = "large"
    top: int = 3

    def __post_init__(self) -> None:
        check_artefact(self.artefact)
        if self.top < 1:
            raise ValueError(f"expected top >= 1, got top={self.top}")

    def extract(self, view: View, candidates: Candidates, stream: Stream) -> Signals | None:
        """Signals of candidates and population; None without such models, heads or rival classes."""
        found = measured(self.artefact, self._measure, view, candidates, stream, self.top + 1)
        return None if found is None else by_label(found, candidates)

    def _measure(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = log_probabilities(logits)[0].sort(-1, descending=True).values[..., : self.top]
        padded = F.pad(log_p, (0, self.top - log_p.shape[-1]))
        minus_loss = -F.softplus(-logit_confidence(logits, labels))
        return torch.cat([padded, minus_loss.unsqueeze(-1)], -1)


@dataclass(frozen=True, slots=True)
class ShadowClassifier:
    """Score each record by a classifier trained on the references' members and non-members of its class.

    Logistic regression on standardised queries; an unknown query counts as the references' mean. A class
    whose references are all on one side takes the classifier of all classes.

    Attributes:
        observation: what is classified; one whose columns of the population go by label gives a
            classifier a class, any other one by its own columns.
        strength: inverse weight of the squared norm of the coefficients (C of scikit-learn).
    """

    observation: Observation = field(default_factory=SortedPosterior)
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise ValueError(f"expected strength > 0, got strength={self.strength}")

    def score(self, target: Signals, references: References) -> Floats:
        """Logit of the classifier's posterior of membership, shape (n,); NaN where no query is known."""
        check(target, references)
        values, included = references.candidates, references.included
        scores = np.full(len(target.candidates), np.nan)
        with threadpool_limits(1):
            for mine in grouped(target):
                asked = target.candidates[mine]
                logits = self._classified(values[:, mine], included[:, mine], asked)
                scores[mine] = self._classified(values, included, asked) if logits is None else logits
        return np.where(np.isnan(target.candidates).all(1), np.nan, scores)

    def _classified(self, values: Floats, included: Bools, asked: Floats) -> Floats | None:
        """Logits of the records asked about; None where all references are on one side."""
        rows, members = values.reshape(-1, values.shape[-1]), included.ravel()
        seen = ~np.isnan(rows).all(1)
        rows, members = rows[seen], members[seen]
        if members.all() or not members.any():
            return None
        count = np.maximum((~np.isnan(rows)).sum(0), 1)
        centre = np.nansum(rows, 0) / count
        scale = np.sqrt(np.nansum((rows - centre) ** 2, 0) / count)
        scale[scale == 0] = 1.0
        model = LogisticRegression(C=self.strength, solver="newton-cholesky")
        model.fit(np.nan_to_num((rows - centre) / scale), members)
        logits: Floats = model.decision_function(np.nan_to_num((asked - centre) / scale))
        return logits
