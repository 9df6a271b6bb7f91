"""What is damaged: one row per kind of file, with how it is made, damaged and read."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.mutations import mutate_bytes, mutate_document, mutate_json, mutate_table
from fuzz.references import itk_values, metaimage_values, nibabel_values, pillow_values, pydicom_values, tifffile_values

Damage = Callable[[bytes, Random], bytes]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A kind of file.

    Args:
        make: writes the undamaged files into an empty folder and returns those of them that may be damaged.
        read: reads what lies in the folder, by the path of the damaged file; returns what was read.
        damage: changes the bytes of one file.
        reference: reads the damaged file with another library; what `read` returned must equal it wherever both answer.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]
    damage: Damage
    reference: Callable[[Path], Any] | None = None


def inside_gzip(head: int) -> Damage:
    """Half the time what is compressed is damaged, half the time the compressed bytes."""

    def damage(data: bytes, rng: Random) -> bytes:
        if rng.random() < 0.5:
            return mutate_bytes(data, rng, head=20)
        return gzip.compress(mutate_bytes(gzip.decompress(data), rng, head=head), 1, mtime=0)

    return damage


def header_first(head: int) -> Damage:
    return lambda data, rng: mutate_bytes(data, rng, head=head)


def _scan(shape: tuple[int, ...] = (5, 6, 7)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(-100, 1000, shape).astype(np.int16)


def _volume(ending: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        from resvox.volumes import Volume, write_volume

        array = _scan((6, 7)).clip(0).astype(np.uint16) if ending == ".png" else _scan()
        spacing = (1.0, 1.0) if ending == ".png" else (2.0, 1.5, 0.7)
        return [write_volume(Volume(array, spacing_mm=spacing), folder / f"scan{ending}")]

    return make


def _read_volume(path: Path) -> Any:
    from resvox.volumes import read_label_map, read_volume

    volume = read_volume(path)
    read_label_map(path)
    return volume.array


def _dicom_series(folder: Path) -> list[Path]:
    from volumes.dicom_slices import make_slice

    paths = []
    for number in range(4):
        path = folder / "series" / f"{number}.dcm"
        path.parent.mkdir(exist_ok=True)
        pixels = _scan((6, 7)).clip(0).astype(np.uint16) + number
        make_slice(pixels, position=(0, 0, 2.0 * number), number=number).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _read_series(path: Path) -> Any:
    from resvox.volumes import find_cases, read_case

    return np.stack([read_case(case).array for case in find_cases([path.parent])])


# --- datasets


def _label_files(folder: Path) -> None:
    from resvox.volumes import Volume, write_label_map, write_volume

    for number in range(4):
        scan = Volume(_scan(), spacing_mm=(1, 1, 1))
        write_volume(scan, folder / f"imagesTr/c{number}_0000.nii.gz")
        write_label_map(scan.with_array((_scan() > 500).astype(np.uint8)), folder / f"labelsTr/c{number}.nii.gz")
        write_volume(scan, folder / f"targetsTr/c{number}.nii.gz")


def _description(number: int) -> dict[str, Any]:
    """The dialects of nnU-Net, MSD, MONAI and nnU-Net's table."""
    names = [f"c{n}" for n in range(4)]
    entries = [{"image": f"./imagesTr/{n}_0000.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names]
    table = {n: {"images": [e["image"]], "label": e["label"]} for n, e in zip(names, entries, strict=True)}
    folds: list[Any] = [{**entry, "fold": fold, "group": "p"} for fold, entry in enumerate(entries[:3])]
    labels = {"0": "background", "1": "liver"}
    dialects: list[dict[str, Any]] = [
        {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "liver": 1},
            "numTraining": 4,
            "file_ending": ".nii.gz",
        },
        {
            "modality": {"0": "CT"},
            "labels": labels,
            "numTraining": 4,
            "training": entries,
            "test": ["./imagesTs/a.nii.gz"],
        },
        {
            "modality": ["CT"],
            "labels": ["background", "liver"],
            "training": folds,
            "validation": [{**entries[3], "group": "p"}],
        },
        {
            "channel_names": {"CT": 0},
            "labels": {"liver": 1},
            "dataset": table,
            "numTraining": 4,
            "target_names": {"0": "dose"},
        },
    ]
    return dialects[number]


def _described_folder(folder: Path) -> list[Path]:
    _label_files(folder)
    (folder / "dataset.json").write_bytes(b"0")
    return [folder / "dataset.json"]


def _damaged_description(_: bytes, rng: Random) -> bytes:
    return mutate_json(json.dumps(_description(rng.randrange(4))).encode(), rng)


def _read_described(path: Path) -> Any:
    from resvox.datasets import read_dataset
    from resvox.datasets.labelled import read_labelled

    dataset = read_dataset(path)
    split = dataset.split()
    read_labelled(split.train[0], dataset)
    return len(dataset.cases)


def _read_described_targets(path: Path) -> Any:
    from resvox.datasets import read_regression

    dataset = read_regression(path)
    dataset.split()
    return len(dataset.cases)


def _manifest_of(columns: tuple[str, ...]) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        _label_files(folder)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*columns, "split", "id", "patient"])
        folders = {
            "image": "imagesTr/c{}_0000.nii.gz",
            "label": "labelsTr/c{}.nii.gz",
            "target": "targetsTr/c{}.nii.gz",
        }
        for n in range(4):
            cells = [folders[name].format(n) if name in folders else "ab"[n % 2] for name in columns]
            writer.writerow([*cells, ["train", "train", "val", "test"][n], f"case{n}", f"p{n // 2}"])
        (folder / "cases.csv").write_text(text.getvalue())
        return [folder / "cases.csv"]

    return make


