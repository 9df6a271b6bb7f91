"""Addresses of models on a hub: ``hf://owner/name``, with a file or folder inside and a revision where wanted."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from resvox.errors import WeightsError

EXPECTED = "hf://owner/name, hf://owner/name@revision or hf://owner/name/path/in/the/repository"
# One slash is enough: pathlib makes hf:/owner/name of hf://owner/name.
SCHEME = re.compile(r"hf:/+")
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
ADDRESS = re.compile(rf"hf:/+(?P<owner>{NAME})/(?P<name>{NAME})(?P<inside>(?:/[^/@\s]+)*)/?(?:@(?P<revision>[^@\s]+))?")


@dataclass(frozen=True, kw_only=True)
class HubAddress:
    """A repository of models on a hub, or a file or folder in it.

    Attributes:
        repository: ``owner/name``.
        inside: the path of a file or folder in it; "" for the whole repository.
        revision: a branch, a tag or a commit; None for the repository's main branch.
    """

    repository: str
    inside: str = ""
    revision: str | None = None

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> HubAddress:
        """Read ``hf://owner/name[/path][@revision]``.

        Raises:
            WeightsError: a text of another form.
        """
        written = os.fspath(text).replace("\\", "/")
        match = ADDRESS.fullmatch(written)
        inside = match["inside"].strip("/") if match else ""
        if match is None or any(part in (".", "..") for part in inside.split("/")):
            raise WeightsError(f"the address {written!r}", expected=EXPECTED)
        return cls(repository=f"{match['owner']}/{match['name']}", inside=inside, revision=match["revision"])

    def __str__(self) -> str:
        inside = f"/{self.inside}" if self.inside else ""
        return f"hf://{self.repository}{inside}" + (f"@{self.revision}" if self.revision else "")


def is_address(source: Any) -> bool:
    """Whether a source of weights is an address on a hub, as a text or as a path made of one."""
    return isinstance(source, (str, os.PathLike)) and SCHEME.match(str(source).replace("\\", "/")) is not None
