"""What is asked of clients' records as a whole, and of what is hidden of one that is known otherwise."""

from __future__ import annotations

from attacks.attribute_inference import AttributeInference, HiddenQuadrant
from attacks.property_inference import LabelGroup, PropertyInference, PropertyLossTest, SyntheticProperty
from audits.inquiry import Inquiry, Sought
from audits.probe import MODEL, SERVER

UPDATE, RELEASED = "client update", "released model"
GROUP = LabelGroup((0,))
"""Asked after in updates: in a task of two classes, a larger group would be all there is."""


def of_clients() -> tuple[Inquiry, ...]:
    """Every federation is asked: shares are learnt on the others, and an advantage needs many records."""
    share: Sought = "property"
    hidden: Sought = "attribute"
    meta, test, made = PropertyInference(GROUP), PropertyLossTest(GROUP), SyntheticProperty()
    label, corner = "attribute inference of the label", "attribute inference of a quadrant"
    updates = AttributeInference("update")
    quadrant = AttributeInference(attribute=HiddenQuadrant())
    quadrants = AttributeInference("update", HiddenQuadrant())
    return (
        Inquiry("property inference", meta, SERVER, UPDATE, share, standard=False, everywhere=True),
        Inquiry("property loss test", test, SERVER, UPDATE, share, everywhere=True),
        Inquiry("property of what was distilled", made, SERVER, "client images", share, everywhere=True),
        Inquiry(label, AttributeInference(), MODEL, RELEASED, hidden, everywhere=True),
        Inquiry(label, updates, SERVER, UPDATE, hidden, standard=False, everywhere=True),
        Inquiry(corner, quadrant, MODEL, RELEASED, hidden, True, False, everywhere=True),
        Inquiry(corner, quadrants, SERVER, UPDATE, hidden, True, False, everywhere=True),
    )
