"""Errors of stores: which ones are worth another try, and each in one line without credentials."""

from __future__ import annotations

import errno
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from resvox.errors import ResvoxError, StorageError, StoreBusyError
from resvox.storage.addresses import SECRETS, Location

Value = TypeVar("Value")
TRIES = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 20.0  # seconds
BUSY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
BUSY_ERRNO = frozenset(
    {
        errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH,
        errno.EIO, errno.ENETUNREACH, errno.EPIPE, errno.ETIMEDOUT,
    }
)  # fmt: skip
# Classes of HTTP libraries by name, for they are imported only where used: a connection that ended early, or
# asyncio's own TimeoutError of Python 3.10.
BROKEN = (
    "ClientConnectionError", "ClientPayloadError", "ServerDisconnectedError", "IncompleteRead", "ContentLengthError",
    "ServiceRequestError", "ServiceResponseError", "HTTPClientError", "TransportError", "TimeoutError",
)  # fmt: skip
LOGIN = (
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound",
    "TokenRetrievalError", "DefaultCredentialsError", "RefreshError", "ClientAuthenticationError",
)  # fmt: skip
WORDS = 200  # letters of a library's message that are shown
KEYS = re.compile(r"(?i)\b(?:(?:AKIA|ASIA)[A-Z0-9]{12,}|(?:token|signature|secret|password|key)[\"']?\s*[=:]\s*\S+)")


class ShortReadError(ConnectionError):
    """Fewer bytes came than were announced."""


def retried(location: Location, what: str, call: Callable[[], Value], *, tries: int | None = None) -> Value:
    """The result of a call; what may pass (a busy server, a cut connection) is tried again with growing pauses.

    Args:
        location: for the message.
        what: what is done, as in "cannot be read".
        call: is called until it returns.
        tries: how often at most.

    Raises:
        StorageError: it failed, or kept failing. FileNotFoundError, FileExistsError: as they are, for the caller.
    """
    tries = tries or TRIES
    for number in range(1, tries + 1):
        try:
            return call()
        except (FileExistsError, ResvoxError):
            raise
        except Exception as error:
            cause = _behind(error)
            if isinstance(cause, FileNotFoundError):
                raise
            if number == tries or not is_transient(cause):
                raise refusal(location, what, cause, number) from error
        # Random, so that machines of a fleet that were refused together do not come back together.
        time.sleep(min(FIRST_PAUSE * 2 ** (number - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


def is_transient(error: BaseException) -> bool:
    """Whether a failure may pass by itself."""
    if isinstance(error, (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)):
        return False
    status = _status(error)
    if status:
        return status in BUSY_STATUS
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if _names(error) & set(BROKEN):
        return True
    return isinstance(error, OSError) and error.errno in BUSY_ERRNO


def refusal(location: Location, what: str, error: BaseException, tries: int = 1) -> StorageError:
    """A failure in one line; its text never holds a header, a query or a key."""
    status = _status(error)
    after = f" after {tries} tries" if tries > 1 else ""
    if isinstance(error, PermissionError) or status in (401, 403) or _names(error) & set(LOGIN):
        store = "" if location.scheme == "file" else " of this store"
        return StorageError(
            f"cannot be {what}: no permission",
            expected=f"credentials{store} in the environment, as its own tools use them",
            fix="see docs/scale.md, Credentials",
            path=str(location),
        )
    words = f"HTTP status {status}" if status else _words(error)
    is_busy = is_transient(error)
    return (StoreBusyError if is_busy else StorageError)(
        f"cannot be {what}{after} ({words})",
        expected="a store that answers" if is_busy else "an address that can be used",
        fix="the same command tries it again" if is_busy else "",
        path=str(location),
    )


def _behind(error: Exception) -> BaseException:
    """The failure itself: fsspec reports every answer of a web server that is no success as a missing file."""
    cause = error.__cause__
    is_answer = isinstance(error, FileNotFoundError) and cause is not None and _status(cause) != 404
    return cause if is_answer and cause is not None and (_status(cause) or is_transient(cause)) else error


def _status(error: BaseException) -> int:
    """The HTTP status of an error of aiohttp, botocore, gcsfs or azure; 0 for none."""
    response = getattr(error, "response", None)
    meta = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    for found in (
        getattr(error, "status", None),
        getattr(error, "status_code", None),
        getattr(error, "code", None),
        meta.get("HTTPStatusCode"),
    ):
        if isinstance(found, int) and 100 <= found < 600:
            return found
    return 0


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = SECRETS.sub("", lines[0]) if lines else ""
    text = KEYS.sub("...", text)[:WORDS]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
