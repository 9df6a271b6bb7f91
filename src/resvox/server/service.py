"""What requests can ask for, apart from HTTP: models, jobs, result files, sessions, and the removal of old ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from resvox.server.folders import RESULT, UPLOAD, FolderLock, Folders, remove, size_of
from resvox.server.intake import store_upload
from resvox.server.jobs import Job, JobOptions, new_id
from resvox.server.logs import event, failure
from resvox.server.metrics import Metrics
from resvox.server.refusals import RefusedError, SettingsError, not_found
from resvox.server.scheduler import Scheduler
from resvox.server.settings import ServeSettings
from resvox.server.store import STORAGE_ERRORS, Session, Store

if TYPE_CHECKING:
    from resvox.cards.segmentation import SegmentationCard

SWEEP_S = 30.0  # between two searches for what has expired
SHORTEST_SESSION_S = 60.0
SERVED_TASKS = ("segmentation",)  # the others have no label map to show


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model by its name in URLs."""

    name: str
    path: str
    card: SegmentationCard

    @property
    def labels(self) -> dict[str, int]:
        """Names and values of the labels without the background."""
        return {name: value for name, value in self.card.labels_by_class.items() if value}


class Service:
    """One server's state.

    Args:
        settings: of the server.
        make_scheduler: for tests, another one than `Scheduler`.

    Raises:
        SettingsError, WeightsError: no model or one that cannot be served; a data folder that another server uses.
    """

    def __init__(
        self,
        settings: ServeSettings,
        make_scheduler: Callable[[ServeSettings, Store, Folders, Metrics], Scheduler] = Scheduler,
    ) -> None:
        self.settings = settings
        self.models = served_models(settings)
        self.folders = Folders(settings.folder)
        self.folders.make()
        self._lock = FolderLock(self.folders.root / "server.lock")
        if not self._lock.take():
            raise SettingsError(
                "another resvox serve uses this folder", expected="a folder for each server", fix="--data",
                path=self.folders.root,
            )  # fmt: skip
        self.store = Store(self.folders.queue, max_queue=settings.max_queue)
        self.metrics = Metrics()
        self.scheduler = make_scheduler(settings, self.store, self.folders, self.metrics)
        self._end = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep_often, name="sweep", daemon=True)
        self._receiving = threading.Lock()
        self._reserved = 0.0

    def start(self) -> None:
        """Tidy what the last server left, and start the workers."""
        self.folders.sweep(self.store.ids(), {each.id for each in self.store.sessions()})
        self.scheduler.start()
        for job in self.store.finished_before(time.time()):
            Scheduler.clear(self.folders.job(job.id))
        self._sweeper.start()

    def stop(self) -> None:
        """Stop the workers, close the queue, and give the folder back."""
        self.scheduler.stop(self.settings.stop_seconds)
        self.scheduler.join()
        self._end.set()
        if self._sweeper.ident is not None:
            self._sweeper.join()
        self.store.close()
        self._lock.release()

    # ------------------------------------------------------------------------------------------ jobs

    def model(self, name: str) -> ServedModel:
        """A model by name.

        Raises:
            RefusedError: an unknown one.
        """
        if name not in self.models:
            raise RefusedError(f"no such model: {name[:64]!r}", expected=", ".join(self.models), status=404)
        return self.models[name]

    def check_accepting(self) -> None:
        """Refuse a job where the queue is full or the server stops.

        Raises:
            RefusedError: with the status 429 or 503.
        """
        if self.scheduler.is_stopping:
            raise RefusedError("the server is stopping", expected="a running one", fix="try again soon", status=503)
        self.store.check_queue()

    def submit(self, model: str, options: JobOptions, files: Sequence[tuple[str, BinaryIO, int]]) -> Job:
        """Accept a job whose scan comes with the request, or (without files) from the DICOMweb server.

        Args:
            files: name, content and bytes of each.

        Raises:
            RefusedError: an unknown model, a full queue or disk, files that cannot be a scan.
        """
        self.model(model)
        self._check_dicomweb(options)
        self.check_accepting()
        with self._space(sum(size for *_, size in files)):
            job_id, spool = new_id(), self.folders.spool / new_id()
            try:
                spool.mkdir()
                size = store_upload([(name, content) for name, content, _ in files], spool) if files else 0
                return self._add(job_id, model, options, spool, size)
            finally:
                remove(spool)

    def submit_session(self, model: str, options: JobOptions, session: Session) -> Job:
        """Accept a job for the scan of a session, whose files are linked."""
        self.model(model)
        self.check_accepting()
        spool = self.folders.spool / new_id()
        try:
            shutil.copytree(self.folders.session(session.id), spool, copy_function=_link)
            return self._add(new_id(), model, options, spool, session.bytes)
        finally:
            remove(spool)

    def _add(self, job_id: str, model: str, options: JobOptions, spool: Path, size: int) -> Job:
        folder = self.folders.job(job_id)
        os.rename(spool, folder)
        try:
            job = self.store.add(job_id, model, options, size)
        except BaseException:
            remove(folder)
            raise
        self.metrics.accepted.labels(model).inc()
        event("job accepted", job=job.id, model=model, bytes=size)
        self.scheduler.wake()
        return job

    def _check_dicomweb(self, options: JobOptions) -> None:
        if (options.fetch is not None or options.push) and not self.settings.dicomweb:
            raise RefusedError(
                "no DICOMweb server is set up", expected="an uploaded scan, without push", fix="the setting dicomweb"
            )

    @contextmanager
    def _space(self, size: float) -> Iterator[None]:
        """Reserve disk space for an upload, so that others that arrive at the same time cannot take it."""
        with self._receiving:
            self.folders.check_space(
                size + self._reserved,
                self.store.bytes(),
                max_disk_gb=self.settings.max_disk_gb,
                min_free_gb=self.settings.min_free_gb,
            )
            self._reserved += size
        try:
            yield
        finally:
            with self._receiving:
                self._reserved -= size

    def job(self, job_id: str) -> Job:
        """A job.

        Raises:
            RefusedError: no job has this identifier.
        """
        found = self.store.find(job_id)
        if found is None:
            raise not_found("job")
        return found

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; one that is over stays as it is."""
        before = self.job(job_id)
        after = self.store.cancel(job_id)
        if after.is_over and not before.is_over:
            Scheduler.clear(self.folders.job(job_id))
            self.metrics.jobs.labels(after.state, after.kind).inc()
            event("job over", job=job_id, model=after.model, state=after.state, kind=after.kind)
        self.scheduler.wake()
        return after

    def remove(self, job_id: str) -> None:
        """Remove a job that is over, with its results.

        Raises:
            RefusedError: it does not exist, or is not over.
        """
        self.job(job_id)
        if not self.store.remove(job_id):
            raise RefusedError("a job that is not over", expected="one that is", fix="cancel it first", status=409)
        remove(self.folders.job(job_id))
        event("job removed", job=job_id)

    def file(self, job_id: str, kind: str) -> Path:
        """The path of a result file.

        Raises:
            RefusedError: no such job, one that is not done, or one without this file.
        """
        job = self.job(job_id)
        if job.outcome is None:
            raise RefusedError(f"a job that is {job.state}", expected="one that is done", status=409)
        if kind not in job.outcome.files:
            raise RefusedError(
                f"no file {kind!r} of this job", expected=", ".join(sorted(job.outcome.files)), status=404
            )
        path = self.folders.job(job_id) / RESULT / job.outcome.files[kind][0]
        if not path.is_file():
            raise not_found("job")  # removed meanwhile
        return path

    # ------------------------------------------------------------------------------------------ sessions

    def add_session(self, files: Sequence[tuple[str, BinaryIO, int]], expiry_s: float) -> Session:
        """Store a scan for several requests.

        Raises:
            RefusedError: a full disk, or files that cannot be a scan.
        """
        longest = self.settings.session_minutes * 60
        expiry = min(max(expiry_s, SHORTEST_SESSION_S), longest) if expiry_s > 0 else longest
        with self._space(sum(size for *_, size in files)):
            session_id, spool = new_id(), self.folders.spool / new_id()
            try:
                spool.mkdir()
                size = store_upload([(name, content) for name, content, _ in files], spool)
                os.rename(spool, self.folders.session(session_id))
            finally:
                remove(spool)
        event("session added", session=session_id, bytes=size)
        return self.store.add_session(session_id, expiry=expiry, size=size)

    def session(self, session_id: str, *, use: bool = False) -> Session:
        """A session.

        Raises:
            RefusedError: it does not exist, or has expired.
        """
        found = self.store.session(session_id, use=use)
        if found is None:
            raise not_found("session")
        return found

    def session_files(self, session: Session) -> list[Path]:
        """The files of a session, under the names of this server."""
        return sorted((self.folders.session(session.id) / UPLOAD).rglob("*"))

    def remove_session(self, session_id: str) -> Session:
        """Remove a session with its scan."""
        found = self.session(session_id)
        self.store.remove_session(session_id)
        remove(self.folders.session(session_id))
        return found

    # ------------------------------------------------------------------------------------------ clean-up

    def sweep(self) -> None:
        """Remove jobs and sessions whose time is over."""
        for job in self.store.finished_before(time.time() - self.settings.keep_hours * 3600):
            with contextlib.suppress(RefusedError):  # removed by a client meanwhile
                self.remove(job.id)
        for session in self.store.sessions(expired=True):
            self.store.remove_session(session.id)
            remove(self.folders.session(session.id))

    def _sweep_often(self) -> None:
        while not self._end.wait(SWEEP_S):
            try:
                self.sweep()
            except STORAGE_ERRORS as error:  # tried again
                failure("sweep failed", error)

    def measure(self) -> None:
        """Bring the gauges up to date."""
        counts = self.store.counts()
        self.metrics.waiting.set(counts["queued"])
        self.metrics.running.set(counts["running"])
        self.metrics.stored.set(self.store.bytes())

    def stored_bytes(self) -> int:
        """What jobs and sessions take on the disk now."""
        return size_of(self.folders.root / "jobs") + size_of(self.folders.root / "sessions")


def served_models(settings: ServeSettings) -> dict[str, ServedModel]:
    """The models of the settings, by name; no network is loaded.

    Raises:
        SettingsError: no model, or one for another task. WeightsError: one that cannot be read.
    """
    from resvox.prediction.model_files import model_files

    models = {}
    for name, path in settings.named_models.items():
        card = model_files(path)[0].card
        if card.task not in SERVED_TASKS:
            expected = f"a model for {' or '.join(SERVED_TASKS)}"
            raise SettingsError(f"a model for {card.task}", expected=expected, path=path)
        models[name] = ServedModel(name=name, path=path, card=cast("SegmentationCard", card))
    return models


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy(source, target)
