"""What `resvox train` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from resvox.cli.printers.console import line, out
from resvox.machine import is_first_process

if TYPE_CHECKING:
    from resvox.training.plans.base import TrainingPlan
    from resvox.workflow.folds.run import FoldsResult
    from resvox.workflow.train import TrainResult


def show_plan(dataset: Any, plan: TrainingPlan) -> None:
    """The dataset, and each decision of the plan with its reason."""
    if not is_first_process():
        return
    what, names = dataset.learned
    channels, learned = ", ".join(dataset.channel_names), ", ".join(names)
    line(f"{dataset.name}: {len(dataset.cases)} cases, {channels}; {what}: {learned}")
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_column(style="dim")
    for name, value in _decisions(plan).items():
        table.add_row(name, escape(value), escape(plan.notes.get(name, "")))
    out.print(table)


def _decisions(plan: TrainingPlan) -> dict[str, str]:
    """The decisions of a plan in the order in which they are shown; some fields belong to some tasks only."""
    fields = plan.to_dict()

    def times(name: str) -> str:
        values = fields[name]
        return "as in the files" if values is None else " x ".join(f"{value:g}" for value in values)

    length = f"{plan.steps}"
    if plan.max_minutes is not None:
        length += f", at most {plan.max_minutes:g} minutes"
    has_encoder = "encoder_name" in plan.model_options()
    encoder = f" with {fields['encoder']}, {fields['encoder_depth']} stages" if has_encoder else ""
    strides = plan.axis_strides[: fields.get("encoder_depth", 5)]
    shown = {
        "model": f"{plan.model}{encoder}",
        "strides": ", ".join("x".join(map(str, stride)) for stride in strides),
        "spacing_mm": times("spacing_mm"),
        **{name: times(name) for name in ("patch_size", "image_size") if name in fields},
        **{name: str(fields[name]) for name in ("fit",) if name in fields},
        "batch_size": str(plan.batch_size),
        "normalization": ", ".join(_normalization(dict(each)) for each in plan.normalization),
        "mirror_axes": ", ".join(map(str, plan.mirror_axes)) or "none",
        **{name: str(fields[name]) for name in ("class_balance",) if name in fields},
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
    if result.folds is not None:
        _show_folds(result.folds, dataset)
        return
    if result.fit is None:
        folder = result.plan_path.parent
        line(f"Wrote {result.plan_path}. Edit it, then: resvox train {dataset} -o {folder} --plan {result.plan_path}")
        return
    if result.fit.profile is not None:
        show_profile(result.fit.profile)
    best = result.fit.best_score
    shown = "-" if best is None else f"{best:.3f}" if best == 0 or abs(best) >= 0.001 else f"{best:.3g}"
    name = "mean Dice" if result.fit.title == "Dice" else result.fit.title
    line(f"Best {name} {shown} after {result.fit.seconds:.0f} s", style="bold")
    line(f"Wrote {result.fit.model_path}. Now: resvox predict {result.fit.run_folder} INPUT... -o OUT")


def _show_folds(result: FoldsResult, dataset: Path) -> None:
    """Scores out of fold, what they chose, and what to do next."""
    if result.left:
        done, left = ", ".join(map(str, result.validated)) or "none", ", ".join(map(str, result.left))
        line(f"Folds finished: {done}; left: {left}. Now: resvox train {dataset} -o {result.folder} --resume")
        return
    shown = {fold: value for fold, value in (result.by_fold or result.validated).items() if value is not None}
    listed = ", ".join(f"fold {fold} {value:.3f}" for fold, value in shown.items())
    mean = f"{sum(shown.values()) / len(shown):.3f}" if shown else "-"
    line(f"Mean {result.title} out of fold {mean} ({listed})", style="bold")
    if result.scores is not None and result.choice is not None:
        out.print(result.scores.table(title="Out of fold, on the grids of the scans"))
        chosen = [f"{each.words} of {', '.join(map(str, each.values))}" for each in result.choice.rules]
        line(f"Post-processing that helped out of fold: {'; '.join(chosen) or 'none'}")
        line(f"Wrote {result.folder / 'cross_validation.json'} and .csv")
    line(f"The mean of all folds predicts: resvox predict {result.folder} INPUT... -o OUT")


def show_profile(profile: Any) -> None:
    """Where the time of the training went."""
    table = Table(
        box=None, padding=(0, 2), title=f"{profile.steps} steps in {profile.total:.1f} s", title_justify="left"
    )
    for name, style in (("stage", "bold"), ("seconds", ""), ("ms per step", ""), ("share", "")):
        table.add_column(name, style=style, justify="left" if name == "stage" else "right")
    for row in profile.rows():
        table.add_row(*row)
    out.print(table)
