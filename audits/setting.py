"""One regime of the public shard, made ready: split, canaries, nets, and the prior trained or recalled."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attacks.interface import Candidates
from audits.engine import choose
from audits.plan import Arm, NetPlan, ReadyPlan
from audits.store import digest, read_json, source_digest, write_json
from privfed.datasets import Dataset
from privfed.nets import NetSpec
from privfed.pipelines.interface import World
from privfed.prior import Prior, PriorRecipe, fit, new_autoencoder, train_prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.splits import make_split, with_canaries
from privfed.training import Engine, Recipe

CALIBRATION_BATCH = 32
SHAPING = ("privfed", "defenses", "audits/game.py", "audits/setting.py")
"""Source that a federation depends on."""
PRIOR_NOTE = "prior.json"


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything about a regime that does not depend on the arm.

    Attributes:
        id: from the plan.
        candidates: records under test (canaries carry their wrong label), owners, population,
            public shard and prior: what an attacker may know.
        canaries: bool, shape (n,).
        test: held-out records, for accuracy only.
        clients: number of clients.
        world: the public world without hooks.
        stream: root of this setting's random streams.
        digest: of all that made it.
        prior_seconds: what training the prior took; 0 when it was recalled.
        device: where federations train; attacks read and score on the CPU.
    """

    id: str
    candidates: Candidates
    canaries: Tensor
    test: Records
    clients: int
    world: World
    stream: Stream
    digest: str
    prior_seconds: float
    device: str = "cpu"

    def members(self, federation: int) -> Tensor:
        """Which candidates are in, bool, shape (n,): independent fair coins of this federation."""
        draw = self.stream.child("inclusion", federation).numpy()
        return torch.from_numpy(draw.random(len(self.canaries)) < 0.5)


def prepare(
    ready: ReadyPlan, index: int, dataset: Dataset, seed: int, root: Path, device: str = "cpu"
) -> Setting:
    """Splits the data set, plants the canaries, chooses engines, and trains or recalls the prior."""
    plan, split_plan = ready.plan, ready.splits[index]
    name = plan.settings[index].id
    stream = Stream(seed).child("setting", name)
    split = make_split(dataset.records.labels, split_plan, stream.child("split"))
    parts = split.records(dataset.records)
    canaries = with_canaries(
        parts.candidates.labels, split.owners, split.classes, plan.canaries, stream.child("canaries")
    )
    made_of = _made_of(ready, index, dataset, seed)
    surrogate, large = (_spec(net, dataset, split.classes) for net in (plan.nets.surrogate, plan.nets.large))
    start = time.process_time()
    recipe = ready.priors[index]
    prior, recalled = _prior(parts.public, split.classes, recipe, stream, root / "priors" / made_of)
    world = World(
        surrogate,
        large,
        parts.public,
        split_plan.regime == "same-classes",
        prior,
        engine=_engine(surrogate, root, device),
        large_engine=_engine(large, root, device),
    )
    return Setting(
        name,
        Candidates(
            Records(parts.candidates.inputs, canaries.labels),
            split.owners,
            parts.population,
            parts.public,
            prior,
        ),
        canaries.mask,
        parts.test,
        split_plan.clients,
        world,
        stream,
        made_of,
        0.0 if recalled else time.process_time() - start,
        device,
    )


def is_quick(ready: ReadyPlan, dataset: Dataset, seed: int, root: Path) -> bool:
    """Whether every prior is kept, so that `prepare` trains nothing."""
    settings = range(len(ready.plan.settings))
    return all((root / "priors" / _made_of(ready, i, dataset, seed) / PRIOR_NOTE).is_file() for i in settings)


def _made_of(ready: ReadyPlan, index: int, dataset: Dataset, seed: int) -> str:
    """Content address of a setting."""
    made_of = {
        "data": dataset.sha256,
        "split": asdict(ready.splits[index]),
        "canaries": ready.plan.canaries,
        "nets": ready.plan.nets.model_dump(),
        "prior": asdict(ready.priors[index]),
        "seed": [seed, ready.plan.settings[index].id],
        "code": [torch.__version__, source_digest(*SHAPING)],
    }
    return digest(made_of)


def check(ready: ReadyPlan, dataset: Dataset, seed: int) -> None:
    """Everything in `prepare` that the plan or the data can make impossible, without training.

    Raises:
        ValueError: what does not fit, and in which setting.
    """
    for plan, split_plan, recipe in zip(ready.plan.settings, ready.splits, ready.priors, strict=True):
        try:
            stream = Stream(seed).child("setting", plan.id)
            classes = make_split(dataset.records.labels, split_plan, stream.child("split")).classes
            _check_nets(ready, dataset, classes)
            _check_prior(recipe, split_plan.public, dataset)
        except ValueError as error:
            raise ValueError(f"setting {plan.id}: {error}") from error


def _check_nets(ready: ReadyPlan, dataset: Dataset, classes: int) -> None:
    for name in ("surrogate", "large"):
        try:
            _spec(getattr(ready.plan.nets, name), dataset, classes)
        except ValueError as error:
            raise ValueError(f"nets.{name}: {error}") from error


def _check_prior(recipe: PriorRecipe, public: int, dataset: Dataset) -> None:
    size, halved = int(dataset.records.inputs.shape[-1]), 2 ** (len(recipe.widths) - 1)
    if size % halved:
        raise ValueError(
            f"expected images whose size a prior of {len(recipe.widths)} widths can halve "
            f"{len(recipe.widths) - 1} times, got size={size}"
        )
    if public < 2:
        raise ValueError(f"expected public >= 2 to train the prior on, got public={public}")


def _engine(spec: NetSpec, root: Path, device: str) -> Engine:
    """The faster engine on this CPU; on an accelerator small models only fill it when stacked."""
    if device != "cpu":
        return "stacked"
    return choose(spec, Recipe(epochs=1, batch=CALIBRATION_BATCH, lr=0.1), root).engine


def key_of(setting: Setting, arm: Arm) -> str:
    """Content address of the federations of one arm in one setting."""
    engines = [setting.world.engine, setting.world.large_engine, setting.device]
    return digest([setting.digest, repr(arm.pipeline), repr(arm.hooks), arm.delta, engines])


def _spec(net: NetPlan, dataset: Dataset, classes: int) -> NetSpec:
    channels, size = dataset.records.inputs.shape[1], dataset.records.inputs.shape[-1]
    return NetSpec(net.family, int(channels), int(size), classes, net.width, net.depth, net.groups)


def _prior(
    public: Records, classes: int, recipe: PriorRecipe, stream: Stream, folder: Path
) -> tuple[Prior, bool]:
    """The prior, and whether it was recalled; its weights are kept by content."""
    weights = folder / "autoencoder.safetensors"
    note = folder / PRIOR_NOTE
    if read_json(note) is not None and weights.is_file():
        autoencoder = new_autoencoder(public.inputs.shape[1], public.inputs.shape[-1], recipe, stream)
        autoencoder.load_state_dict(load_file(weights))
        return fit(autoencoder, public, classes, recipe.conditional), True
    prior = train_prior(public, classes, recipe, stream.child("prior"))
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in prior.autoencoder.state_dict().items()}, weights)
    write_json(note, json.loads(json.dumps(asdict(recipe))))
    return prior, False
