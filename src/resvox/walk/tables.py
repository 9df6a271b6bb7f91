"""A walkthrough for a terminal, as Markdown, as HTML, and as plain data."""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from resvox.blueprint import Blueprint, Stage

FLOAT32_BYTES = 4
COLUMNS = ("Step", "Operation", "Input", "Output", "Parameters", "FLOPs", "Memory", "Field", "Stride")
TEXT_COLUMNS = 4  # the other columns hold figures and are right-aligned


class Walk(Protocol):
    """A network's steps for one input, with their sums: what `resvox.walk.Walkthrough` is."""

    @property
    def blueprint(self) -> Blueprint:
        """The network that is shown."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(batch, channels, \\*size)."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The steps in the order of the forward pass."""

    @property
    def parameters(self) -> int:
        """Learned values of all steps."""

    @property
    def flops(self) -> int:
        """Floating-point operations of the whole batch."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of everything that the operations write."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table: how deep it is nested, and its cells as text."""

    level: int
    cells: tuple[str, ...]


def lines(walk: Walk, depth: int | None) -> list[Line]:
    """The rows down to that depth; ``None``: the stages, and their parts that consist of several operations."""
    found: list[Line] = []
    for number, stage in enumerate(walk.stages, start=1):
        found.append(Line(level=0, cells=(f"{number}. {stage.name}", *_cells(stage))))
        found += _nested(stage, 1, depth)
    return found


def _nested(stage: Stage, level: int, depth: int | None) -> Iterator[Line]:
    if level >= (2 if depth is None else depth):
        return
    for child in stage.children:
        # a stem of a single convolution has its name: one line is enough
        if child.name != stage.name and (depth is not None or child.children):
            yield Line(level=level, cells=(child.name, *_cells(child)))
            yield from _nested(child, level + 1, depth)


def _cells(stage: Stage) -> tuple[str, ...]:
    return (
        _operation(stage),
        str(stage.input_shape),
        str(stage.output_shape),
        f"{stage.parameters:,}",
        count(stage.flops),
        binary(memory_bytes(stage)),
        per_axis(stage.receptive_field),
        per_axis(stage.stride),
    )


def _operation(stage: Stage) -> str:
    """A group of one or two operations names them in its own row."""
    if 1 <= len(stage.children) <= 2 and not any(child.children for child in stage.children):
        return f"{stage.operation}: {', '.join(child.operation for child in stage.children)}"
    return stage.operation


def totals(walk: Walk) -> tuple[str, ...]:
    """The cells of the last row."""
    figures = (f"{walk.parameters:,}", count(walk.flops), binary(walk.memory_bytes))
    return ("Total", "", str(walk.input_shape), str(walk.stages[-1].output_shape), *figures, "", "")


def memory_bytes(stage: Stage) -> int:
    """Bytes of what a step's operations write, in float32."""
    return FLOAT32_BYTES * stage.activations


def count(number: int) -> str:
    """A large count in steps of a thousand: 1234567 is ``1.23 M``."""
    value, unit = float(number), ""
    for unit in ("", " k", " M", " G", " T", " P"):
        if value < 1000 or unit == " P":
            break
        value /= 1000
    if not unit:
        return str(number)
    return f"{value:.2f}{unit}" if value < 10 else f"{value:.1f}{unit}" if value < 100 else f"{value:.0f}{unit}"


def binary(number: int) -> str:
    """Bytes in steps of 1024: 2097152 is ``2.00 MiB``."""
    value, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.2f} {unit}" if unit != "B" else f"{number} B"


def per_axis(sizes: tuple[int, ...]) -> str:
    """One number where the axes agree, else ``3x7x7``."""
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


def summary(walk: Walk) -> str:
    """One line: name, shapes, sums."""
    return (
        f"{walk.blueprint.name}, {walk.input_shape} -> {walk.stages[-1].output_shape}, {len(walk.stages)} stages, "
        f"{walk.parameters:,} parameters, {count(walk.flops)}FLOPs, {binary(walk.memory_bytes)} of activations"
    )


def _title(walk: Walk) -> str:
    return f"{walk.blueprint.name}, input {walk.input_shape}"


def table(walk: Walk, depth: int | None) -> Table:
    """The walk as a Rich table: nested rows indented, sums in the last."""
    made = Table(title=_title(walk), show_footer=True)
    for index, (name, total) in enumerate(zip(COLUMNS, totals(walk), strict=True)):
        side = "left" if index < TEXT_COLUMNS else "right"
        made.add_column(name, footer=total, justify=side, overflow="fold")  # type: ignore[arg-type]
    for line in lines(walk, depth):
        made.add_row("  " * line.level + line.cells[0], *line.cells[1:], style="dim" if line.level else None)
    return made


def show(walk: Walk, depth: int | None) -> None:
    """Print the table; in a file or pipe it is as wide as its columns need."""
    console = Console(file=sys.stdout)
    if console.is_terminal:
        console.print(table(walk, depth))
    else:
        print(text(walk, depth, None))


def text(walk: Walk, depth: int | None, width: int | None) -> str:
    """The table without colour."""
    made = table(walk, depth)
    needed = Console(width=10_000).measure(made).maximum
    console = Console(width=needed if width is None else width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(made)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())


def markdown(walk: Walk, depth: int | None) -> str:
    """A Markdown table under a heading; nested rows are indented."""
    sides = ["---" if index < TEXT_COLUMNS else "---:" for index in range(len(COLUMNS))]
    rows = [COLUMNS, sides]
    for line in lines(walk, depth):
        rows.append(("&emsp;" * line.level + f"`{line.cells[0]}`" if line.level else line.cells[0], *line.cells[1:]))
    rows.append(tuple(f"**{cell}**" if cell else "" for cell in totals(walk)))
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"# {_title(walk)}\n\n{body}\n"


def html_table(walk: Walk, depth: int | None) -> str:
    """An HTML table for notebooks."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in COLUMNS)
    body = "".join(_html_row(line.cells, line.level, "td") for line in lines(walk, depth))
    return (
        f"<table><caption>{html.escape(_title(walk))}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody><tfoot>{_html_row(totals(walk), 0, 'th')}</tfoot></table>"
    )


def _html_row(cells: tuple[str, ...], level: int, tag: str) -> str:
    indent = f' style="padding-left:{1 + 2 * level}em;text-align:left"'
    shown = "".join(f"<{tag}{'' if index else indent}>{html.escape(cell)}</{tag}>" for index, cell in enumerate(cells))
    return f"<tr>{shown}</tr>"


def as_data(walk: Walk) -> dict[str, Any]:
    """The walk as plain dictionaries, lists and numbers."""
    return {
        "name": walk.blueprint.name,
        "task": walk.blueprint.task,
        "input_shape": list(walk.input_shape),
        "output_shape": list(walk.stages[-1].output_shape),
        "parameters": walk.parameters,
        "statistics": walk.blueprint.statistics,
        "flops": walk.flops,
        "memory_bytes": walk.memory_bytes,
        "stages": [_stage_data(stage) for stage in walk.stages],
    }


def _stage_data(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "operation": stage.operation,
        "input_shape": list(stage.input_shape),
        "output_shape": list(stage.output_shape),
        "parameters": stage.parameters,
        "statistics": stage.statistics,
        "flops": stage.flops,
        "memory_bytes": memory_bytes(stage),
        "receptive_field": list(stage.receptive_field),
        "stride": list(stage.stride),
        "children": [_stage_data(child) for child in stage.children],
    }


def in_notebook() -> bool:
    """Whether this runs in a notebook, which displays the value of a cell."""
    return Console().is_jupyter
