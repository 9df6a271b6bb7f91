"""What a run has done: counts, reasons, seconds and bytes per stage, throughput, cost, slowest cases."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SLOWEST = 5
MOST_EXAMPLES = 100  # failed cases that are kept with their reasons


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A case without a result."""

    case: str
    kind: str
    reason: str


@dataclass
class Tally:
    """Sums over status rows; of bounded size, whatever their number.

    ``counts`` are by status, ``kinds`` the failed cases by kind. ``core_seconds`` is the time of all processes, times
    the cores of each; ``began`` and ``until`` are the first and the last moment (seconds since 1970).
    """

    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    core_seconds: float = 0.0
    began: float = 0.0
    until: float = 0.0
    core_hour_price: float | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a status row."""
        status = str(row.get("status"))
        self.counts[status] += 1
        if status == "failed":
            kind = str(row.get("kind") or "unexpected error")
            self.kinds[kind] += 1
            if len(self.failures) < MOST_EXAMPLES:
                self.failures.append(Failure(case=str(row.get("case")), kind=kind, reason=str(row.get("reason"))))
        if status != "written":
            return
        seconds = dict(row.get("seconds") or {})
        self.seconds.update(seconds)
        self.bytes.update(dict(row.get("bytes") or {}))
        heapq.heappush(self.slowest, (sum(seconds.values()), str(row.get("case"))))
        if len(self.slowest) > SLOWEST:
            heapq.heappop(self.slowest)

    def add_time(self, began: float, until: float, cores: int) -> None:
        """Count the time of a process."""
        self.core_seconds += max(until - began, 0.0) * cores
        self.began = min(self.began or began, began)
        self.until = max(self.until, until)

    def merge(self, other: Tally) -> None:
        """Add the sums of another process."""
        for mine, others in (
            (self.counts, other.counts),
            (self.kinds, other.kinds),
            (self.seconds, other.seconds),
            (self.bytes, other.bytes),
        ):
            mine.update(others)
        self.failures = (self.failures + other.failures)[:MOST_EXAMPLES]
        self.slowest = heapq.nlargest(SLOWEST, self.slowest + other.slowest)
        heapq.heapify(self.slowest)
        self.core_seconds += other.core_seconds
        self.began = min((each for each in (self.began, other.began) if each), default=0.0)
        self.until = max(self.until, other.until)

    @property
    def written(self) -> int:
        """Results that were made."""
        return self.counts["written"]

    @property
    def per_hour(self) -> float:
        """Results per hour of the clock."""
        wall = self.until - self.began
        return 3600 * self.written / wall if wall > 0 else 0.0

    @property
    def core_hours_per_1000(self) -> float:
        """Core hours of 1,000 results, all time of the processes included."""
        return 1000 * self.core_seconds / 3600 / self.written if self.written else 0.0

    @property
    def cost_per_1000(self) -> float | None:
        """What 1,000 results cost in cores; None without a price."""
        return None if self.core_hour_price is None else self.core_hours_per_1000 * self.core_hour_price

    def to_dict(self) -> dict[str, Any]:
        """The sums as JSON."""
        return {
            "counts": dict(self.counts),
            "failed": dict(self.kinds),
            "seconds": {stage: round(spent, 3) for stage, spent in self.seconds.items()},
            "bytes": dict(self.bytes),
            "per_hour": round(self.per_hour, 2),
            "core_hours_per_1000": round(self.core_hours_per_1000, 4),
            "cost_per_1000": self.cost_per_1000,
            "slowest": [{"case": case, "seconds": round(spent, 3)} for spent, case in sorted(self.slowest)[::-1]],
        }
