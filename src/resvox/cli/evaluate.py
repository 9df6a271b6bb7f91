"""`resvox evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import OUTPUT, Debug, examples, verb


@verb(
    examples(
        "resvox evaluate out/ Dataset001_Liver/labelsTs --labels Dataset001_Liver/dataset.json",
        "resvox evaluate prediction.nii.gz reference.nii.gz --tolerance-mm 2 -o metrics.json",
    )
)
def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="A label map, or a folder of them.")],
    references: Annotated[
        Path, typer.Argument(metavar="REFERENCES", help="The true label map, or a folder of the same names.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the scores as JSON.", rich_help_panel=OUTPUT)
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write them as CSV.", rich_help_panel=OUTPUT)] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="A dataset.json or model that names them (default: beside the references, or the values)."),
    ] = None,
    tolerance_mm: Annotated[float, typer.Option(min=0.0, help="How far off a boundary may be in surface Dice.")] = 1.0,
    debug: Debug = False,
) -> None:
    """Score label maps against references: Dice, HD95 and surface Dice of each label.

    Folders are matched by case name. A reference without a prediction is reported, and the exit code is 1.
    """
    from resvox import workflow
    from resvox.viewer import terminal

    result = workflow.evaluate(
        predictions, references, labels=labels, tolerance_mm=tolerance_mm, json_path=out, csv_path=csv
    )
    terminal.show_scores(result)
    if not result.ok:
        raise typer.Exit(1)
