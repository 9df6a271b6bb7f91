"""The whole way on a real scan: make a dataset, train, predict, evaluate, show."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.workflow.demo.result import DemoResult, DemoRun

if TYPE_CHECKING:
    from resvox.evaluation import ScoreTable
    from resvox.prediction.outcomes import PredictResult
    from resvox.training import FitResult, Plan
    from resvox.workflow.demo.data import DemoData


def demo(
    out: str | os.PathLike[str] | None = None,
    *,
    unseen: bool = False,
    steps: int | None = None,
    minutes: float | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
    on_part: Callable[[str], object] | None = None,
) -> DemoResult:
    """Train on a real CT that a package ships, predict, evaluate, and write a report.

    Args:
        out: the folder (default "demo", or "demo-unseen"): dataset/, run/, model.safetensors, prediction.nii.gz,
            metrics.json, report.html.
        unseen: train on the chest CT's spine, and score a lumbar CT of another patient (needs `tptbox`).
        steps, minutes: a shorter or longer training than the demo's own.
        on_part: called with a line of text as each part begins.

    Raises:
        DatasetError: a package that holds the scans is missing; the message states how to install it.
    """
    from resvox.workflow.demo.data import make_chest_dataset, make_spine_dataset
    from resvox.workflow.demo.interpretation import explain
    from resvox.workflow.demo.report import write_report

    out = Path(out if out is not None else ("demo-unseen" if unseen else "demo"))
    say = on_part or (lambda text: None)
    clock = _Clock()
    say("Making a dataset of a real CT")
    data = (make_spine_dataset if unseen else make_chest_dataset)(out / "dataset")
    clock.mark("dataset")
    say("Training" if not unseen else "Training on the chest CT")
    plan, fit = _train(data, out / "run", steps=steps, minutes=minutes, device=device, seed=seed, progress=progress)
    model = Path(shutil.copyfile(fit.model_path, out / "model.safetensors"))
    clock.mark("training")
    say("Predicting" if not unseen else "Predicting the lumbar CT, which training never saw")
    predicted, prediction = _predict(data, model, out, device=device, say=say)
    clock.mark("prediction")
    say("Evaluating")
    scores = _evaluate(data, prediction, out / "metrics.json")
    clock.mark("evaluation")
    page = _write_page(data, prediction, out / "view.html")
    run = DemoRun(
        data=data,
        plan=plan,
        fit=fit,
        predicted=predicted,
        prediction=prediction,
        scores=scores,
        meaning=explain(data),
        seconds=clock.parts,
        commands=_commands(data, out),
        page=page,
    )
    report = write_report(run, out / "report.html")
    clock.mark("report")
    return DemoResult(
        out=out,
        model=model,
        prediction=prediction,
        metrics=out / "metrics.json",
        report=report,
        scores=scores,
        meaning=run.meaning,
        seconds=clock.parts,
    )


def _train(
    data: DemoData,
    run: Path,
    *,
    steps: int | None,
    minutes: float | None,
    device: str,
    seed: int,
    progress: bool,
) -> tuple[Plan, FitResult]:
    from resvox.workflow.demo.plan import draw_demo_plan
    from resvox.workflow.train import train

    plan = draw_demo_plan(data, steps=steps, minutes=minutes, device=device, seed=seed)
    result = train(data.dataset, run, plan=plan, overwrite=True, device=device, progress=progress)
    assert result.fit is not None  # only plan_only leaves it out
    return plan, result.fit


def _predict(
    data: DemoData, model: Path, out: Path, *, device: str, say: Callable[[str], object]
) -> tuple[PredictResult, Path]:
    from resvox.workflow.predict import predict

    # Float32, so that the figures are those of the guide on every processor.
    result = predict(
        model, data.image, out / "predictions", device=device, precision="float32", overwrite=True, on_note=say
    )
    for failed in result.with_status("failed"):
        assert failed.error is not None
        raise failed.error
    (made,) = result.with_status("written")
    assert made.path is not None
    return result, Path(shutil.copyfile(made.path, out / "prediction.nii.gz"))


def _evaluate(data: DemoData, prediction: Path, json_path: Path) -> ScoreTable:
    from resvox.evaluation import ScoreTable
    from resvox.workflow.evaluate import evaluate

    found = evaluate(
        prediction, data.reference, task="segmentation", labels=data.labels, tolerance_mm=3.0, json_path=json_path
    )
    assert isinstance(found.scores, ScoreTable)
    return found.scores


def _write_page(data: DemoData, prediction: Path, path: Path) -> Path | None:
    """The interactive page; None where this installation lacks the viewer's script, which the demo can do without."""
    from resvox.errors import ViewerMissingError
    from resvox.viewer import label_colours, view

    page = view(
        data.image,
        prediction,
        reference=data.reference,
        names=data.labels,
        colours=label_colours(data.labels),
        title=f"{data.case}: prediction and reference",
    )
    try:
        page.save(path)
    except ViewerMissingError:
        return None
    return path


def _commands(data: DemoData, out: Path) -> tuple[str, ...]:
    return (
        f"resvox train {data.dataset} -o {out / 'run'} --plan {out / 'run' / 'plan.yaml'} --overwrite",
        f"resvox predict {out / 'model.safetensors'} {data.image} -o {out / 'predictions'} --overwrite",
        f"resvox evaluate {out / 'prediction.nii.gz'} {data.reference} --labels {data.dataset / 'dataset.json'} "
        "--tolerance-mm 3",
    )


class _Clock:
    """Seconds of each part, one after the other."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, part: str) -> None:
        now = time.perf_counter()
        self.parts[part] = now - self._last
        self._last = now
