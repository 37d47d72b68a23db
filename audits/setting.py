"""One regime of the public shard, made ready: split, canaries, nets, and the prior trained or recalled."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attacks.interface import Candidates
from audits.embedding import dimension, embedded
from audits.engine import choose
from audits.plan import Arm, NetPlan, ReadyPlan, WordsPlan
from audits.plan_schema import UnitPlan
from audits.store import digest, read_json, replacing, source_digest, write_json
from audits.units import Units, by_record, make_units
from privfed.datasets import Dataset
from privfed.nets import NetSpec
from privfed.pipelines.interface import World
from privfed.prior import Prior, PriorRecipe, fit, new_autoencoder, train_prior
from privfed.randomness import Stream
from privfed.records import Records
from privfed.splits import Split, make_split, with_canaries
from privfed.training import Engine, Recipe

CALIBRATION_BATCH = 32
SHAPING = (
    "privfed",
    "defenses",
    *(f"audits/{name}.py" for name in ("embedding", "game", "personal", "setting", "units")),
)
"""Source that a federation depends on."""
SHAPING_PACKAGES = ("numpy", "scipy", "scikit-learn", "opacus", "dp-accounting", "diffusers")
"""Packages beside torch that a federation, its claim or what is read from it depends on."""
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
        prior_seconds: what training the prior took; 0 when it was recalled or there is none.
        device: where federations train; attacks read and score on the CPU.
        test_owners: client that each test record is of, int64, shape (test,); None unless clients are
            users of the data set.
        units: what is in or out together; None where every record is a unit of its own.
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
    test_owners: Tensor | None = None
    units: Units | None = None

    @property
    def privacy_units(self) -> Units:
        """What is in or out together; every candidate by itself unless the plan says otherwise."""
        return by_record(len(self.canaries)) if self.units is None else self.units

    def units_in(self, federation: int) -> Tensor:
        """Which units are in, bool, shape (units,): independent fair coins of this federation."""
        return self.privacy_units.drawn(self.stream.child("inclusion", federation))

    def members(self, federation: int) -> Tensor:
        """Which candidates are trained on, bool, shape (n,)."""
        units = self.privacy_units
        return self.units_in(federation)[units.of] & units.trained


def prepare(
    ready: ReadyPlan, index: int, dataset: Dataset, seed: int, root: Path, device: str = "cpu"
) -> Setting:
    """Splits and embeds the data set, plants canaries, chooses engines, trains or recalls the prior."""
    plan, split_plan = ready.plan, ready.splits[index]
    name = plan.settings[index].id
    stream = Stream(seed).child("setting", name)
    split = make_split(dataset.records.labels, split_plan, stream.child("split"), dataset.users)
    parts = embedded(split.records(dataset.records), dataset, plan.words, stream.child("words"))
    canaries = with_canaries(
        parts.candidates.labels, split.owners, split.classes, plan.canaries, stream.child("canaries")
    )
    made_of = _made_of(ready, index, dataset, seed)
    surrogate, large = (
        net_spec(net, dataset, plan.words, split.classes) for net in (plan.nets.surrogate, plan.nets.large)
    )
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
        _test_owners(split, dataset),
        _units(plan.unit, split.owners, stream.child("units")),
    )


def _units(plan: UnitPlan, owners: Tensor, stream: Stream) -> Units | None:
    return None if plan.kind == "record" else make_units(plan.kind, plan.size, plan.fresh, owners, stream)


def _test_owners(split: Split, dataset: Dataset) -> Tensor | None:
    """Clients of the test records, where clients are users."""
    if not split.users or dataset.users is None:
        return None
    return torch.searchsorted(torch.tensor(split.users), dataset.users[split.test])


def is_quick(ready: ReadyPlan, dataset: Dataset, seed: int, root: Path) -> bool:
    """Whether every prior is kept, so that `prepare` trains nothing."""
    wanted = [i for i, recipe in enumerate(ready.priors) if recipe is not None]
    return all((root / "priors" / _made_of(ready, i, dataset, seed) / PRIOR_NOTE).is_file() for i in wanted)


def _made_of(ready: ReadyPlan, index: int, dataset: Dataset, seed: int) -> str:
    """Content address of a setting."""
    plan, recipe = ready.plan, ready.priors[index]
    made_of = {
        "data": dataset.sha256,
        "split": asdict(ready.splits[index]),
        "canaries": plan.canaries,
        "unit": plan.unit.model_dump(),
        "nets": plan.nets.model_dump(),
        "words": None if plan.words is None else plan.words.model_dump(),
        "prior": None if recipe is None else asdict(recipe),
        "seed": [seed, plan.settings[index].id],
        "code": [torch.__version__, source_digest(*SHAPING)],
        "packages": {name: version(name) for name in SHAPING_PACKAGES},
    }
    return digest(made_of)


def _engine(spec: NetSpec, root: Path, device: str) -> Engine:
    """The faster engine on this CPU; on an accelerator small models only fill it when stacked."""
    if device != "cpu":
        return "stacked"
    return choose(spec, Recipe(epochs=1, batch=CALIBRATION_BATCH, lr=0.1), root).engine


def key_of(setting: Setting, arm: Arm) -> str:
    """Content address of the federations of one arm in one setting."""
    engines = [setting.world.engine, setting.world.large_engine, setting.device]
    made_of = [setting.digest, repr(arm.pipeline), repr(arm.hooks), arm.delta, repr(arm.tuning), engines]
    if arm.server is not None:
        # What is sent is made by code among the attacks, which no other federation depends on.
        made_of += [repr(arm.server), source_digest("attacks")]
    return digest(made_of)


def net_spec(net: NetPlan, dataset: Dataset, words: WordsPlan | None, classes: int) -> NetSpec:
    """The net for such records: an image's channels and side, or a sentence's dimension and tokens."""
    shape = dataset.records.inputs.shape
    text = dataset.modality == "text"
    channels, size = (dimension(dataset, words), shape[1]) if text else (shape[1], shape[-1])
    sizes = {name: v for name in ("width", "depth") if (v := getattr(net, name)) is not None}
    return NetSpec(
        net.family, int(channels), int(size), classes, groups=net.groups, hidden=net.hidden, **sizes
    )


def _prior(
    public: Records, classes: int, recipe: PriorRecipe | None, stream: Stream, folder: Path
) -> tuple[Prior | None, bool]:
    """The prior if one is wanted, and whether it was recalled; its weights are kept by content."""
    if recipe is None:
        return None, True
    weights = folder / "autoencoder.safetensors"
    note = folder / PRIOR_NOTE
    if read_json(note) is not None and weights.is_file():
        autoencoder = new_autoencoder(public.inputs.shape[1], public.inputs.shape[-1], recipe, stream)
        autoencoder.load_state_dict(load_file(weights))
        return fit(autoencoder, public, classes, recipe.conditional), True
    prior = train_prior(public, classes, recipe, stream.child("prior"))
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(weights) as part:
        save_file({k: v.contiguous() for k, v in prior.autoencoder.state_dict().items()}, part)
    write_json(note, json.loads(json.dumps(asdict(recipe))))
    return prior, False
