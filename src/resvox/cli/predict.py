"""`resvox predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import OUTPUT, RUN, Debug, Device, DeviceOption, PredictPrecision, examples, verb


@verb(
    examples(
        "resvox predict runs/liver scan.nii.gz -o out",
        "resvox predict model.safetensors scans/ dicom_series/ -o out --mirror",
        "torchrun --nproc-per-node 2 -m resvox predict model.safetensors scans/ -o out",
    )
)
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model.safetensors, or the folder of a run.")],
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Image files, folders, folders of DICOM series.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for <case>.nii.gz.")],
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Average over mirrored copies: slower, a little better.")
    ] = False,
    overlap: Annotated[
        float | None, typer.Option(min=0.0, max=0.95, help="Of neighbouring windows (default: the model's).")
    ] = None,
    device: DeviceOption = Device.auto,
    precision: Annotated[
        PredictPrecision, typer.Option(help="Arithmetic.", rich_help_panel=RUN)
    ] = PredictPrecision.auto,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write probabilities.", rich_help_panel=OUTPUT)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do again what is there.", rich_help_panel=OUTPUT)
    ] = False,
    suffix: Annotated[str, typer.Option(help="Put behind a case's name.", rich_help_panel=OUTPUT)] = "",
    profile: Annotated[
        bool, typer.Option("--profile", help="Show the seconds of each stage.", rich_help_panel=OUTPUT)
    ] = False,
    debug: Debug = False,
) -> None:
    """Write a label map for every scan, on the scan's own grid.

    What is there already is left alone, so the same command again does what is missing. Several processes may share
    a folder. A scan that cannot be used is reported in one line, the others are done, and the exit code is 1.
    """
    from resvox import workflow
    from resvox.viewer import terminal

    with terminal.PredictDisplay(debug=debug) as display:
        result = workflow.predict(
            model,
            inputs,
            out,
            mirror=mirror,
            overlap=overlap,
            device=device.value,
            precision=precision.value,
            probabilities=probabilities,
            overwrite=overwrite,
            suffix=suffix,
            on_start=display.start,
            on_windows=display.windows,
            on_case=display.case,
        )
    terminal.show_predicted(result, profile=profile)
    if not result.ok:
        raise typer.Exit(1)
