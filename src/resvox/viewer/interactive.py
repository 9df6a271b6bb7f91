"""An interactive page that is one HTML file: scan and label maps in three planes and 3D, drawn by NiiVue.

The page needs no network and opens from a folder. NiiVue's script comes with the installed package
(``viewer/assets/niivue.umd.js``, its licence beside it).
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox._version import __version__
from resvox.errors import ViewerMissingError
from resvox.viewer.report import write_page
from resvox.viewer.scene import MAX_VOXELS, Scene, SceneLayer, build_scene, stored_values

if TYPE_CHECKING:
    from resvox.volumes import Grid, Volume

NOTEBOOK_HEIGHT = 620  # pixels of the frame in a notebook
NOTEBOOK_VOXELS = 1_000_000  # a notebook keeps every output in its file


@dataclass(frozen=True)
class View:
    """A scan and its label maps as an interactive page; displayed when it is the last value of a notebook cell."""

    scene: Scene

    def to_html(self) -> str:
        """The whole page, with all data and scripts inside."""
        text = {
            "title": html.escape(self.scene.title),
            "footer": html.escape(f"resvox {__version__}; drawn by NiiVue. Not for diagnosis."),
            "style": _asset("page.css"),
            # "</script" inside a script would end it.
            "niivue": _asset("niivue.umd.js").replace("</script", "<\\/script"),
            "script": _asset("page.js"),
            "scene": json.dumps(_plain(self.scene)).replace("<", "\\u003c"),
        }
        # In one pass: the name of a label may be any text, "{{script}}" too.
        return re.sub(r"\{\{(\w+)\}\}", lambda place: text[place[1]], _asset("page.html"))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page atomically, and return its path."""
        return write_page(path, self.to_html())

    def _repr_html_(self) -> str:
        page = html.escape(self.to_html(), quote=True)
        return (
            f'<iframe srcdoc="{page}" style="width:100%;height:{NOTEBOOK_HEIGHT}px;border:0" allowfullscreen></iframe>'
        )


def view(
    scan: Volume | str | os.PathLike[str],
    labels: Volume | str | os.PathLike[str] | None = None,
    *,
    reference: Volume | str | os.PathLike[str] | None = None,
    names: Mapping[str, int] | None = None,
    colours: Mapping[str, str] | None = None,
    title: str | None = None,
    channel: int | None = None,
    max_voxels: int | None = MAX_VOXELS,
) -> View:
    """Show a scan with a label map in a browser or a notebook.

    Args:
        scan: a volume or its file (any format that `read_volume` reads; a DICOM folder).
        labels: a label map, or its file; another grid than the scan's is resampled.
        reference: a second label map to compare with.
        names: ``{name: value}`` of the labels; unnamed values are called "label <value>".
        colours: ``{name: "#rrggbb"}``.
        title: heading of the page; the file's name by default.
        channel: which channel of the scan is shown; None shows the first, and a colour picture in grey.
        max_voxels: larger scans are reduced to this; None keeps them as they are.

    Returns:
        A `View`: ``.save("page.html")``, ``.to_html()``, or the last line of a notebook cell.

    Raises:
        VolumeError: a file that cannot be read, or label maps that do not fit the scan.
    """
    scene = build_scene(
        _volume(scan),
        None if labels is None else _label_map(labels),
        None if reference is None else _label_map(reference),
        title=title or (Path(scan).name if isinstance(scan, (str, os.PathLike)) else "scan"),
        labels=names,
        colours=colours,
        channel=channel,
        max_voxels=max_voxels,
    )
    return View(scene)


def notebook_html(volume: Volume) -> str:
    """The display of a volume in a notebook: the interactive page, at a size that a notebook file can store."""
    return View(build_scene(volume, title=repr(volume), max_voxels=NOTEBOOK_VOXELS))._repr_html_()


def _volume(source: Volume | str | os.PathLike[str]) -> Volume:
    if isinstance(source, (str, os.PathLike)):
        from resvox.volumes import read_volume

        return read_volume(source)
    return source


def _label_map(source: Volume | str | os.PathLike[str]) -> Volume:
    if isinstance(source, (str, os.PathLike)):
        from resvox.volumes import read_label_map

        return read_label_map(source)
    return source


def _plain(scene: Scene) -> dict[str, Any]:
    """The scene as JSON values; images as gzipped NIfTI in base64."""
    stored, slope, intercept = stored_values(scene.scan)
    return {
        "title": scene.title,
        "spatial_dims": scene.scan.spatial_dims,
        "unit": scene.unit,
        "notes": list(scene.notes),
        "step": slope if slope != 1.0 else 1.0,
        "range": [float(stored.min()) * slope + intercept, float(stored.max()) * slope + intercept],
        "windows": [{"name": each.name, "low": each.low, "high": each.high} for each in scene.windows],
        "scan": _nifti(stored, scene.scan.grid, slope=slope, intercept=intercept),
        "layers": [_plain_layer(layer, scene.scan.grid) for layer in scene.layers],
    }


def _plain_layer(layer: SceneLayer, grid: Grid) -> dict[str, Any]:
    labels = [
        {
            "index": label.index,
            "name": label.name,
            "value": label.value,
            "colour": label.colour,
            "millilitres": label.millilitres,
            "centre": label.centre_mm,
        }
        for label in layer.labels
    ]
    return {"role": layer.role, "title": layer.title, "labels": labels, "data": _nifti(layer.array, grid, label=True)}


def _nifti(
    array: np.ndarray[Any, Any], grid: Grid, *, slope: float = 1.0, intercept: float = 0.0, label: bool = False
) -> str:
    """A gzipped NIfTI-1 file in base64, with the geometry of the grid."""
    import nibabel

    nib: Any = nibabel  # its functions have no types
    dims = grid.spatial_dims
    lps = np.eye(4)
    lps[:dims, :dims] = np.asarray(grid.direction)[:, ::-1] * np.asarray(grid.spacing_mm)[::-1]
    lps[:dims, 3] = grid.origin_mm
    voxels = array.T if dims == 3 else array.T[:, :, np.newaxis]
    image = nib.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps)
    image.header.set_slope_inter(slope, intercept)
    if label:
        image.header.set_intent("label")
    return base64.b64encode(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)).decode("ascii")


def _asset(name: str) -> str:
    file = resources.files("resvox.viewer") / "assets" / name
    if not file.is_file():
        raise ViewerMissingError(
            "NiiVue's script is missing from this installation",
            expected="an installed release of resvox, which holds it",
            fix="in a clone of the repository: make viewer",
            path=str(file),
        )
    return file.read_text(encoding="utf-8")
