"""What the command line prints: plans, progress, outcomes, scores. Results on stdout, the rest on stderr."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from resvox.training.plans.base import TrainingPlan
    from resvox.workflow import CaseOutcome, DemoResult, EvaluateResult, PredictResult
    from resvox.workflow.train import TrainResult

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
LEARNED = {  # by task: in words, and where a dataset has it
    "segmentation": ("labels", "foreground"),
    "classification": ("classes", "classes"),
    "regression": ("values", "target_names"),
}
MOST_ANSWERS = 50  # of a classifier, one line each


def line(text: str, *, style: str = "", stderr: bool = False) -> None:
    """One line, never wrapped: a log's reader and grep need it whole."""
    (err if stderr else out).print(text, style=style or None, markup=False, soft_wrap=True)


def is_first_process() -> bool:
    """False in all but one of the processes that torchrun started together."""
    return os.environ.get("RANK", "0") == "0"


def show_plan(dataset: Any, plan: TrainingPlan) -> None:
    """What was found and decided, each decision with its reason."""
    if not is_first_process():
        return
    what, attribute = LEARNED[plan.task]
    learned = ", ".join(getattr(dataset, attribute))
    line(f"{dataset.name}: {len(dataset.cases)} cases, {', '.join(dataset.channel_names)}; {what}: {learned}")
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_column(style="dim")
    for name, value in _decisions(plan).items():
        table.add_row(name, escape(value), escape(plan.notes.get(name, "")))
    out.print(table)


def _decisions(plan: TrainingPlan) -> dict[str, str]:
    """What a plan decides, in the order in which it is shown; of other tasks' fields those that the plan has."""
    told = plan.to_dict()

    def times(name: str) -> str:
        values = told[name]
        return "as in the files" if values is None else " x ".join(f"{value:g}" for value in values)

    length = f"{plan.steps}"
    if plan.max_minutes is not None:
        length += f", at most {plan.max_minutes:g} minutes"
    has_encoder = "encoder_name" in plan.model_options()
    encoder = f" with {told['encoder']}, {told['encoder_depth']} stages" if has_encoder else ""
    strides = plan.axis_strides[: told.get("encoder_depth", 5)]
    shown = {
        "model": f"{plan.model}{encoder}",
        "strides": ", ".join("x".join(map(str, stride)) for stride in strides),
        "spacing_mm": times("spacing_mm"),
        **{name: times(name) for name in ("patch_size", "image_size") if name in told},
        **{name: str(told[name]) for name in ("fit",) if name in told},
        "batch_size": str(plan.batch_size),
        "normalization": ", ".join(_normalization(dict(each)) for each in plan.normalization),
        "mirror_axes": ", ".join(map(str, plan.mirror_axes)) or "none",
        **{name: str(told[name]) for name in ("class_balance",) if name in told},
        "steps": length,
    }
    return shown


def _normalization(values: dict[str, object]) -> str:
    kind = values.get("kind")
    return f"window {values.get('low')} to {values.get('high')}" if kind == "window" else str(kind)


def show_trained(result: TrainResult, dataset: Path) -> None:
    """Where the model is, and what to do with it."""
    if not is_first_process():
        return
    if result.fit is None:
        folder = result.plan_path.parent
        line(f"Wrote {result.plan_path}. Edit it, then: resvox train {dataset} -o {folder} --plan {result.plan_path}")
        return
    best = result.fit.best_score
    told = "-" if best is None else f"{best:.3f}"
    name = "mean Dice" if result.fit.title == "Dice" else result.fit.title
    line(f"Best {name} {told} after {result.fit.seconds:.0f} s", style="bold")
    line(f"Wrote {result.fit.model_path}. Now: resvox predict {result.fit.run_folder} INPUT... -o OUT")


class PredictDisplay:
    """A bar for cases and one for windows on a terminal; elsewhere one line a case."""

    def __init__(self, *, debug: bool) -> None:
        self.debug = debug
        self._total = 0
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
            transient=True,
        )

    def __enter__(self) -> PredictDisplay:
        if err.is_terminal:
            self._bars.start()
        self._cases = self._bars.add_task("cases", total=None)
        self._windows = self._bars.add_task("windows", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if err.is_terminal:  # older Rich (13.7 to 14.0) prints an empty line even for a disabled bar
            self._bars.stop()

    def start(self, cases: int) -> None:
        """The number of cases is known."""
        self._total = cases
        self._bars.update(self._cases, total=cases)

    def windows(self, case: str, done: int, total: int) -> None:
        """Windows of one case."""
        self._bars.update(self._windows, description=escape(case), completed=done, total=total)

    def note(self, text: str) -> None:
        """Something went another way than asked for: an engine given up, smaller batches."""
        line(f"note: {text}", style="yellow", stderr=True)

    def case(self, outcome: CaseOutcome) -> None:
        """A case is through."""
        self._bars.advance(self._cases)
        if outcome.status == "failed":
            if self.debug and outcome.error is not None:
                line("".join(traceback.format_exception(outcome.error)).rstrip(), stderr=True)
            line(f"error: {outcome.reason}", style="red", stderr=True)
        elif outcome.answer:
            if self._total <= MOST_ANSWERS:  # a table of thousands is for reading in its file
                line(outcome.answer)
        elif outcome.status == "written":
            line(f"{outcome.path}  {sum(outcome.seconds.values()):.1f} s")
        elif outcome.status == "elsewhere":
            line(f"{outcome.id}: left to {outcome.reason}", stderr=True)
        elif outcome.reason:
            line(f"{outcome.path}: {outcome.reason}", style="yellow", stderr=True)


def show_predicted(result: PredictResult, *, profile: bool) -> None:
    """Counts and, if asked for, seconds a stage."""
    if profile and result.seconds:
        table = Table("stage", "seconds", "share", box=None, padding=(0, 2))
        total = sum(result.seconds.values())
        for stage, spent in result.seconds.items():
            table.add_row(stage, f"{spent:.2f}", f"{100 * spent / total:.0f} %")
        out.print(table)
        if result.engine:
            line(f"engine: {result.engine}")
    skipped, windows = result.skipped
    if skipped:
        line(f"{skipped} of {windows} windows were empty and passed over")
    line(f"{result} -> {result.out}", style="bold")


def show_scores(result: EvaluateResult) -> None:
    """The table, then what could not be scored."""
    out.print(result.scores.table())
    for remark in result.remarks:
        line(remark, style="yellow", stderr=True)
    for reason in result.failed:
        line(f"error: {reason}", style="red", stderr=True)
    if result.missing:
        line(f"error: no prediction for {', '.join(result.missing)}", style="red", stderr=True)
    if result.extra:
        line(f"no reference for {', '.join(result.extra)}; not scored", style="yellow", stderr=True)


def show_part(text: str) -> None:
    """A part of the demo begins."""
    line(text, style="bold")


def show_demo(result: DemoResult) -> None:
    """Scores, what they mean, and where to look."""
    out.print(result.scores.table())
    for text in result.meaning:
        out.print(text, style="yellow", markup=False)
    line(f"Done in {sum(result.seconds.values()):.0f} s. Open {result.report}", style="bold")
