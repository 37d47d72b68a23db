"""The game: N federations, each candidate in or out by a fair coin, each federation in turn the target.

Federations are independent jobs for joblib, a few in lock step in each so that their small models
train stacked. A job that was finished is never done again, so an interrupted audit resumes and a
second attack on the same federations trains nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed

from attacks.interface import Bools, Floats, References, Signals
from audits import store
from audits.inquiry import FEDERATIONS, Inquiry
from audits.personal import personal_accuracy, right
from audits.plan import Arm
from audits.probe import Probe
from audits.reading import Arrays, Reader, read
from audits.setting import Setting, key_of
from privfed.answers import answer, labels_of
from privfed.claims import Assumption, Claim
from privfed.deviation import MaliciousServer, Targets
from privfed.federation import Federation, Outcome, run
from privfed.ledger import Ledger, Tuning, claims
from privfed.nets import Params, head_names
from privfed.pipelines.interface import Personalised, World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import PUBLIC, SERVER, Observer, Release, Transcript, View

LOCK_STEP = 4


@dataclass(frozen=True, slots=True)
class Job:
    """A few federations of one arm in one setting, run in lock step.

    Attributes:
        federations: their numbers; fixed by the plan alone, whatever the number of workers, so that
            the same bits come out.
        folders: where each is kept.
        reads: what is read from each: key, observer and reader.
        asks: what asks for the data themselves, likewise; of the first federations alone.
    """

    setting: Setting
    arm: Arm
    federations: tuple[int, ...]
    folders: tuple[Path, ...]
    reads: tuple[tuple[str, Observer, Reader], ...]
    asks: tuple[tuple[str, Observer, Reader], ...] = ()

    def missing(self) -> int:
        """Federations that have to be trained."""
        return 0 if all(store.is_complete(f) for f in self.folders) else len(self.folders)

    def unread(self) -> int:
        """Observations that have to be made."""
        every = (*self.reads, *self.asks)
        return sum(not store.has_signals(f, key) for f in self.folders for key, _, _ in every)


@dataclass(frozen=True, slots=True)
class Played:
    """The game of one arm in one setting, as read back.

    Attributes:
        included: shape (F, units): who was in.
        signals: by read key: one entry per federation, or None where no view said anything of it, or
            it could not be read.
        found: by read key of what asks for the data themselves: one entry per federation that was asked,
            in order from the first; None where there was nothing to read.
        failures: by read key: why it could not be read, where it crashed or some views said nothing.
        kept: what each federation left beside its transcript.
    """

    included: Bools
    signals: dict[str, tuple[Signals, ...] | None]
    failures: dict[str, str]
    kept: tuple[store.Kept, ...]
    found: dict[str, tuple[Arrays | None, ...]] = field(default_factory=dict)


def jobs_of(
    setting: Setting,
    arm: Arm,
    federations: int,
    probes: Sequence[Probe],
    root: Path,
    inquiries: Sequence[Inquiry] = (),
) -> tuple[Job, ...]:
    """The jobs of one arm in one setting; inquiries are put to the first federations, or everywhere."""
    reads = {read_key(p): (read_key(p), p.observer, reader_of(p)) for p in probes}
    asked = {read_key(q): (read_key(q), q.observer, reader_of(q)) for q in inquiries}
    wide = {read_key(q) for q in inquiries if q.everywhere}
    place = root / "federations" / key_of(setting, arm)
    chunks = [tuple(range(i, min(i + LOCK_STEP, federations))) for i in range(0, federations, LOCK_STEP)]
    return tuple(
        Job(
            setting,
            arm,
            chunk,
            # Neighbours in lock step shift the last bits of a result: they are part of its address.
            tuple(place / f"{f}-of-{chunk[0]}-{chunk[-1]}" for f in chunk),
            tuple(reads.values()),
            tuple(a for key, a in asked.items() if chunk[0] < FEDERATIONS or key in wide),
        )
        for chunk in chunks
    )


def reader_of(asks: Probe | Inquiry) -> Reader:
    """What does the reading for an attack."""
    return asks.attack.observation if isinstance(asks, Probe) else asks.attack


def read_key(probe: Probe | Inquiry) -> str:
    """Content address of what is read from one federation."""
    code, observer = store.source_digest("attacks"), probe.observer
    # Not the observer's repr: the order of a set differs between processes.
    place = [observer.role, observer.client, sorted(observer.holds)]
    return store.digest([place, repr(reader_of(probe)), code])[:24]


class Crashed(RuntimeError):
    """Training failed in some jobs; what the others did is kept."""


def play(jobs: Sequence[Job], workers: int, advance: Callable[[int], None]) -> None:
    """Runs every job that is not done, in parallel, one torch thread a worker.

    Args:
        jobs: what to do.
        workers: processes of joblib's current backend.
        advance: called with the number of federations a finished job held.

    Raises:
        Crashed: when all jobs had their turn and training failed in any.
    """
    open_ = [j for j in jobs if j.missing() or j.unread()]
    if not open_:
        return
    # Long jobs first, so that no worker is left alone with one at the end.
    open_.sort(key=lambda j: -j.missing())
    results = Parallel(n_jobs=workers, return_as="generator_unordered")(delayed(_attempt)(j) for j in open_)
    failures = []
    for done, failure in results:
        advance(done)
        failures += [failure] if failure else []
    if failures:
        raise Crashed(f"{len(failures)} of {len(open_)} jobs failed, the others are kept: {min(failures)}")


def _attempt(job: Job) -> tuple[int, str]:
    """`run_job`, and why it failed: one arm that cannot be trained must not stop the others."""
    try:
        return run_job(job), ""
    except Exception as error:
        name = f"{job.arm.id} in {job.setting.id}, federations {job.federations[0]}-{job.federations[-1]}"
        return len(job.folders), f"{name}: {type(error).__name__}: {error}"


def run_job(job: Job) -> int:
    """Trains what is missing and reads what is unread; returns the number of federations held."""
    torch.set_num_threads(1)
    if job.missing():
        _train(job)
    for federation, folder in zip(job.federations, job.folders, strict=True):
        unread = [r for r in (*job.reads, *job.asks) if not store.has_signals(folder, r[0])]
        if unread:
            _read(job, federation, folder, unread)
    return len(job.federations)


def read_back(jobs: Sequence[Job]) -> Played:
    """Everything the jobs of one arm and setting left behind."""
    places = [(j, f, folder) for j in jobs for f, folder in zip(j.federations, j.folders, strict=True)]
    included = np.stack([j.setting.units_in(f).numpy() for j, f, _ in places])
    folders = [folder for _, _, folder in places]
    signals: dict[str, tuple[Signals, ...] | None] = {}
    failures: dict[str, str] = {}
    found: dict[str, tuple[Arrays | None, ...]] = {}
    for key, _, _ in jobs[0].asks:
        asked = [folder for j, _, folder in places if any(key == one for one, _, _ in j.asks)]
        crashed = [m for m in (store.recall_failure(f, key) for f in asked) if m]
        failures |= {key: crashed[0]} if crashed else {}
        found[key] = () if crashed else tuple(store.recall_arrays(f, key) for f in asked)
    for key, _, _ in jobs[0].reads:
        crashed = [m for m in (store.recall_failure(f, key) for f in folders) if m]
        every = [] if crashed else [store.recall_signals(f, key) for f in folders]
        seen = tuple(s for s in every if s is not None)
        signals[key] = seen if len(seen) == len(folders) else None
        failures |= {key: crashed[0]} if crashed else {}
        if seen and len(seen) < len(folders):
            # Nothing to read anywhere is an arm without that release; here or there is a fault.
            failures[key] = f"{len(folders) - len(seen)} of {len(folders)} federations showed nothing"
    return Played(included, signals, failures, tuple(store.recall(f) for f in folders), found)


def score_all(probe: Probe, signals: Sequence[Signals], included: Bools) -> Floats:
    """Scores of shape (F, n): every federation as the target, all others as its references."""
    candidates = np.stack([s.candidates for s in signals])
    population = np.stack([s.population for s in signals])
    rows = []
    for f, target in enumerate(signals):
        others = np.arange(len(signals)) != f
        references = References(candidates[others], population[others], included[others])
        rows.append(probe.attack.score(target, references))
    return np.stack(rows)


def members_of(setting: Setting, federation: int) -> tuple[Records, ...]:
    """Each client's records in one federation."""
    inside = setting.members(federation)
    owners = setting.candidates.clients
    return tuple(setting.candidates.records.take(inside & (owners == k)) for k in range(setting.clients))


