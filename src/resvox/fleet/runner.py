"""A predictor over rows of addresses: fetched ahead, the stages of a local batch, uploads behind."""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resvox.errors import StoreBusyError
from resvox.fleet.ahead import Ahead, Place
from resvox.fleet.items import KINDS, Item
from resvox.fleet.manifest import Row
from resvox.prediction.cases import Case
from resvox.prediction.options import Callbacks
from resvox.prediction.pipeline import Stages, run_stages
from resvox.prediction.predictor import Predictor
from resvox.storage.objects import upload

UPLOADS = 8  # results that are uploaded side by side; more make the network wait
AGAIN_LIMIT = 20_000  # rows that are kept for another try
BUSY = next(words for kind, words in KINDS if kind is StoreBusyError)
PATIENCE_SECONDS = 3600.0  # for cases of other processes
BUSY_ROUNDS, BUSY_PAUSE = 2, 15.0  # further tries of cases whose store did not answer, and seconds before each


@dataclass
class _Job:
    """Items that go through the network together."""

    items: list[Item]
    begun: list[Future[Future[None] | None]]
    todo: list[Item] = field(default_factory=list)


@dataclass
class _Again:
    """Rows for another try, by the reason."""

    alone: list[Row] = field(default_factory=list)
    elsewhere: list[Row] = field(default_factory=list)
    busy: list[Row] = field(default_factory=list)
    keeps_busy: bool = True

    def keeps(self, item: Item) -> bool:
        """Keep the row of an item that is not settled for good; False for one that is."""
        found = {"later": self.alone, "elsewhere": self.elsewhere}.get(item.status)
        if item.status == "failed" and item.kind == BUSY and self.keeps_busy:
            found = self.busy
        if found is None or len(found) >= AGAIN_LIMIT:
            return False
        found.append(item.row)
        return True


