"""Does a temperature calibrate, and does doubt find bad cases? On the slices of a real CT, in a few minutes.

    python benchmarks/certainty.py WORK --out benchmarks/certainty.md
    python benchmarks/certainty.py WORK --steps 100             # shorter

The CT is slicerio's CTChest4 (34 slices of 10 mm, 128 x 128), with the labels ribs, spine and lungs; each slice is a 2D
case. Every fifth slice is held out; the others are divided into five folds, slices between two held-out ones together.
Slices of one patient are alike, so the Dice is no estimate for other patients; calibration and order are what is shown.
The same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

PARTS = {"ribs": (1,), "spine": (2, 3, 4), "lungs": (5, 6)}  # values of slicerio's segmentation
HELD_OUT = 5  # every fifth slice, from the third
FOLDS = 5


def write_slices(folder: Path) -> Path:
    """The slices as cases of a manifest; `held` has the scans and label maps of those that are held out."""
    import slicerio

    from resvox.volumes import Volume, read_label_map, read_volume, write_label_map, write_volume

    scan = read_volume(slicerio.get_testdata_file("CTChest4.nrrd"))
    found = read_label_map(slicerio.get_testdata_file("Segmentation.seg.nrrd"))
    labels = np.zeros(found.array.shape, np.uint8)
    for value, values in enumerate(PARTS.values(), start=1):
        labels[np.isin(found.array, values)] = value
    rows, spacing_mm = [], scan.spacing_mm[1:]
    for index, (image, label) in enumerate(zip(scan.array, labels, strict=True)):
        name, is_held = f"slice{index:02d}", index % HELD_OUT == 2
        parent = folder / "held" if is_held else folder
        write_volume(Volume(image.astype(np.float32), spacing_mm=spacing_mm), parent / "images" / f"{name}.nrrd")
        write_label_map(Volume(label, spacing_mm=spacing_mm), parent / "labels" / f"{name}.nrrd")
        if not is_held:
            rows.append([f"images/{name}.nrrd", f"labels/{name}.nrrd", name, f"run{(index + 2) // HELD_OUT}"])
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, **{n: v for v, n in enumerate(PARTS, 1)}}}
    (folder / "dataset.json").write_text(json.dumps(described))
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "label", "id", "group"], *rows])
    return folder / "cases.csv"


def write_plan(manifest: Path, path: Path, steps: int) -> Path:
    """A small U-Net."""
    from resvox.workflow import train

    plan = train(manifest, path.parent / "planned", plan_only=True, device="cpu", overwrite=True).plan
    return plan.with_changes(
        encoder="resnet10", encoder_depth=3, decoder_filters=(32, 16, 16), patch_size=(96, 96), batch_size=8,
        strides=(2, 2, 2, 1, 1), steps=steps, warmup_steps=steps // 20, validation_interval=steps // 4,
        checkpoint_interval=steps // 8,
    ).save(path)  # fmt: skip


def run(work: Path, steps: int) -> str:
    """The figures as a Markdown page."""
    from resvox.workflow import evaluate, predict, train

    manifest = write_slices(work / "data")
    plan = write_plan(manifest, work / "plan.yaml", steps)
    result = train(manifest, work / "run", plan=plan, folds=FOLDS, device="cpu", resume=True).folds
    held, rows = work / "data" / "held", []
    for name, model in (("one fold", work / "run" / "fold_0"), ("five folds", work / "run")):
        for calibrated in (False, True):
            out = work / f"{name} {calibrated}".replace(" ", "_")
            predict(
                model, held / "images", out, device="cpu", probabilities=True, calibrated=calibrated, overwrite=True
            )
            labels = {part: value for value, part in enumerate(PARTS, start=1)}
            scored = evaluate(out, held / "labels", labels=labels, calibration_path=out / "calibration.json")
            overall = scored.calibration.overall
            how = "with the temperature" if calibrated else "as they are"
            rows.append(
                f"| {name} | {how} | {overall.ece:.4f} | {overall.brier:.4f} | {scored.scores.overall.dice:.3f} |"
            )
    limit = 1 - sum(result.risk.risks) / len(result.risk.risks)  # the mean: what is below it is badly segmented
    found, bad = result.risk.found(dice_below=limit)
    temperatures = [_temperature(work / "run" / f"fold_{fold}") for fold in range(FOLDS)]
    cases = len(result.scores.scores)
    return "\n".join(
        [
            "# Calibration and doubt on the slices of a CT",
            "",
            f"Made by `benchmarks/certainty.py` with {steps} steps per fold, which is far too few: the scores are low.",
            "",
            f"{(__doc__ or '').split(chr(10) * 2)[2].strip()}",
            "",
            "| model | probabilities of held-out slices | ECE | Brier | Dice |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            f"Temperatures of the folds: {', '.join(f'{each:.2f}' for each in temperatures)}.",
            "",
            f"Out of fold, {cases} slices: mean Dice {limit:.3f} over slices. {bad} of them are below this mean; the"
            f" first third of the review list ({round(cases / 3)} slices) holds {found} of these. Area under risk and"
            " coverage"
            f" {result.risk.area:.4f}, least possible {result.risk.least_area:.4f}.",
            "",
            f"Post-processing chosen out of fold: {_rules(result)}.",
            "",
        ]
    )


def _rules(result: Any) -> str:
    names = list(PARTS)
    before, after = result.choice.before, result.choice.after
    chosen = [f"{names[rule.values[0] - 1]}: {rule.words}" for rule in result.choice.rules]
    dice = ", ".join(f"{name} {before[name]:.3f} to {after[name]:.3f}" for name in names)
    return f"{'; '.join(chosen) or 'none'}; Dice, with 1 where a slice has no such label, {dice}"


def _temperature(run: Path) -> float:
    from resvox.weights import read_header

    return float(read_header(run / "model.safetensors").metadata["temperature"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = run(options.work, options.steps)
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