def _train(job: Job) -> None:
    setting, arm = job.setting, job.arm
    start = time.process_time()
    federations = [
        Federation(
            tuple(r.to(setting.device) for r in members_of(setting, f)),
            setting.stream.child("federation", f),
        )
        for f in job.federations
    ]
    world = _world(setting, arm)
    outcomes = run(arm.pipeline, world, federations)
    seconds = (time.process_time() - start) / len(outcomes)
    played = zip(outcomes, federations, job.federations, job.folders, strict=True)
    for outcome, federation, number, folder in played:
        # What an interrupted run had finished comes out the same, and may have been read already.
        if not store.is_complete(folder):
            kept = _kept(setting, arm, outcome, federation, number, seconds)
            store.keep(folder, outcome.transcript, kept)


def _world(setting: Setting, arm: Arm) -> World:
    """The public world with the arm's defences and its server, on the setting's device."""
    world, prior, known = setting.world, setting.world.prior, setting.candidates
    targets = Targets(known.records.to(setting.device), known.clients.to(setting.device))
    return replace(
        world,
        hooks=arm.hooks,
        deviation=None if arm.server is None else MaliciousServer(arm.server, targets),
        public=world.public.to(setting.device),
        prior=prior if prior is None or setting.device == "cpu" else prior.to(setting.device),
    )


