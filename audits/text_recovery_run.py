"""One row of the text benchmark: who holds which sentences, and what an attack gets right of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks._descent import Budget
from attacks.gradient_inversion import GradientInversion
from attacks.interface import Known, Reconstruction, ReconstructionAttack
from attacks.sentence_recovery import SentenceRecovery
from attacks.text_inversion import TextInversion, nearest_words
from attacks.token_recovery import TokenRecovery, vocabulary
from audits.bags_of_words import alike
from defenses.dp_sgd import DpSgd
from privfed.federation import Federation, run
from privfed.hooks import Hooks
from privfed.nets import NetSpec
from privfed.pipelines.fedavg import FedAvg
from privfed.pipelines.interface import World
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import Observer
from privfed.training import Recipe
from privfed.words import embed, fit_words

DECOYS, PUBLIC = 100, 4000
LR, EPSILON, DELTA = 0.1, 8.0, 1e-5
HIDDEN = (24, 12)
ITERATIONS = 300
DEAL = 1
"""Seed of who holds what; `drift` was set on the deal of another."""
SPAN, STATES = "words in the span", "words and states in the span"
GRADIENTS, READ_OFF = "inverting gradients", "the same, read off as words"


@dataclass(frozen=True, slots=True)
class Case:
    """One row.

    Attributes:
        attack: `SPAN`, `STATES`, `GRADIENTS` or `READ_OFF`.
        dimension: of the word vectors.
        sentences: of each client.
        steps: full-batch ones of a client.
        private: whether clients train by DP-SGD.
    """

    attack: str
    dimension: int
    sentences: int = 1
    steps: int = 1
    private: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What an attack gave of one client.

    Attributes:
        words: different ones the client has a vector for.
        precision, recall: of the words named; NaN and 0 where none was.
        frequent: recall of as many of the most frequent public words as the client has.
        identified: whether the best bag of words is nearest to a sentence of the client's.
        drawn: the same of a random public sentence.
        label: share of the client's labels given, as a multiset.
        verbatim: whether the best sentence is one of the client's, word for word.
        places: share of the client's words that stand at their place in the likest sentence given.
        drawn_places: the same of the random public sentence.
    """

    words: int
    precision: float
    recall: float
    frequent: float
    identified: bool
    drawn: bool
    label: float
    verbatim: bool = False
    places: float = 0.0
    drawn_places: float = 0.0


def attacked(case: Case, text: Records, clients: int) -> list[Found]:
    """Plays one round with that many clients and looks at what came out of each.

    Args:
        case: the row.
        text: token numbers, shape (n, tokens).
        clients: how many.
    """
    stream = Stream(0, ("text", str(case)))
    public, own, decoys = dealt(text, case.sentences, clients)
    table = fit_words(public.inputs, int(text.inputs.max()) + 1, case.dimension, Stream(0, ("words",)))
    shard = embed(public, table)
    spec = NetSpec("lstm", case.dimension, text.inputs.shape[1], int(text.labels.max()) + 1, hidden=HIDDEN)
    members = [embed(r, table) for r in own]
    world = World(spec, spec, shard, True, None, _hooks(case))
    recipe = Recipe(epochs=case.steps, batch=case.sentences, lr=LR)
    (played,) = run(
        FedAvg(rounds=1, local=recipe, weighting="equal"), world, [Federation(tuple(members), stream)]
    )
    known = Known(shard, shard.take(torch.arange(0)))
    view = played.transcript.view(Observer("server"))
    made = _attack(case).reconstruct(view, known, Stream(1, ("attack", str(case))))
    frequent = _frequent(public, table)
    drawn = torch.randperm(len(shard), generator=stream.child("drawn").torch())[:clients]
    others = embed(decoys, table).inputs
    words = vocabulary(known, case.dimension)
    return [
        _found(_of(made, k), members[k], others, frequent, shard.inputs[drawn[k : k + 1]], words)
        for k in range(clients)
    ]


def dealt(text: Records, sentences: int, clients: int) -> tuple[Records, list[Records], Records]:
    """Public sentences, those of each client, and decoys of nobody; the same whatever the row."""
    order = torch.randperm(len(text), generator=Stream(DEAL, ("deal",)).torch())
    if len(text) < PUBLIC + DECOYS + clients * sentences:
        raise ValueError(
            f"expected at least {PUBLIC + DECOYS + clients * sentences} sentences, got {len(text)}"
        )
    public, decoys, rest = order[:PUBLIC], order[PUBLIC : PUBLIC + DECOYS], order[PUBLIC + DECOYS :]
    own = [text.take(rest[k * sentences : (k + 1) * sentences]) for k in range(clients)]
    return text.take(public), own, text.take(decoys)


