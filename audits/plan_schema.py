"""The shape of a plan file: pydantic models, and the rules that need nothing but the file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from audits.problems import Misplaced
from privfed.nets import HIDDEN

Role = Literal["audited", "baseline", "control"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetPlan(_Part):
    """A reference net; channels, size and classes come from the data.

    `hidden` holds the sizes of all layers (cnn, lstm; mlp if wanted); else width and depth do.
    """

    family: Literal["convnet", "mlp", "cnn", "lstm"] = "convnet"
    width: int | None = Field(default=None, ge=1)
    depth: int | None = Field(default=None, ge=1)
    groups: int = Field(default=4, ge=1)
    hidden: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _sizes(self) -> NetPlan:
        """Either `hidden` or width and depth, as the family has it."""
        layers, shown = HIDDEN.get(self.family), list(self.hidden)
        if layers and len(shown) != layers:
            text = f"expected {layers} hidden sizes for family {self.family!r}, got hidden={shown}"
            raise Misplaced(("hidden",), text)
        if shown and self.family == "convnet":
            text = f"expected no hidden sizes for family 'convnet', got hidden={shown}"
            raise Misplaced(("hidden",), text)
        if any(units < 1 for units in shown):
            raise Misplaced(("hidden",), f"expected hidden sizes >= 1, got hidden={shown}")
        for name in ("width", "depth"):
            value = getattr(self, name)
            if shown and value is not None:
                raise Misplaced((name,), f"expected no {name} beside hidden sizes, got {name}={value}")
            if not shown and value is None:
                raise Misplaced((), f"expected key {name!r} for family {self.family!r}, got none")
        return self


class WordsPlan(_Part):
    """How text is embedded where the data set brings no table of its own."""

    dimension: int = Field(default=32, ge=1)


class SettingPlan(_Part):
    """One regime of the public shard, with its split and its prior; without one no prior is trained."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    description: str = ""
    split: Any
    prior: Any = None


class UnitPlan(_Part):
    """What is in or out together, and so what the audit's verdicts are about.

    `size` records make a subject; with `fresh` half of each unit's records are never trained on, and the
    attacker holds those instead of the ones that were: they give a unit away as far as its records are alike.
    """

    kind: Literal["record", "client", "subject"] = "record"
    size: int = Field(default=8, ge=2)
    fresh: bool = False

    @model_validator(mode="after")
    def _several(self) -> UnitPlan:
        """A record has no other records."""
        if self.kind == "record" and self.fresh:
            raise Misplaced(
                ("fresh",), "expected fresh records of clients or subjects only, got kind='record'"
            )
        return self


class DefensePlan(_Part):
    """A defence by name; `epsilon` and `delta` among its options ask for the least noise that keeps it."""

    name: str
    options: dict[str, Any] = {}


class ServerPlan(_Part):
    """A malicious server by the name of its deviation: how it chooses what it sends."""

    name: str
    options: dict[str, Any] = {}


class TuningPlan(_Part):
    """Trainings on the same records that led to this one: each of them spent privacy too.

    `stopping` says how their number was chosen: "fixed" = beforehand, and the best was kept; "geometric" or
    "poisson" = by a random draw of mean `runs`, which costs far less (Papernot and Steinke 2021).
    """

    runs: float = Field(ge=1)
    stopping: Literal["fixed", "geometric", "poisson"] = "fixed"

    @model_validator(mode="after")
    def _whole(self) -> TuningPlan:
        """A number that was fixed beforehand is a whole one."""
        if self.stopping == "fixed" and self.runs != int(self.runs):
            raise Misplaced(("runs",), f"expected a whole number of runs, got runs={self.runs:g}")
        return self


class ArmPlan(_Part):
    """A pipeline with its defences; `settings` names those it runs in, all where none is named.

    `server` makes it an attack: the server then chooses what clients are sent.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    role: Role = "audited"
    pipeline: str
    options: dict[str, Any] = {}
    defenses: tuple[DefensePlan, ...] = ()
    settings: tuple[str, ...] = ()
    tuning: TuningPlan | None = None
    server: ServerPlan | None = None


class Nets(_Part):
    """The two architectures."""

    surrogate: NetPlan
    large: NetPlan


class Plan(_Part):
    """An audit, as configured.

    Attributes:
        data: source of the data set, for example "digits" or "npz:records.npz".
        federations: how many are run for each arm; each serves as the target, the others as its
            references.
        canaries: candidates with a label made wrong on purpose, in each setting.
        policy: name of a packaged policy or path of a policy file.
        words: for text without an embedding of its own only.
        unit: whose membership is in question.
        attacks: the suite that is run: "standard" takes minutes, "full" has every attack there is.
        leave_out: attacks of the suite that are not run, by name; the report says so.
    """

    schema_: Literal["privfed-plan/1"] = Field(alias="schema")
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    data: str
    seed: int = Field(default=0, ge=0)
    federations: int = Field(ge=4, le=4096)
    canaries: int = Field(default=0, ge=0)
    policy: str = "restricted-api"
    words: WordsPlan | None = None
    unit: UnitPlan = UnitPlan()
    attacks: Literal["standard", "full"] = "standard"
    leave_out: tuple[str, ...] = ()
    nets: Nets
    settings: tuple[SettingPlan, ...] = Field(min_length=1)
    arms: tuple[ArmPlan, ...] = Field(min_length=1)


__all__ = [
    "ArmPlan",
    "DefensePlan",
    "NetPlan",
    "Plan",
    "Role",
    "ServerPlan",
    "SettingPlan",
    "TuningPlan",
    "UnitPlan",
    "WordsPlan",
]
