"""The attacks of audits that ask for the data themselves: who asks what of which artefact."""

from __future__ import annotations

from attacks.analytic_inversion import AnalyticInversion
from attacks.fishing import Fishing
from attacks.imprint import Imprint
from attacks.label_fishing import LabelFishing
from attacks.label_inference import DisclosedLabels, LabelInference
from attacks.latent_labels import LatentLabels
from attacks.loki import Loki
from attacks.model_inversion import MiFace, PlugAndPlay
from attacks.prior_inversion import PriorInversion
from attacks.pseudo_label_inversion import PseudoLabelInversion
from attacks.released_records import ReleasedRecords
from attacks.sentence_recovery import SentenceRecovery
from attacks.source_inference import ClientConfidence
from attacks.token_recovery import TokenRecovery
from attacks.trap_weights import TrapWeights
from attacks.update_inversion import UpdateInversion
from attacks.warm_inversion import WarmInversion
from audits.inquiry import Inquiry
from audits.inquiry_list_clients import of_clients
from audits.probe import GENERATOR, MALICIOUS, MODEL, SERVER, SYNTHETIC

RECORDS = 8
"""Records an inversion rebuilds of each client."""
UPDATE = "client update"
CRAFTED = "what came back from a crafted model"


def inquiries_listed() -> tuple[Inquiry, ...]:
    """All of them, whatever the scope."""
    surrogate = UpdateInversion(simulate="surrogate", records=RECORDS, epochs=20, batch=32, local_lr=0.1)
    prior, warm = PriorInversion(records=RECORDS), WarmInversion(local_steps=5)
    guided, sentences = PseudoLabelInversion(), SentenceRecovery(records=RECORDS)
    return (
        Inquiry("label inference", LabelInference(), SERVER, UPDATE, "labels"),
        Inquiry("labels disclosed", DisclosedLabels(), SERVER, "label sets", "labels", disclosed=True),
        Inquiry("source inference", ClientConfidence(), SERVER, UPDATE, "source"),
        Inquiry("analytic inversion", AnalyticInversion(records=RECORDS), SERVER, UPDATE, "records"),
        Inquiry("words in the span of the update", TokenRecovery(), SERVER, UPDATE, "records"),
        Inquiry("sentences in the span of the update", sentences, SERVER, UPDATE, "records"),
        Inquiry("update inversion", surrogate, SERVER, UPDATE, "records", standard=False),
        Inquiry("inversion through the prior", prior, SERVER, UPDATE, "records", True, False),
        Inquiry("warm inversion", warm, SERVER, "client images", "records", True, False),
        Inquiry(
            "label inference from images", LatentLabels(), SERVER, "client images", "labels", True, False
        ),
        Inquiry("imprint", Imprint(), MALICIOUS, CRAFTED, "records", True),
        Inquiry("trap weights", TrapWeights(), MALICIOUS, CRAFTED, "records", True),
        Inquiry("fishing", Fishing(), MALICIOUS, CRAFTED, "records", True),
        Inquiry("LOKI", Loki(), MALICIOUS, CRAFTED, "records", True),
        Inquiry("label fishing", LabelFishing(), MALICIOUS, CRAFTED, "labels"),
        Inquiry("MIFace", MiFace(), MODEL, "released model", "records", True, False),
        Inquiry("plug and play", PlugAndPlay(), MODEL, "released model", "records", True, False),
        Inquiry("pseudo-label guided inversion", guided, MODEL, "released model", "records", True, False),
        *_as_released(),
        *of_clients(),
    )


def _as_released() -> tuple[Inquiry, ...]:
    """Whom generated records show as they stand: images, or embedded sentences.

    Asked of every federation: reading costs nothing, and few would not prove even exact copies.
    """
    distilled, bank = ReleasedRecords("client_images"), ReleasedRecords("bank")
    samples = ReleasedRecords("generator")
    return (
        Inquiry(
            "synthetic records as they are",
            ReleasedRecords(),
            SYNTHETIC,
            "released synthetic set",
            "records",
            everywhere=True,
        ),
        Inquiry(
            "distilled records as they are", distilled, SERVER, "client images", "records", everywhere=True
        ),
        Inquiry("generated bank as it is", bank, SERVER, "generated bank", "records", everywhere=True),
        Inquiry("generator samples", samples, GENERATOR, "released generator", "records", everywhere=True),
    )
