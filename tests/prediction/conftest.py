"""Small scans, a tiny model file, and a stand-in for a network that can be predicted by hand."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import resvox

LABELS = {"background": 0, "dark": 3, "bright": 7}  # values with gaps: class indices must not leak out


@pytest.fixture(scope="session")
def make_model(tmp_path_factory):
    """A saved, untrained U-Net with all that a prediction needs; made once for each number of channels."""
    made: dict[tuple[int, int], Path] = {}

    def make(channels: int = 1, spatial_dims: int = 3) -> Path:
        if (channels, spatial_dims) not in made:
            torch.manual_seed(0)
            network = resvox.create_model(
                "unet",
                encoder_name="resnet10",
                encoder_depth=2,
                decoder_filters=(4, 4),
                widths=(4, 4, 4, 4),
                stem_width=4,
                spatial_dims=spatial_dims,
                in_channels=channels,
                num_classes=len(LABELS),
            )
            path = tmp_path_factory.mktemp("model") / "model.safetensors"
            resvox.save_model(network, path, metadata=model_metadata(channels, spatial_dims))
            made[channels, spatial_dims] = path
        return made[channels, spatial_dims]

    return make


def model_metadata(channels: int, spatial_dims: int) -> dict[str, object]:
    return {
        "preprocessing": {
            "orientation": "SPL" if spatial_dims == 3 else None,
            "spacing_mm": None,
            "crop": "none",
            "normalization": [{"kind": "window", "low": -1000.0, "high": 1000.0, "mean": 0.0, "std": 1000.0}]
            * channels,
        },
        "labels": LABELS,
        "colours": {"bright": "#123456"},
        "channel_names": ["CT", "PET", "MR"][:channels],
        "inference": {"roi_size": [8] * spatial_dims, "overlap": 0.25, "mirror_axes": [0, 1]},
        "task": "segmentation",
    }


class ThresholdEngine:
    """Instead of a network: class 2 where a voxel is above 0.25, class 1 where it is below -0.25, else class 0."""

    name, device, precision = "threshold", "cpu", "float32"

    def __init__(self, module, **options):
        pass

    def __call__(self, windows):
        first = windows[:, :1]
        return np.concatenate([np.full_like(first, 0.25), -first, first], axis=1)


@pytest.fixture
def threshold_engine(monkeypatch):
    monkeypatch.setattr("resvox.inference.engines.make_engine", ThresholdEngine, raising=False)


@pytest.fixture
def write_scan():
    """Write a NIfTI with nibabel; the array is in nibabel's order (i, j, k)."""

    def write(path: Path, array=None, affine=None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if array is None:
            array = np.random.default_rng(0).integers(-900, 900, (9, 10, 11)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2, 3, 1]) if affine is None else affine), path)
        return path

    return write


@pytest.fixture(autouse=True, scope="session")
def engine_cache(tmp_path_factory):
    """What engines compile is kept for this run alone."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RESVOX_CACHE", str(tmp_path_factory.mktemp("engine-cache")))
    yield
    patch.undo()
