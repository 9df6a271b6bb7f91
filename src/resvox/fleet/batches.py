"""Rows in batches of about the same time, and the rows that come back from actors that ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from resvox.fleet.manifest import Row

BATCH_SECONDS = 20.0  # long beside a request, short beside a run
MOST_ROWS = 256
FIRST_ROWS = 4


@dataclass(frozen=True)
class Batch:
    """Rows for one actor; ``alone`` where one of them may have ended an actor before."""

    rows: tuple[Row, ...]
    alone: bool = False


@dataclass
class Batches:
    """What is to be done: new rows, and rows that come back.

    Args:
        rows: of the manifest, gone through once.
    """

    rows: Iterable[Row]
    singles: deque[Row] = field(default_factory=deque)
    seconds_per_unit: float = 0.0

    def __post_init__(self) -> None:
        self._new = iter(self.rows)
        self._held: Row | None = None

    def take(self) -> Batch | None:
        """The next batch; None where there is nothing now."""
        if self.singles:
            return Batch((self.singles.popleft(),), alone=True)
        rows: list[Row] = []
        cost = 0.0
        while len(rows) < (MOST_ROWS if self.seconds_per_unit else FIRST_ROWS):
            row = self._held or next(self._new, None)
            self._held = None
            if row is None:
                break
            own = self.seconds_per_unit * units(row)
            if rows and cost + own > BATCH_SECONDS:
                self._held = row
                break
            rows.append(row)
            cost += own
        return Batch(tuple(rows)) if rows else None

    def learn(self, batch: Batch, seconds: float) -> None:
        """Note what a batch took."""
        spent = seconds / sum(units(row) for row in batch.rows)
        self.seconds_per_unit = spent if not self.seconds_per_unit else 0.7 * self.seconds_per_unit + 0.3 * spent


def units(row: Row) -> float:
    """The estimated cost of a row, in any unit: its megabytes, where the manifest has them."""
    return 1.0 if row.bytes is None else 0.05 + row.bytes / 1e6
