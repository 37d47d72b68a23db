"""MixUp: clients train on blends of pairs of their records.

Zhang et al. (2018, arXiv 1710.09412, section 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from defenses._clipping import expect
from privfed.training import Task


@dataclass(frozen=True, slots=True)
class MixUp:
    """Replaces every record of a batch, and its label, by a blend with another record of the batch.

    One share a batch is drawn from Beta(alpha, alpha). Images and embedded sentences are blended alike;
    a head that is trained on features worked out beforehand is trained on blends of those.

    It earns no claim: each record is still in the blends, unbounded and without noise. The effect on
    membership attacks is reported to be mild. A blend holds two records, so that nothing can be clipped
    record by record any more, and DP-SGD beside it is refused. Trainings towards a teacher's features
    are left as they are.

    Attributes:
        alpha: above 0. Towards 0 hardly anything is blended, at 1 every share is equally likely, beyond
            it shares gather around one half. It takes the place of the recipe's own.
    """

    alpha: float

    mixes_records = True

    def __post_init__(self) -> None:
        expect(0 < self.alpha < math.inf, "a finite alpha > 0", alpha=self.alpha)

    def adapt(self, task: Task) -> Task:
        """The same task on blended records.

        Raises:
            ValueError: for inputs that are integers, such as the numbers of words.
        """
        if task.teacher is not None:
            return task
        return replace(task, recipe=replace(task.recipe, mixup=self.alpha))
