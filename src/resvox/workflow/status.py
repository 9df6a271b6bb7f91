"""`status`: how far the runs over a folder of results are, read from the folder itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resvox.fleet.statuses import Status


def status(
    out: str | os.PathLike[str],
    *,
    rows: str | os.PathLike[str] | None = None,
    core_hour_price: float | None = None,
) -> Status:
    """What a folder of results holds, also while runs are working there.

    Args:
        out: the ``-o`` of `predict` with addresses.
        rows: also write a row per case with its free columns into this file: ``.jsonl``, ``.csv`` or ``.parquet``.
        core_hour_price: of a core for an hour: the sums then have a cost.

    Raises:
        StorageError: no run has worked there, or it cannot be read.
    """
    from resvox.fleet.statuses import read_status, write_rows
    from resvox.storage import Location

    location = Location.parse(os.fspath(out))
    found = read_status(location, core_hour_price=core_hour_price)
    if rows is not None:
        write_rows(location, Path(rows))
    return found
