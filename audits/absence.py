"""Why an attack had nothing to read: what the reader of a coverage matrix is told in place of a figure."""

from __future__ import annotations

from attacks.distil_and_test import DistilledNearest
from audits.coverage import Probe
from privfed.nets import head_names
from privfed.release import Release, Transcript

HONEST = "the server of this arm does not deviate in this way"


def why_absent(probe: Probe, transcript: Transcript, has_prior: bool) -> str:
    """The reason in words, without a full stop.

    Args:
        probe: whose observation said nothing.
        transcript: of one federation of the arm; all have releases of the same names.
        has_prior: whether the setting has a generative prior.
    """
    if probe.observer.role == "malicious_server":
        return HONEST
    view = transcript.view(probe.observer)
    if isinstance(probe.attack.observation, DistilledNearest):
        return _nothing_to_distil(probe, view.select("weights"), transcript, has_prior)
    models = [r for r in view.select("weights") if r.name == _read(probe)]
    if models and not any(_whole(r, transcript) for r in models):
        return f"no labelled records to fit a head for the {probe.artefact} on, which comes without one"
    return f"this arm has no {probe.artefact}"


def _nothing_to_distil(
    probe: Probe, models: tuple[Release, ...], transcript: Transcript, has_prior: bool
) -> str:
    sent = {name: [r for r in models if r.name == name] for name in ("update", "surrogate")}
    if not sent["update"]:
        return f"this arm has no {probe.artefact}"
    if not has_prior:
        return "the setting has no generative prior to distil through"
    if not any(_whole(r, transcript) for r in sent["update"]):
        return (
            f"the {probe.artefact} is a representation without its head, from which nothing can be distilled"
        )
    return f"nothing could be distilled from the {probe.artefact}"


def _read(probe: Probe) -> str:
    """Name of the release that the probe reads."""
    return str(getattr(probe.attack.observation, "artefact", ""))


def _whole(release: Release, transcript: Transcript) -> bool:
    spec = transcript.nets["large" if release.name == "large" else "surrogate"]
    return set(head_names(spec)) <= set(release.tensors)
