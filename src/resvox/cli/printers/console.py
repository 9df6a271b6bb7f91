"""The two streams, and lines that are never wrapped."""

from __future__ import annotations

from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def line(text: str, *, style: str = "", stderr: bool = False) -> None:
    """Print one line without wrapping it: who reads or searches a log needs it whole."""
    (err if stderr else out).print(text, style=style or None, markup=False, soft_wrap=True)
