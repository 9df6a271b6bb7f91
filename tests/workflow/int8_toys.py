"""Networks small enough to be quantized in a second, which have learned to find dark and bright places."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

import resvox
from resvox.volumes import Volume, write_volume

POOLS = {2: F.avg_pool2d, 3: F.avg_pool3d}
LABELS = {"background": 0, "dark": 3, "bright": 7}


def scan_array(seed, dims, size=40):
    """Smooth dark and bright places with a little noise, int16, (*spatial)."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(size,) * dims), 3) * 3 ** (dims / 2)
    return (2000 * smooth + rng.normal(0, 40, smooth.shape)).astype(np.int16)


def write_scans(folder, dims, seeds):
    for seed in seeds:
        write_volume(Volume(scan_array(seed, dims), spacing_mm=(1.0,) * dims), folder / f"s{seed}.nii.gz")
    return folder


def trained(dims, norm, *, classes=3, steps=60):
    """A U-Net of 8 features that labels voxels below -250 and above 250 in a mean of neighbours."""
    torch.manual_seed(0)
    network = resvox.create_model(
        "unet", encoder_name="resnet10", encoder_depth=2, decoder_filters=(8, 8), widths=(8, 8, 8, 8), stem_width=8,
        spatial_dims=dims, in_channels=1, num_classes=classes, norm=norm,
    ).train()  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    rng, scan = np.random.default_rng(0), torch.from_numpy(scan_array(100, dims, 64) / np.float32(1000))
    for _ in range(steps):
        starts = rng.integers(0, 48, (4, dims))
        x = torch.stack([scan[tuple(slice(s, s + 16) for s in start)] for start in starts])[:, None]
        mean = POOLS[dims](x, 3, 1, 1)[:, 0]
        loss = F.cross_entropy(network(x), (mean < -0.25).long() + 2 * (mean > 0.25).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def save(network, path, dims, *, classes=3):
    names = list(LABELS.items()) + [(f"unused {number}", 10 + number) for number in range(classes - 3)]
    metadata = {
        "task": "segmentation",
        "preprocessing": {
            "orientation": "SPL" if dims == 3 else None,
            "spacing_mm": None,
            "crop": "none",
            "normalization": [{"kind": "window", "low": -1000.0, "high": 1000.0, "mean": 0.0, "std": 1000.0}],
        },
        "labels": dict(names),
        "channel_names": ["CT"],
        "inference": {"roi_size": [16] * dims, "overlap": 0.25, "mirror_axes": []},
    }
    return resvox.save_model(network, path, metadata=metadata)
