"""Status rows: what became of each case, in small files that are only ever added, and what `resvox status` reads.

``OUT/.resvox/status/<run>/<worker>-00001.jsonl``: the first line is about the file (worker, cores, from when until
when, cases that were done before), each other line about a case.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resvox.errors import StorageError
from resvox.fleet.claims import is_over
from resvox.fleet.items import Item
from resvox.fleet.layout import OutputFolder, parsed, stamp
from resvox.fleet.tally import Failure, Tally
from resvox.storage.addresses import Location
from resvox.storage.objects import listing, read_bytes, write_bytes

PART_ROWS, PART_SECONDS = 1000, 20.0  # a part is written when it is as long, or as old
ROW_ENDINGS = (".jsonl", ".csv", ".parquet")
WHOLE = ("written", "failed")  # statuses that get a row


class StatusLog:
    """The status rows of a process.

    Args:
        out: the folder of results.
        run: the name of the run.
        worker: the name of the process.
        cores: how many it uses.
    """

    def __init__(self, out: OutputFolder, *, run: str, worker: str, cores: int) -> None:
        self.out, self.run, self.worker, self.cores = out, run, worker, cores
        self.tally = Tally()
        self._rows: list[dict[str, Any]] = []
        self._present = 0
        self._part = 0
        self._began = time.time()

    def add(self, item: Item) -> None:
        """Count an item, and keep its row until the next part is written."""
        row = {**item.to_dict(), "worker": self.worker, **stamp()}
        self.tally.add(row)
        if item.status in WHOLE:
            self._rows.append(row)
        else:
            self._present += item.status == "present"
        if len(self._rows) >= PART_ROWS or time.time() - self._began > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added; a store that does not take it costs the statistics only."""
        until = time.time()
        self.tally.add_time(self._began, until, self.cores)
        head = {
            "part": self._part, "run": self.run, "worker": self.worker, "cores": self.cores, "began": self._began,
            "until": until, "present": self._present,
        }  # fmt: skip
        if self._rows or self._present:
            text = "".join(f"{json.dumps(row, default=str)}\n" for row in [head, *self._rows])
            place = self.out.hidden / f"status/{self.run}/{self.worker}-{self._part:05d}.jsonl"
            with contextlib.suppress(StorageError):
                write_bytes(place, text.encode("utf-8"))
            self._part += 1
        self._rows, self._present, self._began = [], 0, until


@dataclass
class Status:
    """What a folder of results holds.

    Args:
        out: its address.
        done: results, by their records.
        failed: cases that have none, by their records.
        working: cases that are being done now, by their claims.
        total: rows of the manifest, where a run knows it.
        tally: sums over the status rows of all runs.
    """

    out: Location
    done: int = 0
    failed: list[Failure] = field(default_factory=list)
    working: int = 0
    total: int | None = None
    tally: Tally = field(default_factory=Tally)

    def to_dict(self) -> dict[str, Any]:
        """Everything as a JSON object."""
        return {
            "out": str(self.out),
            "done": self.done,
            "failed": len(self.failed),
            "working": self.working,
            "total": self.total,
            "reasons": [{"case": each.case, "kind": each.kind, "reason": each.reason} for each in self.failed],
            "runs": self.tally.to_dict(),
        }


def read_status(location: Location, *, core_hour_price: float | None = None) -> Status:
    """What a folder of results holds now; also while runs are working there.

    Raises:
        StorageError: no run has worked there, or it cannot be read.
    """
    out = OutputFolder(location)
    status = Status(out=out.location)
    status.tally.core_hour_price = core_hour_price
    seen = False
    for row in status_rows(out):
        seen = True
        if "part" in row:
            status.tally.add_time(float(row["began"]), float(row["until"]), int(row["cores"]))
        else:
            status.tally.add(row)
    for place, _ in listing(out.hidden / "runs/"):
        seen = True
        total = parsed(read_bytes(place) or b"{}").get("total")
        if isinstance(total, int):
            status.total = max(status.total or 0, total)
    status.done = sum(1 for _ in listing(out.hidden / "done/"))
    status.working = sum(
        _is_working(out, parsed(read_bytes(place) or b"{}")) for place, _ in listing(out.hidden / "claims/")
    )
    for place, _ in listing(out.hidden / "failed/"):
        record = parsed(read_bytes(place) or b"{}")
        case = str(record.get("case"))
        if read_bytes(out.place("done", case)) is None:
            status.failed.append(Failure(case=case, kind=str(record.get("kind")), reason=str(record.get("reason"))))
    if not (seen or status.done or status.failed or status.working):
        raise StorageError(
            "no run has worked here", expected="the -o of a resvox predict with addresses", path=str(out.location)
        )
    return status


def _is_working(out: OutputFolder, claim: dict[str, Any]) -> bool:
    """Whether a claim is that of a case in work, and not one that a killed process left."""
    return bool(claim) and not is_over(claim) and out.record("done", str(claim.get("case"))) is None


def status_rows(out: OutputFolder) -> Iterator[dict[str, Any]]:
    """The lines of all parts, in the order of the runs."""
    for place, _ in listing(out.hidden / "status/"):
        for line in (read_bytes(place) or b"").splitlines():
            row = parsed(line)
            if row:
                yield row


def write_rows(location: Location, target: Path) -> int:
    """Write the newest row of each case with its free columns: JSON Lines, CSV or Parquet by the ending.

    Returns:
        The number of rows.

    Raises:
        StorageError: another ending.
    """
    if target.suffix.lower() not in ROW_ENDINGS:
        raise StorageError(f"--rows {target}", expected=f"a file ending with {', '.join(ROW_ENDINGS)}")
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in status_rows(OutputFolder(location)):
        if "part" not in row:
            newest[str(row.get("case")), str(row.get("uri"))] = _flat(row)
    rows = list(newest.values())
    names = list(dict.fromkeys(name for row in rows for name in row))
    if target.suffix.lower() == ".jsonl":
        from resvox.files import write_atomically

        write_atomically(target, "".join(f"{json.dumps(row, default=str)}\n" for row in rows))
    elif target.suffix.lower() == ".csv":
        _write_csv(rows, names, target)
    else:
        _write_parquet(rows, names, target)
    return len(rows)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat = {name: row.get(name) for name in ("case", "status", "kind", "reason", "uri", "worker", "time")}
    flat |= {f"seconds_{stage}": spent for stage, spent in dict(row.get("seconds") or {}).items()}
    flat |= {f"bytes_{way}": count for way, count in dict(row.get("bytes") or {}).items()}
    flat |= {name: value for name, value in dict(row.get("result") or {}).items() if not isinstance(value, dict)}
    return {**{name: value for name, value in dict(row.get("row") or {}).items() if name not in flat}, **flat}


def _write_csv(rows: list[dict[str, Any]], names: list[str], target: Path) -> None:
    import csv
    import io

    from resvox.files import write_atomically

    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(target, text.getvalue())


def _write_parquet(rows: list[dict[str, Any]], names: list[str], target: Path) -> None:
    from resvox.files import replacing

    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise StorageError(
            "a Parquet file, and pyarrow is not installed",
            expected="the extra 'parquet'",
            fix="pip install 'resvox[parquet]', or --rows FILE.csv",
        ) from None
    table = pyarrow.table({name: _column([row.get(name) for row in rows]) for name in names})
    with replacing(target) as temporary:
        parquet.write_table(table, temporary)


def _column(values: list[Any]) -> list[Any]:
    """Values of one type; those of several as text."""
    kinds = {type(value) for value in values if value is not None}
    return values if len(kinds) <= 1 else [None if value is None else str(value) for value in values]