def _kept(
    setting: Setting, arm: Arm, outcome: Outcome, federation: Federation, number: int, seconds: float
) -> store.Kept:
    records = {k: len(r) for k, r in enumerate(federation.clients)}
    promises: tuple[Claim, ...] = ()
    if arm.delta is not None:
        tuning = None if arm.tuning is None else Tuning(arm.tuning.runs, arm.tuning.stopping)
        outside = arm.pipeline.outside_claim
        promises = claims(counted(outcome), arm.delta, records=records, outside=outside, tuning=tuning)
    nets = outcome.transcript.nets
    models: dict[str, Params] = {"surrogate": outcome.surrogate, "large": outcome.large}
    if not _predicts(outcome.transcript):
        del models["surrogate"]
    if _untrained_head(setting, arm, outcome, federation):
        del models["large"]
    test = setting.test.to(setting.device)
    correct = {name: right(nets[name], params, test).astype(np.uint8) for name, params in models.items()}
    if outcome.answers is not None and "large" in correct:
        # What is delivered is the answers, and rounding or noise can change which label they name.
        asked = answer(nets["large"], outcome.answers, test.inputs, setting.stream.child("accuracy", number))
        correct["large"] = (labels_of(asked) == test.labels).cpu().numpy().astype(np.uint8)
    spent = max(map(mechanisms, outcome.ledger.events.values()), default=0)
    own = personal_accuracy(setting, outcome.personal, number)
    return store.Kept(correct, promises, seconds, own, spent)


