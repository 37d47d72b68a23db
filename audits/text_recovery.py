"""Words and sentences rebuilt from what text clients share: `python -m audits.text_recovery`.

Real sentences, the LSTM of the packaged plan, one round of FedAvg. Nothing is kept: it takes minutes.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from audits.attack_rows import markdown
from audits.identification import METRIC, exact
from audits.reconstruction_rows import LEVEL, percent
from audits.text_recovery_run import (
    DECOYS,
    DELTA,
    EPSILON,
    GRADIENTS,
    HIDDEN,
    ITERATIONS,
    LR,
    PUBLIC,
    READ_OFF,
    SPAN,
    STATES,
    Case,
    Found,
    attacked,
)
from privfed.datasets import load

CLIENTS = 32
HEADER = (
    "attack", "word vector", "sentences", "steps", "defence", "words a client", "precision", "recall",
    "frequent words", "identified", "chance", "public sentence", "labels", "word for word", "places",
    "places of a public sentence",
)  # fmt: skip


def grid() -> tuple[Case, ...]:
    """Every axis varied from a lone sentence in one step."""
    rows = []
    for dimension in (24, 50, 100):
        rows += [Case(SPAN, dimension, n) for n in (1, 2, 4, 8)]
        rows += [Case(SPAN, dimension, 1, 5), Case(SPAN, dimension, 1, private=True)]
        rows += [Case(STATES, dimension, n) for n in (1, 2, 4, 8)]
        rows += [Case(STATES, dimension, 1, 5), Case(STATES, dimension, 1, private=True)]
    return (
        *rows,
        *(Case(GRADIENTS, 50, n) for n in (1, 2)),
        Case(GRADIENTS, 50, 1, private=True),
        *(Case(READ_OFF, 50, n) for n in (1, 2)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all rows, prints the page or writes it."""
    parser = argparse.ArgumentParser(
        prog="python -m audits.text_recovery", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", default="reviews", help="reviews, reviews:PATH or sentiment")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="a row")
    parser.add_argument("--quick", action="store_true", help="two rows of the grid")
    parser.add_argument("--out", type=Path, help="file to write instead of printing")
    given = parser.parse_args(arguments)
    if given.clients < 1:
        parser.error(f"expected --clients >= 1, got --clients {given.clients}")
    torch.set_num_threads(1)
    text = load(given.data)
    if text.modality != "text":
        parser.error(f"expected a data set of text, got --data {given.data}")
    cases = grid()[:2] if given.quick else grid()
    console = Console(stderr=True)
    console.print(
        f"{len(cases)} rows of {given.clients} clients; about {len(cases) / 10:.0f} min on one core"
    )
    done = [
        (c, attacked(c, text.records, given.clients))
        for c in track(cases, "Rebuilding sentences", console=console)
    ]
    words = list(sys.argv[1:] if arguments is None else arguments)
    shown = [w.partition(":")[0] + ":PATH" if w.startswith("reviews:") else w for w in words]
    made = page(done, shown)
    if given.out is None:
        print(made)
    else:
        given.out.write_text(made, encoding="utf-8")
    return 0


def page(done: Sequence[tuple[Case, Sequence[Found]]], words: Sequence[str]) -> str:
    """The table as a Markdown page; `words` are the command's."""
    command = shlex.join(["python", "-m", "audits.text_recovery", *words])
    table = markdown(HEADER, [row(case, found) for case, found in done])
    parts = [
        "# How far sentences can be rebuilt",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}.",
        LEGEND,
        table,
    ]
    return "\n\n".join(parts) + "\n"


LEGEND = f"""\
The attacker is the server in the first round. It sees each client's update of a fresh LSTM ({HIDDEN[0]}
and {HIDDEN[1]} units, SGD, learning rate {LR:g}, full batches), holds {PUBLIC:,} public sentences, and
knows the table of word vectors, which was learnt from those.

**Words in the span**: words of the public vocabulary whose vectors lie in the span of the movement of
the input weights (`attacks/token_recovery.py`). **Words and states in the span**: sentences followed
from their first word on, each word together with the state that those before it leave in the broadcast
model (`attacks/sentence_recovery.py`). **Inverting gradients**: sentences whose gradients match, in
embedding space, {ITERATIONS} iterations, two restarts; each place counts as the public word nearest to
it, but what is looked up is the embedding as it came out. **Read off as words**: the word itself stands
there then (`attacks/text_inversion.py`), which loses what the embeddings have in sum.

**Precision** and **recall** of the different words of a client that have a vector; **frequent words**:
recall of as many of the most frequent public words. **Identified**: of a client's reconstructions the
one that fits best by the attack's own objective is looked up, as a bag of words
(`audits/bags_of_words.py`), among the client's sentences and {DECOYS} decoys; in brackets exact
one-sided bounds ({LEVEL:.0%} each). A client of whom nothing was rebuilt is a miss. **Public
sentence**: the same of one drawn at random. **Labels**: share of the client's labels that the
reconstructions carry; a bag of words carries one label, that of a lone sentence. **Word for word**: the
sentence that fits best is one of the client's in every place, with the same bounds; words without a
vector count as padding does. **Places**: share of the client's words that stand at their place in the
likest sentence given, beside those of the random public sentence. A bag has no places.

After several steps the states are those of the model halfway between broadcast and update, and the span
is taken for known up to `drift` (`attacks/sentence_recovery.py`), a knob that was set on another
deal of this source.

Where a client's words fill the space, as many different ones as a word vector has numbers, the span
holds every word and the attack says nothing. With the states that is so from as many tokens, padding
counted, as a word vector, the state and 1 have numbers together, or as the LSTM has rows of weights.
Defence: DP-SGD (ε = {EPSILON:g}, δ = {DELTA:g}, clip 1).

Not attempted on text: sentences in their order once states fill the space; language-model priors that
put words into a likely order (LAMP); SOMP and TIGER; attention layers (DAGER's own: these nets have
none); embedding tables that are trained (the table is public and fixed); words that the public text
lacks (their vector is zero, like padding); crafted models of a malicious server; inversion of released
models."""


def row(case: Case, found: Sequence[Found]) -> list[str]:
    """The cells of one case, in the order of `HEADER`."""
    hits = exact(np.array([float(f.identified) for f in found]), LEVEL, METRIC, len(found))
    named = [f.precision for f in found if not np.isnan(f.precision)]
    return [
        case.attack,
        str(case.dimension),
        str(case.sentences),
        str(case.steps),
        "DP-SGD" if case.private else "none",
        f"{np.mean([f.words for f in found]):.1f}",
        percent(float(np.mean(named))) if named else "–",
        percent(float(np.mean([f.recall for f in found]))),
        percent(float(np.mean([f.frequent for f in found]))),
        f"{percent(hits.value)} [{percent(hits.lower)}, {percent(hits.upper)}] of {len(found)}",
        percent(case.sentences / (case.sentences + DECOYS)),
        percent(float(np.mean([f.drawn for f in found]))),
        percent(float(np.mean([f.label for f in found]))),
        *(("–",) * 3 if case.attack == SPAN else _placed(found)),
    ]


def _placed(found: Sequence[Found]) -> tuple[str, str, str]:
    hits = exact(np.array([float(f.verbatim) for f in found]), LEVEL, METRIC, len(found))
    return (
        f"{percent(hits.value)} [{percent(hits.lower)}, {percent(hits.upper)}] of {len(found)}",
        percent(float(np.mean([f.places for f in found]))),
        percent(float(np.mean([f.drawn_places for f in found]))),
    )


if __name__ == "__main__":
    sys.exit(main())
