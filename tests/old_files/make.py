"""Makes the files in this folder: what commit 041da23 (resvox 0.1.0) wrote, kept so that newer code still reads it.

    git worktree add --detach ../resvox-old 041da23
    PYTHONPATH=../resvox-old/src OMP_NUM_THREADS=1 python tests/old_files/make.py

They were made once and are not made again: with newer code they would prove nothing. For each of the three tasks:

    data/ or data.npz       the dataset, and in scans/ the inputs of predictions
    plan.yaml               given to `resvox train --plan`
    model.safetensors       the model of a run of 24 steps that nothing interrupted
    metrics.csv             the rows of that run
    stopped/                the folder of the same run, stopped in its 15th step; its checkpoint is of the 12th
    network.*, network.json the model, exported
    predictions/            a folder of predictions in which one case (of a classification: several) is not done yet
    missing/                what the old code predicted for those cases

``/made/here`` stands for the folder where they were made. Networks have two to four channels, so that files are small.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

import resvox
from resvox import workflow
from resvox.training import (
    draw_classification_plan,
    draw_plan,
    draw_regression_plan,
    fit,
    read_classification,
    read_dataset,
    read_regression,
    take_classification_facts,
    take_fingerprint,
    take_regression_facts,
)
from resvox.viewer import label_colours
from resvox.volumes import Volume, read_volume, write_label_map, write_volume

HERE = pathlib.Path(__file__).parent
COMMIT = "041da23"
MADE = "/made/here"
SPACING_MM = (2.0, 1.0, 1.0)
SMALL = {"widths": (4, 4, 4, 4), "stem_width": 4}
STEPS, STOPPED_IN, CHECKPOINT = 24, 15, 12
LEARNING = {
    "learning_rate": 1e-2, "warmup_steps": 0, "steps": STEPS, "validation_interval": CHECKPOINT,
    "checkpoint_interval": CHECKPOINT, "augmentation": "light", "batch_size": 2,
}  # fmt: skip
NETWORK = {
    "encoder": "resnet10", "encoder_depth": 2, "decoder_filters": (4, 4), "strides": (2, 2, 1, 1, 1),
    "patch_size": (8, 8, 8), "further_options": SMALL,
}  # fmt: skip


class StopError(Exception):
    """Stops a run as a kill would, between two steps."""


def scan_and_parts(seed: int, shape: tuple[int, ...] = (12, 16, 14)) -> tuple[np.ndarray, np.ndarray]:
    """A scan (int16) with a bright and a dim block in noise, and the class of each voxel."""
    rng = np.random.default_rng(seed)
    parts = np.zeros(shape, np.uint8)
    first = [int(n) for n in rng.integers(1, 4, 3)]
    parts[first[0] : first[0] + 5, first[1] : first[1] + 6, first[2] : first[2] + 6] = 1
    parts[7:11, 10:15, 8:13] = 2
    return (rng.integers(-8, 9, shape) * 2 + np.choose(parts, [-100, 300, 100])).astype(np.int16), parts


def volume(array: np.ndarray, spacing_mm: tuple[float, ...] = SPACING_MM) -> Volume:
    """With an origin, and an x axis that points the other way than NIfTI's."""
    return Volume(array, spacing_mm=spacing_mm, origin_mm=(-30.0, 12.5, 7.0), direction=np.diag([1.0, 1.0, -1.0]))


def segmentation(root: pathlib.Path) -> None:
    """Two labels whose values are not their indices, in three cases; three scans to predict."""
    data = root / "data"
    for seed, name in enumerate(("ann", "ben", "cem")):
        scan, parts = scan_and_parts(seed)
        write_volume(volume(scan), data / f"imagesTr/{name}_0000.nii.gz")
        write_label_map(volume(np.choose(parts, [0, 3, 7]).astype(np.uint8)), data / f"labelsTr/{name}.nii.gz")
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "bright": 3, "dim": 7},
        "file_ending": ".nii.gz",
    }
    (data / "dataset.json").write_text(json.dumps(described))
    scans(root)
    dataset = read_dataset(data)
    drawn = draw_plan(take_fingerprint(dataset), device="cpu", spacing_mm=SPACING_MM, **NETWORK, **LEARNING)
    train(root, dataset, drawn, colours=label_colours(dataset.labels))
    exact = {"engine": "torch-plain", "precision": "float32", "device": "cpu", "probabilities": True}
    predict(root, exact)
    export(root, "torchscript", ".pt")


def regression(root: pathlib.Path) -> None:
    """A dose in three cases; three scans to predict."""
    data = root / "data"
    for seed, name in enumerate(("ann", "ben", "cem")):
        scan, parts = scan_and_parts(seed)
        write_volume(volume(scan), data / f"imagesTr/{name}_0000.nii.gz")
        write_volume(volume(np.choose(parts, [10, 30, 20]).astype(np.float32)), data / f"targetsTr/{name}.nii.gz")
    described = {"channel_names": {"0": "CT"}, "target_names": {"0": "dose"}}
    (data / "dataset.json").write_text(json.dumps(described))
    scans(root)
    dataset = read_regression(data)
    drawn = draw_regression_plan(
        take_regression_facts(dataset), device="cpu", spacing_mm=SPACING_MM, **NETWORK, **LEARNING
    )
    train(root, dataset, drawn)
    predict(root, {"precision": "float32", "device": "cpu"})
    export(root, "onnx", ".onnx")


