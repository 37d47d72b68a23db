"""The audit record: everything an audit found, as plain values; renderers read nothing else.

Frozen pydantic models. JSON has neither NaN nor infinity, so a number that cannot be given is null
and a reason stands beside it. Only additive changes within a major `schema_version`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from reports.estimate import Estimate, Part, Probability, RocPoint, Scope, Taxonomy
from reports.exposure import Inquired, LeakageOrder, Picture, Slice

VerdictKind = Literal["PASS", "FAIL", "INCONCLUSIVE", "ERROR"]
Modality = Literal["images", "text"]
PERSONALISED = "personalised models"
"""Name, in `Utility.model`, of the clients' own models."""


class Cell(Part):
    """One attack by one observer on one arm.

    Attributes:
        setting, arm: ids of the regime of the public shard and of the pipeline with its defences.
        attack: short name; `configuration` is the repr of its knobs.
        observer: label of the point of observation.
        artefact: what was read, for example "client update", "released model", "synthetic images".
        baseline: whether this is a no-access baseline (class mean), not an attack on the artefact.
        status: "run", "not applicable" (with reason) or "not tested" (with reason), "error".
        auc: over all candidates that are not canaries; `auc_canaries`: mislabelled canaries alone.
        tprs: TPR at fixed FPRs.
        roc: empty when there is nothing to draw; never below the resolution of n.
    """

    setting: str
    arm: str
    attack: str
    configuration: str = ""
    observer: str
    artefact: str
    baseline: bool = False
    status: Literal["run", "not applicable", "not tested", "error"]
    reason: str = ""
    taxonomy: tuple[Taxonomy, ...] = ()
    auc: Estimate | None = None
    auc_canaries: Estimate | None = None
    tprs: tuple[Estimate, ...] = ()
    roc: tuple[RocPoint, ...] = ()


class Control(Part):
    """A control run beside the attacks.

    Attributes:
        kind: "positive" = a leak planted on purpose must be found; "negative" = membership that
            never reached the pipeline must be at chance; "blind" = a classifier on the raw records
            alone must be at chance.
        expectation: the rule in words, for example "lower bound >= 0.6".
        passed: whether the rule held; a failed control makes the cells it covers INCONCLUSIVE.
    """

    kind: Literal["positive", "negative", "blind"]
    setting: str
    arm: str
    attack: str
    observer: str
    estimate: Estimate | None
    expectation: str
    passed: bool
    reason: str = ""


class Limit(Part):
    """What the policy allows."""

    op: Literal["<=", ">="]
    value: float
    policy_line: int | None = None


class Check(Part):
    """One rule of the policy, judged.

    Attributes:
        id, title, rationale: from the policy.
        meaning: the check in plain words, for a reader without a machine-learning background.
        blocking: whether it counts for the overall verdict.
        setting, arm, attack, observer: what it was judged on; for several attacks the worst one.
        estimate: the estimate judged; null when nothing was evaluated.
        verdict, reason_code, message: outcome; the reason code is for machines
            ("within_limit", "over_limit", "ci_straddles", "instrument_invalid",
            "assumption_unverified", "unresolvable_fpr", "crashed", "nothing_evaluated").
        n_required: privacy units per side that would decide an INCONCLUSIVE, if known.
    """

    id: str
    title: str
    rationale: str
    meaning: str = ""
    blocking: bool
    setting: str
    arm: str
    attack: str
    observer: str
    estimate: Estimate | None
    limit: Limit
    verdict: VerdictKind
    reason_code: str
    message: str
    n_required: int | None = None


class Utility(Part):
    """Accuracy of one model of one arm on the held-out test records.

    Attributes:
        model: "broadcast surrogate", "released model", or `PERSONALISED`: each client's own model on
            the test records of the classes that this client holds (where clients are users, on the
            user's own), so that a record counts as the share of those clients that are right. An
            easier task than that of the other two, and not to be compared with theirs.
    """

    setting: str
    arm: str
    model: str
    estimate: Estimate


class TradeOff(Part):
    """One point of leakage against accuracy.

    Attributes:
        attack: the one with the highest AUC of those this observer ran on this arm.
        leakage: AUC of the strongest attack, after paying for the choice: the value is taken on
            federations that did not choose it, and the bounds hold over all attacks that were tried.
        tried: attacks it was chosen from.
        accuracy: of the model the arm delivers.
    """

    setting: str
    arm: str
    observer: str
    attack: str
    leakage: Estimate
    accuracy: Estimate
    tried: int = 1


class DpAssumption(Part):
    """One assumption of a formal claim."""

    name: str
    verified: bool
    evidence: str


