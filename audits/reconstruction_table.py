"""How far data can be rebuilt from what clients share: `python -m audits.reconstruction_table`.

Every case is kept, so that a run that was cut short goes on where it was, and a new attack runs nothing but
itself.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audits import reconstruction_federation as made
from audits.personalisation_data import packed
from audits.reconstruction_attacks import FEWER, ITERATIONS, LAYERED, LINE_SEARCHES, LR, TRIALS
from audits.reconstruction_cases import AXES, Case, grid, quick_grid
from audits.reconstruction_deal import DECOYS, PER_MEMBER
from audits.reconstruction_likeness import MOST
from audits.reconstruction_rows import LEVEL, tables
from audits.reconstruction_run import Result, Work
from audits.reconstruction_works import Asked, Done, done_and_missing, estimate, run_missing
from audits.store import default_root

DATA = {"digits": ("Digits, 8x8", 4), "fashion": ("Fashion-MNIST, 28x28", 1), "cifar": ("CIFAR-10", 1)}
"""Title and seeds of each data set: what a core does in about an hour."""
SOURCES = {"digits": "digits", "fashion": "fashion-mnist", "cifar": "cifar10"}
CLIENTS = 8
FOLDER = re.compile(r"(image-folder:).*")
"""Where somebody keeps images is nobody's business."""


def main(arguments: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Runs what is not kept, prints the tables or writes them; 1 if a case failed."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        asked = _asked(given, root or default_root())
    except ValueError as error:
        parser.error(str(error))
    console = Console(stderr=True)
    done, missing = done_and_missing(asked)
    console.print(_plan(asked, missing), highlight=False)
    if not given.kept:
        done += _watched(asked, missing, console)
        missing = []
    words = list(sys.argv[1:] if arguments is None else arguments)
    text = page(asked, done, missing, words)
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text, encoding="utf-8")
    failures = [d for d in done if d.result is None]
    for d in failures:
        console.print(f"failed: {d.label}: {d.failure}", markup=False, highlight=False)
    return 1 if failures else 0


def page(asked: Asked, done: Sequence[Done], missing: Sequence[Work], words: Sequence[str]) -> str:
    """The tables of all data sets as a Markdown page; `words` are the command's."""
    shown = [FOLDER.sub(r"\1PATH", word) for word in words]
    command = f"make benchmark-reconstruction ARGS={shlex.quote(shlex.join(shown))}"
    parts = ["# How far data can be rebuilt", f"`{command}`, {datetime.now(UTC):%Y-%m-%d}.", legend()]
    for source in asked.sources:
        results = by_case(source, asked, done)
        parts.append(f"## {asked.titles[source]}")
        parts.append(coverage(source, asked, results, missing))
        for title, table in tables(results):
            parts += [f"### {title}", table]
    failures = [f"- {d.label}: {d.failure}" for d in done if d.result is None]
    if failures:
        parts += ["## Failed", "\n".join(failures)]
    return "\n\n".join(parts) + "\n"


def by_case(source: str, asked: Asked, done: Sequence[Done]) -> dict[Case, list[Result]]:
    """Results of one data set by case, in the order of the grid and of the seeds."""
    found: dict[Case, list[Result]] = {case: [] for case in asked.cases}
    for d in sorted(done, key=lambda d: d.work.seed):
        if d.work.source == source and d.result is not None:
            found[d.work.case].append(d.result)
    return found


def coverage(source: str, asked: Asked, results: dict[Case, list[Result]], missing: Sequence[Work]) -> str:
    """What was run of a data set, and what was not."""
    seeds = asked.sources[source]
    ran = [r for found in results.values() for r in found]
    seconds = sum(r.total for r in ran)
    text = (
        f"{len(ran)} of {len(asked.cases) * seeds} runs, {seconds / 60:.1f} CPU min: "
        f"{len(asked.cases)} cases, {seeds} federations each, {asked.clients} clients a federation."
    )
    undone = [w for w in missing if w.source == source]
    if undone:
        absent = Counter(AXES[case.axis] for case, found in results.items() if not found)
        text += f" Not run: {len(undone)} runs; {absent.total()} cases have none and are not in the tables"
        text += f" ({'; '.join(f'{axis}: {n}' for axis, n in absent.items())})." if absent else "."
    return text


