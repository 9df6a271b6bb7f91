"""The demo's datasets, made of real scans that packages ship: a chest CT, and a crop of a lumbar spine CT."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.errors import DatasetError

if TYPE_CHECKING:
    from resvox.volumes import Volume

MARK = "made by resvox demo"
CHEST = "chest"
LUMBAR = "lumbar"
Rule = Callable[[str], bool]
# Which of the segments drawn in the chest CT make up a label, by their names.
CHEST_LABELS: Mapping[str, Rule] = {
    "right lung": lambda name: name == "right lung",
    "left lung": lambda name: name == "left lung",
    "ribs": lambda name: name == "ribs",
    "spine": lambda name: name.endswith("vertebral column"),
}


@dataclass(frozen=True, kw_only=True)
class DemoData:
    """A dataset in nnU-Net layout and the case that is scored at the end."""

    dataset: Path
    case: str
    image: Path
    reference: Path
    labels: Mapping[str, int]
    unseen: bool


def make_chest_dataset(folder: Path) -> DemoData:
    """The chest CT of the `slicerio` package with lungs, ribs and spine; the case that trains is scored.

    Raises:
        DatasetError: `slicerio` is not installed, or its segmentation names other structures.
    """
    labels = _numbered(CHEST_LABELS)
    _refuse_foreign(folder)
    image, label_map = _chest(labels, CHEST_LABELS)
    _write_case(folder, CHEST, image, label_map, part="Tr")
    _write_description(folder, labels, "The chest CT that slicerio ships", training=1)
    return _data(folder, CHEST, labels, part="Tr")


def make_spine_dataset(folder: Path) -> DemoData:
    """Spine as the only label: the chest CT trains; a lumbar CT of another patient and scanner is scored.

    Raises:
        DatasetError: `slicerio` or `tptbox` is not installed.
    """
    sample = _folder_of("TPTBox", "pip install --no-deps tptbox") / "tests" / "sample_ct"
    rules = {"spine": CHEST_LABELS["spine"]}
    labels = _numbered(rules)
    _refuse_foreign(folder)
    _write_case(folder, CHEST, *_chest(labels, rules), part="Tr")
    _write_case(folder, LUMBAR, *_lumbar(sample), part="Ts")
    _write_description(
        folder, labels, "Spine: slicerio's chest CT to train on, tptbox's lumbar CT to test on", training=1
    )
    return _data(folder, LUMBAR, labels, part="Ts")


def _chest(labels: Mapping[str, int], rules: Mapping[str, Rule]) -> tuple[Volume, Volume]:
    from resvox.volumes import read_volume

    data = _folder_of("slicerio", "pip install 'resvox[demo]'") / "data"
    image = read_volume(data / "CTChest4.nrrd")
    drawn = read_volume(data / "Segmentation.seg.nrrd")
    values = segment_values(data / "Segmentation.seg.nrrd")
    label_map = np.zeros(drawn.array.shape, np.uint8)
    for label, is_part in rules.items():
        parts = [value for name, value in values.items() if is_part(name)]
        if not parts:
            raise DatasetError(
                f"no segment for {label!r} among {', '.join(values)}",
                expected="the segmentation that slicerio 1.1 to 1.4 ship",
                fix="pip install 'slicerio<2'",
                path=data,
            )
        label_map[np.isin(drawn.array, parts)] = labels[label]
    return image, drawn.with_array(label_map)


def segment_values(path: Path) -> dict[str, int]:
    """Segment names and their voxel values, from the header of a 3D Slicer ``.seg.nrrd``."""
    import nrrd

    header: Mapping[str, Any] = nrrd.read_header(str(path))
    names = {key.removesuffix("_Name"): str(name) for key, name in header.items() if key.endswith("_Name")}
    return {name: int(header[f"{key}_LabelValue"]) for key, name in names.items() if f"{key}_LabelValue" in header}


def _lumbar(sample: Path) -> tuple[Volume, Volume]:
    from resvox.volumes import read_volume

    images, masks = sorted(sample.glob("*_ct.nii.gz")), sorted(sample.glob("*seg-vert*_msk.nii.gz"))
    if len(images) != 1 or len(masks) != 1:
        raise DatasetError(
            f"{len(images)} scans and {len(masks)} vertebra masks",
            expected="one of each, as tptbox 1.1 ships them",
            fix="pip install --no-deps 'tptbox>=1.1,<2'",
            path=sample,
        )
    mask = read_volume(masks[0])
    return read_volume(images[0]), mask.with_array((mask.array > 0).astype(np.uint8))


def _folder_of(package: str, install: str) -> Path:
    """Where a package's files are, without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise DatasetError(
            f"the package {package!r}, whose scans the demo uses, is not installed", expected="it", fix=install
        )
    return Path(found.submodule_search_locations[0])


def _numbered(rules: Mapping[str, Rule]) -> dict[str, int]:
    return {"background": 0, **{name: value for value, name in enumerate(rules, start=1)}}


def _refuse_foreign(folder: Path) -> None:
    """The folder's name was chosen by the user, and a dataset of theirs may live there."""
    described = folder / "dataset.json"
    if described.exists() and MARK not in described.read_text(encoding="utf-8", errors="replace"):
        raise DatasetError(
            "a dataset that the demo did not make",
            expected="an empty folder",
            fix="choose another folder with -o",
            path=folder,
        )


def _write_case(folder: Path, case: str, image: Volume, label_map: Volume, *, part: str) -> None:
    from resvox.volumes import write_label_map, write_volume

    write_volume(image, folder / f"images{part}" / f"{case}_0000.nii.gz")
    write_label_map(label_map, folder / f"labels{part}" / f"{case}.nii.gz")


def _write_description(folder: Path, labels: Mapping[str, int], text: str, *, training: int) -> None:
    described = {
        "name": folder.resolve().name,
        "description": f"{text}; {MARK}",
        "channel_names": {"0": "CT"},
        "labels": dict(labels),
        "numTraining": training,
        "file_ending": ".nii.gz",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _data(folder: Path, case: str, labels: Mapping[str, int], *, part: str) -> DemoData:
    return DemoData(
        dataset=folder,
        case=case,
        image=folder / f"images{part}" / f"{case}_0000.nii.gz",
        reference=folder / f"labels{part}" / f"{case}.nii.gz",
        labels=labels,
        unseen=part == "Ts",
    )
