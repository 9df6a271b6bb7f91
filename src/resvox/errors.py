"""The exceptions. Every message states what was got, what was expected, and the fix, in one line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import ClassVar


class ResvoxError(Exception):
    """Base of all errors that resvox raises deliberately.

    Args:
        got: what was found, e.g. ``"norm='banana'"``.
        expected: what is valid, e.g. ``"'batch', 'instance' or 'group'"``.
        fix: what the reader can do about it.
        path: the file or folder concerned; it is the first word of the message.
    """

    exit_code: ClassVar[int] = 1  # of a command that ends with it

    def __init__(
        self,
        got: str,
        *,
        expected: str = "",
        fix: str = "",
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.got = got
        self.expected = expected
        self.fix = fix
        self.path = path
        parts = [got]
        if expected:
            parts.append(f"expected {expected}")
        if fix:
            parts.append(f"fix: {fix}")
        prefix = f"{os.fspath(path)}: " if path is not None else ""
        self.text = " ".join((prefix + "; ".join(parts)).split())
        super().__init__(self.text)

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[object, ...]:  # worker processes hand errors back through pickle
        return (_rebuild, (type(self), self.got, self.expected, self.fix, self.path))


def suggest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """``did you mean ...?`` with the nearest known names, or "" where none is near."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=3, cutoff=cutoff)
    return f"did you mean {' or '.join(near)}?" if near else ""


def _rebuild(
    kind: type[ResvoxError],
    got: str,
    expected: str,
    fix: str,
    path: str | os.PathLike[str] | None,
) -> ResvoxError:
    return kind(got, expected=expected, fix=fix, path=path)


class LostPeerError(ResvoxError):
    """Another of the processes that train together has ended, or its machine is silent."""


class BlueprintError(ResvoxError, ValueError):
    """A network description that cannot be built."""


class UnknownModelError(ResvoxError, ValueError):
    """A name that the catalog does not hold."""


class WeightsError(ResvoxError):
    """A weights file or state dict that is broken, unsafe or of another network."""


class VolumeError(ResvoxError):
    """An image file, or what is in it, that cannot be used."""


class DatasetError(ResvoxError):
    """A dataset folder or manifest that cannot be used."""


class StorageError(ResvoxError):
    """A file in a store (``s3://`` and others) that cannot be read or written."""


class StoreBusyError(StorageError):
    """A store that did not answer, or not in full: a later try may succeed."""


class PlanError(ResvoxError, ValueError):
    """A training plan that contradicts itself or the data."""


class ViewerMissingError(ResvoxError):
    """The script that draws the interactive page is not part of this installation."""


class InferenceError(ResvoxError):
    """A prediction that cannot be made."""


class EvaluationError(ResvoxError):
    """A prediction and a reference that cannot be compared."""


class RunStoppedError(ResvoxError):
    """A training that a signal has stopped early, with its checkpoint written."""

    exit_code: ClassVar[int] = 75  # EX_TEMPFAIL of sysexits.h: try again later