class FleetRunner:
    """One predictor over rows.

    Args:
        predictor: the model.
        place: folder of results, claims, scratch.
        callbacks: windows and notes.
        ahead: scans that are fetched ahead.
        patience_s: how long to wait for cases of other processes.
    """

    def __init__(
        self,
        predictor: Predictor[Any, Any],
        place: Place,
        callbacks: Callbacks,
        *,
        ahead: int,
        patience_s: float = PATIENCE_SECONDS,
    ) -> None:
        self.predictor, self.place, self.callbacks = predictor, place, callbacks
        self.ahead, self.patience_s = ahead, patience_s
        self._writer = copy.copy(predictor)  # the same model; each case is written into a folder of its own
        self._uploads = ThreadPoolExecutor(UPLOADS, "resvox-upload")
        self._freeing = threading.Lock()

    def close(self) -> None:
        """Wait for uploads."""
        self._uploads.shutdown(wait=True)

    def run(self, rows: Iterable[Row]) -> Iterator[Item]:
        """The outcome of every row, in order; those that need another try come at the end."""
        again = _Again()
        yield from (item for item in self._run(rows) if not again.keeps(item))
        for number in range(BUSY_ROUNDS):
            busy, again.busy = again.busy, []
            if not busy:
                break
            time.sleep(BUSY_PAUSE * (number + 1))
            again.keeps_busy = number < BUSY_ROUNDS - 1
            yield from (item for item in self._run(busy) if not again.keeps(item))
        yield from self._run(again.alone, alone=True)
        yield from self._others(again.elsewhere)

    def _others(self, rows: list[Row]) -> Iterator[Item]:
        """Wait for the cases of other processes; those of processes that have ended are done here."""
        start, pause = time.monotonic(), 0.5
        while rows and time.monotonic() - start < self.patience_s:
            waiting: list[Row] = []
            for item in self._run(rows):
                if item.status in ("elsewhere", "later"):
                    waiting.append(item.row)
                else:
                    yield item
            if waiting:
                time.sleep(pause)
                pause = min(2 * pause, 15.0)
            rows = waiting
        yield from self._run(rows, alone=True)

    def _run(self, rows: Iterable[Row], *, alone: bool = False) -> Iterator[Item]:
        with Ahead(self.place, self._case_of, scans=1 if alone else self.ahead, alone=alone) as ahead:
            stages = Stages[_Job, Any, Any, _Job](
                admit=lambda job: self._admit(ahead, job),
                read=lambda job: self._read(ahead, job),
                compute=self._compute,
                write=self._write,
                fail=self._fail,
                close=lambda job: None,
            )
            behind: deque[_Job] = deque()
            for job in self._one_by_one(ahead, rows, stages) if alone else run_stages(self._jobs(ahead, rows), stages):
                behind.append(job)
                while behind and (len(behind) > UPLOADS or _is_uploaded(behind[0])):
                    yield from self._ended(behind.popleft())
            while behind:
                yield from self._ended(behind.popleft())

    def _one_by_one(self, ahead: Ahead, rows: Iterable[Row], stages: Stages[_Job, Any, Any, _Job]) -> Iterator[_Job]:
        """Nothing beside the one case, so that the end of the process can have no other cause."""
        for row in rows:
            for job in run_stages(self._jobs(ahead, [row]), stages):
                for item in job.items:
                    if item.upload is not None:
                        item.upload.exception()
                yield job

    def _jobs(self, ahead: Ahead, rows: Iterable[Row]) -> Iterator[_Job]:
        size = 1 if ahead.alone else self.predictor.batch_size
        job = _Job(items=[], begun=[])
        for item, begun in ahead.items(rows):
            job.items.append(item)
            job.begun.append(begun)
            if len(job.items) >= size:
                yield job
                job = _Job(items=[], begun=[])
        if job.items:
            yield job

    # ------------------------------------------------------------------------------------------ the stages

    def _admit(self, ahead: Ahead, job: _Job) -> _Job | None:
        for item, begun in zip(job.items, job.begun, strict=True):
            if ahead.ready(item, begun):
                job.todo.append(item)
            else:
                ahead.used(item)
                self._free(item)
        return None if job.todo else job

    def _read(self, ahead: Ahead, job: _Job) -> list[tuple[Item, Any]]:
        ready: list[tuple[Item, Any]] = []
        for item in job.todo:
            assert item.case is not None
            try:
                with item.timed("read"):
                    volume = self.predictor.read(item.case)
                with item.timed("preprocess"):
                    ready.append((item, self.predictor.prepare(volume)))
            except Exception as error:  # the batch goes on; the error is the outcome
                item.fail(error)
                self._free(item)
            finally:
                ahead.used(item)
        return ready

    def _compute(self, job: _Job, ready: list[tuple[Item, Any]]) -> list[tuple[Item, Any]]:
        if not ready:
            return []
        items = [item for item, _ in ready]
        prepared = [each for _, each in ready]
        ready.clear()
        made = self.predictor.compute(prepared, progress=self.callbacks.windows_of(items[0].row.id))
        for item, each in zip(items, made, strict=True):
            item.seconds.update(each.seconds)
            item.windows = (each.windows, each.skipped)
        return list(zip(items, made, strict=True))

    def _write(self, job: _Job, computed: list[tuple[Item, Any]]) -> _Job:
        for item, made in computed:
            assert item.case is not None
            assert item.folder is not None
            results = item.folder / "results"
            try:
                with item.timed("write"):
                    results.mkdir()
                    self._writer.options = replace(self._writer.options, out=results)
                    item.fields = dict(self._writer.write(item.case, made).fields)
            except Exception as error:  # the batch goes on; the error is the outcome
                item.fail(error)
                self._free(item)
                continue
            item.upload = self._uploads.submit(self._upload, item, results)
        return job

    def _fail(self, job: _Job, error: Exception) -> _Job:
        for item in job.todo:
            if not item.status:
                item.fail(error)
            self._free(item)
        return job

    def _free(self, item: Item) -> None:
        """Remove what an item has in the scratch folder; the next scan may be waiting for the space."""
        with self._freeing:
            folder, item.folder = item.folder, None
        if folder is not None:
            self.place.scratch.remove(folder)
            self.place.scratch.free(item.disk)

    # ------------------------------------------------------------------------------------------ after the network

    def _upload(self, item: Item, results: Path) -> None:
        out = self.place.out
        try:
            with item.timed("upload"):
                if item.replaced:
                    out.forget(item.row.id)
                for path in sorted(each for each in results.rglob("*") if each.is_file()):
                    name = path.relative_to(results).as_posix()
                    item.files[name] = upload(path, out.location / name)
                item.bytes["out"] = sum(item.files.values())
        finally:
            self._free(item)
        item.settle("written")
        out.finish(item.row.id, {**item.to_dict(), **self._record(item.sources)})

    def _record(self, sources: Sequence[Any]) -> dict[str, Any]:
        maker = self.place.maker
        return {
            "model": maker.model,
            "settings": dict(maker.settings),
            "sources": [source.to_dict() for source in sources],
            "worker": self.place.claims.worker,
        }

    def _ended(self, job: _Job) -> Iterator[Item]:
        """Items whose uploads are over, with all that they held given back."""
        for item in job.items:
            self._end(item)
            yield item

    def _end(self, item: Item) -> None:
        if item.upload is not None:
            try:
                item.upload.result()
            except Exception as error:  # the run goes on; the error is the outcome
                item.fail(error)
        steps: list[Callable[[], object]] = []
        if item.status == "failed":
            steps.append(lambda: self.place.out.fail(item.row.id, item.to_dict()))
        if item.is_claimed:
            steps.append(lambda: self.place.claims.release(item.row.id))
        for step in steps:
            try:
                step()
            except Exception as error:  # the run goes on; a claim that stays expires
                if item.status != "written":
                    item.fail(error)
        self._free(item)

    def _case_of(self, item: Item, paths: tuple[Path, ...]) -> Case:
        from resvox.volumes import InputCase
        from resvox.volumes.reading import is_flat_picture

        series = self.predictor.options.series
        channels = self.predictor.card.in_channels
        return Case(
            id=item.row.id,
            inputs=tuple(str(source.location) for source in item.sources),
            files=paths,
            item=InputCase(id=item.row.id, paths=paths, channels=channels, series=series),
            series=series,
            is_picture=paths[0].is_file() and is_flat_picture(paths[0]),
        )


def _is_uploaded(job: _Job) -> bool:
    return all(item.upload is None or item.upload.done() for item in job.items)
