"""Text as the game plays it: token numbers become embedded sentences once, before anything is trained.

The table of embeddings is public, as word vectors are: the data set's own, or fitted on the public
shard alone. Clients train on embedded sentences, and what is generated are embedded sentences too.
"""

from __future__ import annotations

from torch import Tensor

from audits.plan_schema import WordsPlan
from privfed.datasets import Dataset
from privfed.randomness import Stream
from privfed.records import Records
from privfed.splits import SplitRecords
from privfed.words import embed, fit_words


def embedded(parts: SplitRecords, dataset: Dataset, words: WordsPlan | None, stream: Stream) -> SplitRecords:
    """The four parts as floats; images stay as they are.

    Args:
        parts: of one setting, token numbers of shape (n, tokens) where the data set is text.
        dataset: what they are from.
        words: how to fit a table where the data set has none.
        stream: randomness of the fit.

    Returns:
        Inputs of shape (n, tokens, dimension) for text.
    """
    if dataset.modality != "text":
        return parts
    table = dataset.embedding
    if table is None:
        size = len(dataset.vocabulary)
        table = fit_words(parts.public.inputs, size, dimension(dataset, words), stream)
    whole = (parts.public, parts.candidates, parts.population, parts.test)
    return SplitRecords(*(_embed(part, table) for part in whole))


def dimension(dataset: Dataset, words: WordsPlan | None) -> int:
    """Numbers that stand for one token."""
    if dataset.embedding is not None:
        return int(dataset.embedding.shape[1])
    return (words or WordsPlan()).dimension


def _embed(part: Records, table: Tensor) -> Records:
    """Also of a part that the split leaves empty."""
    if len(part):
        return embed(part, table)
    return Records(table.new_zeros(0, part.inputs.shape[1], table.shape[1]), part.labels)
