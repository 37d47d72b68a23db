"""The network in whose features likeness is judged: trained on public records alone, from its own seed."""

from __future__ import annotations

from functools import lru_cache

from audits.reconstruction_deal import pool, public_of
from audits.reconstruction_measures import Evaluator, evaluator
from privfed.nets import NetSpec
from privfed.randomness import Stream
from privfed.training import Recipe

WIDTH, DEPTH = 16, 3
"""Of a convnet, deeper than the one under attack; a side of 8 pixels allows no fourth block."""
RECIPE = Recipe(epochs=10, batch=32, lr=0.1, momentum=0.9)
"""Short: the judge is trained again for every data set and seed."""


@lru_cache(maxsize=8)
def judge_of(source: str, seed: int) -> Evaluator:
    """The judge of all federations on a data set under one seed, trained once a process.

    Its weights and its order of batches come from a stream that no client and no attack draws from,
    and it never sees a member, a decoy or anything that clients send.

    Args:
        source: data set of images, as `privfed.datasets.load` names it.
        seed: of the federation that is judged.
    """
    public = public_of(pool(source))
    channels, side = public.inputs.shape[1:3]
    spec = NetSpec("convnet", channels, side, len(pool(source).by_class), width=WIDTH, depth=DEPTH)
    return evaluator(spec, public, RECIPE, Stream(seed, ("reconstruction", "judge")))
