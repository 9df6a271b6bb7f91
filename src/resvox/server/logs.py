"""Structured logs: one line of JSON per event, without names, reasons or anything else that a scan holds.

Every field is chosen by the caller from a fixed list, so nothing of a request or a scan gets in by accident.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

LOGGER = logging.getLogger("resvox.serve")
FIELDS = (
    "job", "session", "model", "state", "device", "kind", "stage", "seconds", "bytes", "files", "attempt", "attempts",
    "method", "route", "status", "ms", "host", "port", "models", "queued", "running", "code", "signal", "version",
)  # fmt: skip


def set_up(level: str) -> None:
    """Write events to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(level.upper())
    LOGGER.propagate = False


def failure(name: str, error: Exception, **values: Any) -> None:
    """Log an error of the disk or the queue that is waited out: its class and number, not its text, which has paths."""
    code = getattr(error, "errno", None) or getattr(error, "sqlite_errorcode", None)
    event(name, level=logging.WARNING, kind=type(error).__name__, code=code, **values)


def event(name: str, *, level: int = logging.INFO, **values: Any) -> None:
    """Log an event.

    Args:
        values: of `FIELDS`; others are a mistake of the caller.

    Raises:
        ValueError: a field that is not in the list.
    """
    unknown = set(values) - set(FIELDS)
    if unknown:
        raise ValueError(f"fields {sorted(unknown)} of the log; expected some of {FIELDS}")
    if LOGGER.isEnabledFor(level):
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"
        line = {"time": moment, "level": logging.getLevelName(level).lower(), "event": name, **values}
        LOGGER.log(level, json.dumps(line))
