"""Writing of TIFF with tifffile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from resvox.volumes.volume import Volume


def write_tiff(volume: Volume, path: Path) -> None:
    """Write an OME-TIFF, which any reader of TIFF reads too; the spacing stands in its description in mm."""
    array = volume.array
    if array.dtype in (np.dtype(np.bool_), np.dtype(np.float16)):
        array = array.astype(np.uint8 if array.dtype == np.bool_ else np.float32)
    axes, photometric = "ZYX"[-volume.spatial_dims :], "minisblack"
    if array.ndim > volume.spatial_dims:
        if len(array) == 3 and array.dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
            array, axes, photometric = np.moveaxis(array, 0, -1), axes + "S", "rgb"
        else:
            axes = "C" + axes
    sizes = dict(zip("XYZ", volume.spacing_mm[::-1], strict=False))
    notes = {f"PhysicalSize{axis}": mm for axis, mm in sizes.items()}
    units = {f"PhysicalSize{axis}Unit": "mm" for axis in sizes}
    tifffile.imwrite(
        path,
        np.ascontiguousarray(array),
        ome=True,
        photometric=photometric,
        compression="zlib",
        metadata={"axes": axes, **notes, **units},
    )
