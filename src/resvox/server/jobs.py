"""Jobs as the queue holds them: what is asked for, and what has become of it."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from dataclasses import asdict, dataclass, field
from typing import Any

from resvox.prediction.options import FORMATS
from resvox.server.refusals import RefusedError

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
STATES = (QUEUED, RUNNING, DONE, FAILED, CANCELLED)
OVER = (DONE, FAILED, CANCELLED)
LABEL_FORMATS = tuple(name for name in FORMATS if name != "none")
DICOM_CHOICES = ("auto", "seg", "none")
KINDS = ("labels", "seg", "sidecar", "view", "report")  # of result files
UID = re.compile(r"[0-9]+(\.[0-9]+)+")
JOB_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """An identifier that cannot be guessed."""
    return secrets.token_hex(16)


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What a job is to make.

    Args:
        format: of the label map.
        dicom: "seg" also writes a DICOM segmentation and fails where the scan is not a DICOM series, "auto" writes one
            where that is possible.
        report: also write the interactive page and the report.
        series: of an archive or folder that holds several DICOM series: the UID or number.
        fetch: StudyInstanceUID ("" where it is to be looked up) and SeriesInstanceUID on the DICOMweb server, instead
            of an upload.
        push: send the segmentation to the DICOMweb server.

    Raises:
        RefusedError: a value that cannot be.
    """

    format: str = "nii.gz"
    dicom: str = "auto"
    report: bool = False
    series: str | None = None
    fetch: tuple[str, str] | None = None
    push: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("format", LABEL_FORMATS), ("dicom", DICOM_CHOICES)):
            if getattr(self, name) not in choices:
                raise RefusedError(f"{name}={getattr(self, name)!r}", expected=" or ".join(map(repr, choices)))
        if self.series is not None and not re.fullmatch(r"[0-9][0-9.]{0,63}", self.series):
            raise RefusedError("a series that is not a UID or a number", expected="such as 1.2.840.113619.2.5 or 3")
        if self.fetch is not None:
            study, series = self.fetch
            for each in (study, series) if study else (series,):
                if len(each) > 64 or not UID.fullmatch(each):
                    raise RefusedError("a series that is not a UID", expected="such as 1.2.840.113619.2.5")
        if self.push and self.dicom == "none":
            raise RefusedError("push=true with dicom='none'", expected="dicom='seg'")

    def to_json(self) -> str:
        """As the queue stores it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> JobOptions:
        """As the queue stored it."""
        values = json.loads(text)
        return cls(**{**values, "fetch": tuple(values["fetch"]) if values["fetch"] else None})


@dataclass(frozen=True, kw_only=True)
class Order:
    """A job as a worker gets it; ``folder`` is that of the job."""

    id: str
    model: str
    folder: str
    options: JobOptions


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a worker made of a job.

    Args:
        files: by kind the name in the job's result folder and the bytes.
        notes: remarks for the user, one sentence each.
        seconds: per stage.
        pushed: UIDs of the segmentation that was sent to the DICOMweb server.
    """

    files: dict[str, tuple[str, int]]
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    windows: int = 0
    volumes_ml: dict[str, float] = field(default_factory=dict)
    pushed: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row of the queue. Times are seconds since 1970; ``kind`` is a word for the reason of a failure."""

    id: str
    model: str
    state: str
    options: JobOptions
    created: float
    started: float | None
    finished: float | None
    attempts: int
    cancel: bool
    device: str
    reason: str
    kind: str
    outcome: Outcome | None
    bytes: int

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in OVER

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Job:
        """A row of the table ``jobs``."""
        values: dict[str, Any] = {name: row[name] for name in row.keys() if name != "number"}  # noqa: SIM118  # not a dict
        made = json.loads(values["outcome"]) if values["outcome"] else None
        if made is not None:
            made["files"] = {kind: (name, size) for kind, (name, size) in made["files"].items()}
            made["notes"] = tuple(made["notes"])
        return cls(
            **{
                **values,
                "options": JobOptions.from_json(values["options"]),
                "cancel": bool(values["cancel"]),
                "outcome": None if made is None else Outcome(**made),
            }
        )
