"""A row of the manifest on its way: what is known of it, what it took, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import (
    DatasetError,
    InferenceError,
    StorageError,
    StoreBusyError,
    VolumeError,
)
from resvox.fleet.manifest import Row
from resvox.prediction.outcomes import one_line

if TYPE_CHECKING:
    from resvox.prediction.cases import Case
    from resvox.storage.fetching import Source

ASIDE = "set aside"
# The kinds of failures in a summary, by class; the first that fits.
KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (StoreBusyError, "store did not answer"),
    (StorageError, "cannot be fetched or written"),
    (VolumeError, "scan cannot be read"),
    (DatasetError, "row cannot be used"),
    (InferenceError, "scan does not fit the model"),
    (MemoryError, "not enough memory"),
)


@dataclass
class Item:
    """A row on its way.

    ``status`` is "" until it has an outcome: "written", "present", "failed", "elsewhere" or "later".
    """

    row: Row
    status: str = ""
    kind: str = ""  # of a failure
    reason: str = ""
    sources: tuple[Source, ...] = ()
    replaced: bool = False  # whether an older result is made again
    case: Case | None = None
    folder: Path | None = None
    disk: int = 0
    is_claimed: bool = False
    deaths: int = 0
    files: dict[str, int] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    windows: tuple[int, int] = (0, 0)  # in all, and passed over
    upload: Future[None] | None = None

    def settle(self, status: str, *, kind: str = "", reason: str = "") -> None:
        """Give it an outcome."""
        self.status, self.kind, self.reason = status, kind, reason

    def set_aside(self) -> None:
        """Give it the outcome of a case that has ended too many processes."""
        words = f"{self.deaths} processes ended while they worked on it (killed, usually for memory, or crashed)"
        self.settle("failed", kind=ASIDE, reason=f"{self.shown}: {words}; fix: --retry-aside tries it again")

    def fail(self, error: BaseException) -> None:
        """Give it the outcome of an error."""
        kind = next((words for each, words in KINDS if isinstance(error, each)), "unexpected error")
        reason = one_line(_plain(error), self.shown)
        for path, source in zip(self.case.files if self.case else (), self.sources, strict=False):
            reason = reason.replace(str(path), str(source.location))  # the user knows no path in the scratch folder
        self.settle("failed", kind=kind, reason=reason)

    @property
    def shown(self) -> str:
        """Its address for messages, without credentials."""
        from resvox.storage.addresses import Location

        return str(Location.parse(self.row.uris[0])) if self.row.uris else self.row.id

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note the seconds of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def to_dict(self) -> dict[str, Any]:
        """Its row in the status files."""
        return {
            "case": self.row.id,
            "status": self.status,
            "kind": self.kind,
            "reason": self.reason,
            "uri": self.shown,
            "files": dict(self.files),
            "seconds": {stage: round(spent, 4) for stage, spent in self.seconds.items()},
            "bytes": dict(self.bytes),
            "deaths": self.deaths,
            **({"result": dict(self.fields)} if self.fields else {}),
            "row": dict(self.row.extra),
        }


def _plain(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(str(error))
