"""A scan and its label maps as one interactive HTML page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import VolumeError

if TYPE_CHECKING:
    from resvox.prediction.showing.label_names import LabelNames
    from resvox.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class ViewResult:
    """The page, its remarks about the data, and whether a browser was opened."""

    path: Path
    notes: tuple[str, ...]
    opened: bool


def view(
    scan: str | os.PathLike[str],
    labels: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    out: str | os.PathLike[str] | None = None,
    *,
    reference: str | os.PathLike[str] | None = None,
    names: Mapping[str, int] | str | os.PathLike[str] | None = None,
    channel: int | None = None,
    series: str | None = None,
    full_resolution: bool = False,
    open_browser: bool = False,
) -> ViewResult:
    """Write a page that shows a scan with its label maps: three planes, 3D, label list, comparison.

    Args:
        scan: an image file or a DICOM folder.
        labels: a label map; several (one file per structure) are shown as one, named after the files.
        out: the page; by default ``<scan>.html`` in the current folder.
        reference: a label map to compare with.
        names: ``{name: value}``, or a ``dataset.json``, a model file or a run folder that knows the names; by default
            the ``.json`` beside the label map, the model that `predict` noted beside it, or a ``dataset.json``.
        channel: the channel of the scan that is shown; series: of a DICOM folder that holds several.
        full_resolution: do not reduce large scans; the page can become hundreds of MB.
        open_browser: open the page when it is written.

    Raises:
        VolumeError: a file that cannot be read, or a label map that does not fit the scan.
    """
    import webbrowser

    from resvox.prediction.showing.label_names import find_names
    from resvox.viewer.interactive import View
    from resvox.viewer.scene import MAX_VOXELS, build_scene
    from resvox.volumes import read_label_map, read_volume
    from resvox.volumes.formats import stem_of

    scan = Path(scan)
    files = [Path(labels)] if isinstance(labels, (str, os.PathLike)) else [Path(each) for each in labels]
    volume = read_volume(scan, series=series)
    maps = [read_label_map(path) for path in files]
    known = find_names(names, [*files, *([Path(reference)] if reference is not None else [])])
    shown = maps[0] if len(maps) == 1 else None
    if len(maps) > 1:
        shown, known = _merged(files, maps)
    scene = build_scene(
        volume,
        shown,
        None if reference is None else read_label_map(reference),
        title=scan.name,
        labels=known.labels,
        colours=known.colours,
        channel=channel,
        max_voxels=None if full_resolution else MAX_VOXELS,
    )
    target = Path(out) if out is not None else Path(f"{stem_of(scan)}.html")
    if target.is_dir():
        target = target / f"{stem_of(scan)}.html"
    path = View(scene).save(target)
    return ViewResult(path=path, notes=scene.notes, opened=open_browser and webbrowser.open(path.resolve().as_uri()))


def _merged(files: Sequence[Path], maps: Sequence[Volume]) -> tuple[Volume, LabelNames]:
    """Several label maps on one grid as one; where they overlap, the later one is shown."""
    import numpy as np

    from resvox.prediction.showing.label_names import LabelNames
    from resvox.volumes import resample
    from resvox.volumes.formats import stem_of

    first = maps[0]
    array = np.zeros(first.grid.shape, np.int32)
    labels: dict[str, int] = {}
    for path, volume in zip(files, maps, strict=True):
        if volume.channels != 1 or volume.spatial_dims != first.spatial_dims:
            raise VolumeError(
                f"{volume.spatial_dims}D with {volume.channels} channels",
                expected=f"a {first.spatial_dims}D label map, as {files[0].name}",
                path=path,
            )
        placed = resample(volume, first.grid, interpolation="nearest").with_channel_axis()[0]
        values = [int(value) for value in np.unique(placed) if value != 0]
        for value in values:
            stem = stem_of(path)
            name = stem if len(values) == 1 else f"{stem} {value}"
            labels[name] = len(labels) + 1
            array[placed == value] = labels[name]
    return first.with_array(array), LabelNames(labels=labels)
