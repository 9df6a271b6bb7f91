"""What pretraining without labels gives where few scans are labelled: Dice with and without it, at equal steps.

    python benchmarks/learning/pretraining.py CLONE WORK

CLONE is a clone of deepmedic/deepmedic, or its bare git directory, whose examples hold six patients of BRATS 2013
(their images have BRATS's own terms: they are for benchmarks, and not part of this project). Everything is at 3 mm.
Four patients pretrain; each of two of them is then the only labelled one; two patients that neither saw are predicted.
Steps are fixed, so a busy machine changes the time and not the scores. WORK keeps the runs, and a second call goes on
where the first stopped.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from brats_data import CHANNELS, FOLDER, PATIENTS, read

from resvox.volumes import Volume, write_label_map, write_volume
from resvox.weights import read_header
from resvox.workflow import evaluate, predict, pretrain, train

LABELLED, UNSEEN = ("5", "3"), ("1", "2")
MM = 3  # voxels of 1 mm that become one
PRETRAINING_STEPS = 300
RUNS = (("5", 100), ("3", 100))  # the labelled patient, and the steps of its training
# by name: what of a plan is changed for it
VARIANTS: dict[str, dict[str, Any]] = {
    "alone": {"hidden_fraction": 0.6, "visible_weight": 0.0},
    "weighed": {"hidden_fraction": 0.4, "visible_weight": 0.25},
}
PAGE = Path(__file__).with_suffix(".md")
NETWORK: dict[str, Any] = {
    "encoder": "resnet10", "encoder_depth": 4, "decoder_filters": (64, 48, 32, 16), "strides": (2, 2, 2, 2, 2),
    "patch_size": (32, 32, 32), "batch_size": 2, "spacing_mm": None, "warmup_steps": 10,
}  # fmt: skip


def patient(clone: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(channels, z, y, x) float32 and (z, y, x) uint8, 1 inside the tumour, at 3 mm."""
    where = f"{FOLDER}/{PATIENTS[name]}/brats_2013_pat000{name}_1"
    images = np.stack([read(clone, f"{where}/{stem}.nii.gz") for stem in CHANNELS.values()])
    tumour = read(clone, f"{where}/OTMultiClass.nii.gz") > 0
    whole = [size // MM * MM for size in tumour.shape]
    images, tumour = images[:, : whole[0], : whole[1], : whole[2]], tumour[: whole[0], : whole[1], : whole[2]]
    blocks = images.reshape(len(images), *(part for size in whole for part in (size // MM, MM)))
    middle = tuple(slice(MM // 2, None, MM) for _ in whole)
    return blocks.mean(axis=(2, 4, 6), dtype=np.float32), tumour[middle].astype(np.uint8)


def write_data(clone: Path, work: Path) -> None:
    """``scans``: four patients without labels; ``labelled_5`` and so on: one with; ``unseen`` and ``truth``: two."""
    for name in PATIENTS:
        images, tumour = patient(clone, name)
        label = Volume(tumour, spacing_mm=(MM,) * 3)
        folders = [work / "unseen"] if name in UNSEEN else [work / "scans"]
        folders += [work / f"labelled_{name}" / "imagesTr"] if name in LABELLED else []
        for folder in folders:
            for number, channel in enumerate(images):
                write_volume(Volume(channel, spacing_mm=(MM,) * 3), folder / f"pat{name}_{number:04d}.nii.gz")
        if name in UNSEEN:
            write_label_map(label, work / "truth" / f"pat{name}.nii.gz")
        if name in LABELLED:
            write_label_map(label, work / f"labelled_{name}" / "labelsTr" / f"pat{name}.nii.gz")
            described = {
                "channel_names": {"0": "FLAIR", "1": "T1c"},
                "labels": {"background": 0, "tumour": 1}, "file_ending": ".nii.gz", "numTraining": 1,
            }  # fmt: skip
            (work / f"labelled_{name}" / "dataset.json").write_text(json.dumps(described))


def pretrained(work: Path, variant: str) -> Path:
    """The file of the weights that have seen four patients and no label."""
    file = work / f"{variant}.safetensors"
    if not file.exists():
        plan = pretrain(work / "scans", work / "plan", device="cpu", plan_only=True, overwrite=True).plan
        fields = {**NETWORK, "hidden_block": (4, 4, 4), "steps": PRETRAINING_STEPS, **VARIANTS[variant]}
        plan = plan.with_changes(**fields, validation_interval=100, checkpoint_interval=100)
        pretrain(work / "scans", file, plan=plan, device="cpu", resume=True, progress=False)
    return file


def dice(work: Path, labelled: str, steps: int, variant: str | None) -> dict[str, float]:
    """Dice of each unseen patient after a training on one; None begins with new weights."""
    run = work / f"run_{labelled}_{steps}_{variant or 'new'}"
    data = work / f"labelled_{labelled}"
    if not (run / "model.safetensors").exists():
        drawn = train(data, work / "plan", device="cpu", plan_only=True, overwrite=True).plan
        fields = {**NETWORK, "steps": steps, "validation_interval": steps, "checkpoint_interval": 50}
        weights = None if variant is None else str(pretrained(work, variant))
        plan = drawn.with_changes(**fields, weights=weights)
        train(data, run, plan=plan, device="cpu", resume=True, progress=False)
    predict(run, work / "unseen", run / "out", device="cpu")
    evaluate(run / "out", work / "truth", labels={"tumour": 1}, json_path=run / "scores.json")
    scores = json.loads((run / "scores.json").read_text())
    cases = scores.get("cases", scores)
    return {f"pat{name}": float(cases[f"pat{name}"]["tumour"]["dice"]) for name in UNSEEN}


def page(rows: list[tuple[str, int, list[dict[str, float]]]], work: Path) -> str:
    """The results as Markdown."""
    names = ["new weights", *VARIANTS]
    lines = [
        "# Pretraining without labels, where one patient is labelled",
        "",
        "`benchmarks/learning/pretraining.py`: whole tumour of BRATS 2013 (FLAIR and T1c, 3 mm), a small U-Net on a "
        f"processor. Four patients without labels pretrain for {PRETRAINING_STEPS} steps; one of them, with its label, "
        "trains; two others are predicted. Dice of each of the two; one seed.",
        "",
        "| pretraining | hidden_fraction | visible_weight | error of hidden voxels | of their mean alone |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, fields in VARIANTS.items():
        best = read_header(work / f"{name}.safetensors").metadata["training"]["scores"]
        errors = f"{best['hidden_error']:.3f} | {best['error_of_zero']:.3f}"
        lines.append(f"| {name} | {fields['hidden_fraction']} | {fields['visible_weight']} | {errors} |")
    lines += ["", f"| labelled | steps | {' | '.join(names)} |", f"| --- | ---: |{' ---: |' * len(names)}"]
    for labelled, steps, found in rows:
        cells = [", ".join(f"{value:.3f}" for value in each.values()) for each in found]
        lines.append(f"| patient {labelled} | {steps} | {' | '.join(cells)} |")
    means = [np.mean([value for row in rows for value in row[2][place].values()]) for place in range(len(names))]
    lines += [f"| mean | | {' | '.join(f'{mean:.3f}' for mean in means)} |", ""]
    return "\n".join(lines)


def main(clone: Path, work: Path) -> None:
    """Run what is missing and write the page."""
    if not (work / "written").exists():
        write_data(clone, work)
        (work / "written").touch()
    began = time.monotonic()
    rows = []
    for labelled, steps in RUNS:
        found = [dice(work, labelled, steps, variant) for variant in (None, *VARIANTS)]
        rows.append((labelled, steps, found))
        print(labelled, steps, found, f"{time.monotonic() - began:.0f} s", flush=True)
    PAGE.write_text(page(rows, work), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