def legend() -> str:
    """How to read the tables, and what the attacks were allowed."""
    return f"""\
The attacker is the server in the first round, unless a table says otherwise: clients start from a fresh
model, which is when inversion is easiest. It knows each client's recipe (SGD, learning rate {LR:g}), how
many records the client has and which defence runs, and holds a public shard of the same distribution.
Training is full-batch unless "steps" reads "k of b": k steps of b records. Runs are kept, so that the
command may be cut short and run again.

**Identified**: of each client's reconstructions the one that fits best by the attack's own objective is
looked up, by Euclidean distance, among the client's members and decoys: records of nobody, with the
members' labels, so that a label helps nobody. In brackets exact one-sided bounds (Clopper-Pearson,
{LEVEL:.0%} each) over n clients, "of n"; those of one federation share their initial model, and their
decoys come from one pool. Bold: the lower bound is above chance, row by row, without a correction for the
number of rows. A client of whom nothing was rebuilt is a miss. **Chance**: members over candidates; there
are {DECOYS} decoys, or {PER_MEMBER} for each member if that is more. **In features**: the same share,
looked up by an independent network's features in place of pixels. **Of all**: identified by pixels, over
all reconstructions. **Members found**: to which some reconstruction is closer than to every decoy, in
brackets what luck gives.

**PSNR / SSIM / perceptual** to the nearest member (Euclidean), mean over the reconstructions: peak
signal-to-noise ratio in dB, higher = closer, an exact copy counts as {MOST:g}; structural similarity, at
most 1, higher = closer; distance between unit-length features of the independent network, 0 to 2, lower =
closer. That network is a small convnet trained on the public shard alone with a seed of its own. It is
small and trained for ten epochs, so what it calls alike need not look alike. Features of one class lie
close together: only beside the class mean does a small distance say anything.

None of the three says anything alone. **Class mean**: the public mean of the members' own labels, share
identified (in features in brackets) over all of them, then the same three. **Public record**: one drawn
at random of each member's label, share identified and PSNR in dB, in brackets the PSNR of the public
record nearest to a member, which nobody can pick without knowing the member. **Labels**: share of the
members' labels, as a multiset, that the reconstructions carry. **Iterations** (or queries, or draws) and
CPU seconds are a client's. **Bound**: the most often that any attack can tell the member from its decoys
under the claim of that row (`audits/reconstruction_bound.py`).

Budgets: {ITERATIONS.iterations} iterations on pixels, {FEWER.iterations} where there are several local
steps or more than 256 pixels; DLG {LINE_SEARCHES.iterations} L-BFGS iterations of up to 20 evaluations;
prior inversion {LAYERED.iterations} a layer; one restart; exact recovery {TRIALS:,} draws. An attack stops
early when its own objective is met or makes no progress, never by likeness to the truth. More
iterations may find more.

Defences: DP-SGD (ε = {made.EPSILON:g}, δ = {made.DELTA:g}, clip {made.CLIP:g}), top-k ({made.KEPT:.0%} of
the entries), label smoothing ({made.SMOOTHING:g}), Soteria ({made.MASKED:.0%} of the representation),
MixUp (Beta({made.BLENDS:g}, {made.BLENDS:g})). Gradient inversion leaves the entries that top-k and Soteria
withheld out of its objective. FedBKD's last round trains heads alone ({made.HEAD_EPOCHS} epochs): the
representation does not move. FedDGM's server distils at most {made.IMAGES} images a class and client
({made.MATCHING.iterations} iterations), above {made.LARGE} pixels one ({made.MATCHING.iterations // 2}
iterations); those of the likeliest label are looked up. The surrogate point reads the update alone."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audits.reconstruction_table", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--data", default="", help=f"of {', '.join(DATA)}, with commas; all if left out")
    add("--seeds", type=int, help="federations of each case, in place of each data set's own")
    add("--clients", type=int, default=CLIENTS, help=f"of each federation (default {CLIENTS})")
    add("--jobs", type=int, default=2, help="processes side by side (default 2)")
    add("--cifar", default="cifar10", metavar="SOURCE", help="cifar10, or image-folder:PATH of its images")
    add("--quick", action="store_true", help="a smoke test: few cases of the digits, one federation each")
    add("--kept", action="store_true", help="run nothing: the tables of what is kept")
    add("--out", type=Path, metavar="FILE", help="write the tables as Markdown instead of printing them")
    return parser


def _asked(given: argparse.Namespace, root: Path) -> Asked:
    names = [n.strip() for n in given.data.split(",") if n.strip()]
    names = names or (["digits"] if given.quick else list(DATA))
    for name in names:
        if name not in DATA:
            raise ValueError(f"expected data among {', '.join(DATA)}, got data={name!r}")
    for name in ("seeds", "clients", "jobs"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            raise ValueError(f"expected {name} >= 1, got {name}={getattr(given, name)}")
    sources = {n: packed(given.cifar, root) if n == "cifar" else SOURCES[n] for n in names}
    seeds = {n: given.seeds or (1 if given.quick else DATA[n][1]) for n in names}
    # Such folders hold the images as JPEG: figures on them are not those of the originals.
    jpeg = " (JPEG), 32x32" if given.cifar.startswith("image-folder:") else ", 32x32"
    titles = {n: DATA[n][0] + (jpeg if n == "cifar" else "") for n in names}
    return Asked(
        {sources[n]: seeds[n] for n in names},
        {sources[n]: titles[n] for n in names},
        quick_grid() if given.quick else grid(),
        given.clients,
        given.jobs,
        root,
    )


def _plan(asked: Asked, missing: Sequence[Work]) -> str:
    if not missing:
        return "Every run is kept; nothing to do."
    seconds = estimate(asked, missing)
    known = "no estimate before the first ends" if seconds is None else f"about {seconds / 60:.1f} min"
    return f"{len(missing)} runs to do, {asked.jobs} at a time: {known}."


def _watched(asked: Asked, missing: Sequence[Work], console: Console) -> list[Done]:
    watched = console.is_terminal
    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*parts, console=console, disable=not watched) as progress:
        bar = progress.add_task("inverting", total=len(missing))

        def ended(one: Done) -> None:
            progress.update(bar, advance=1, description=one.label)
            if not watched:
                outcome = f"{one.result.total:.1f} CPU s" if one.result else one.failure
                console.print(f"{one.label}: {outcome}", markup=False, highlight=False)

        return run_missing(asked, missing, ended)


if __name__ == "__main__":
    sys.exit(main())
