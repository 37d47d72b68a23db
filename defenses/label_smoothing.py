"""Label smoothing: clients train towards labels that are softened, or sharpened beyond certainty.

Szegedy et al. (2016, arXiv 1512.00567, section 7); with negative factors Wei et al. (2022, arXiv
2106.04149, eq. 2). What it does to privacy: Struppek et al. (ICLR 2024, arXiv 2310.06549).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from defenses._clipping import expect
from privfed.training import Task


@dataclass(frozen=True, slots=True)
class LabelSmoothing:
    """Trains towards (1 - s) times the label plus s over the number of classes.

    The sign matters. A positive s, the usual one, is reported to make model inversion easier; a negative
    one to make it harder (arXiv 2310.06549). A negative s has no best model: the loss falls without
    bound as rivals become ever less likely, so long training at a large -s diverges. Either way this is
    no guarantee: what one record can do to the model is not bounded, and no noise is added.

    Trainings towards a teacher's features use no labels and are left as they are.

    Attributes:
        smoothing: s, in (-1, 1); 0 is plain training. It takes the place of the recipe's own.
    """

    smoothing: float

    changes_loss = True

    def __post_init__(self) -> None:
        expect(-1 < self.smoothing < 1, "smoothing in (-1, 1)", smoothing=self.smoothing)

    def adapt(self, task: Task) -> Task:
        """The same task with softened labels."""
        if task.teacher is not None:
            return task
        return replace(task, recipe=replace(task.recipe, smoothing=self.smoothing))
