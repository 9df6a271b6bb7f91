"""The command `resvox serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resvox.cli.app import DATA, RUN, Debug, PredictPrecision, examples, one_of, verb
from resvox.inference.engines.table import engine_names

ACCESS, LIMITS = "Who may connect", "Limits"


@verb(
    examples(
        "resvox serve runs/liver",
        "resvox serve liver=runs/a spleen=runs/b/model.safetensors --port 8080 --data /var/lib/resvox",
        "resvox serve runs/liver --host 0.0.0.0 --token-file token --device cuda:0 --device cuda:1",
        "resvox serve runs/liver --dicomweb http://127.0.0.1:8042/dicom-web --origin https://ohif.example.org",
        "resvox serve --config serve.toml",
    )
)
def serve(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=]MODEL...", help="Model files, runs, or folders of folds.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file of settings (docs/serve.md).", rich_help_panel=RUN)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of queue and results (default: resvox-serve).", rich_help_panel=DATA)
    ] = None,
    dicomweb: Annotated[
        str | None, typer.Option(metavar="URL", help="Server for series and SEG (Orthanc, PACS).", rich_help_panel=DATA)
    ] = None,
    keep_hours: Annotated[
        float | None, typer.Option(help="Results are removed after (default: 24).", rich_help_panel=DATA)
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to bind (default: 127.0.0.1).", rich_help_panel=ACCESS)
    ] = None,
    port: Annotated[int | None, typer.Option(help="0: any free (default: 8000).", rich_help_panel=ACCESS)] = None,
    token_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Token for clients; needed beyond loopback.", rich_help_panel=ACCESS),
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Of pages that may call (OHIF).", rich_help_panel=ACCESS)
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Name of this server for clients.", rich_help_panel=ACCESS)
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="auto, cpu, cuda, cuda:N; one worker process for each.", rich_help_panel=RUN),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(parser=one_of(engine_names()), metavar="NAME", help="What computes.", rich_help_panel=RUN),
    ] = None,
    precision: Annotated[PredictPrecision | None, typer.Option(help="Arithmetic.", rich_help_panel=RUN)] = None,
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirroring",
            help="Average over mirrored copies (default: nnU-Net's models alone).",
            rich_help_panel=RUN,
        ),
    ] = None,
    max_upload_mb: Annotated[
        float | None, typer.Option(help="Of a request (default: 2048).", rich_help_panel=LIMITS)
    ] = None,
    max_queue: Annotated[int | None, typer.Option(help="Waiting jobs (default: 100).", rich_help_panel=LIMITS)] = None,
    job_minutes: Annotated[
        float | None, typer.Option(help="Longer jobs are ended (default: 60).", rich_help_panel=LIMITS)
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            parser=one_of(("debug", "info", "warning", "error")),
            metavar="LEVEL",
            help="Of the log.",
            rich_help_panel=RUN,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Segment uploaded scans: a web page, a REST interface, MONAI Label's protocol (3D Slicer, OHIF), DICOMweb.

    Every setting can also be an environment variable (RESVOX_SERVE_PORT=8080) or a line of the TOML file (port = 8080);
    docs/serve.md lists all. Stopping with Ctrl-C or SIGTERM finishes running jobs or queues them again.
    """
    from resvox import workflow
    from resvox.cli.printers.serve import show_ready

    given = {
        "models": tuple(models or ()),
        "data": data,
        "dicomweb": dicomweb,
        "keep_hours": keep_hours,
        "host": host,
        "port": port,
        "token_file": token_file,
        "origins": tuple(origin or ()),
        "hosts": tuple(allow_host or ()),
        "devices": tuple(device or ()),
        "engine": engine,
        "precision": None if precision is None else precision.value,
        "mirror": mirror,
        "max_upload_mb": max_upload_mb,
        "max_queue": max_queue,
        "job_minutes": job_minutes,
        "log_level": log_level,
    }
    workflow.serve(given, config=config, on_ready=show_ready)
