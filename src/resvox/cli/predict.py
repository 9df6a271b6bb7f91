"""The command `resvox predict`."""

from __future__ import annotations

import atexit
import gc
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import (
    DATA,
    OUTPUT,
    RUN,
    Debug,
    Device,
    DeviceOption,
    PredictPrecision,
    Split,
    choices,
    examples,
    one_of,
    verb,
)
from resvox.errors import InferenceError
from resvox.fleet.options import CLUSTERS, FleetOptions
from resvox.inference.engines.table import engine_names
from resvox.prediction.options import DEFAULTS, DICOM_KINDS, FORMATS, RESAMPLING, SPEEDS, PredictOptions
from resvox.prediction.totalsegmentator.choices import TotalChoices

Engine = Enum("Engine", {name.replace("-", "_"): name for name in engine_names()}, type=str)  # type: ignore[misc]
Resample = Enum("Resample", {name: name for name in RESAMPLING}, type=str)  # type: ignore[misc]
Speed = Enum("Speed", {name: name for name in SPEEDS}, type=str)  # type: ignore[misc]
SPEED = Speed(DEFAULTS.speed)
ENGINE, RESAMPLE = Engine(DEFAULTS.engine), Resample(DEFAULTS.resample)
NNUNET = "Models of nnU-Net"
TOTAL = "Tasks of TotalSegmentator"
SCALE = "Scans by address"
FLEET = FleetOptions()
DEVICE, PRECISION = Device(DEFAULTS.device), PredictPrecision(DEFAULTS.precision)


