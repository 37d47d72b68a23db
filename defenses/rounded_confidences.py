"""Rounded confidences: the delivered model answers with few decimals and is not handed out.

Among the mitigations of Shokri et al. (2017, arXiv 1610.05820, section VIII).
"""

from __future__ import annotations

from dataclasses import dataclass

from defenses._clipping import expect
from privfed.answers import MOST_DECIMALS, Interface, put_behind
from privfed.hooks import Spent
from privfed.randomness import Stream
from privfed.release import Release


@dataclass(frozen=True, slots=True)
class RoundedConfidences:
    """Puts the published model behind an interface that answers rounded confidences.

    Outsiders no longer get weights: they ask, and get each class's softmax probability, rounded. That
    takes white-box attacks from them; those that ask lose what lies below the last place and keep the
    rest, of which the label alone is enough for some. Whoever holds the model otherwise, the server, and
    clients where it is what they were broadcast, is not concerned.

    It earns no claim: rounding is no noise, and a record that moves an answer across a boundary moves it
    by a whole place. Beside `noisy_logits` the noise comes first, whichever is listed first. Accuracy is
    that of the answers; of equal confidences the first class counts.

    Attributes:
        decimals: of every confidence, from 0 to 9.
    """

    decimals: int

    def __post_init__(self) -> None:
        expect(
            0 <= self.decimals <= MOST_DECIMALS, f"decimals from 0 to {MOST_DECIMALS}", decimals=self.decimals
        )

    def release(self, release: Release, stream: Stream) -> Spent[Release]:
        """The delivered model behind the interface, anything else as it is; no guarantee."""
        if release.name != "large":
            return Spent(release, None)
        return Spent(put_behind(release, Interface(decimals=self.decimals)), None)
