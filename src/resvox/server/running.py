"""One job in a worker process: its scan is found, read, prepared and computed, and its result files are written."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import InferenceError, ResvoxError, VolumeError
from resvox.files import write_atomically
from resvox.prediction.outcomes import CaseOutcome, PredictResult, one_line
from resvox.prediction.pipeline import timed_call
from resvox.server.folders import FETCHED, RESULT, UPLOAD, WORK, remove
from resvox.server.jobs import Order, Outcome
from resvox.server.logs import event
from resvox.server.refusals import RefusedError

if TYPE_CHECKING:
    from resvox.prediction.cases import Case
    from resvox.prediction.segmenter import Segmentation, Segmenter
    from resvox.preprocessing import Prepared
    from resvox.server.settings import ServeSettings
    from resvox.volumes import Volume

OUTCOME = "outcome.json"
UNPACKED = "unpacked"
MEGA = 1e6
# the kind of a failure by the exception, as it stands in logs and metrics
KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (RefusedError, "refused"),
    (VolumeError, "scan"),
    (InferenceError, "scan"),
    (ResvoxError, "scan"),
    (MemoryError, "memory"),
    (OSError, "disk"),
)


class JobCancelledError(Exception):
    """The job was cancelled while it ran."""


@dataclass
class Task:
    """A job on its way through a worker."""

    order: Order
    predictor: Segmenter
    case: Case
    prepared: Prepared | None
    scan: Volume | None  # kept for the report alone
    has_dicom: bool
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)
    made: Segmentation | None = None

    @property
    def folder(self) -> Path:
        """The job's folder."""
        return Path(self.order.folder)


