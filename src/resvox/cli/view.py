"""The command `resvox view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import DATA, OUTPUT, Debug, examples, verb


@verb(
    examples(
        "resvox view scan.nii.gz out/scan.nii.gz",
        "resvox view dicom_series/ out/series.nii.gz --reference truth.nii.gz -o compare.html",
        "resvox view ct.nii.gz segmentations/liver.nii.gz segmentations/spleen.nii.gz",
    )
)
def view(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="An image file or a DICOM folder.")],
    labels: Annotated[
        list[Path] | None, typer.Argument(metavar="[LABELS]...", help="A label map, or one file per structure.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page (default: SCAN.html here).", rich_help_panel=OUTPUT)
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="A label map to compare with.", rich_help_panel=DATA)] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            help="A dataset.json, model or run that names the labels (default: found beside the label map).",
            rich_help_panel=DATA,
        ),
    ] = None,
    channel: Annotated[int | None, typer.Option(min=0, help="The channel that is shown.", rich_help_panel=DATA)] = None,
    series: Annotated[
        str | None, typer.Option(help="Of a DICOM folder with several: UID or number.", rich_help_panel=DATA)
    ] = None,
    full_resolution: Annotated[
        bool, typer.Option("--full-resolution", help="Do not reduce large scans.", rich_help_panel=OUTPUT)
    ] = False,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.", rich_help_panel=OUTPUT)
    ] = True,
    debug: Debug = False,
) -> None:
    """Look at a scan with its label maps in a browser: three planes and 3D, label names, volumes, comparison.

    The page is one file that needs no network, so it can be sent and archived. Large scans are reduced to fit.
    """
    from resvox import workflow
    from resvox.cli.printers.console import line

    result = workflow.view(
        scan,
        labels or (),
        out,
        reference=reference,
        names=names,
        channel=channel,
        series=series,
        full_resolution=full_resolution,
        open_browser=open_browser,
    )
    for note in result.notes:
        line(note, style="yellow", stderr=True)
    line(f"Wrote {result.path}" + ("" if result.opened or not open_browser else "; open it in a browser"))
