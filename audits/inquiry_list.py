"""The attacks of audits that ask for the data themselves: who asks what of which artefact."""

from __future__ import annotations

from attacks.label_inference import DisclosedLabels, LabelInference
from attacks.latent_labels import LatentLabels
from attacks.model_inversion import MiFace, PlugAndPlay
from audits.inquiry import Inquiry
from audits.probe import MODEL, SERVER


def inquiries_listed() -> tuple[Inquiry, ...]:
    """All of them, whatever the scope."""
    return (
        Inquiry("label inference", LabelInference(), SERVER, "client update", "labels"),
        Inquiry("labels disclosed", DisclosedLabels(), SERVER, "label sets", "labels", disclosed=True),
        Inquiry(
            "label inference from images",
            LatentLabels(),
            SERVER,
            "latents of the rounds",
            "labels",
            True,
            False,
        ),
        Inquiry("MIFace", MiFace(), MODEL, "released model", "records", True, False),
        Inquiry("plug and play", PlugAndPlay(), MODEL, "released model", "records", True, False),
    )
