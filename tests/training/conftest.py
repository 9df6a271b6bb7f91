"""Tiny synthetic datasets: a bright ball (label 1) and a dim box (label 2) in noise."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from resvox.training import Plan


def write_image(path: Path, array: np.ndarray, spacing_mm: Sequence[float]) -> Path:
    """Write an array (D, H, W) with spacing in array order, through SimpleITK."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing([float(mm) for mm in reversed(spacing_mm)])
    SimpleITK.WriteImage(image, str(path))
    return path


def ball_and_box(seed: int, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """A scan (int16) and its label map (uint8)."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    centre = np.array([n // 3 for n in shape]).reshape(-1, *[1] * len(shape))
    label = (np.sqrt(((grid - centre) ** 2).sum(0)) < min(shape) / 4).astype(np.uint8)
    box = tuple(slice(2 * n // 3, 2 * n // 3 + 3) for n in shape)
    label[box] = 2
    scan = rng.normal(0, 20, shape) + np.choose(label, [0, 300, 150])
    return scan.astype(np.int16), label


def write_folder(
    folder: Path,
    *,
    ids: Sequence[str] = ("a", "b"),
    shape: Sequence[int] = (16, 16, 16),
    spacing_mm: Sequence[float] = (2.0, 1.0, 1.0),
    channel: str = "CT",
    labels: dict[str, int] | None = None,
) -> Path:
    """A dataset in nnU-Net v2's layout."""
    for seed, name in enumerate(ids):
        scan, label = ball_and_box(seed, shape)
        write_image(folder / "imagesTr" / f"{name}_0000.nii.gz", scan, spacing_mm)
        write_image(folder / "labelsTr" / f"{name}.nii.gz", label, spacing_mm)
    described = {
        "channel_names": {"0": channel},
        "labels": labels or {"background": 0, "ball": 1, "box": 2},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


@pytest.fixture(autouse=True)
def caches_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared cases are in the run, whatever caches the tests of other packages set in the same process."""
    monkeypatch.delenv("RESVOX_CACHE", raising=False)
    monkeypatch.delenv("RESVOX_PREPARED", raising=False)


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[..., Path]:
    """Call it to write a dataset folder."""

    def make(name: str = "data", **options: object) -> Path:
        return write_folder(tmp_path / name, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def image_writer() -> Callable[..., Path]:
    """`write_image`, for tests that write one file."""
    return write_image


@pytest.fixture
def scan_maker() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`ball_and_box`, for tests that need arrays."""
    return ball_and_box


@pytest.fixture
def tiny_plan() -> Plan:
    """Eight steps of a network that is small enough for a test, for the data of `write_folder`."""
    return Plan(
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
        augmentation="light",
        steps=8,
        warmup_steps=0,
        validation_interval=4,
        checkpoint_interval=4,
    )
