"""Which defences fit which pipeline: combinations that would promise nothing are refused with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from privfed.aggregation import needs_each
from privfed.pipelines.interface import Personalised, Pipeline
from privfed.pipelines.local_only import LocalOnly
from privfed.pipelines.twin import Twin


def misfit(pipeline: Pipeline, name: str, defenses: Sequence[tuple[str, Any]]) -> tuple[int, str] | None:
    """The first defence that does not fit, as its place and the reason; None when all fit.

    Args:
        pipeline: the arm's.
        name: of the pipeline, for the message.
        defenses: of the arm, each with its name.
    """
    for index, (defense, hook) in enumerate(defenses):
        others = [d for i, (_, d) in enumerate(defenses) if i != index]
        reason = (
            _on_sums(pipeline, name, defense, hook, others)
            or _on_updates(pipeline, name, defense, hook)
            or _on_tasks(defense, hook, others)
            or _after_a_clip(defense, hook, defenses[:index])
            or _before_noise(defense, hook, defenses[:index])
        )
        if reason:
            return index, reason
    return None


def misfit_of_clients(pipeline: Pipeline, clients: int, hook: Any) -> str:
    """Why a defence does not fit so many clients; empty when it does."""
    minimum = getattr(hook, "minimum", None)
    present = max(1, int(pipeline.fraction * clients + 0.5))
    if minimum is not None and present < minimum:
        return f"expected minimum <= {present}, the clients of a round, got minimum={minimum}"
    expected = getattr(hook, "expected_clients", None)
    rate = getattr(hook, "client_rate", 1.0)
    wanted = rate * clients if rate < 1 else float(present)
    if expected is not None and abs(expected - wanted) > 1e-6 * wanted:
        rule = f"expected expected_clients {wanted:g}, those of a round on average"
        return f"{rule}, got expected_clients={expected:g}"
    return ""


def _on_sums(pipeline: Pipeline, name: str, defense: str, hook: Any, others: Sequence[Any]) -> str:
    if not hasattr(hook, "aggregate"):
        return ""
    if each := needs_each(pipeline):
        rule = f"expected a pipeline whose server works on a sum for {defense}"
        return f"{rule}, got pipeline={name!r}: {each}"
    if getattr(pipeline, "weighting", "equal") == "records":
        return f"expected weighting 'equal' beside {defense}, got weighting='records'"
    rate = getattr(hook, "client_rate", None)
    if rate is None:
        return ""
    # In a draw of a fixed size another takes the place of an absent client, which moves a sum twice as far.
    if rate != pipeline.fraction:
        return f"expected client_rate to be the pipeline's fraction {pipeline.fraction:g}, got {rate:g}"
    if rate < 1 and isinstance(pipeline, Personalised):
        return f"expected client_rate 1 for {name!r}, whose last round has all clients, got {rate:g}"
    if rate < 1 and any(getattr(o, "hides_updates", False) for o in others):
        return f"expected client_rate 1 beside secure aggregation, which refuses small rounds, got {rate:g}"
    return ""


def _on_updates(pipeline: Pipeline, name: str, defense: str, hook: Any) -> str:
    """Why a defence would never act on anything that is sent."""
    if isinstance(pipeline, Twin):
        return f"expected no {defense} on a control, which is there to leak or not to, got pipeline={name!r}"
    asked = getattr(pipeline, "record_sensitivity", None)
    if getattr(hook, "on_bounded_sums", False) and asked is None:
        rule = f"expected a pipeline whose clients send sums that bound each record's share for {defense}"
        return f"{rule}, got pipeline={name!r}"
    masks = getattr(hook, "masks_head", False)
    if asked is not None and (masks or hasattr(hook, "train") or hasattr(hook, "adapt")):
        rule = f"expected a pipeline whose clients train for {defense}"
        return f"{rule}, got pipeline={name!r}: its clients send sums of their records"
    if isinstance(pipeline, LocalOnly) and (masks or hasattr(hook, "uplink")):
        rule = f"expected a pipeline whose clients send updates for {defense}"
        return f"{rule}, got pipeline={name!r}: its clients send nothing"
    shares_a_head = (
        getattr(pipeline, "share_heads", True) or getattr(pipeline, "global_head", "") == "federated"
    )
    if masks and not shares_a_head:
        rule = f"expected a pipeline whose clients send a head for {defense}, which masks one"
        return f"{rule}, got pipeline={name!r} with share_heads=False"
    return ""


def _after_a_clip(defense: str, hook: Any, before: Sequence[tuple[str, Any]]) -> str:
    """Why a defence may not follow one that clips what is going to be summed with noise."""
    clips = [name for name, other in before if hasattr(other, "uplink") and hasattr(other, "aggregate")]
    if not clips or not hasattr(hook, "uplink"):
        return ""
    if hasattr(hook, "aggregate"):
        rule = "expected one defence that clips updates and adds noise to their sum"
        return f"{rule}, got {clips[0]} and {defense}"
    if not getattr(hook, "keeps_norm", False):
        rule = f"expected {defense} before {clips[0]}, whose noise rests on its clip"
        return f"{rule}, got it after: it can make an update longer"
    return ""


def _before_noise(defense: str, hook: Any, before: Sequence[tuple[str, Any]]) -> str:
    """Why a defence whose noise is measured by one record's share of a sum must come first."""
    earlier = [name for name, other in before if hasattr(other, "uplink")]
    if not earlier or not getattr(hook, "on_bounded_sums", False):
        return ""
    return (
        f"expected {defense} first, for its noise is measured by a record's share, got it after {earlier[0]}"
    )


def _on_tasks(defense: str, hook: Any, others: Sequence[Any]) -> str:
    clips = any(hasattr(o, "event") and hasattr(o, "train") for o in others)
    if clips and getattr(hook, "mixes_records", False):
        return f"expected no {defense} beside a defence that clips record by record: it mixes records"
    if clips and getattr(hook, "changes_loss", False):
        return f"expected no {defense} beside a defence that trains by a loss of its own: it would do nothing"
    if clips and getattr(hook, "decides_on_records", False):
        return f"expected weights_only of {defense} beside a defence with a claim for records, got false"
    return ""