class Running:
    """The stages of a job, with the models of one worker.

    Args:
        predictors: by name.
        settings: limits, and the DICOMweb server.
        check: called between stages and windows with the job's identifier, stage, windows done and in all; raises
            `JobCancelledError` for a job that is cancelled.
    """

    def __init__(
        self,
        predictors: dict[str, Segmenter],
        settings: ServeSettings,
        check: Callable[[str, str, int, int], object],
    ) -> None:
        self.predictors, self.settings, self.check = predictors, settings, check

    def read(self, order: Order) -> Task:
        """Find, read and prepare the scan.

        Raises:
            ResvoxError: a scan that cannot be used, with the reason.
        """
        folder, seconds = Path(order.folder), dict[str, float]()
        self.check(order.id, "reading", 0, 0)
        remove(folder / WORK)
        inputs = timed_call(seconds, "receive", self._inputs, order)
        model = self.predictors[order.model]
        case = self._case(model, order, inputs)
        has_dicom, notes = self._has_dicom(order, case)
        predictor = model.with_outputs(
            folder / WORK / "out", format=order.options.format, dicom="seg" if has_dicom else None
        )
        self.check(order.id, "reading", 0, 0)
        scan = timed_call(seconds, "read", predictor.read, case)
        self._check_prepared_size(predictor, scan)
        prepared = timed_call(seconds, "preprocess", predictor.prepare, scan)
        return Task(
            order=order,
            predictor=predictor,
            case=case,
            prepared=prepared,
            scan=scan if order.options.report else None,
            has_dicom=has_dicom,
            seconds=seconds,
            notes=notes,
        )

    def compute(self, task: Task) -> Task:
        """The label map."""
        order, prepared = task.order, task.prepared
        assert prepared is not None
        task.prepared = None
        self.check(order.id, "computing", 0, 0)
        (task.made,) = task.predictor.compute(
            [prepared], progress=lambda done, total: self.check(order.id, "computing", done, total)
        )
        return task

    def write(self, task: Task) -> Outcome:
        """Write all files of the job, then give the result folder its name: that is when the job is done."""
        order, folder, made = task.order, task.folder, task.made
        assert made is not None
        self.check(order.id, "writing", made.windows, made.windows)
        start = time.perf_counter()
        out = task.predictor.options.out
        out.mkdir(parents=True)
        written = task.predictor.write(task.case, made)
        files = {"labels": written.path.name, "sidecar": f"{task.case.id}.json"}
        if task.has_dicom:
            files["seg"] = f"{task.case.id}_seg.dcm"
        if order.options.report:
            files.update(self._report(task, written.path))
        self.check(order.id, "writing", made.windows, made.windows)
        pushed = self._push(task, files)
        seconds = {**task.seconds, **made.seconds, "write": time.perf_counter() - start}
        outcome = Outcome(
            files={kind: (name, (out / name).stat().st_size) for kind, name in files.items()},
            notes=tuple(task.notes),
            seconds={stage: round(spent, 4) for stage, spent in seconds.items()},
            windows=made.windows,
            volumes_ml=json.loads((out / files["sidecar"]).read_text(encoding="utf-8")).get("volumes_ml", {}),
            pushed=pushed,
        )
        write_atomically(out / OUTCOME, json.dumps(asdict(outcome)))
        os.rename(out, folder / RESULT)
        return outcome

    # ------------------------------------------------------------------------------------------ the scan

    def _inputs(self, order: Order) -> list[Path]:
        """The files or the folder of the scan: uploaded, unpacked or fetched."""
        from resvox.server.dicomweb import DicomWeb
        from resvox.server.intake import ZIP, scan_paths
        from resvox.server.unpacking import unpack
        from resvox.volumes.extents import count_voxels

        folder, limits = Path(order.folder), self.settings
        if order.options.fetch is not None:
            remove(folder / FETCHED)
            DicomWeb(limits).fetch(*order.options.fetch, folder / FETCHED / "scan")
            inputs = [folder / FETCHED / "scan"]
        else:
            inputs = scan_paths(folder / UPLOAD)
            if len(inputs) == 1 and inputs[0].name.endswith(ZIP):
                unpacked = folder / WORK / UNPACKED
                unpack(inputs[0], unpacked, max_mb=limits.max_unpacked_mb, max_files=limits.max_files)
                inputs = scan_paths(unpacked)
        voxels = sum(count_voxels(path) for path in inputs)
        self._check_voxels(voxels, "by its header")
        return inputs

    def _check_voxels(self, voxels: float, what: str) -> None:
        limit = self.settings.max_megavoxels
        if voxels > limit * MEGA:
            raise RefusedError(
                f"a scan of {voxels / MEGA:,.0f} million voxels {what}",
                expected=f"at most {limit:g} million",
                fix="crop it, or raise the setting max_megavoxels",
            )

    def _check_prepared_size(self, predictor: Segmenter, scan: Volume) -> None:
        """Refuse a spacing that would make the network's grid enormous."""
        target = predictor.preprocessing.spacing_mm
        if target is None:
            return
        growth = 1.0
        for have, want in zip(sorted(scan.spacing_mm), sorted(target), strict=False):
            growth *= have / want
        self._check_voxels(scan.array.size * growth, "after resampling to the model's spacing")

    def _case(self, model: Segmenter, order: Order, inputs: list[Path]) -> Case:
        from resvox.prediction.log import RunLog

        out = Path(order.folder) / WORK / "out"
        options = replace(model.options, inputs=inputs, out=out, series=order.options.series)
        cases = model.find(options, model.card, RunLog(out)).cases
        if len(cases) != 1:
            raise RefusedError(f"{len(cases)} scans in one job", expected="one", fix="a job for each")
        return cases[0]

    def _has_dicom(self, order: Order, case: Case) -> tuple[bool, list[str]]:
        """Whether a DICOM segmentation is to be written, and a note where "auto" cannot."""
        from resvox.prediction.outputs import check_dicom_input
        from resvox.volumes.dicom import is_dicom

        choice = "seg" if order.options.push else order.options.dicom
        first = case.files[0]
        if choice == "none" or case.item.problem is not None:
            return False, []
        if choice == "auto" and not (first.is_dir() or is_dicom(first)):
            return False, []
        try:
            check_dicom_input(case)
        except ResvoxError as error:
            if choice == "seg":
                raise
            return False, [f"No DICOM segmentation: {public_reason(error, Path(order.folder))}."]
        return True, []

    # ------------------------------------------------------------------------------------------ the results

    def _report(self, task: Task, labels: Path) -> dict[str, str]:
        """The interactive page and a zip of the report, by kind."""
        from resvox.errors import ViewerMissingError
        from resvox.prediction.report import NAME, PAGES, write_report

        out, case, scan = task.predictor.options.out, task.case, task.scan
        assert scan is not None
        assert task.made is not None
        outcome = CaseOutcome(
            id=case.id,
            status="written",
            path=labels,
            seconds={**task.seconds, **task.made.seconds},
            windows=task.made.windows,
        )
        result = PredictResult(cases=(outcome,), out=out)
        try:
            page = write_report(result, [case], task.predictor.card, read=lambda _: scan, notify=task.notes.append)
        except ViewerMissingError as error:
            task.notes.append(f"No interactive page: {error.got}.")
            return {}
        view = out / PAGES / f"{case.id}.html"
        if not view.is_file():
            return {}
        with zipfile.ZipFile(out / "report.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(page, NAME)
            archive.write(view, f"{PAGES}/{view.name}")
        os.replace(view, out / "view.html")
        remove(out / PAGES)
        remove(page)
        return {"view": "view.html", "report": "report.zip"}

    def _push(self, task: Task, files: dict[str, str]) -> dict[str, str] | None:
        from resvox.server.dicomweb import DicomWeb

        if not task.order.options.push:
            return None
        return DicomWeb(self.settings).store(task.predictor.options.out / files["seg"])


def kind_of(error: BaseException) -> str:
    """A word for logs and metrics."""
    return next((kind for each, kind in KINDS if isinstance(error, each)), "unexpected")


def public_reason(error: Exception, folder: Path) -> str:
    """The reason in one line, without the server's paths."""
    text = one_line(error, "scan")
    for base in {str(folder), str(folder.resolve())}:
        for part in (UPLOAD, f"{WORK}/{UNPACKED}", f"{WORK}/out", FETCHED):
            text = text.replace(f"{base}/{part}/", "")
        text = text.replace(base, "job")
    return text


# of a file that will not become readable: missing, no file, or damaged on the disk
UNREADABLE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO, errno.EBADMSG, errno.EUCLEAN)


def read_outcome(folder: Path) -> Outcome | None:
    """The outcome of a job whose result folder has its name; None for one that is not done.

    A result folder whose outcome is missing or cannot be understood, as a fault of the disk may leave it, is removed:
    the job is not done.

    Raises:
        OSError: a disk that cannot be read now, other than for this file.
    """
    if not (folder / RESULT).exists():
        return None
    try:
        made: dict[str, Any] = json.loads((folder / RESULT / OUTCOME).read_text(encoding="utf-8"))
        files = {kind: (str(name), int(size)) for kind, (name, size) in made["files"].items()}
        numbers = {
            name: {str(key): float(value) for key, value in made.get(name, {}).items()}
            for name in ("seconds", "volumes_ml")
        }
        notes, windows = tuple(str(note) for note in made["notes"]), int(made.get("windows", 0))
        return Outcome(**{**made, **numbers, "files": files, "notes": notes, "windows": windows})
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        pass  # no JSON, or of other content
    event("result removed: its outcome cannot be read", level=logging.WARNING, job=folder.name)
    remove(folder / RESULT)
    return None
