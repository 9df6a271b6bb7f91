"""The command `resvox convert-labels`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import DATA, OUTPUT, Debug, choices, examples, one_of, verb

KINDS = ("seg", "labelmap", "rtstruct")


@verb(
    examples(
        "resvox convert-labels prediction.nii.gz --scan dicom_series/ -o prediction.dcm",
        "resvox convert-labels prediction.nii.gz --scan dicom_series/ -o structures.dcm --to rtstruct",
        "resvox convert-labels structures.dcm --scan dicom_series/ -o structures.nii.gz",
        "resvox convert-labels prediction.nii.gz -o prediction.seg.nrrd",
    )
)
def convert_labels(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="A label map of any image format, a DICOM SEG or an RTSTRUCT.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file: .dcm, .seg.nrrd, .nii.gz, .nrrd, .mha.")],
    to: Annotated[
        str | None,
        typer.Option(
            parser=one_of(KINDS),
            metavar=choices(KINDS),
            help="The kind of DICOM object (default: seg).",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    scan: Annotated[
        Path | None, typer.Option(help="The scan: a DICOM folder, or an image for SEG input.", rich_help_panel=DATA)
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Of a DICOM folder with several: UID or number.", rich_help_panel=DATA)
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            help="A dataset.json, model or run that names the labels (default: found beside the label map).",
            rich_help_panel=DATA,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.", rich_help_panel=OUTPUT)] = False,
    debug: Debug = False,
) -> None:
    """Convert label maps between image formats, DICOM SEG and RTSTRUCT.

    A DICOM result refers to the slices of its series and lies on its grid, whatever grid the label map has.
    """
    from resvox import workflow
    from resvox.cli.printers.console import line

    result = workflow.convert_labels(labels, out, to=to, scan=scan, series=series, names=names, overwrite=overwrite)
    for remark in result.remarks:
        line(remark, style="yellow", stderr=True)
    absent = f"; absent: {', '.join(result.absent)}" if result.absent else ""
    line(f"Wrote {result.path} ({result.kind}, {len(result.labels)} labels{absent})")