def counted(outcome: Outcome) -> Ledger:
    """The ledger, with whether it has an entry for each message that the transcript has."""
    sent = {(r.round, r.sender) for r in outcome.transcript.releases if r.sender.startswith("client")}
    entries = sum(map(len, outcome.ledger.uplink.values()))
    evidence = f"{len(sent)} messages of clients in the transcript, {entries} in the ledger"
    whole = Assumption("all messages counted", len(sent) == entries, evidence)
    return replace(outcome.ledger, checked=(*outcome.ledger.checked, whole))


def mechanisms(events: Sequence[object]) -> int:
    """How many mechanisms ran, those within compositions counted: a round may hold several trainings."""
    parts = [getattr(e, "events", None) for e in events if e is not None]
    return sum(1 if inside is None else mechanisms(inside) for inside in parts)


def _predicts(transcript: Transcript) -> bool:
    """Whether what was broadcast last has a head; a representation alone gives no label."""
    sent = [r for r in transcript.releases if r.name == "surrogate"]
    return bool(sent) and set(head_names(transcript.nets["surrogate"])) <= set(sent[-1].tensors)


def _untrained_head(setting: Setting, arm: Arm, outcome: Outcome, federation: Federation) -> bool:
    """Whether the delivered model ends in the head it began with: its labels are guesses of nobody."""
    if not isinstance(arm.pipeline, Personalised):
        return False
    (state,) = arm.pipeline.init(_world(setting, arm), [federation.stream.child("init")])
    head = head_names(setting.world.surrogate)
    return all(torch.equal(state.surrogate[name], outcome.large[name]) for name in head)


def _read(job: Job, federation: int, folder: Path, unread: Sequence[tuple[str, Observer, Reader]]) -> None:
    transcript = store.transcript(folder)
    means = _class_means(members_of(job.setting, federation), job.setting.world.surrogate.classes)
    stream = job.setting.stream.child("observe", federation)
    for key, observer, reader in unread:
        wanted = getattr(reader, "artefact", "")
        handed = tuple(m for m in means if m.name == wanted)
        view = _handed(transcript, handed, observer) if handed else transcript.view(observer)
        try:
            arrays = read(reader, view, job.setting.candidates, _own(stream.child(key)))
            store.keep_arrays(folder, key, arrays)
        except Exception as error:  # a plug-in may fail in any way; the rest of the audit must not
            store.keep_failure(folder, key, f"{type(error).__name__}: {error}")


def _own(stream: Stream) -> Stream:
    """A stream from which nobody finds back to the seed of noise and membership."""
    return Stream(stream.integer())


def _handed(transcript: Transcript, means: tuple[Release, ...], observer: Observer) -> View:
    """The view of the class-mean baseline, which is handed the true means beside what it saw.

    No attack is: its view holds what this observer saw and nothing else.
    """
    holds = observer.holds | {m.name for m in means} if observer.holds else observer.holds
    extended = Transcript((*transcript.releases, *means), transcript.nets)
    return extended.view(replace(observer, holds=holds))


def _class_means(clients: Sequence[Records], classes: int) -> list[Release]:
    """The mean record of each class, over all members and over each client's: a baseline, no release."""
    found = [
        _means_release("client_means", SERVER, _means(records, classes), k)
        for k, records in enumerate(clients)
        if len(records)
    ]
    pooled = Records(torch.cat([c.inputs for c in clients]), torch.cat([c.labels for c in clients]))
    if len(pooled):
        found.append(_means_release("class_means", PUBLIC, _means(pooled, classes), None))
    return found


def _means(records: Records, classes: int) -> Records:
    held = [c for c in range(classes) if bool((records.labels == c).any())]
    means = torch.stack([records.inputs[records.labels == c].mean(0) for c in held])
    return Records(means, torch.tensor(held))


def _means_release(name: str, receiver: str, means: Records, client: int | None) -> Release:
    tensors = {"inputs": means.inputs, "labels": means.labels}
    return Release(0, SERVER, receiver, "synthetic", name, tensors, client)


__all__ = ["Job", "Played", "jobs_of", "play", "read_back", "read_key", "score_all"]
