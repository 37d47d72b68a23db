"""What the personalisation benchmark measures on models: personal accuracy, and three kinds of generality.

After FedRep's evaluation (Collins et al., arXiv 2102.07078: accuracy of each client's model on its own
test records) and the three readings of "generalisation" that FedBKD (arXiv 2506.20245) leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from threadpoolctl import threadpool_limits

from audits.personalisation_deal import Client, Cohort
from privfed.nets import NetSpec, Params, head_names, head_spec
from privfed.randomness import Stream
from privfed.records import Records
from privfed.training import Recipe, Task, predict, represent, train

PROBE_ITERATIONS = 2000
ALONE = ("0.weight", "0.bias")
"""Names of a head's parameters as a net of its own."""


def accuracy(spec: NetSpec, model: Params, records: Records) -> float:
    """Share of the records that the model gets right."""
    return correct(spec, model, records) / len(records)


def correct(spec: NetSpec, model: Params, records: Records) -> int:
    """Number of records that the model gets right."""
    return int((predict(spec, model, records.inputs).argmax(1) == records.labels).sum())


def personal_accuracy(spec: NetSpec, models: Sequence[Params], clients: Sequence[Client]) -> float:
    """Mean over clients of the accuracy of each one's model on its own test records.

    Clients weigh by their test records, so this is the share of all test records that their owner's
    model gets right.
    """
    right = sum(correct(spec, m, c.test) for m, c in zip(models, clients, strict=True))
    return right / sum(len(c.test) for c in clients)


def with_tuned_heads(
    spec: NetSpec, model: Params, clients: Sequence[Client], recipe: Recipe, streams: Sequence[Stream]
) -> list[Params]:
    """The model with its head trained on each client's training records, the representation frozen.

    Args:
        spec: architecture.
        model: where all start.
        clients: whose records.
        recipe: of the head.
        streams: randomness, one a client.
    """
    start = {own: model[name] for own, name in zip(ALONE, head_names(spec), strict=True)}
    tasks = [
        Task(
            head_spec(spec),
            start,
            Records(represent(spec, model, c.train.inputs), c.train.labels),
            recipe,
            stream,
        )
        for c, stream in zip(clients, streams, strict=True)
    ]
    # Heads are so small that side by side is faster whatever the net behind them.
    heads = train(tasks, "stacked")
    return [
        {**model, **{name: h[own] for own, name in zip(ALONE, head_names(spec), strict=True)}} for h in heads
    ]


def pooled_accuracy(spec: NetSpec, model: Params, cohort: Cohort) -> float:
    """G1: the global model on the test records of all clients together."""
    return accuracy(spec, model, cohort.pooled)


def newcomer_accuracy(
    spec: NetSpec, model: Params, head: Params, cohort: Cohort, recipe: Recipe, stream: Stream
) -> float:
    """G2: the representation frozen, a head of their own trained by clients that took no part.

    Args:
        spec: architecture.
        model: global model, whose head does not count.
        head: where every newcomer's head starts: the same for all methods, so that the
            representation alone makes the difference.
        cohort: with the newcomers.
        recipe: of the head.
        stream: randomness.
    """
    clients = cohort.newcomers
    streams = [stream.child(k) for k in range(len(clients))]
    models = with_tuned_heads(spec, {**model, **head}, clients, recipe, streams)
    return personal_accuracy(spec, models, clients)


def probe_accuracy(spec: NetSpec, model: Params, cohort: Cohort) -> float:
    """G3: logistic regression on standardised features of the balanced set, scored on the pooled test."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pooled = cohort.pooled
    seen, unseen = (represent(spec, model, r.inputs).numpy() for r in (cohort.probe, pooled))
    with threadpool_limits(1):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=PROBE_ITERATIONS))
        probe.fit(seen, cohort.probe.labels.numpy())
        predicted = torch.from_numpy(probe.predict(unseen))
    return float((predicted == pooled.labels).double().mean())
