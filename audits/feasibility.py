"""Whether a plan and a data set fit each other: everything that would otherwise fail hours later."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from audits.defense_fit import misfit_of_clients
from audits.embedding import dimension
from audits.plan import ReadyPlan, error_at, needs_prior
from audits.setting import net_spec
from privfed.datasets import Dataset
from privfed.prior import PriorRecipe
from privfed.randomness import Stream
from privfed.splits import make_split
from privfed.training import Recipe

FAMILIES = {"images": ("convnet", "mlp", "cnn"), "text": ("lstm",)}


def check(ready: ReadyPlan, dataset: Dataset, seed: int) -> None:
    """Everything in `audits.setting.prepare` that the plan or the data can make impossible, untrained.

    Raises:
        DocumentError: an option that such data rule out, with its line.
        ValueError: what else does not fit, and in which setting.
    """
    _check_families(ready, dataset)
    _check_words(ready, dataset)
    if dataset.modality == "text":
        _check_image_options(ready)
    _check_clients(ready)
    for plan, split_plan, recipe in zip(ready.plan.settings, ready.splits, ready.priors, strict=True):
        try:
            stream = Stream(seed).child("setting", plan.id)
            split = make_split(dataset.records.labels, split_plan, stream.child("split"), dataset.users)
            _check_nets(ready, dataset, split.classes)
            if dataset.modality == "text" and dataset.embedding is None:
                _check_vocabulary(dataset.records.inputs[split.public], dimension(dataset, ready.plan.words))
            if recipe is not None:
                _check_prior(recipe, split_plan.public, dataset)
        except ValueError as error:
            raise ValueError(f"setting {plan.id}: {error}") from error


def _check_clients(ready: ReadyPlan) -> None:
    counts = sorted({split.clients for split in ready.splits})
    for index, arm in enumerate(ready.arms):
        for hook in arm.hooks.aggregate:
            for clients in counts:
                if reason := misfit_of_clients(arm.pipeline, clients, hook):
                    raise error_at(ready.document, ("arms", index, "defenses"), reason)


def _check_families(ready: ReadyPlan, dataset: Dataset) -> None:
    known = FAMILIES[dataset.modality]
    for name in ("surrogate", "large"):
        family = getattr(ready.plan.nets, name).family
        if family not in known:
            rule = f"expected family to be one of {', '.join(known)} for {dataset.modality}"
            raise error_at(ready.document, ("nets", name, "family"), f"{rule}, got family={family!r}")


def _check_words(ready: ReadyPlan, dataset: Dataset) -> None:
    words = ready.plan.words
    if words is not None and (dataset.modality != "text" or dataset.embedding is not None):
        has = "images" if dataset.modality != "text" else "text with an embedding of its own"
        text = f"expected no words for {has}, got words={words.model_dump()}"
        raise error_at(ready.document, ("words",), text)


def _check_image_options(ready: ReadyPlan) -> None:
    """Refuses for text what is made for images: priors, pipelines that need one, augmentation."""
    for i, arm in enumerate(ready.arms):
        if needs_prior(arm):
            raise error_at(
                ready.document,
                ("arms", i, "pipeline"),
                "expected a pipeline without a prior for text, since the prior is an image autoencoder, "
                f"got pipeline={arm.pipeline_name!r}",
            )
        if name := _augmented(arm.pipeline):
            where = ("arms", i, "options", name, "dsa")
            raise error_at(ready.document, where, f"expected no augmentation of text, got {name}.dsa")
    for i, setting in enumerate(ready.plan.settings):
        if setting.prior is not None:
            text = f"expected no prior for text, since it is an image autoencoder, got prior={setting.prior}"
            raise error_at(ready.document, ("settings", i, "prior"), text)


def _augmented(pipeline: object) -> str:
    """Name of a recipe of the pipeline that augments its batches; empty if none does."""
    if not dataclasses.is_dataclass(pipeline):
        return ""
    recipes = {f.name: getattr(pipeline, f.name) for f in dataclasses.fields(pipeline)}
    found = [name for name, r in recipes.items() if isinstance(r, Recipe) and r.dsa is not None]
    return found[0] if found else ""


def _check_nets(ready: ReadyPlan, dataset: Dataset, classes: int) -> None:
    for name in ("surrogate", "large"):
        try:
            net_spec(getattr(ready.plan.nets, name), dataset, ready.plan.words, classes)
        except ValueError as error:
            raise ValueError(f"nets.{name}: {error}") from error


def _check_vocabulary(public: Tensor, wanted: int) -> None:
    words = len(public[public > 0].unique())
    if words < wanted:
        raise ValueError(
            f"expected words.dimension <= {words}, the different words of the public shard, "
            f"got dimension={wanted}"
        )


def _check_prior(recipe: PriorRecipe, public: int, dataset: Dataset) -> None:
    size, halved = int(dataset.records.inputs.shape[-1]), 2 ** (len(recipe.widths) - 1)
    if size % halved:
        raise ValueError(
            f"expected images whose size a prior of {len(recipe.widths)} widths can halve "
            f"{len(recipe.widths) - 1} times, got size={size}"
        )
    if public < 2:
        raise ValueError(f"expected public >= 2 to train the prior on, got public={public}")