class DpCard(Part):
    """The formal statement of one arm, or that there is none.

    Attributes:
        epsilon: null when the arm makes no claim.
        against: whose observations the claim bounds: "server", "clients", "outsiders".
        epsilons: the same run under other accountants or sampling assumptions, by name.
        trace: the privacy events behind the claim as a JSON tree, for any accountant.
        mu: of the Gaussian mechanism that is at most as private at any epsilon; null where undefined.
        max_tpr: upper bound on any attack's TPR at each FPR (as text key), implied by the claim.
    """

    setting: str
    arm: str
    epsilon: float | None
    delta: float | None
    unit: str = ""
    neighbouring: str = ""
    against: tuple[str, ...] = ()
    trace: str = ""
    mu: float | None = None
    accountant: str = ""
    sampling: str = ""
    mechanism: str = ""
    epsilons: dict[str, float] = Field(default={})
    max_tpr: dict[str, float] = Field(default={})
    outside: tuple[str, ...] = ()
    assumptions: tuple[DpAssumption, ...] = ()


class Arm(Part):
    """A pipeline with its defences, as configured; `settings` names those it was played in, else all."""

    id: str
    title: str
    pipeline: str
    defenses: tuple[str, ...] = ()
    role: Literal["audited", "baseline", "control"]
    configuration: str = ""
    settings: tuple[str, ...] = ()


class Setting(Part):
    """A regime of the public shard and the split it gives."""

    id: str
    title: str
    description: str
    n_public: int
    n_candidates: int
    n_canaries: int
    n_population: int
    n_test: int
    clients: tuple[int, ...]
    classes: int


class Policy(Part):
    """Which policy was judged against; its digest was taken before anything was measured."""

    id: str
    sha256: str
    tier: str = ""
    purpose: str = ""
    recipients: str = ""
    privacy_unit: str = ""


class Subject(Part):
    """An artefact the record speaks about, by digest."""

    name: str
    kind: str
    sha256: str
    parameters: int | None = None


class Run(Part):
    """How the record came about.

    Attributes:
        id: short digest of plan, policy, seed and code version.
        created: ISO 8601, UTC.
        command: what to type to run it again.
        engines: training engine chosen for each net.
        modality: what the records are; text is trained on and attacked as embedded sentences.
        units: whose membership was in question; of clients and subjects, all records are in or out together.
        suite: which attacks were run.
        determinism: "bitwise" on CPU with the same versions, else "statistical".
    """

    id: str
    created: str
    tool_version: str
    command: str
    seed: int
    plan: str
    plan_sha256: str
    dataset: str
    dataset_sha256: str
    federations: int
    python: str
    platform: str
    device: str
    packages: dict[str, str]
    engines: dict[str, str] = Field(default={})
    modality: Modality = "images"
    units: Literal["record", "client", "subject"] = "record"
    suite: Literal["standard", "full"] = "standard"
    determinism: Literal["bitwise", "statistical"]
    status: Literal["complete", "partial"] = "complete"


class Summary(Part):
    """The verdict over the blocking checks."""

    verdict: VerdictKind
    exit_code: int
    counts: dict[str, int]
    sentence: str


class Record(Part):
    """An audit, whole.

    Attributes:
        confidential: whether it shows private records, which only a record asked to do so does.
    """

    schema_version: Literal["1.0"] = "1.0"
    title: str
    summary: Summary
    run: Run
    policy: Policy
    subjects: tuple[Subject, ...]
    settings: tuple[Setting, ...]
    arms: tuple[Arm, ...]
    checks: tuple[Check, ...]
    cells: tuple[Cell, ...]
    controls: tuple[Control, ...]
    utility: tuple[Utility, ...]
    tradeoff: tuple[TradeOff, ...]
    leakage_order: tuple[LeakageOrder, ...] = ()
    slices: tuple[Slice, ...] = ()
    inquiries: tuple[Inquired, ...] = ()
    dp: tuple[DpCard, ...]
    limitations: tuple[str, ...]
    confidential: bool = False
    extensions: dict[str, Any] = Field(default={})


def to_json(record: Record) -> str:
    """The record as JSON text, keys in field order, UTF-8, no NaN or infinity."""
    return record.model_dump_json(indent=1) + "\n"


def from_json(text: str) -> Record:
    """A record from JSON text; raises pydantic.ValidationError when it does not fit the schema."""
    return Record.model_validate_json(text)


__all__ = [
    "PERSONALISED",
    "Arm",
    "Cell",
    "Check",
    "Control",
    "DpAssumption",
    "DpCard",
    "Estimate",
    "Inquired",
    "LeakageOrder",
    "Limit",
    "Modality",
    "Part",
    "Picture",
    "Policy",
    "Probability",
    "Record",
    "RocPoint",
    "Run",
    "Scope",
    "Setting",
    "Slice",
    "Subject",
    "Summary",
    "Taxonomy",
    "TradeOff",
    "Utility",
    "VerdictKind",
    "from_json",
    "to_json",
]
