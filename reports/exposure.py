"""What goes beyond an attack's figures: who is found, what data look like, where leakage grows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reports.estimate import Estimate, Part, Probability, Taxonomy

Png = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
"""A picture in base64, and nothing else that a page could be made to read."""


class Picture(Part):
    """One rebuilt image beside what it should show, each a PNG in base64; empty where there is none.

    Private: in a record only where somebody asked for it, and then the record is confidential.

    Attributes:
        rebuilt: what the attack made.
        member, decoy: the nearest record of the same client that was used, and that was not.
        prior: what the public prior draws for that label without any access.
        named: whether the member is nearer than the decoy.
    """

    rebuilt: Png
    member: Png
    decoy: Png
    prior: Png
    named: bool


class Inquired(Part):
    """One attack that asks for the data themselves, or for what is in them, on one arm.

    Attributes:
        sought: "records" = `estimate` is identification@1, the share of reconstructions whose nearest
            candidate of the same client is a member; "labels" = it is the probability that a label some
            client holds scores above one that some client lacks; "source" = it is the share of members of
            which the client that holds them is named; "property" = R^2 of the shares of clients' records
            with a property, against the share of the population; "attribute" = how much oftener what
            is hidden of a record is filled in rightly of members than of non-members.
        chance: what knowing nothing reaches.
        baselines: the same measure of what needs no access, by name.
        details: further figures by name.
        ceiling: the largest `estimate` that a differential-privacy claim of the arm leaves to this observer;
            null without such a claim, and then `no_bound` says why not if the arm makes any.
        contradicted: whether something was measured that cannot be if that claim is true; `contradiction`
            says what.
        disclosed: whether the protocol itself hands this out: then it is no inference.
        work: steps, restarts and queries over all federations asked.
        pictures: only in a confidential record.
    """

    setting: str
    arm: str
    attack: str
    configuration: str = ""
    observer: str
    artefact: str
    sought: Literal["records", "labels", "source", "property", "attribute"]
    status: Literal["run", "not applicable", "not tested", "error"]
    reason: str = ""
    estimate: Estimate | None = None
    chance: float | None = None
    baselines: dict[str, Estimate] = Field(default={})
    details: dict[str, Estimate] = Field(default={})
    ceiling: Probability | None = None
    no_bound: str = ""
    contradicted: bool = False
    contradiction: str = ""
    disclosed: bool = False
    work: int = 0
    asked: int = 0
    pictures: tuple[Picture, ...] = ()
    taxonomy: tuple[Taxonomy, ...] = ()


class LeakageOrder(Part):
    """Two artefacts of one arm, the second computed from the first, so that it cannot leak more.

    Attributes:
        stronger, weaker: the artefact that comes first, and the one computed from it.
        stronger_attack, weaker_attack: the attack with the highest AUC on each, with its observer.
        difference: AUC on the second less AUC on the first, with bounds.
        violated: whether the whole interval of the difference lies above 0: then the attacks on the first
            artefact are too weak, and `message` says so.
    """

    setting: str
    arm: str
    stronger: str
    weaker: str
    stronger_attack: str
    weaker_attack: str
    stronger_auc: Estimate
    weaker_auc: Estimate
    difference: Estimate
    violated: bool
    message: str = ""


class Slice(Part):
    """AUC of one attack on part of the candidates.

    Attributes:
        by: what the candidates are divided by: "kind" (natural, canaries, outliers), "client", "class".
        name: of the part.
        estimate: bounds hold for all parts of one division at once (Bonferroni).
    """

    setting: str
    arm: str
    observer: str
    attack: str
    by: Literal["kind", "client", "class"]
    name: str
    estimate: Estimate
