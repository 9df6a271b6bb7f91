"""The command `resvox status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import OUTPUT, Debug, examples, verb


@verb(
    examples(
        "resvox status s3://results/liver",
        "resvox status s3://results/liver --core-hour-price 0.04",
        "resvox status s3://results/liver --rows cases.parquet",
        "resvox status s3://results/liver --json",
    )
)
def status(
    out: Annotated[str, typer.Argument(metavar="OUT", help="The -o of resvox predict with addresses.")],
    rows: Annotated[
        Path | None,
        typer.Option(help="Also write a row per case: .jsonl, .csv or .parquet.", rich_help_panel=OUTPUT),
    ] = None,
    core_hour_price: Annotated[float | None, typer.Option(min=0.0, help="Of a core for an hour.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=OUTPUT)] = False,
    debug: Debug = False,
) -> None:
    """Show how far the runs over a folder of results are: done, failed by reason, seconds, throughput, cost.

    It is read from the folder itself, so it works from any machine, while runs work there and after.
    """
    from resvox import workflow
    from resvox.cli.printers.status import show_status

    show_status(workflow.status(out, rows=rows, core_hour_price=core_hour_price), as_json=as_json)
