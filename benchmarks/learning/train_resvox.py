"""`resvox train` and its predictor with their defaults, stopped by the time."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from contender import HALF, PREDICTIONS, Description, Settings, read_settings, save_facts, save_prediction

HALF_MODEL = "half.safetensors"


def train(settings: Settings, changes: dict[str, Any], fields: dict[str, Any]) -> Any:
    """The command ``resvox train``; with ``fields``, the plan is made first and these fields are changed in it."""
    from resvox import workflow

    data, run = next(settings.data.glob("Dataset*")), settings.out / "run"
    spacing = None if settings.spacing_mm is None else (settings.spacing_mm,) * 3
    options: dict[str, Any] = {
        "minutes": settings.seconds / 60, "device": settings.device, "seed": settings.seed, "spacing_mm": spacing,
        "overwrite": True, "profile": True, **changes,
    }  # fmt: skip
    if fields:
        planned = workflow.train(data, run, plan_only=True, **options).plan
        kept = {name: value for name, value in options.items() if name in ("device", "overwrite", "profile")}
        options = {**kept, "plan": planned.with_changes(**fields)}
    keeper = threading.Thread(target=keep_half, args=(settings,), daemon=True)
    keeper.start()
    return workflow.train(data, run, **options)


def keep_half(settings: Settings) -> None:
    """Copy the checkpoint of the best weights at half the time, counted from the first step."""
    run = settings.out / "run"
    began = time.time()
    while not (run / "metrics.csv").is_file() or (run / "metrics.csv").stat().st_mtime < began:
        time.sleep(0.5)
    time.sleep(settings.seconds / 2)
    if (run / "checkpoints" / "best.pt").is_file():
        shutil.copy(run / "checkpoints" / "best.pt", settings.out / "half.pt")


def half_model(settings: Settings, model: Path) -> Path | None:
    """The file of the model with the weights of half the time; None where nothing was validated until then."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    source = settings.out / "half.pt"
    if not source.is_file():
        return None
    weights = torch.load(source, map_location="cpu", weights_only=True)["model"]
    with safe_open(model, "pt") as file:
        metadata, names = file.metadata(), set(file.keys())
    save_file({name: weights[name].contiguous() for name in names}, settings.out / HALF_MODEL, metadata)
    return settings.out / HALF_MODEL


def predict(settings: Settings, model: Path, part: str, *, mirror: bool | None = None) -> None:
    """Predict the held-out cases."""
    import numpy as np

    from resvox.prediction.segmenter import Segmenter
    from resvox.volumes import Volume, read_volume

    choices: dict[str, Any] = {} if mirror is None else {"mirror": mirror}
    segmenter = Segmenter(str(model), device=settings.device, **choices)
    channels = Description.read(settings.data).channels
    images = next(settings.data.glob("Dataset*")) / "imagesTs"
    for case in sorted({path.name.rpartition("_")[0] for path in images.iterdir()}):
        planes = [read_volume(images / f"{case}_{place:04d}.nii") for place in range(channels)]
        scan = Volume.on_grid(np.stack([each.array for each in planes]).astype(np.float32), planes[0].grid)
        made = segmenter.segment(scan)
        save_prediction(settings.out, part, case, made.label_map.array)


def main() -> None:
    """The command line; `--changes` are keywords of `resvox.workflow.train`, `--fields` those of its plan, as JSON."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--changes", type=json.loads, default={})
    parser.add_argument("--fields", type=json.loads, default={})
    own, others = parser.parse_known_args()
    settings = read_settings(others)
    settings.out.mkdir(parents=True, exist_ok=True)
    result = train(settings, own.changes, own.fields)
    fit = result.fit
    print(f"resvox: {fit.history[-1]['step']} steps in {fit.seconds:.1f} s, best {fit.best_score}", flush=True)
    predict(settings, fit.model_path, PREDICTIONS)
    half = half_model(settings, fit.model_path)
    if half is not None:
        predict(settings, half, HALF)
    save_facts(
        settings.out, settings, framework="resvox", steps=fit.history[-1]["step"], training_seconds=fit.seconds,
        patch_size=list(result.plan.patch_size), batch_size=result.plan.batch_size, profile=str(fit.profile),
        changes={**own.changes, **own.fields},
    )  # fmt: skip
    if settings.device == "cuda":
        predict(settings, fit.model_path, "mirrored", mirror=True)


if __name__ == "__main__":
    sys.exit(main())
