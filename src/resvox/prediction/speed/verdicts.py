"""What a speed changes in the labels, as it was measured on a scan, and whether that is allowed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from resvox.inference import Allowance, ChangeRates, Counts, Difference
from resvox.inference.engines.cache import key_of, read_cached, write_cached

# Parts of the allowance that the expected changes of "balanced" may use; the first one that passes is taken. Expected
# changes are about as many as actual ones, so that 1 would use the whole allowance. The smaller limits are for models
# whose changes are underestimated.
LIMITS = (0.7, 0.35, 0.12, 0.03)
SPARE = 0.7  # the part of the allowance that the measured scan may use, as scans differ


ALLOWANCES = {
    "balanced": Allowance(share=1e-3, least_dice=0.995),
    "fast": Allowance(share=1e-2, least_dice=0.97),
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of a measurement.

    Args:
        is_allowed: whether the speed is used.
        share, least_dice: how its labels differ from those of full; of a speed that is not allowed, its best.
        limit: of the second pass of "balanced".
        computed: how many of the ``windows`` it computes.
        counts: how often labels changed.
    """

    is_allowed: bool
    share: float
    least_dice: float
    computed: int
    windows: int
    limit: float = 0.0
    counts: Counts = field(default_factory=Counts)

    def describe(self, speed: str) -> str:
        """The verdict in a line for people."""
        changes = (
            f"{100 * self.share:.3f} % of the labels of the first scan differ from those of full, "
            f"least Dice {self.least_dice:.4f}"
        )
        if self.is_allowed:
            return f"speed {speed}: {changes}; {self.computed} of its {self.windows} windows suffice"
        allowance = ALLOWANCES[speed]
        return (
            f"speed {speed}: {changes}, more than {100 * allowance.share:g} % or below {allowance.least_dice:g}; "
            "full is used"
        )


def chosen(
    tried: Sequence[tuple[float, int, Difference]], *, speed: str, windows: int, change_rates: ChangeRates | None = None
) -> Verdict:
    """The verdict on several ways to leave windows out.

    Args:
        tried: limit, computed windows and difference of each, the fewest windows first.
        speed: whose allowance counts. All ways but the last one keep to a part of it, see `SPARE`.
        windows: of the scan.
        change_rates: as they were counted on it.
    """
    allowance = ALLOWANCES[speed]
    able = [each for each in tried[:-1] if allowance.allows(each[2], part=SPARE)]
    limit, computed, difference = able[0] if able else tried[-1]
    return Verdict(
        is_allowed=allowance.allows(difference),
        share=difference.share,
        least_dice=difference.least_dice,
        computed=computed,
        windows=windows,
        limit=limit,
        counts=Counts() if change_rates is None else change_rates.counts(),
    )


def verdict_name(*parts: object) -> str:
    """The name under which the verdict on a model with these settings is kept on disk."""
    return f"{key_of('speed', 2, LIMITS, SPARE, ALLOWANCES, *parts)}.json"


def read_verdict(name: str) -> Verdict | None:
    """The verdict that was kept, or None; a damaged one is measured again."""
    data = read_cached(name)
    if data is None:
        return None
    try:
        found: dict[str, Any] = json.loads(data)
        counts = {name: tuple(map(float, each)) for name, each in found.pop("counts").items()}
        return Verdict(counts=Counts(**counts), **found)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def write_verdict(name: str, verdict: Verdict) -> None:
    """Keep a verdict for later runs with one scan."""
    write_cached(name, json.dumps(asdict(verdict)).encode())
