"""What `resvox serve` prints."""

from __future__ import annotations

from resvox.cli.printers.console import line


def show_ready(url: str) -> None:
    """The address, once requests are accepted; the log is on standard error."""
    line(f"Serving on {url} (Ctrl-C stops)", style="bold")
