"""Pages of `resvox view`, and Chromium to open them in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from resvox.viewer.interactive import View
from resvox.viewer.scene import build_scene
from resvox.volumes import Volume

# SwiftShader draws WebGL without a graphics card; nothing may be asked from a network.
FLAGS = (
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip
RED, GREEN = "#e00000", "#00c000"


def chromium() -> str:
    """The browser's path; on CI `make` installs it."""
    found = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine; make test installs it on Debian")
    return found


@pytest.fixture(scope="session")
def page(tmp_path_factory) -> Path:
    """A CT-like scan (uniform soft tissue) with two boxes, predicted and true; the true ones lie one voxel beside."""
    shape = (24, 32, 40)
    scan = np.full(shape, 40, np.int16)
    scan[:, :4] = -1000
    label = np.zeros(shape, np.uint8)
    label[4:20, 6:26, 4:16] = 3
    label[4:20, 6:26, 24:36] = 8
    volumes = [Volume(array, spacing_mm=(2.0, 1.0, 1.0)) for array in (scan, label, np.roll(label, 2, axis=1))]
    scene = build_scene(
        *volumes,
        title="two boxes",
        labels={"left box": 3, "right box": 8},
        colours={"left box": RED, "right box": GREEN},
    )
    return View(scene).save(tmp_path_factory.mktemp("page") / "page.html")


def pixels(png: bytes) -> np.ndarray:
    """(height, width, 3) of an 8-bit RGB or RGBA PNG without interlacing, as Chromium writes it."""
    from io import BytesIO

    from matplotlib.image import imread

    assert png[:4] == b"\x89PNG"
    return np.rint(imread(BytesIO(png), format="png")[..., :3] * 255).astype(int)


def share_of(picture: np.ndarray, colour: str, *, tolerance: int = 60) -> float:
    """The share of pixels whose hue is that of a colour, whatever is mixed in from the scan below."""
    red, green, blue = (picture[..., channel] for channel in range(3))
    strong = {RED: red - np.maximum(green, blue), GREEN: green - np.maximum(red, blue)}[colour]
    return float((strong > tolerance).mean())
