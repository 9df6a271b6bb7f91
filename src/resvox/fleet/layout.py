"""The folder of results: what lies where, and the record of each result, which makes it "done".

``OUT/<case>.nii.gz`` are the results. ``OUT/.resvox/`` holds, one small object each: ``done/<case>.json`` (the record,
written last), ``failed/<case>.json``, ``claims/<case>.json``, and ``status/<run>/*.jsonl``, rows for `resvox status`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resvox._version import __version__
from resvox.errors import StorageError
from resvox.storage.addresses import Location
from resvox.storage.objects import create, delete, read_bytes, state_of_object, write_bytes

HIDDEN = ".resvox"
TIME = "%Y-%m-%dT%H:%M:%S%z"
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What makes results: a result of another model, or of other options, is not done.

    Args:
        model: a digest of the contents of the model files, the same on every machine.
        settings: the options that change results.
    """

    model: str
    settings: Mapping[str, Any]

    def made(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is that of a result of this maker."""
        return record.get("model") == self.model and record.get("settings") == json.loads(json.dumps(self.settings))


class OutputFolder:
    """A folder of results, local or in a store.

    Args:
        location: its address.
    """

    def __init__(self, location: Location) -> None:
        self.location = location.as_folder
        self.hidden = self.location / f"{HIDDEN}/"

    def place(self, kind: str, case: str) -> Location:
        """Where the record of a case lies; ``kind`` is "done", "failed" or "claims"."""
        return self.hidden / f"{kind}/{case}.json"

    def record(self, kind: str, case: str) -> Record | None:
        """The record of a case, or None.

        Raises:
            StorageError: it cannot be read.
        """
        content = read_bytes(self.place(kind, case))
        return None if content is None else parsed(content)

    def done(self, case: str) -> Record | None:
        """The record of a result that is there with all its files; None where it has to be made."""
        record = self.record("done", case)
        if not record:
            return None
        for name, size in dict(record.get("files") or {}).items():
            state = state_of_object(self.location / str(name))
            if state is None or state.bytes != size:
                return None
        return record

    def finish(self, case: str, record: Record) -> bool:
        """Note a result whose files are there; False where another process has done it in the meantime."""
        return create(self.place("done", case), _text({**record, **stamp()}))

    def forget(self, case: str) -> None:
        """Remove the record of a result that is to be made again, before its files are replaced."""
        delete(self.place("done", case))

    def fail(self, case: str, record: Record) -> None:
        """Note why a case has no result."""
        write_bytes(self.place("failed", case), _text({**record, **stamp()}))

    def drop_claim(self, case: str) -> None:
        """Remove the claim of a process that is known to have ended."""
        delete(self.place("claims", case))

    def check(self) -> None:
        """Write and remove a small file, before any scan is fetched.

        Raises:
            StorageError: the folder cannot be written to.
        """
        probe = self.hidden / f"check-{time.time_ns()}"
        write_bytes(probe, b"resvox")
        found = read_bytes(probe)
        delete(probe)
        if found != b"resvox":
            raise StorageError("what is written cannot be read back", path=str(self.location))


def refuse_other_source(record: Mapping[str, Any], sources: Sequence[Mapping[str, Any]], out: Location) -> None:
    """Refuse a result of the same name that was made from another scan.

    Raises:
        StorageError: naming both.
    """
    then = [str(each.get("uri")) for each in record.get("sources") or []]
    now = [str(each.get("uri")) for each in sources]
    if then and then != now:
        raise StorageError(
            f"a result called {record.get('case')} exists already in {out}, made from {', '.join(then)}",
            expected="one scan for a name",
            fix="give each row an id of its own, or use another -o",
            path=now[0] if now else None,
        )


def parsed(content: bytes) -> Record:
    """A record; empty where the contents are damaged."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def stamp() -> Record:
    """When, and by which version."""
    return {"resvox": __version__, "time": time.strftime(TIME), "clock": round(time.time(), 3)}


def _text(record: Record) -> bytes:
    return json.dumps(record).encode()
