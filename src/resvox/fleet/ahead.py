"""Ahead of the network: rows are checked side by side, claimed in order, and fetched into scratch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resvox.errors import DatasetError
from resvox.fleet.claims import ObjectClaims
from resvox.fleet.items import ASIDE, Item
from resvox.fleet.layout import Maker, OutputFolder, refuse_other_source
from resvox.fleet.manifest import Row
from resvox.fleet.sources import refuse_files_outside, source_of_scan
from resvox.storage.addresses import Location
from resvox.storage.fetching import disk_bytes, fetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from resvox.prediction.cases import Case
    from resvox.storage.scratch import Scratch

CHECKS = 16  # rows that are checked side by side: each waits for two or three answers
MOST_DEATHS = 2  # of processes with the same case


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a run works with.

    Args:
        out: the folder of results.
        maker: the model and the options.
        claims: of this process.
        scratch: where files are fetched to.
        overwrite: make results again.
        retry_aside: also do cases that ended two processes.
    """

    out: OutputFolder
    maker: Maker
    claims: ObjectClaims
    scratch: Scratch
    overwrite: bool = False
    retry_aside: bool = False


class Ahead:
    """Fetches what a run needs next; a context manager.

    Args:
        place: what the run works with.
        case_of: the case of a predictor for an item and its local files.
        scans: how many may be fetched and not yet read.
        alone: take the cases that ended a process, one at a time.
    """

    def __init__(
        self, place: Place, case_of: Callable[[Item, tuple[Any, ...]], Case], *, scans: int, alone: bool = False
    ) -> None:
        self.place, self.case_of, self.alone = place, case_of, alone
        self.window = 1 if alone else CHECKS
        self._is_over = False
        self._slots = threading.Semaphore(1 if alone else scans)
        self._checks = ThreadPoolExecutor(self.window, "resvox-check")
        self._fetches = ThreadPoolExecutor(scans, "resvox-fetch")
        self._order = ThreadPoolExecutor(1, "resvox-claim")

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *unused: object) -> None:
        self._is_over = True
        for _ in range(self.window + 1):  # a run that is stopped reads nothing more: nothing may wait for it
            self._slots.release()
        for pool in (self._checks, self._order, self._fetches):
            pool.shutdown(wait=True, cancel_futures=True)

    def items(self, rows: Iterable[Row]) -> Iterator[tuple[Item, Future[Future[None] | None]]]:
        """Every row, at once; `ready` waits for its files."""
        waiting: deque[tuple[Item, Future[Future[None] | None]]] = deque()
        for row in rows:
            item = Item(row=row)
            checked = self._checks.submit(self._check, item)
            waiting.append((item, self._order.submit(self._claim, item, checked)))
            if len(waiting) >= self.window:
                yield waiting.popleft()
        yield from waiting

    @staticmethod
    def ready(item: Item, begun: Future[Future[None] | None]) -> bool:
        """Wait until an item has an outcome or its files; True where it has its files."""
        try:
            fetched = begun.result()
            if fetched is not None:
                fetched.result()
        except Exception as error:  # the run goes on; the error is the outcome
            item.fail(error)
        return not item.status

    def used(self, item: Item) -> None:
        """An item has been read: the next one may be fetched."""
        if item.is_claimed:
            self._slots.release()

    # ------------------------------------------------------------------------------------------ the steps

    def _check(self, item: Item) -> None:
        """Whether a row is done, by the record of its result and the state of its source."""
        with item.timed("check"):
            if item.row.problem:
                raise DatasetError(item.row.problem)
            record = self.place.out.done(item.row.id)
            if record is None and self._is_aside(item):
                return
            if record is None or self.place.overwrite:
                item.sources = tuple(source_of_scan(Location.parse(uri)) for uri in item.row.uris)
                item.replaced = record is not None
            else:
                self._compare(item, record)

    def _is_aside(self, item: Item) -> bool:
        """Whether an earlier run has set it aside."""
        if self.place.retry_aside:
            return False
        found = self.place.out.record("failed", item.row.id) or {}
        if found.get("kind") == ASIDE:
            item.settle("failed", kind=ASIDE, reason=str(found.get("reason")))
        return bool(item.status)

    def _compare(self, item: Item, record: Mapping[str, Any]) -> None:
        sources = record.get("sources") or []
        known = item.row.etag and len(sources) == 1 and sources[0].get("etag") == item.row.etag
        if known and sources[0].get("uri") == item.shown and self.place.maker.made(record):
            item.settle("present")
            return
        item.sources = tuple(source_of_scan(Location.parse(uri)) for uri in item.row.uris)
        now = [source.to_dict() for source in item.sources]
        refuse_other_source(record, now, self.place.out.location)
        if now == sources and self.place.maker.made(record):
            item.settle("present")
        else:
            item.replaced = True

    def _claim(self, item: Item, checked: Future[None]) -> Future[None] | None:
        """Claim an item and begin to fetch it: in the order of the rows, so that no row waits for a later one."""
        checked.result()
        if item.status:
            return None
        self._slots.acquire()
        if self._is_over:
            item.settle("elsewhere", reason="a run that was stopped")
            return None
        try:
            if not self._take(item):
                self._slots.release()
                return None
        except BaseException:
            self._slots.release()
            raise
        disk = sum(disk_bytes(source) for source in item.sources)
        self.place.scratch.reserve(disk)
        item.disk, item.folder = disk, self.place.scratch.new_folder()
        return self._fetches.submit(self._fetch, item)

    def _take(self, item: Item) -> bool:
        held = self.place.claims.take(item.row.id, if_deaths=self.alone)
        item.deaths, item.is_claimed = held.deaths, held.taken
        if not held.taken:
            if held.deaths:
                item.settle("later", reason="it ended a process: done at the end, alone")
            else:
                item.settle("elsewhere", reason=held.owner)
            return False
        if held.deaths >= MOST_DEATHS and not self.place.retry_aside:
            item.set_aside()
            self.place.out.fail(item.row.id, item.to_dict())
            self._give_back(item)
            return False
        # Between the look at the record and the claim another process may have done it.
        record = self.place.out.done(item.row.id) if not item.replaced else None
        if record is not None:
            self._give_back(item)
            item.settle("present")
            return False
        return True

    def _give_back(self, item: Item) -> None:
        self.place.claims.release(item.row.id)
        item.is_claimed = False

    def _fetch(self, item: Item) -> None:
        assert item.folder is not None
        with item.timed("fetch"):
            paths, fetched = [], []
            for number, source in enumerate(item.sources):
                folder = item.folder / f"channel_{number}"
                folder.mkdir()
                path, came = fetch(source, folder)
                item.bytes["in"] = item.bytes.get("in", 0) + came
                paths.append(path)
                fetched += [path] if folder in path.parents else []
            item.case = self.case_of(item, tuple(paths))  # before any error of a file: it has the address in its place
            for path in fetched:
                refuse_files_outside(path)
