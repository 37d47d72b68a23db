"""The plan: which data, which pipelines and defences, how many federations. Read from YAML.

Options of pipelines and defences are the fields of their dataclasses; an unknown key or a value out
of range is reported with its line, before anything runs.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, validate_call, with_config

from audits.catalogue import find
from audits.defense_fit import misfit
from audits.document import Document, DocumentError, load_document, report
from audits.plan_schema import (
    ArmPlan,
    DefensePlan,
    NetPlan,
    Plan,
    Role,
    SettingPlan,
    TuningPlan,
    WordsPlan,
)
from audits.problems import Key, Problem, did_you_mean, key_path, problems
from audits.store import default_root, digest, read_json, source_digest, write_json
from privfed.deviation import Deviation
from privfed.hooks import Hooks
from privfed.pipelines.interface import Asking, Pipeline
from privfed.prior import PriorRecipe
from privfed.splits import SplitPlan

ACCOUNTING = tuple(f"privfed/{name}.py" for name in ("accounting", "composition", "dp_events"))
BOUNDARIES = (
    ("tasks", "adapt"),
    ("local", "train"),
    ("uplink", "uplink"),
    ("aggregate", "aggregate"),
    ("release", "release"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Arm:
    """A pipeline with its hooks, ready to run.

    Attributes:
        delta: of the formal claim, when a defence asks for one.
        settings: ids of those it runs in; all when empty.
        tuning: trainings before this one that its claim has to cover.
        server: how a malicious server deviates; None = it is honest.
    """

    id: str
    title: str
    role: Role
    pipeline_name: str
    pipeline: Pipeline
    defenses: tuple[str, ...]
    hooks: Hooks
    delta: float | None
    settings: tuple[str, ...] = ()
    tuning: TuningPlan | None = None
    server: Deviation | None = None

    def runs_in(self, setting: str) -> bool:
        """Whether the arm is played in that setting."""
        return not self.settings or setting in self.settings


@dataclasses.dataclass(frozen=True, slots=True)
class ReadyPlan:
    """A plan whose every option was checked.

    Attributes:
        plan: as read.
        document: where it was read from, with its digest.
        splits: by setting, in the order of the plan.
        priors: likewise; None where no prior is trained.
        arms: in the order of the plan.
    """

    plan: Plan
    document: Document[Plan]
    splits: tuple[SplitPlan, ...]
    priors: tuple[PriorRecipe | None, ...]
    arms: tuple[Arm, ...]


def packaged() -> tuple[str, ...]:
    """Names of the plans that ship with the package."""
    folder = resources.files("audits") / "plans"
    return tuple(sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")))


def titles() -> dict[str, str]:
    """Titles of the packaged plans by name; their options are not checked."""
    return {name: load_document(_packaged(name), Plan).value.title for name in packaged()}


def read_plan(name_or_path: str) -> ReadyPlan:
    """Reads and checks a packaged plan by name, or a plan file by path.

    Raises:
        DocumentError: one line that names the file, the line, the key, the value and the rule.
    """
    if name_or_path in packaged():
        source = _packaged(name_or_path)
    else:
        source = Path(name_or_path)
        if not source.is_file():
            raise DocumentError(
                f"expected a plan file or one of {', '.join(packaged())}, got plan={name_or_path!r}"
            )
    return ready(load_document(source, Plan))


def _packaged(name: str) -> Path:
    return Path(str(resources.files("audits") / "plans" / f"{name}.yaml"))


def ready(document: Document[Plan]) -> ReadyPlan:
    """Checks every option of a plan against the part it configures."""
    plan = document.value
    for field, items in (("settings", plan.settings), ("arms", plan.arms)):
        _distinct(document, field, [item.id for item in items])
    splits, priors = [], []
    for i, setting in enumerate(plan.settings):
        splits.append(_configure(document, SplitPlan, setting.split, ("settings", i, "split")))
        priors.append(_prior(document, i, setting))
        if plan.canaries >= splits[i].candidates:
            raise error_at(
                document,
                ("canaries",),
                f"expected fewer canaries than candidates ({splits[i].candidates} in setting "
                f"{setting.id!r}), got canaries={plan.canaries}",
            )
    if plan.canaries and plan.unit.kind != "record":
        raise error_at(
            document,
            ("canaries",),
            f"expected no canaries with unit {plan.unit.kind!r}, got canaries={plan.canaries}",
        )
    arms = tuple(_arm(document, i, arm) for i, arm in enumerate(plan.arms))
    _check_priors(document, arms, priors)
    return ReadyPlan(plan, document, tuple(splits), tuple(priors), arms)


def _prior(document: Document[Plan], index: int, setting: SettingPlan) -> PriorRecipe | None:
    if setting.prior is None:
        return None
    recipe: PriorRecipe = _configure(document, PriorRecipe, setting.prior, ("settings", index, "prior"))
    return recipe


def needs_prior(arm: Arm) -> bool:
    """Whether the arm's pipeline cannot run without a generative prior."""
    return bool(getattr(arm.pipeline, "needs_prior", False))


