"""Secure aggregation as a view: the server learns the sum over at least so many clients, and no more.

What the protocol of Bonawitz et al. (2017, CCS, section 4) gives an honest-but-curious server, without
its cryptography: the transcript shows the server the sum alone. It adds no noise and so no guarantee;
noise that `DpFedAvg` adds to the sum then holds against the server too.
"""

from __future__ import annotations

from dataclasses import dataclass

from defenses._clipping import expect
from privfed.hooks import Spent
from privfed.nets import Params
from privfed.randomness import Stream

TRUSTED = (
    "the secure aggregation itself: that it shows nobody a single update, and that the noise on the sum is "
    "added inside it, is taken on trust here"
)


@dataclass(frozen=True, slots=True)
class SecureAggregation:
    """Hides single updates from the server.

    Attributes:
        minimum: fewest clients whose sum is shown; a round with fewer is refused.
    """

    minimum: int

    hides_updates = True

    def __post_init__(self) -> None:
        expect(self.minimum >= 2, "minimum >= 2", minimum=self.minimum)

    def aggregate(self, total: Params, clients: int, stream: Stream) -> Spent[Params]:
        """The sum as it is.

        Raises:
            ValueError: for a sum over fewer clients than the minimum.
        """
        expect(clients >= self.minimum, f"at least {self.minimum} clients in a sum", clients=clients)
        return Spent(total, None, outside=(TRUSTED,))
