"""The command `resvox compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import OUTPUT, Debug, examples, verb


@verb(
    examples(
        "resvox compare runs/a runs/b",
        "resvox compare a.json b.json c.json --metric surface_dice -o differences.json",
    )
)
def compare(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Two or more runs, or JSON files of resvox evaluate; the first is compared with."
        ),
    ],
    metric: Annotated[str, typer.Option(help="dice, hd95_mm or surface_dice.")] = "dice",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the differences as JSON.", rich_help_panel=OUTPUT)
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare runs or score files on the cases that they share, with paired statistics.

    For every label, and for the mean over labels: mean scores, mean difference with a 95 % bootstrap interval, and the
    p value of Wilcoxon's signed-rank test with Holm's correction. Of a cross-validation the scores out of fold count,
    of another run those of its best validation.
    """
    from resvox import workflow
    from resvox.cli.printers import compare as output

    output.show_differences(workflow.compare(sources, metric=metric, json_path=out))