def trainings(pipeline: Pipeline) -> int:
    """Local trainings of one client over all rounds, at most: what noise in training has to last for."""
    return int(getattr(pipeline, "trainings", pipeline.rounds))


def uploads(pipeline: Pipeline) -> int:
    """Models that one client sends over all rounds, at most: what noise on what it sends has to last for."""
    return int(getattr(pipeline, "uploads", pipeline.rounds))


def _check_priors(
    document: Document[Plan], arms: tuple[Arm, ...], priors: Sequence[PriorRecipe | None]
) -> None:
    """Refuses an arm that needs a prior where a setting trains none."""
    bare = [s.id for s, p in zip(document.value.settings, priors, strict=True) if p is None]
    for index, arm in enumerate(arms):
        without = [s for s in bare if arm.runs_in(s)]
        if without and needs_prior(arm):
            raise error_at(
                document,
                ("arms", index, "pipeline"),
                f"expected a prior in every setting for pipeline {arm.pipeline_name!r}, "
                f"got setting {without[0]!r} without one",
            )


def _arm(document: Document[Plan], index: int, arm: ArmPlan) -> Arm:
    at = ("arms", index)
    pipeline = _configure(
        document,
        _named(document, "pipelines", arm.pipeline, (*at, "pipeline")),
        arm.options,
        (*at, "options"),
    )
    for option, leaks in (("initial", "real"), ("planted", True)):
        if getattr(pipeline, option, None) == leaks and arm.role != "control":
            raise error_at(
                document,
                (*at, "options", option),
                f"expected role 'control' for {option} {leaks!r}, which uploads raw records",
            )
    defenses = [_defense(document, d, pipeline, (*at, "defenses", i)) for i, d in enumerate(arm.defenses)]
    wrong = misfit(pipeline, arm.pipeline, [(d.name, v) for d, v in zip(arm.defenses, defenses, strict=True)])
    if wrong is not None:
        raise error_at(document, (*at, "defenses", wrong[0]), wrong[1])
    deltas = [d.options["delta"] for d in arm.defenses if "delta" in d.options]
    return Arm(
        arm.id, arm.title, arm.role, arm.pipeline, pipeline,
        tuple(repr(d) for d in defenses), _hooks(document, at, defenses), max(deltas, default=None),
        _settings(document, arm, at), arm.tuning, _server(document, arm, pipeline, at),
    )  # fmt: skip


def _server(
    document: Document[Plan], arm: ArmPlan, pipeline: Pipeline, at: tuple[str | int, ...]
) -> Deviation | None:
    if arm.server is None:
        return None
    if isinstance(pipeline, Asking):
        rule = "expected a pipeline that sends clients a model to deviate from"
        raise error_at(document, (*at, "server"), f"{rule}, got pipeline {arm.pipeline!r}")
    cls = _named(document, "deviations", arm.server.name, (*at, "server", "name"))
    made: Deviation = _configure(document, cls, arm.server.options, (*at, "server", "options"))
    return made


def _settings(document: Document[Plan], arm: ArmPlan, at: tuple[str | int, ...]) -> tuple[str, ...]:
    known = [s.id for s in document.value.settings]
    for index, name in enumerate(arm.settings):
        if name not in known:
            rule = f"expected settings of the plan ({', '.join(known)})"
            raise error_at(document, (*at, "settings", index), f"{rule}, got {name!r}")
    return arm.settings


def _defense(
    document: Document[Plan], plan: DefensePlan, pipeline: Pipeline, at: tuple[str | int, ...]
) -> Any:
    cls = _named(document, "defenses", plan.name, (*at, "name"))
    rounds = trainings(pipeline) if hasattr(cls, "train") else uploads(pipeline)
    options = dict(plan.options)
    delta = options.pop("delta", None)
    if delta is not None and not (isinstance(delta, float) and 0 < delta < 1):
        raise error_at(document, (*at, "options", "delta"), f"expected delta in (0, 1), got delta={delta!r}")
    if "epsilon" not in options:
        return _configure(document, cls, options, (*at, "options"))
    if delta is None:
        raise error_at(
            document,
            (*at, "options", "epsilon"),
            "expected a delta beside epsilon, got epsilon without delta",
        )
    _check_calibrated(document, cls, options, (*at, "options"))
    try:
        return _calibrated(cls, options.pop("epsilon"), delta, rounds, options)
    except ValidationError as error:
        raise _invalid(document, error, cls, plan.options, (*at, "options")) from None
    except ValueError as error:
        where = _blamed((*at, "options"), str(error), plan.options)
        raise error_at(document, where, str(error)) from error


