"""What is read of one federation, and the arrays it is kept as: signals, reconstructions, inferences."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.interface import (
    Attribute,
    AttributeAttack,
    Candidates,
    Floats,
    Inference,
    Known,
    Observation,
    PropertyAttack,
    Reconstruction,
    ReconstructionAttack,
    Signals,
)
from privfed.randomness import Stream
from privfed.records import Records
from privfed.release import View

Reader = Observation | ReconstructionAttack | PropertyAttack | AttributeAttack
Arrays = dict[str, NDArray[Any]]


def read(reader: Reader, view: View, candidates: Candidates, stream: Stream) -> Arrays | None:
    """What a reader finds in a view; None where there is nothing to read.

    An observation is handed the candidates. What asks for the data themselves is not: it gets what
    everybody knows. What asks for a hidden attribute gets the candidates without it.
    """
    if isinstance(reader, Observation):
        signals = reader.extract(view, candidates, stream)
        return None if signals is None else _of_signals(signals)
    known = Known(candidates.public, candidates.population, candidates.prior)
    if isinstance(reader, ReconstructionAttack):
        found = reader.reconstruct(view, known, stream)
        return None if found is None else _of_reconstruction(found)
    if isinstance(reader, AttributeAttack):
        scores = reader.guess(view, _without(reader.attribute, candidates), candidates.clients, known, stream)
        return None if scores is None else {"scores": scores}
    inferred = reader.infer(view, known, stream)
    return None if inferred is None else {"values": inferred.values}


def signals_of(arrays: Arrays) -> Signals:
    """The signals kept in these arrays; KeyError where they are none."""
    return Signals(arrays["candidates"], arrays["population"], arrays["clients"])


def reconstruction_of(arrays: Arrays) -> Reconstruction:
    """The reconstruction kept in these arrays; KeyError where they are none."""
    records = Records(torch.from_numpy(arrays["inputs"]), torch.from_numpy(arrays["labels"]))
    work, stopped = (int(x) for x in arrays["spent"])
    return Reconstruction(
        records, torch.from_numpy(arrays["clients"]), arrays["objective"], work, bool(stopped)
    )


def inference_of(arrays: Arrays) -> Inference:
    """The inference kept in these arrays; KeyError where they are none."""
    return Inference(arrays["values"])


def scores_of(arrays: Arrays) -> Floats:
    """The scores of values kept in these arrays; KeyError where they are none."""
    return arrays["scores"]


def _without(attribute: Attribute, candidates: Candidates) -> Records:
    """The candidates with one and the same value in place of each one's own."""
    return attribute.completed(candidates.records, 0, candidates.population)


def _of_signals(signals: Signals) -> Arrays:
    return {
        "candidates": signals.candidates,
        "population": signals.population,
        "clients": signals.clients,
    }


def _of_reconstruction(found: Reconstruction) -> Arrays:
    return {
        "inputs": found.records.inputs.detach().cpu().numpy(),
        "labels": found.records.labels.cpu().numpy(),
        "clients": found.clients.cpu().numpy(),
        "objective": np.asarray(found.objective, dtype=np.float64),
        "spent": np.array([found.work, found.stopped_early], dtype=np.int64),
    }
