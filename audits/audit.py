"""One audit from plan and policy to record."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import torch
from joblib import Parallel, delayed

from audits import controls, store
from audits.assemble import (
    LEVEL,
    arm_rows,
    cells,
    inquired,
    limitations,
    policy_row,
    setting_rows,
    subjects,
    tradeoffs,
    utilities,
)
from audits.coverage import SERVER, Probe, Scope, inquiries, probes
from audits.document import Document
from audits.evidence import Evidence, decoy, gather
from audits.examination import Examined, examine
from audits.finding import Finding, with_ceilings
from audits.formal import dp_cards
from audits.game import Job, jobs_of, play, read_back
from audits.inquiry import Inquiry, Sought
from audits.inquiry_recipe import informed
from audits.judging import Judged, judge_all
from audits.leakage_order import leakage_order
from audits.plan import Arm, ReadyPlan
from audits.policy import Policy
from audits.public_baseline import public_accuracy
from audits.setting import Setting, is_quick, prepare
from audits.slices import slices
from audits.statistics import federated_mean
from audits.verdict import overall
from privfed.datasets import Dataset
from privfed.release import AGGREGATOR
from reports.record import Check, Control, Record, Run

Evidences = Literal["withheld", "full"]
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "opacus", "dp-accounting", "diffusers", "joblib")


@dataclass(frozen=True, slots=True)
class Steps:
    """How an audit tells what it is doing.

    Attributes:
        preparing: called before the priors are trained or recalled.
        playing: called with all jobs before the game; returns what to call with each number of
            federations finished.
        judging: called before the statistics.
    """

    preparing: Callable[[], None]
    playing: Callable[[Sequence[Job]], Callable[[int], None]]
    judging: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Request:
    """An audit to run.

    Attributes:
        ready: the checked plan.
        policy: fixed, with its digest, before anything is measured.
        dataset: what the plan names.
        seed: root of all randomness.
        workers: parallel processes.
        root: folder of the store.
        device: "cpu" or "cuda".
        command: what was typed, for the record.
        evidence: "withheld", or "full": the record then shows rebuilt and private images, and says so.
    """

    ready: ReadyPlan
    policy: Document[Policy]
    dataset: Dataset
    seed: int
    workers: int
    root: Path
    device: str
    command: str
    evidence: Evidences = "withheld"


def audit(request: Request, steps: Steps) -> Record:
    """Runs what is not yet in the store, and judges it.

    Args:
        request: what to run.
        steps: what to tell the person who waits.
    """
    ready, policy = request.ready, request.policy
    settings, found = measure(request, steps)
    findings = with_ceilings(found)
    checked = run_controls(findings, policy.value)
    twins = tuple(a.id for a in ready.arms if a.role == "control")
    checks = judge_all(policy, [_judged(f, twins) for f in findings], checked, ready.plan.unit.kind)
    run = run_row(request, settings)
    return _record(request, run, findings, checked, checks, settings)


def measure(
    request: Request, steps: Steps, decoys: bool = True, sought: Sequence[Sought] = get_args(Sought)
) -> tuple[list[Setting], list[Finding]]:
    """Every setting, and what every arm shows in each; runs what is not yet in the store.

    Args:
        request: what to run.
        steps: what to tell the person who waits.
        decoys: whether audited arms are also scored on membership that never was.
        sought: what attacks that ask for the data themselves are run for.
    """
    ready, root = request.ready, request.root
    # One thread here as in the workers: more would change last bits with the number of cores.
    torch.set_num_threads(1)
    selected = probes(scope_of(request))
    asked = tuple(q for q in inquiries(scope_of(request)) if q.sought in sought)
    steps.preparing()
    settings = _prepare_all(request)
    pairs = [(s, a) for s in settings for a in ready.arms if a.runs_in(s.id)]
    told = [tuple(informed(q, a.pipeline, s) for q in asked) for s, a in pairs]
    work = {
        (s.id, a.id): jobs_of(s, a, ready.plan.federations, selected, root, mine)
        for (s, a), mine in zip(pairs, told, strict=True)
    }
    everything = [job for jobs in work.values() for job in jobs]
    play(everything, request.workers, steps.playing(everything))
    steps.judging()
    scored = Parallel(n_jobs=request.workers)(
        delayed(_scored)(s, a, work[s.id, a.id], selected, mine, root, decoys)
        for (s, a), mine in zip(pairs, told, strict=True)
    )
    findings = [
        Finding(s, a, work[s.id, a.id], read_back(work[s.id, a.id]), *found)
        for (s, a), found in zip(pairs, scored, strict=True)
    ]
    return settings, findings


def scope_of(request: Request) -> Scope:
    """What the audit asks of whom."""
    plan = request.ready.plan
    return Scope(request.dataset.modality, plan.attacks, plan.unit.kind, frozenset(plan.leave_out))


def _prepare_all(request: Request) -> list[Setting]:
    """Every setting; in parallel where a prior has to be trained, which takes most of the time."""
    quick = is_quick(request.ready, request.dataset, request.seed, request.root)
    workers = 1 if quick else request.workers
    indices = range(len(request.ready.plan.settings))
    return list(Parallel(n_jobs=workers)(delayed(_prepare)(request, i) for i in indices))


def _prepare(request: Request, index: int) -> Setting:
    # One thread: two would change the last bits of the prior, and with them the record.
    torch.set_num_threads(1)
    return prepare(request.ready, index, request.dataset, request.seed, request.root, request.device)


def run_controls(findings: Sequence[Finding], policy: Policy) -> list[Control]:
    """Every control: arms that leak on purpose or not at all, decoy membership, the blind classifier."""
    by_role = {role: [f for f in findings if f.arm.role == role] for role in ("audited", "control")}
    settings = {f.setting.id: f for f in findings}
    family = sum(e.scores is not None for f in by_role["audited"] for e in f.decoys) + len(settings)
    family += sum(e.scores is not None for f in by_role["control"] for e in _expecting(f, "negative"))
    least = policy.controls.positive.min_lower
    found = []
    for f in by_role["control"]:
        planted, empty = (_attacks(_expecting(f, kind)) for kind in ("positive", "negative"))
        found += controls.positive(f.setting.id, f.arm.id, planted, least)
        if controls.leaks_everything(f.arm):
            found += controls.positive_inquiries(f.setting.id, f.arm.id, f.examined)
        found += controls.negative(f.setting.id, f.arm.id, empty, family)
    for f in by_role["audited"]:
        found += controls.negative(f.setting.id, f.arm.id, _attacks(f.decoys), family)
    return found + [controls.blind(f.setting, f.played.included, family) for f in settings.values()]


def _expecting(finding: Finding, kind: str) -> list[Evidence]:
    return [e for e in finding.evidence if controls.expected(finding.arm, e.probe) == kind]


def _attacks(evidence: Sequence[Evidence]) -> list[Evidence]:
    return [e for e in evidence if not e.probe.baseline]


def _scored(
    setting: Setting,
    arm: Arm,
    jobs: tuple[Job, ...],
    selected: Sequence[Probe],
    asked: Sequence[Inquiry],
    root: Path,
    decoys: bool,
) -> tuple[tuple[Evidence, ...], tuple[Evidence, ...], tuple[Examined, ...]]:
    """What every probe finds of one arm in one setting, the same on membership that never was, inquiries."""
    torch.set_num_threads(1)
    played = read_back(jobs)
    return (
        tuple(gather(p, played, setting, root) for p in selected),
        tuple(decoy(p, played, setting) for p in selected) if decoys and arm.role == "audited" else (),
        tuple(examine(q, played, setting) for q in asked),
    )


def _judged(finding: Finding, twins: tuple[str, ...]) -> Judged:
    readable = [e for e in _attacks(finding.evidence) if e.scores is not None or e.crashed]
    return Judged(
        finding.setting.id,
        finding.arm.id,
        finding.arm.role == "audited",
        twins,
        tuple(readable),
        finding.claims,
        partial(federated_mean, finding.correct("large")),
        finding.arm.delta is not None,
        _unread(finding, readable),
        tuple(x for x in finding.examined if x.measure is not None or x.crashed),
    )


def _unread(finding: Finding, readable: Sequence[Evidence]) -> tuple[str, ...]:
    """The server, where it holds something of the clients and no attack of it has anything to read."""
    attacked = any(e.probe.observer == SERVER for e in readable)
    if attacked or finding.arm.role != "audited":
        return ()
    held = store.transcript(finding.jobs[0].folders[0]).view(SERVER).releases
    return (SERVER.label,) if any(r.sender.startswith(("client", AGGREGATOR)) for r in held) else ()


def run_row(request: Request, settings: Sequence[Setting]) -> Run:
    """How the figures came about."""
    ready, dataset, seed = request.ready, request.dataset, request.seed
    engines: dict[str, str] = {
        f"{s.id}, {name}": engine
        for s in settings
        for name, engine in (("surrogate", s.world.engine), ("large", s.world.large_engine))
    }
    code = store.source_digest("privfed", "defenses", "attacks", "audits")
    made_of = [ready.document.sha256, request.policy.sha256, dataset.sha256, seed, code]
    return Run(
        id=store.digest(made_of)[:12],
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        tool_version=version("privfed"),
        command=request.command,
        seed=seed,
        plan=ready.plan.id,
        plan_sha256=ready.document.sha256,
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
        federations=ready.plan.federations,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=request.device,
        packages={name: version(name) for name in PACKAGES},
        engines=engines,
        modality=dataset.modality,
        units=ready.plan.unit.kind,
        suite=ready.plan.attacks,
        determinism="bitwise" if request.device == "cpu" else "statistical",
    )


def _record(
    request: Request,
    run: Run,
    findings: Sequence[Finding],
    checked: Sequence[Control],
    checks: tuple[Check, ...],
    settings: Sequence[Setting],
) -> Record:
    ready, policy, root = request.ready, request.policy, request.root
    scope, full = scope_of(request), request.evidence == "full"
    block = policy.value.decision.on_inconclusive == "block"
    public = {s.id: public_accuracy(s, root) for s in settings if s.world.public_labelled}
    return Record(
        title=ready.plan.title,
        summary=overall(checks, block),
        run=run,
        policy=policy_row(policy),
        subjects=subjects(findings),
        settings=setting_rows(ready, settings),
        arms=arm_rows(ready, bool(public)),
        checks=checks,
        cells=cells(findings, scope),
        controls=tuple(checked),
        utility=utilities(findings, public),
        tradeoff=tradeoffs(findings),
        leakage_order=leakage_order(findings, LEVEL),
        slices=slices(findings, LEVEL),
        inquiries=inquired(findings, scope, full),
        confidential=full,
        dp=dp_cards(findings),
        limitations=limitations(findings),
    )