def _check_calibrated(
    document: Document[Plan], cls: type[Any], options: dict[str, Any], at: tuple[Key, ...]
) -> None:
    """Holds the keys beside an epsilon against the keywords of `for_epsilon`."""
    if not hasattr(cls, "for_epsilon"):
        raise error_at(document, (*at, "epsilon"), "expected no epsilon, for this defence makes no claim")
    parameters = inspect.signature(cls.for_epsilon).parameters
    known = {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    for key in options:
        if key not in known and key != "epsilon":
            unknown = Problem((*at, key), f"unknown key {key!r}{did_you_mean(key, known)}", True)
            raise DocumentError(report([unknown], document.lines, document.source))
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in options:
            raise error_at(document, at, f"expected key {key!r}, got none")


def _calibrated(cls: type[Any], epsilon: float, delta: float, rounds: int, options: dict[str, Any]) -> Any:
    """The defence with the least noise; the search takes seconds, so its result is kept."""
    code = source_digest(*ACCOUNTING, "defenses")
    made_of = [cls.__qualname__, epsilon, delta, rounds, options, version("dp-accounting"), code]
    place = default_root() / "calibrations" / f"{digest(made_of)[:24]}.json"
    known = read_json(place)
    if isinstance(known, dict):
        return cls(**known)
    found = validate_call(cls.for_epsilon)(epsilon=epsilon, delta=delta, rounds=rounds, **options)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, dataclasses.asdict(found))
    return found


def _hooks(document: Document[Plan], at: tuple[str | int, ...], defenses: list[Any]) -> Hooks:
    placed: dict[str, list[Any]] = {
        field: [d for d in defenses if hasattr(d, method)] for field, method in BOUNDARIES
    }
    if len(placed["local"]) > 1:
        raise error_at(
            document, (*at, "defenses"), f"expected at most one local defence, got {len(placed['local'])}"
        )
    local = placed.pop("local")
    return Hooks(local=local[0] if local else None, **{k: tuple(v) for k, v in placed.items()})


def _named(document: Document[Plan], kind: str, name: str, at: tuple[str | int, ...]) -> type[Any]:
    try:
        return find(kind, name)
    except ValueError as error:
        raise error_at(document, at, str(error)) from error


def _configure(document: Document[Plan], cls: type[Any], options: Any, at: tuple[str | int, ...]) -> Any:
    _forbid_extra(cls)
    try:
        return TypeAdapter(cls).validate_python(options)
    except ValidationError as error:
        raise _invalid(document, error, cls, options, at) from None


def error_at(document: Document[Plan], at: tuple[Key, ...], text: str) -> DocumentError:
    """A mistake at a key path of the plan, in one line."""
    return DocumentError(f"{document.source}:{document.line_of(*at)}: {key_path(at)}: {text}")


def _invalid(
    document: Document[Plan], error: ValidationError, cls: type[Any], options: Any, at: tuple[Key, ...]
) -> DocumentError:
    found = [
        dataclasses.replace(p, path=_blamed((*at, *p.path), p.text, _value_at(options, p.path)))
        for p in problems(error, cls, options)
    ]
    return DocumentError(report(found, document.lines, document.source))


def _blamed(at: tuple[Key, ...], text: str, options: Any) -> tuple[Key, ...]:
    """The key that a rule over several keys complains of: "got KEY=" names it."""
    named = re.search(r"got (\w+)=", text)
    return (*at, named[1]) if named and isinstance(options, dict) and named[1] in options else at


def _value_at(options: Any, path: tuple[Key, ...]) -> Any:
    """What stands there; None where there is nothing."""
    for key in path:
        try:
            options = options[key]
        except (KeyError, IndexError, TypeError):
            return None
    return options


def _forbid_extra(cls: type[Any]) -> None:
    """Makes pydantic refuse unknown keys of a dataclass and of the dataclasses among its fields."""
    if not dataclasses.is_dataclass(cls) or "__pydantic_config__" in vars(cls):
        return
    with_config(ConfigDict(extra="forbid"))(cls)
    for hint in typing.get_type_hints(cls).values():
        for part in (hint, *typing.get_args(hint)):
            if isinstance(part, type):
                _forbid_extra(part)


def _distinct(document: Document[Plan], field: str, ids: list[str]) -> None:
    for i, name in enumerate(ids):
        if name in ids[:i]:
            raise error_at(document, (field, i, "id"), f"expected distinct ids, got id={name!r} twice")


__all__ = [
    "Arm",
    "DocumentError",
    "NetPlan",
    "Plan",
    "ReadyPlan",
    "WordsPlan",
    "error_at",
    "needs_prior",
    "packaged",
    "read_plan",
    "ready",
    "trainings",
]
