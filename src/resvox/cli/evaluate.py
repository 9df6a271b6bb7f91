"""The command `resvox evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.catalog import TASKS
from resvox.cli.app import DATA, OUTPUT, Debug, Split, choices, examples, one_of, verb
from resvox.workflow import FURTHER


@verb(
    examples(
        "resvox evaluate out/ Dataset001_Liver/labelsTs --labels Dataset001_Liver/dataset.json",
        "resvox evaluate prediction.nii.gz reference.nii.gz --tolerance-mm 2 -o metrics.json",
        "resvox evaluate out/ Dataset001_Liver/labelsTs --calibration calibration.json",
        "resvox evaluate vessels/ labelsTs/ --metric cldice --metric volume",
        "resvox evaluate out/predictions.csv digits.npz",
        "resvox evaluate doses/ Dataset002_Dose/targetsTs --task regression",
    )
)
def evaluate(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="A label map, a folder of them, or a table of classes.")
    ],
    references: Annotated[
        Path,
        typer.Argument(
            metavar="REFERENCES",
            help="The true label map, or a folder of the same names; for classes what was predicted.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the scores as JSON.", rich_help_panel=OUTPUT)
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write them as CSV.", rich_help_panel=OUTPUT)] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Also score probabilities and review.csv beside label maps: ECE, Brier, reliability, risk; a plot.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            parser=one_of(tuple(FURTHER)), metavar=choices(tuple(FURTHER)), help="A further metric; may be repeated."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="A dataset.json or model that names them (default: beside the references, or the values)."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            parser=one_of(TASKS),
            metavar=choices(TASKS),
            help="What is compared (default: label maps, or classes where there is a table).",
        ),
    ] = None,
    ignore: Annotated[
        int | None, typer.Option(help="Leave out voxels where the reference has this value, such as -1 or 255.")
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring a prediction on another grid to the reference's.")
    ] = False,
    split: Annotated[
        Split | None, typer.Option(help="Of a .csv or .npz (default: test, where there is one).", rich_help_panel=DATA)
    ] = None,
    tolerance_mm: Annotated[float, typer.Option(min=0.0, help="How far off a boundary may be in surface Dice.")] = 1.0,
    debug: Debug = False,
) -> None:
    """Score predictions against references.

    Label maps: Dice, HD95 and surface Dice of each label. Classes: accuracy, AUC and the confusion matrix. Volumes of
    values: MAE, RMSE, PSNR and SSIM.

    Folders are matched by case name. A reference without a prediction is reported, and the exit code is 1.
    """
    from resvox import workflow
    from resvox.cli.printers import evaluate as output

    result = workflow.evaluate(
        predictions,
        references,
        task=task,
        labels=labels,
        tolerance_mm=tolerance_mm,
        ignore=ignore,
        resample=resample,
        split=split.value if split else None,
        json_path=out,
        csv_path=csv,
        calibration_path=calibration,
        further=metric or (),
    )
    output.show_scores(result)
    if not result.ok:
        raise typer.Exit(1)