@verb(
    examples(
        "resvox predict runs/liver scan.nii.gz -o out",
        "resvox predict model.safetensors scans/ dicom_series/ -o out --mirror --profile",
        "resvox predict runs/fold_0 scans/ -o out --also runs/fold_1 --also runs/fold_2",
        "resvox predict liver.onnx scans/ -o out",
        "resvox predict hf://owner/liver-ct scans/ -o out",
        "resvox predict nnUNet_results/Dataset002_Heart/nnUNetTrainer__nnUNetPlans__3d_fullres scans/ -o out",
        "resvox predict spleen_ct_segmentation/ scans/ -o out",
        "resvox predict heart.zip scans/ -o out --folds 0 --no-mirroring --exact",
        "resvox predict total scans/ -o out --fast",
        "resvox predict total scans/ -o out --roi-subset liver,spleen --weights-folder weights/",
        "resvox predict runs/liver dicom_series/ -o out --dicom seg --report",
        "resvox predict runs/liver scans/ -o out --speed balanced",
        "resvox predict runs/liver scans/ -o out --uncertainty --report",
        "resvox predict runs/digits digits.npz -o out",
        "resvox predict s3://models/liver.safetensors s3://scans/manifest.parquet -o s3://results/liver --shard 3/7",
        "torchrun --nproc-per-node 2 -m resvox predict model.safetensors scans/ -o out",
    )
)
def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="A model.safetensors, a run or a folder of them, an export, a folder or zip of nnU-Net or MONAI, "
            "hf://owner/name, or a TotalSegmentator task, such as total.",
        ),
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Image files, folders, folders of DICOM series; for classes also .npz, .csv. Addresses (s3://, gs://, "
            "az://, https://) of scans, and manifests of them.",
        ),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder for <case>.nii.gz, or its address.")],
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirroring",
            help="Average over mirrored copies: slower, a little better (default: nnU-Net's models alone).",
        ),
    ] = DEFAULTS.mirror,
    overlap: Annotated[
        float | None, typer.Option(min=0.0, max=0.95, help="Of neighbouring windows (default: the model's).")
    ] = DEFAULTS.overlap,
    also: Annotated[
        list[Path] | None, typer.Option("--also", help="Another model to average with; may be repeated.")
    ] = None,
    engine: Annotated[Engine, typer.Option(help="What computes.", rich_help_panel=RUN)] = ENGINE,
    device: DeviceOption = DEVICE,
    precision: Annotated[PredictPrecision, typer.Option(help="Arithmetic.", rich_help_panel=RUN)] = PRECISION,
    speed: Annotated[
        Speed, typer.Option(help="Fewer windows, as far as the labels of the first scan allow it.", rich_help_panel=RUN)
    ] = SPEED,
    processes: Annotated[
        int, typer.Option(min=1, help="That share the scans; with several GPUs one on each.", rich_help_panel=RUN)
    ] = DEFAULTS.processes,
    memory_gb: Annotated[
        float, typer.Option(min=0.01, help="For unfinished slices; beyond it a scan is tiled.", rich_help_panel=RUN)
    ] = DEFAULTS.memory_gb,
    skip_empty: Annotated[
        bool, typer.Option("--skip-empty", help="Pass over windows of air alone.", rich_help_panel=RUN)
    ] = DEFAULTS.skip_empty,
    resample: Annotated[
        Resample, typer.Option(help="What goes back to the scan's grid.", rich_help_panel=OUTPUT)
    ] = RESAMPLE,
    series: Annotated[
        str | None, typer.Option(help="Of a DICOM folder with several: UID or number.", rich_help_panel=DATA)
    ] = DEFAULTS.series,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write probabilities.", rich_help_panel=OUTPUT)
    ] = DEFAULTS.probabilities,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Also write maps of doubt, and review.csv: what to check first.",
            rich_help_panel=OUTPUT,
        ),
    ] = DEFAULTS.uncertainty,
    calibrated: Annotated[
        bool,
        typer.Option("--calibrated", help="Probabilities with the model's temperature.", rich_help_panel=OUTPUT),
    ] = DEFAULTS.calibrated,
    region_masks: Annotated[
        bool,
        typer.Option(
            "--region-masks",
            help="Of a model for regions, which may overlap: also write a mask of each.",
            rich_help_panel=OUTPUT,
        ),
    ] = DEFAULTS.region_masks,
    label_format: Annotated[
        str,
        typer.Option(
            "--format",
            parser=one_of(FORMATS),
            metavar=choices(FORMATS),
            help="Of the label maps of scans.",
            rich_help_panel=OUTPUT,
        ),
    ] = DEFAULTS.format,
    dicom: Annotated[
        str | None,
        typer.Option(
            parser=one_of(DICOM_KINDS),
            metavar=choices(DICOM_KINDS),
            help="Also write a DICOM object that refers to the series.",
            rich_help_panel=OUTPUT,
        ),
    ] = DEFAULTS.dicom,
    sidecar: Annotated[
        bool,
        typer.Option(
            "--sidecar", help="Also write <case>.json: label names, colours, volumes.", rich_help_panel=OUTPUT
        ),
    ] = DEFAULTS.sidecar,
    report: Annotated[
        bool, typer.Option("--report", help="Also write report.html, to look at the results.", rich_help_panel=OUTPUT)
    ] = DEFAULTS.report,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do again what is there.", rich_help_panel=OUTPUT)
    ] = DEFAULTS.overwrite,
    suffix: Annotated[str, typer.Option(help="Put behind a case's name.", rich_help_panel=OUTPUT)] = DEFAULTS.suffix,
    split: Annotated[
        Split | None,
        typer.Option(help="Of a .csv or .npz (default: test, where there is one).", rich_help_panel=DATA),
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="Such as 0,1 or all (default: every numbered one).", rich_help_panel=NNUNET)
    ] = None,
    checkpoint: Annotated[
        str, typer.Option(help="Name of the file in the folder of a fold.", rich_help_panel=NNUNET)
    ] = DEFAULTS.checkpoint,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="nnU-Net's own arithmetic, to the bit; slower.", rich_help_panel=NNUNET),
    ] = DEFAULTS.exact,
    step_size: Annotated[
        float | None,
        typer.Option(min=0.05, max=1.0, help="nnU-Net's word for 1 - overlap.", rich_help_panel=NNUNET),
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option(help="Axes of the training images, such as SPL: scans are turned to it.", rich_help_panel=NNUNET),
    ] = DEFAULTS.orientation,
    postprocess: Annotated[
        bool | None,
        typer.Option(
            "--postprocess/--no-postprocess",
            help="Apply the post-processing that cross-validation chose (default: not that of nnU-Net's models).",
            rich_help_panel=OUTPUT,
        ),
    ] = DEFAULTS.postprocess,
    weights_folder: Annotated[
        Path | None,
        typer.Option(help="With its Dataset... folders (default: its own, or TOTALSEG_...).", rich_help_panel=TOTAL),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="The models of 3 mm.", rich_help_panel=TOTAL)] = False,
    fastest: Annotated[bool, typer.Option("--fastest", help="The models of 6 mm.", rich_help_panel=TOTAL)] = False,
    roi_subset: Annotated[
        list[str] | None,
        typer.Option(help="Only these labels: names with commas; may be repeated.", rich_help_panel=TOTAL),
    ] = None,
    robust_crop: Annotated[
        bool,
        typer.Option("--robust-crop", help="Find the region to look at with 3 mm.", rich_help_panel=TOTAL),
    ] = DEFAULTS.total.robust_crop,
    resampling_order: Annotated[
        int, typer.Option(help="1, or 3 as before its version 2.16.", rich_help_panel=TOTAL)
    ] = DEFAULTS.total.resampling_order,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Do one of N parts (default: by the variables of an array job).", rich_help_panel=SCALE
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(parser=one_of(CLUSTERS), metavar=choices(CLUSTERS), help="Run on it.", rich_help_panel=SCALE),
    ] = FLEET.cluster,
    cluster_address: Annotated[
        str | None,
        typer.Option(
            help="Of a running cluster: auto, ray://HEAD:10001 (default: this machine).", rich_help_panel=SCALE
        ),
    ] = FLEET.address,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Actors (default: one per GPU, or per 4 cores).", rich_help_panel=SCALE),
    ] = FLEET.workers,
    scratch_gb: Annotated[
        float, typer.Option(min=0.001, help="For files that are fetched ahead.", rich_help_panel=SCALE)
    ] = FLEET.scratch_gb,
    retry_aside: Annotated[
        bool,
        typer.Option("--retry-aside", help="Also do scans that ended two processes.", rich_help_panel=SCALE),
    ] = FLEET.retry_aside,
    core_hour_price: Annotated[
        float | None,
        typer.Option(min=0.0, help="Of a core for an hour: the cost is shown.", rich_help_panel=SCALE),
    ] = FLEET.core_hour_price,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show the seconds of each stage.", rich_help_panel=OUTPUT)
    ] = False,
    debug: Debug = False,
) -> None:
    """Write a label map for every scan, on the scan's own grid (or a volume of values, or a table of classes).

    Existing results are kept, so the same command again does what is missing. Several processes may share
    a folder. A scan that cannot be used is reported in one line, the others are done, and the exit code is 1.
    """
    from resvox import workflow

    # At exit Python searches all objects for cycles to free, which took 0.2 s after a prediction. The memory of a
    # process that ends is given back anyway, and files and locks are closed by then.
    atexit.register(gc.freeze)
    from resvox.cli.printers import predict as output

    options = PredictOptions(
        model=[model, *also] if also else model,
        inputs=inputs,
        out=Path(out),
        mirror=mirror,
        overlap=_overlap(overlap, step_size),
        engine=engine.value,
        device=device.value,
        precision=precision.value,
        resample=resample.value,
        speed=speed.value,
        skip_empty=skip_empty,
        memory_gb=memory_gb,
        series=series,
        processes=processes,
        probabilities=probabilities,
        uncertainty=uncertainty,
        calibrated=calibrated,
        region_masks=region_masks,
        format=label_format,
        dicom=dicom,
        sidecar=sidecar,
        report=report,
        overwrite=overwrite,
        suffix=suffix,
        split=split.value if split else None,
        folds=tuple(fold.strip().removeprefix("fold_") for fold in folds.split(",")) if folds else None,
        checkpoint=checkpoint,
        exact=exact,
        orientation=orientation,
        postprocess=postprocess,
        total=TotalChoices(
            weights_folder=weights_folder,
            run=_run(fast, fastest),
            roi_subset=_names(roi_subset),
            robust_crop=robust_crop,
            resampling_order=resampling_order,
        ),
    )
    fleet = FleetOptions(
        shard=shard,
        cluster=cluster,
        address=cluster_address,
        workers=workers,
        scratch_gb=scratch_gb,
        retry_aside=retry_aside,
        core_hour_price=core_hour_price,
    )
    with output.PredictDisplay(debug=debug) as display:
        result = workflow.predict(
            options=options,
            fleet=fleet,
            on_start=display.start,
            on_windows=display.windows,
            on_case=display.case,
            on_note=display.note,
            on_row=display.row,
        )
    output.show_predicted(result, profile=profile)
    if not result.ok:
        raise typer.Exit(1)


def _run(fast: bool, fastest: bool) -> str:
    if fast and fastest:
        raise InferenceError("--fast and --fastest", expected="one of them")
    return "fast" if fast else "fastest" if fastest else DEFAULTS.total.run


def _names(lists: list[str] | None) -> tuple[str, ...] | None:
    """Names of labels, separated by commas in each of several options."""
    if lists is None:
        return None
    return tuple(dict.fromkeys(name.strip() for each in lists for name in each.split(",") if name.strip()))


def _overlap(overlap: float | None, step_size: float | None) -> float | None:
    if step_size is None:
        return overlap
    if overlap is not None:
        raise InferenceError("--overlap and --step-size", expected="one of them", fix="--overlap is 1 - the step size")
    return round(1 - step_size, 12)