def classification(root: pathlib.Path) -> None:
    """Bars, posts and crosses of 8 x 8 pixels."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 18), ("val", 6), ("test", 9)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 60, (count, 8, 8))
        for image, kind in zip(images, labels, strict=True):
            at = int(rng.integers(1, 6))
            image[at : at + 2] += 150 * (kind in (0, 2))
            image[:, at : at + 2] += 150 * (kind in (1, 2))
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = images.clip(0, 255).astype(np.uint8), labels[:, None]
    np.savez_compressed(root / "data.npz", **arrays)
    (root / "data.json").write_text(json.dumps({"labels": {"0": "bar", "1": "post", "2": "cross"}}))
    dataset = read_classification(root / "data.npz")
    drawn = draw_classification_plan(
        take_classification_facts(dataset), device="cpu", model="resnet10", norm="batch",
        further_options=SMALL, **{**LEARNING, "batch_size": 4},
    )  # fmt: skip
    train(root, dataset, drawn)
    exact = {"precision": "float32", "device": "cpu"}
    workflow.predict(root / "model.safetensors", root / "data.npz", root / "missing", **exact)
    (root / "missing/predict.jsonl").unlink()
    # A run killed after its first batch of images: whole lines of four images, and the begin of a fifth.
    workflow.predict(root / "model.safetensors", root / "data.npz", root / "predictions", **exact)
    log, table = root / "predictions/predict.jsonl", root / "predictions/predictions.csv"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:4]) + lines[4][:40])
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:4]))  # the table is older than the log
    shutil.rmtree(root / "predictions/.claims", ignore_errors=True)
    shutil.rmtree(root / "missing/.claims", ignore_errors=True)
    export(root, "torch-export", ".pt2")


def scans(root: pathlib.Path) -> None:
    """Three scans to predict; the second lies on another grid than the network's."""
    for seed, name in enumerate(("dan", "eva", "fay"), start=10):
        spacing_mm = (2.5, 1.2, 1.0) if name == "eva" else SPACING_MM
        write_volume(volume(scan_and_parts(seed)[0], spacing_mm), root / f"scans/{name}.nii.gz")


def train(root: pathlib.Path, dataset, drawn, **options) -> None:
    """A run of 24 steps, and the same one stopped in its 15th."""
    drawn.save(root / "plan.yaml")
    whole = fit(dataset, drawn, root / "run", progress=False, accelerator="cpu", **options)
    shutil.move(whole.model_path, root / "model.safetensors")
    shutil.move(root / "run/metrics.csv", root / "metrics.csv")
    shutil.rmtree(root / "run")

    def stop(report) -> None:
        if report.step == STOPPED_IN:
            raise StopError

    with contextlib.suppress(StopError):
        fit(dataset, drawn, root / "stopped", progress=False, accelerator="cpu", on_step=stop, **options)
    shutil.rmtree(root / "stopped/cache")
    shutil.rmtree(root / "stopped/tensorboard")


def predict(root: pathlib.Path, options: dict[str, object]) -> None:
    """All scans but the last; the last is kept in a folder of its own."""
    done = workflow.predict(root / "model.safetensors", root / "scans", root / "predictions", **options)
    assert done.ok, done.cases
    (root / "missing").mkdir()
    for path in (root / "predictions").glob("fay*"):
        shutil.move(path, root / "missing" / path.name)
    for path in (root / "predictions").glob("*_probabilities.nii.gz"):
        path.unlink()
    log = root / "predictions/predict.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    shutil.rmtree(root / "predictions/.claims", ignore_errors=True)
    made = read_volume(root / "predictions/eva.nii.gz").array
    print(root.name, "values of a prediction:", made.min(), made.max(), len(np.unique(made)))


def export(root: pathlib.Path, kind: str, ending: str) -> None:
    """The model for another program."""
    done = workflow.export(root / "model.safetensors", root / f"network{ending}", format=kind)
    print(root.name, kind, done.check)


def forget_the_place(folder: pathlib.Path, place: pathlib.Path) -> None:
    """Put `MADE` for the folder where files were made, in every text file."""
    for path in folder.rglob("*"):
        if path.suffix in (".jsonl", ".csv", ".yaml") or (path.suffix == ".json" and path.stem != "dataset"):
            path.write_text(path.read_text().replace(str(place), MADE))


def main() -> None:
    """Make all of them."""
    source = pathlib.Path(resvox.__file__).parent
    words = ["git", "-C", str(source), "rev-parse", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert commit.startswith(COMMIT), f"{source} is commit {commit[:7]}, expected {COMMIT}"
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder).resolve()
        os.environ.pop("RESVOX_CACHE", None)
        for make in (segmentation, regression, classification):
            root = place / make.__name__
            root.mkdir()
            make(root)
        forget_the_place(place, place)
        for make in (segmentation, regression, classification):
            target = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE) / make.__name__
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(place / make.__name__, target)


if __name__ == "__main__":
    main()
