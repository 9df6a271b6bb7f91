"""What a prediction over addresses returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from resvox.fleet.tally import Tally
from resvox.prediction.outcomes import PredictResult, counts_in_words


@dataclass(frozen=True, kw_only=True)
class FleetResult(PredictResult):
    """What became of the rows: sums; of the cases those that failed, up to a limit.

    Args:
        address: the folder of results.
        tally: the sums.
    """

    address: str = ""
    tally: Tally = field(default_factory=Tally)

    @property
    def ok(self) -> bool:
        """Whether every result is there."""
        return not any(self.tally.counts[status] for status in ("failed", "elsewhere", "later"))

    def __str__(self) -> str:
        return counts_in_words(lambda status: self.tally.counts[status])