def _attack(case: Case) -> ReconstructionAttack:
    if case.attack == SPAN:
        return TokenRecovery()
    if case.attack == STATES:
        return SentenceRecovery(records=case.sentences, local_steps=case.steps)
    budget = Budget(ITERATIONS, restarts=2, patience=100)
    if case.attack == READ_OFF:
        return TextInversion(
            records=case.sentences, optimiser="adam", local_lr=LR, local_steps=case.steps, budget=budget
        )
    return GradientInversion(
        records=case.sentences, tv=0.0, optimiser="adam", local_lr=LR, local_steps=case.steps, budget=budget
    )


def _hooks(case: Case) -> Hooks:
    if not case.private:
        return Hooks()
    private = DpSgd.for_epsilon(
        EPSILON, DELTA, 1, clip=1.0, sampling_rate=1.0, steps=case.steps,
        expected_batch=case.sentences, lr=LR,
    )  # fmt: skip
    return Hooks(local=private)


def _of(made: Reconstruction | None, client: int) -> Reconstruction | None:
    """What was rebuilt of one client, best first."""
    if made is None:
        return None
    mine = (made.clients == client).nonzero().flatten()
    mine = mine[torch.from_numpy(made.objective[mine.numpy()].argsort(kind="stable"))]
    objective = made.objective[mine.numpy()]
    return replace(made, records=made.records.take(mine), clients=made.clients[mine], objective=objective)


def _found(
    made: Reconstruction | None,
    members: Records,
    decoys: Tensor,
    frequent: Tensor,
    drawn: Tensor,
    words: Tensor,
) -> Found:
    true = _words(members.inputs)
    lineup = torch.cat([members.inputs, decoys])
    first = None if made is None or not len(made.records) else made.records.inputs[:1]
    given = members.inputs[:0] if made is None else made.records.inputs
    given = nearest_words(given, words) if len(given) else given
    named = _words(given)
    shared = _shared(named, true)
    return Found(
        len(true),
        shared / len(named) if len(named) else float("nan"),
        shared / len(true) if len(true) else 0.0,
        _shared(frequent[: len(true)], true) / len(true) if len(true) else 0.0,
        first is not None and int(alike(first, lineup)[0].argmin()) < len(members),
        int(alike(drawn, lineup)[0].argmin()) < len(members),
        0.0 if made is None else _labels_shared(made.records.labels, members.labels),
        first is not None and bool((given[:1] == members.inputs).flatten(1).all(1).any()),
        in_place(given, members.inputs),
        in_place(drawn, members.inputs),
    )


def in_place(given: Tensor, true: Tensor) -> float:
    """Share of the words of sentences, (n, tokens, dimension), at their place in the likest one given.

    Padding, and words without a vector, count neither way; a sentence of nothing else counts as missed.
    """
    if not len(given):
        return 0.0
    words = true.any(-1)
    same = (given[:, None] == true).all(-1) & words
    return float((same.sum(-1) / words.sum(-1).clamp_min(1)).amax(0).mean())


def _words(inputs: Tensor) -> Tensor:
    """Different word vectors in sentences, padding apart."""
    flat: Tensor = torch.unique(inputs.flatten(0, 1), dim=0)
    found: Tensor = flat[flat.any(1)]
    return found


def _shared(named: Tensor, true: Tensor) -> int:
    """How many of these vectors are among those, to the bit."""
    return int((named[:, None] == true[None]).all(-1).any(1).sum()) if len(named) and len(true) else 0


def _frequent(public: Records, table: Tensor) -> Tensor:
    """Vectors of public words, the most frequent first."""
    counts = torch.bincount(public.inputs.flatten(), minlength=len(table))
    counts[0] = 0
    order = counts.argsort(descending=True, stable=True)
    vectors: Tensor = table[order]
    found: Tensor = vectors[vectors.any(1)]
    return found


def _labels_shared(given: Tensor, true: Tensor) -> float:
    size = 1 + int(max(given.max() if len(given) else 0, true.max()))
    ours, theirs = (torch.bincount(x[x >= 0], minlength=size) for x in (given, true))
    return float(torch.minimum(ours, theirs).sum()) / len(true)