def _reader(name: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        import resvox.datasets

        dataset = getattr(resvox.datasets, name)(path)
        dataset.split()
        return len(dataset.cases)

    return read


# --- files of training and models


def _model_file(folder: Path) -> list[Path]:
    import torch

    import resvox

    torch.manual_seed(0)
    model = resvox.create_model("resnet10", widths=(1, 1, 1, 1), stem_width=1, num_classes=2)
    return [resvox.save_model(model, folder / "model.safetensors", metadata={"labels": {"background": 0, "liver": 1}})]


def _read_model(path: Path) -> Any:
    import resvox

    return resvox.load_model(path)


def _checkpoint(folder: Path) -> list[Path]:
    import torch

    from resvox.training.checkpoints import save_checkpoint
    from resvox.training.steps import Progress

    model = {"conv.weight": torch.ones(2, 2, 3, 3), "conv.bias": torch.ones(2)}
    save_checkpoint(folder / "last.pt", plan={"task": "segmentation", "steps": 8}, progress=Progress(), model=model)
    return [folder / "last.pt"]


def _read_checkpoint(path: Path) -> Any:
    from resvox.training.checkpoints import load_checkpoint

    return load_checkpoint(path)


def _plan(folder: Path) -> list[Path]:
    from resvox.training import Plan

    plan = Plan(
        num_classes=3,
        encoder="resnet10",
        encoder_depth=2,
        decoder_filters=(8, 8),
        strides=(2, 2, 1, 1, 1),
        norm="instance",
        spacing_mm=(2.0, 1.0, 1.0),
        normalization=({"kind": "window", "low": -100.0, "high": 400.0},),
        patch_size=(8, 8, 8),
        batch_size=2,
        steps=8,
        warmup_steps=0,
        validation_interval=4,
        checkpoint_interval=4,
    )
    return [plan.save(folder / "plan.yaml")]


def _damaged_plan(data: bytes, rng: Random) -> bytes:
    import yaml

    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    return yaml.safe_dump(mutate_document(yaml.safe_load(data), rng)).encode()


def _read_plan(path: Path) -> Any:
    from resvox.training import load_plan

    return load_plan(path)


def _npz(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    arrays = {f"{part}_images": rng.integers(0, 255, (6, 5, 5)).astype(np.uint8) for part in ("train", "val")}
    arrays |= {f"{part}_labels": np.arange(6)[:, None] % 2 for part in ("train", "val")}
    np.savez(folder / "images.npz", **arrays)
    return [folder / "images.npz"]


def _read_npz(path: Path) -> Any:
    from resvox.datasets import read_classification
    from resvox.datasets.labelled import read_image

    dataset = read_classification(path)
    return [read_image(case, len(dataset.channel_names)).array for case in dataset.split().train]


SUBJECTS: dict[str, Subject] = {
    "NIfTI (.nii)": Subject(
        make=_volume(".nii"), read=_read_volume, damage=header_first(352), reference=nibabel_values
    ),
    "NIfTI (.nii.gz)": Subject(
        make=_volume(".nii.gz"), read=_read_volume, damage=inside_gzip(352), reference=nibabel_values
    ),
    "NRRD": Subject(make=_volume(".nrrd"), read=_read_volume, damage=header_first(300), reference=itk_values),
    "MetaImage": Subject(make=_volume(".mha"), read=_read_volume, damage=header_first(300), reference=metaimage_values),
    "TIFF": Subject(make=_volume(".tif"), read=_read_volume, damage=header_first(400), reference=tifffile_values),
    "PNG": Subject(make=_volume(".png"), read=_read_volume, damage=header_first(60), reference=pillow_values),
    "DICOM series": Subject(make=_dicom_series, read=_read_series, damage=header_first(1200), reference=pydicom_values),
    "dataset.json (labels)": Subject(make=_described_folder, read=_read_described, damage=_damaged_description),
    "dataset.json (targets)": Subject(
        make=_described_folder, read=_read_described_targets, damage=_damaged_description
    ),
    "manifest (labels)": Subject(
        make=_manifest_of(("image", "label")), read=_reader("read_dataset"), damage=mutate_table
    ),
    "manifest (classes)": Subject(
        make=_manifest_of(("image", "class")), read=_reader("read_classification"), damage=mutate_table
    ),
    "manifest (targets)": Subject(
        make=_manifest_of(("image", "target")), read=_reader("read_regression"), damage=mutate_table
    ),
    ".npz of images": Subject(make=_npz, read=_read_npz, damage=mutate_bytes),
    "model file": Subject(make=_model_file, read=_read_model, damage=header_first(2000)),
    "checkpoint": Subject(make=_checkpoint, read=_read_checkpoint, damage=mutate_bytes),
    "plan": Subject(make=_plan, read=_read_plan, damage=_damaged_plan),
}
