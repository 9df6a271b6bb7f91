"""The command line: every verb parses, calls one workflow function, prints.

Nothing heavy is imported at the top: `resvox --help` answers before torch would have been found.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from resvox._version import __version__
from resvox.errors import ResvoxError

Verb = TypeVar("Verb", bound=Callable[..., None])

app = typer.Typer(
    name="resvox",
    help="Residual networks for 2D images and 3D volumes, from a scan to a label map.",
    epilog="Start with [bold]resvox demo[/bold]. Every command has --help with examples.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback is shown with --debug, and then plainly
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Device(str, Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class TrainPrecision(str, Enum):
    """Precisions of training."""

    auto = "auto"
    float32 = "32-true"
    bfloat16 = "bf16-mixed"
    float16 = "16-mixed"


class PredictPrecision(str, Enum):
    """Precisions of prediction."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


MODEL, DATA, RUN, OUTPUT = "Network", "What it sees", "The run", "Output"
Debug = Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=RUN)]


def examples(*lines: str) -> str:
    """An epilog that keeps its lines: \\b is Click's mark for that."""
    return "\b\n[bold]Examples[/bold]\n" + "\n".join(f"[cyan]$ {line}[/cyan]" for line in lines)


def verb(epilog: str) -> Callable[[Verb], Verb]:
    """Register a command whose errors are one line on stderr, unless --debug asks for more."""

    def register(function: Verb) -> Verb:
        @functools.wraps(function)
        def run(**arguments: Any) -> None:
            try:
                function(**arguments)
            except KeyboardInterrupt:
                say_error("interrupted; what is written is whole. " + RESUME.get(function.__name__, ""))
                raise typer.Exit(130) from None
            except BrokenPipeError:  # `resvox models | head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(1) from None
            except (ResvoxError, OSError, MemoryError) as error:
                if arguments.get("debug"):
                    raise
                say_error(in_one_line(error))
                raise typer.Exit(1) from None

        # Paragraphs as one line each: Typer keeps the source's line breaks, whatever the terminal's width.
        text = "\n\n".join(" ".join(part.split()) for part in (function.__doc__ or "").split("\n\n"))
        app.command(function.__name__, help=text, epilog=epilog)(run)
        return function

    return register


RESUME = {
    "train": "The same command with --resume goes on.",
    "predict": "The same command goes on where it stopped.",
    "demo": "The same command begins again.",
}


