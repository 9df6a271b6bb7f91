"""Requests that are refused, each with its HTTP status."""

from __future__ import annotations

import os

from resvox.errors import ResvoxError


class RefusedError(ResvoxError):
    """A request that is not accepted; ``status`` is the HTTP status of the answer."""

    def __init__(
        self,
        got: str,
        *,
        expected: str = "",
        fix: str = "",
        path: str | os.PathLike[str] | None = None,
        status: int = 422,
    ) -> None:
        super().__init__(got, expected=expected, fix=fix, path=path)
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.got, self.expected, self.fix, self.path, self.status))


def _rebuild(got: str, expected: str, fix: str, path: str | os.PathLike[str] | None, status: int) -> RefusedError:
    return RefusedError(got, expected=expected, fix=fix, path=path, status=status)


class SettingsError(ResvoxError, ValueError):
    """A setting of the server that cannot be."""


def not_found(what: str) -> RefusedError:
    """The refusal of an identifier that does not exist (any more)."""
    return RefusedError(
        f"no such {what}", expected="one that exists", fix="finished ones are removed after a while", status=404
    )
