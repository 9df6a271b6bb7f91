"""The whole way on a real scan: make a dataset, train, predict, evaluate, show."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resvox.evaluation import ScoreTable
    from resvox.training import FitResult, Plan
    from resvox.workflow.demo_data import DemoData
    from resvox.workflow.predict import PredictResult

# 34 slices of 10 mm: a shallower encoder, and no stride along the slices before the pixels are as coarse. One scan
# of which every voxel is to be learned: augmentation is light.
CHEST_PLAN: dict[str, Any] = {
    "encoder_depth": 4,
    "strides": ((1, 2, 2), 2, 2, 2, 2),
    "decoder_filters": (64, 32, 16, 16),
    "spacing_mm": (10.0, 4.0, 4.0),
    "patch_size": (16, 64, 64),
    "batch_size": 2,
    "steps": 400,
    "max_minutes": 5.0,  # on a busy or slow machine: a worse result rather than a longer wait
    "foreground_fraction": 0.8,
    "augmentation": "light",
}
# Patches of the size of a vertebra, because the scan to come shows three and nothing of the body around them.
SPINE_PLAN: dict[str, Any] = {
    "encoder_depth": 3,
    "strides": (2, 2, 2, 2, 2),
    "decoder_filters": (64, 32, 16),
    "spacing_mm": (5.0, 3.0, 3.0),
    "patch_size": (16, 32, 32),
    "batch_size": 4,
    "steps": 200,
    "foreground_fraction": 0.6,
    "mirror_axes": (2,),
}
# 34 slices of 10 mm: a shallower encoder, and no stride along the slices before the pixels are as coarse. One scan
# of which every voxel is to be learned: augmentation is light.
CHEST_PLAN: dict[str, Any] = {
    "encoder_depth": 4,
    "strides": ((1, 2, 2), 2, 2, 2, 2),
    "decoder_filters": (64, 32, 16, 16),
    "spacing_mm": (10.0, 4.0, 4.0),
    "patch_size": (16, 64, 64),
    "batch_size": 2,
    "steps": 400,
    "max_minutes": 5.0,  # on a busy or slow machine: a worse result rather than a longer wait
    "foreground_fraction": 0.8,
    "augmentation": "light",
}
# Patches of the size of a vertebra, because the scan to come shows three and nothing of the body around them.
SPINE_PLAN: dict[str, Any] = {
    "encoder_depth": 3,
    "strides": (2, 2, 2, 2, 2),
    "decoder_filters": (64, 32, 16),
    "spacing_mm": (5.0, 3.0, 3.0),
    "patch_size": (16, 32, 32),
    "batch_size": 4,
    "steps": 300,
    "foreground_fraction": 0.6,
    "mirror_axes": (2,),
}

SEEN = (
    "Scored on the very scan it was trained on. This shows that the whole way works: a scan and its label map are "
    "read, a network is trained, its prediction lies on the scan's own grid, and the metrics are computed.",
    "It does not show that the network generalises: it has seen this patient. For the lungs it does not even show that "
    "learning was needed, because a plain threshold finds air as well. For the spine the best threshold, {hu:.0f} HU, "
    "reaches a Dice of {dice:.2f}.",
)
UNSEEN = (
    "Scored on a scan that training never saw: another patient, another scanner, 1.5 mm slices instead of 10 mm, and "
    "vertebrae drawn by other people after other rules (discs left out).",
    "The threshold that fits the training scan best, {hu:.0f} HU, reaches a Dice of {dice:.2f} on this one; what the "
    "network has above that, it has learned.",
    "One training scan is no training set. Take the number as what a network carries over from a single coarse scan, "
    "not as what a model trained on a real collection reaches.",
)


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Files of a demo, its scores, what they mean, and seconds a part."""

    out: Path
    model: Path
    prediction: Path
    metrics: Path
    report: Path
    scores: ScoreTable
    meaning: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class DemoRun:
    """All that the report tells of."""

    data: DemoData
    plan: Plan
    fit: FitResult
    predicted: PredictResult
    prediction: Path
    scores: ScoreTable
    meaning: tuple[str, ...]
    seconds: dict[str, float]
    commands: tuple[str, ...]


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
        DatasetError: a package that holds the scans is missing; the message says how to install it.
    """
    from resvox.workflow.demo_data import make_chest_dataset, make_spine_dataset
    from resvox.workflow.demo_report import write_report

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
    predicted, prediction = _predict(data, model, out, device=device)
    clock.mark("prediction")
    say("Evaluating")
    scores = _evaluate(data, prediction, out / "metrics.json")
    clock.mark("evaluation")
    meaning = explain(data)
    run = DemoRun(
        data=data,
        plan=plan,
        fit=fit,
        predicted=predicted,
        prediction=prediction,
        scores=scores,
        meaning=meaning,
        seconds=clock.parts,
        commands=_commands(data, out),
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


def draw_demo_plan(data: DemoData, *, steps: int | None, minutes: float | None, device: str, seed: int) -> Plan:
    """The plan as drawn from the data, with the few choices that fit minutes on two cores."""
    from resvox.training import draw_plan, read_dataset, take_fingerprint

    fingerprint = take_fingerprint(read_dataset(data.dataset))
    chosen: dict[str, Any] = {
        **(SPINE_PLAN if data.unseen else CHEST_PLAN),
        "learning_rate": 3e-3,
        "seed": seed,
    }
    if steps is not None:
        chosen["steps"] = steps
    if minutes is not None:
        chosen["max_minutes"] = minutes
    plan = draw_plan(fingerprint, device=device, **chosen)
    # The scan that trains validates too, which chooses nothing worth the time: once, at the end.
    return plan.with_changes(
        learning_rate=chosen["learning_rate"],
        warmup_steps=min(20, plan.steps // 5),
        validation_interval=plan.steps,
        checkpoint_interval=max(1, plan.steps // 4),
    )


def explain(data: DemoData) -> tuple[str, ...]:
    """What the scores mean, with the spine's score of a plain threshold to hold them against."""
    import numpy as np

    from resvox.volumes import read_volume

    (train_image,) = (data.dataset / "imagesTr").glob("*.nii.gz")
    value = data.labels["spine"]
    scans = [read_volume(path).array for path in (train_image, data.image)]
    train_label = data.dataset / "labelsTr" / train_image.name.replace("_0000", "")
    masks = [read_volume(path).array == value for path in (train_label, data.reference)]

    def dice(number: int, hu: float) -> float:
        found = scans[number] > hu
        return 2 * float(np.count_nonzero(found & masks[number])) / float(found.sum() + masks[number].sum())

    best = max(np.arange(0.0, 500.0, 25.0), key=lambda hu: dice(0, hu))
    return tuple(text.format(hu=best, dice=dice(1, best)) for text in (UNSEEN if data.unseen else SEEN))


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
    from resvox.workflow.train import train

    plan = draw_demo_plan(data, steps=steps, minutes=minutes, device=device, seed=seed)
    result = train(data.dataset, run, plan=plan, overwrite=True, device=device, progress=progress)
    assert result.fit is not None  # only plan_only leaves it out
    return plan, result.fit


def _predict(data: DemoData, model: Path, out: Path, *, device: str) -> tuple[PredictResult, Path]:
    from resvox.workflow.predict import predict

    result = predict(model, data.image, out / "predictions", device=device, overwrite=True)
    for failed in result.with_status("failed"):
        assert failed.error is not None
        raise failed.error
    (made,) = result.with_status("written")
    assert made.path is not None
    return result, Path(shutil.copyfile(made.path, out / "prediction.nii.gz"))


def _evaluate(data: DemoData, prediction: Path, json_path: Path) -> ScoreTable:
    from resvox.workflow.evaluate import evaluate

    return evaluate(prediction, data.reference, labels=data.labels, tolerance_mm=3.0, json_path=json_path).scores


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