def in_one_line(error: BaseException) -> str:
    """An error's text with the file first."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return " ".join(str(error).split()) or f"not enough memory ({type(error).__name__})"


def say_error(text: str) -> None:
    """One line on stderr, however long."""
    typer.echo(typer.style("error: ", fg="red", bold=True) + text, err=True)


def numbers(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """A parser of ``D,H,W``."""

    def parse(text: str) -> Any:
        try:
            values = tuple(kind(part) for part in text.replace("x", ",").split(","))
        except ValueError:
            values = ()
        if len(values) not in (2, 3) or min(values) <= 0:
            raise typer.BadParameter(f"{text!r}; expected two or three positive numbers: D,H,W or H,W")
        return values

    return parse


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"resvox {__version__}")
        raise typer.Exit


@verb(
    examples(
        "resvox train Dataset001_Liver -o runs/liver",
        "resvox train scans.csv -o runs/liver --encoder resnet34 --minutes 120",
        "resvox train Dataset001_Liver -o runs/liver --plan-only",
        "resvox train Dataset001_Liver -o runs/liver --plan runs/liver/plan.yaml",
        "resvox train Dataset001_Liver -o runs/liver --resume",
    )
)
def train(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Folder with dataset.json (MSD, nnU-Net), or a CSV manifest.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
    model: Annotated[
        str | None, typer.Option(help="Segmentation model (default: unet).", rich_help_panel=MODEL)
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Its encoder (default: resnet18).", rich_help_panel=MODEL)] = None,
    patch_size: Annotated[
        Any,
        typer.Option(parser=numbers(int), metavar="D,H,W", help="Voxels of a patch.", rich_help_panel=DATA),
    ] = None,
    spacing: Annotated[
        Any,
        typer.Option(parser=numbers(float), metavar="D,H,W", help="Target spacing in mm.", rich_help_panel=DATA),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Patches a step.", rich_help_panel=DATA)] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.", rich_help_panel=RUN)] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop after so many minutes.", rich_help_panel=RUN)
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="Use this plan.yaml, not one drawn from the data.", rich_help_panel=RUN)
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Write RUN/plan.yaml and stop.", rich_help_panel=RUN)
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.", rich_help_panel=RUN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where a run is.", rich_help_panel=RUN)
    ] = False,
    device: DeviceOption = Device.auto,
    processes: Annotated[int, typer.Option(min=1, help="Processes that train together.", rich_help_panel=RUN)] = 1,
    precision: Annotated[TrainPrecision | None, typer.Option(help="Arithmetic.", rich_help_panel=RUN)] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all randomness.", rich_help_panel=RUN)] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that cut and augment patches.", rich_help_panel=RUN)
    ] = 0,
    debug: Debug = False,
) -> None:
    """Train a segmentation model on labelled scans.

    Reads the dataset, draws a plan from what the data are like, shows it and trains. RUN/model.safetensors holds the
    network, its weights, the preprocessing and the labels.
    """
    from resvox import workflow
    from resvox.viewer import terminal

    result = workflow.train(
        dataset,
        out,
        model=model,
        encoder=encoder,
        steps=steps,
        minutes=minutes,
        patch_size=patch_size,
        spacing_mm=spacing,
        batch_size=batch_size,
        plan=plan,
        plan_only=plan_only,
        resume=resume,
        overwrite=overwrite,
        device=device.value,
        processes=processes,
        precision=precision.value if precision else None,
        seed=seed,
        workers=workers,
        on_plan=terminal.show_plan,
    )
    terminal.show_trained(result, dataset)


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


@verb(examples("resvox models", "resvox models 'resnet*v2'", "resvox models --task segmentation --json"))
def models(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="A shell pattern such as 'resnet*v2'.")] = "*",
    family: Annotated[str | None, typer.Option(help="resnet, resnext, seresnet, unet, ...")] = None,
    task: Annotated[str | None, typer.Option(help="classification, segmentation or regression.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of names.", rich_help_panel=OUTPUT)] = False,
    debug: Debug = False,
) -> None:
    """Show the catalog of networks."""
    import json

    import resvox

    found = resvox.list_models(pattern, family=family, task=task)
    if as_json:
        typer.echo(json.dumps(list(found)))
    elif found:
        typer.echo(repr(found))
    else:
        raise ResvoxError(f"no model matches {pattern!r}", fix="resvox models shows all names")


@verb(
    examples(
        "resvox walkthrough resnet26 --input 1,3,214,214",
        "resvox walkthrough resnet50 --input 1,1,96,96,96 norm=instance num_classes=2",
        "resvox walkthrough unet --input 2,1,64,64,64 encoder_name=resnet34 --markdown",
    )
)
def walkthrough(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name that `resvox models` shows.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[OPTION=VALUE]...", help="Options of the model.")
    ] = None,
    input_shape: Annotated[
        str, typer.Option("--input", help="batch,channels,H,W or batch,channels,D,H,W.", rich_help_panel=DATA)
    ] = "1,3,214,214",
    depth: Annotated[
        int | None, typer.Option(min=1, help="Levels of rows (default: stages and blocks).", rich_help_panel=OUTPUT)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown table.", rich_help_panel=OUTPUT)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All rows as JSON.", rich_help_panel=OUTPUT)] = False,
    debug: Debug = False,
) -> None:
    """Walk through a network: shapes, parameters, FLOPs, memory, receptive field. Nothing is built."""
    from resvox.walk import Walkthrough, parse_options, parse_shape

    walk = Walkthrough.of(model, parse_shape(input_shape), **parse_options(options or []))
    if as_json or markdown:
        typer.echo(walk.to_json() if as_json else walk.to_markdown(depth=depth).rstrip())
    else:
        walk.print(depth=depth)


@verb(examples("resvox demo", "resvox demo -o quick --minutes 1", "resvox demo --unseen"))
def demo(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Its folder (default: demo, or demo-unseen).")] = None,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Score a CT of another patient that training never saw.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of training, instead of the demo's own.", rich_help_panel=RUN)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop training after so many minutes.", rich_help_panel=RUN)
    ] = None,
    device: DeviceOption = Device.auto,
    seed: Annotated[int, typer.Option(min=0, help="Of all randomness.", rich_help_panel=RUN)] = 0,
    debug: Debug = False,
) -> None:
    """Train, predict and evaluate on a real CT, and write a report, in a few minutes."""
    from resvox import workflow
    from resvox.viewer import terminal

    result = workflow.demo(
        out,
        unseen=unseen,
        steps=steps,
        minutes=minutes,
        device=device.value,
        seed=seed,
        on_part=terminal.show_part,
    )
    terminal.show_demo(result)


def main() -> None:
    """The entry point of the ``resvox`` command."""
    # Where TensorFlow is installed, TensorBoard loads it and it greets; a report of ours must not begin with that.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # OpenMP's threads wait by spinning: beside other busy programs that made training 4 times slower, measured on two
    # cores shared by five. Sleeping instead costs microseconds. It is read when torch is first imported, so here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()
