"""Tells attacks that ask for the data how clients train: a server wrote that recipe itself.

How many records a client has is not told: half of its candidates are expected to be in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from attacks.interface import PropertyAttack, ReconstructionAttack
from attacks.label_fishing import LabelFishing
from attacks.prior_inversion import PriorInversion
from attacks.sentence_recovery import SentenceRecovery
from attacks.update_inversion import UpdateInversion
from attacks.warm_inversion import WarmInversion
from audits.inquiry import Inquiry
from audits.setting import Setting
from privfed.training import Recipe


@dataclass(frozen=True, slots=True)
class LocalSteps:
    """What a client does in a round.

    Attributes:
        epochs: passes over its records.
        an_epoch: steps of each.
        lr: learning rate.
    """

    epochs: int
    an_epoch: int
    lr: float

    @property
    def steps(self) -> int:
        """Of a round."""
        return self.epochs * self.an_epoch


def informed(inquiry: Inquiry, pipeline: object, setting: Setting) -> Inquiry:
    """The same inquiry by an attack that knows the recipe of these clients, where it asks for one.

    Args:
        inquiry: as listed.
        pipeline: of the arm; one whose clients train nothing, or nothing that is said, changes nothing.
        setting: in which it runs.
    """
    told = next((tell for kind, tell in _TELL.items() if isinstance(inquiry.attack, kind)), None)
    local = local_steps(pipeline, len(setting.candidates.records) / (2 * setting.clients))
    return inquiry if told is None or local is None else replace(inquiry, attack=told(inquiry.attack, local))


def local_steps(pipeline: object, records: float) -> LocalSteps | None:
    """What its clients do in a round, of whole models or of the representation; None where none is said.

    Args:
        pipeline: with a `Recipe` named local, or representation.
        records: of one client, about.
    """
    recipe = getattr(pipeline, "local", getattr(pipeline, "representation", None))
    if not isinstance(recipe, Recipe) or not recipe.epochs:
        return None
    return LocalSteps(recipe.epochs, max(1, -int(-records // recipe.batch)), recipe.lr)


def _update(attack: UpdateInversion, local: LocalSteps) -> UpdateInversion:
    # As many steps an epoch of the few records that are rebuilt as clients make of all of theirs.
    batch = -(-attack.records // min(local.an_epoch, attack.records))
    return replace(attack, epochs=local.epochs, batch=batch, local_lr=local.lr)


def _prior(attack: PriorInversion, local: LocalSteps) -> PriorInversion:
    return replace(attack, local_lr=local.lr * local.steps / attack.local_steps)


def _warm(attack: WarmInversion, local: LocalSteps) -> WarmInversion:
    return replace(attack, local_lr=local.lr * local.steps / attack.local_steps)


def _labels(attack: LabelFishing, local: LocalSteps) -> LabelFishing:
    return replace(attack, local_lr=local.lr, local_steps=local.steps)


def _sentences(attack: SentenceRecovery, local: LocalSteps) -> SentenceRecovery:
    return replace(attack, local_steps=local.steps)


_TELL: dict[type, Callable[..., ReconstructionAttack | PropertyAttack]] = {
    UpdateInversion: _update,
    PriorInversion: _prior,
    WarmInversion: _warm,
    LabelFishing: _labels,
    SentenceRecovery: _sentences,
}
