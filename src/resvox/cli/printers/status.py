"""What `resvox status` prints, and the sums at the end of `resvox predict` with addresses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.table import Table

from resvox.cli.printers.console import line, out

if TYPE_CHECKING:
    from resvox.fleet.statuses import Status
    from resvox.fleet.tally import Tally

EXAMPLES = 3  # failed cases that are shown of each kind


def show_status(status: Status, *, as_json: bool) -> None:
    """All of it."""
    if as_json:
        out.print_json(json.dumps(status.to_dict()))
        return
    total = f" of {status.total}" if status.total is not None else ""
    line(f"{status.done}{total} done, {status.working} in work, {len(status.failed)} failed", style="bold")
    kinds: dict[str, list[str]] = {}
    for each in status.failed:
        kinds.setdefault(each.kind, []).append(each.reason)
    for kind, reasons in sorted(kinds.items(), key=lambda pair: -len(pair[1])):
        line(f"{len(reasons)} x {kind}", style="red")
        for reason in reasons[:EXAMPLES]:
            line(f"    {reason}")
    show_tally(status.tally, profile=True)


def show_tally(tally: Tally, *, profile: bool) -> None:
    """Throughput, cost, slowest cases; on request seconds and bytes per stage."""
    if profile and tally.seconds:
        table = Table("stage", "seconds", "share", box=None, padding=(0, 2))
        whole = sum(tally.seconds.values()) or 1.0
        for stage, spent in tally.seconds.items():
            table.add_row(stage, f"{spent:.2f}", f"{100 * spent / whole:.0f} %")
        out.print(table)
    if not tally.written:
        return
    moved = f", {tally.bytes['in'] / 1e9:.3g} GB in, {tally.bytes['out'] / 1e9:.3g} GB out"
    line(f"{tally.per_hour:.4g} scans an hour, {tally.core_hours_per_1000:.3g} core hours for 1,000 scans{moved}")
    if tally.cost_per_1000 is not None:
        line(f"{tally.cost_per_1000:.3g} for 1,000 scans at {tally.core_hour_price:g} per core hour")
    slow = ", ".join(f"{case} {spent:.1f} s" for spent, case in sorted(tally.slowest)[::-1])
    line(f"slowest: {slow}")
