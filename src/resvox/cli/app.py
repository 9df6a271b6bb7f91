"""The application: how commands are registered, how their errors are shown, and the options that they share."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated, Any, TypeVar

import typer

from resvox._version import __version__
from resvox.cli.commands import APPLICATIONS, CommandGroup
from resvox.cli.hints import HintingCommand
from resvox.errors import LostPeerError, ResvoxError, suggest

Verb = TypeVar("Verb", bound=Callable[..., None])

app = typer.Typer(
    name="resvox",
    cls=CommandGroup,
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


class Split(str, Enum):
    """A part of a dataset."""

    train = "train"
    validation = "validation"
    test = "test"
    all = "all"


class PredictPrecision(str, Enum):
    """Precisions of prediction."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    int8 = "int8"


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """A parser that accepts one of these names, and suggests the nearest one for another word."""

    def parse(text: str) -> str:
        if text in names:
            return text
        hint = suggest(text, names)
        raise typer.BadParameter(f"{text!r}; expected one of {', '.join(names)}" + (f"; {hint}" if hint else ""))

    return parse


def choices(names: Sequence[str]) -> str:
    """Names as the help shows them: ``[a|b]``."""
    return f"[{'|'.join(names)}]"


MODEL, DATA, LEARNING, RUN, OUTPUT = "Network", "What it sees", "How it learns", "The run", "Output"
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
                if not isinstance(error, LostPeerError) or _is_first_here():
                    say_error(in_one_line(error))
                raise typer.Exit(error.exit_code if isinstance(error, ResvoxError) else 1) from None

        # Paragraphs as one line each: Typer keeps the source's line breaks, whatever the terminal's width.
        text = "\n\n".join(" ".join(part.split()) for part in (function.__doc__ or "").split("\n\n"))
        name = function.__name__.replace("_", "-")
        APPLICATIONS[name] = typer.Typer(rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False)
        APPLICATIONS[name].command(name, cls=HintingCommand, help=text, epilog=epilog)(run)
        return function

    return register


RESUME = {
    "train": "The same command with --resume goes on.",
    "pretrain": "The same command with --resume goes on.",
    "predict": "The same command goes on where it stopped.",
    "demo": "The same command begins again.",
}


def _is_first_here() -> bool:
    from resvox.machine import is_first_here

    return is_first_here()


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


def number_or_auto(text: str | int) -> int | str:
    """A parser of a number of processes, or ``auto``."""
    if str(text) == "auto":
        return "auto"
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise typer.BadParameter(f"{text!r}; expected a number from 0 on, or auto")
    return number


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    """Options of the program itself."""
    if version:
        typer.echo(f"resvox {__version__}")
        raise typer.Exit
