"""The content of the interactive page: a scan and label maps on one grid, small enough for a browser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.errors import VolumeError
from resvox.viewer.colours import label_colours

if TYPE_CHECKING:
    from resvox.volumes import Grid, Volume

MAX_VOXELS = 8_000_000  # a page of about 10 MB; 512 x 512 x 300 becomes 239 x 239 x 140
HOUNSFIELD_AIR = -500.0  # a scan with values below this counts as CT
LUMA = np.asarray((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601: brightness of red, green and blue
GREY_LEVELS = 2048  # of scans that are not stored in whole numbers
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class DisplayWindow:
    """The intensities drawn black (``low``) and white (``high``), in the units of the scan."""

    name: str
    low: float
    high: float


# Level and width as on radiology workstations, in Hounsfield units.
CT_WINDOWS = (
    DisplayWindow(name="soft tissue", low=-160, high=240),
    DisplayWindow(name="lung", low=-1350, high=150),
    DisplayWindow(name="bone", low=-450, high=1050),
    DisplayWindow(name="brain", low=0, high=80),
)


@dataclass(frozen=True, kw_only=True)
class SceneLabel:
    """One label of a label map.

    Args:
        index: its value in the page's own, dense numbering (1, 2, ...).
        value: its value in the file.
        millilitres: its volume at full resolution; None for 2D images.
        centre_mm: a voxel of the label near its centroid, (x, y, z) RAS mm; None where the label is absent.
    """

    index: int
    name: str
    value: int
    colour: str
    millilitres: float | None
    centre_mm: tuple[float, float, float] | None


@dataclass(frozen=True, kw_only=True)
class SceneLayer:
    """A label map: dense indices (*spatial) on the grid of the scene. ``role``: prediction, reference, disagreement."""

    role: str
    title: str
    array: Array
    labels: tuple[SceneLabel, ...]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that the page shows, on one grid.

    Args:
        scan: the scan, (*spatial), reduced where it was large.
        windows: presets, the first one is shown at first.
        notes: remarks for the reader, one sentence each.
    """

    title: str
    scan: Volume
    layers: tuple[SceneLayer, ...]
    windows: tuple[DisplayWindow, ...]
    unit: str
    notes: tuple[str, ...] = ()


def build_scene(
    scan: Volume,
    prediction: Volume | None = None,
    reference: Volume | None = None,
    *,
    title: str = "scan",
    labels: Mapping[str, int] | None = None,
    colours: Mapping[str, str] | None = None,
    channel: int | None = None,
    max_voxels: int | None = MAX_VOXELS,
) -> Scene:
    """Bring a scan and its label maps to one grid that a browser can hold.

    Args:
        scan: (*spatial) or (channels, *spatial), 2D or 3D; ``channel`` is shown; None shows the
            first one, and of a colour picture its brightness.
        prediction, reference: label maps, (*spatial) whole numbers; another grid than the scan's is resampled to it
            (nearest neighbour) and mentioned in the notes.
        labels: ``{name: value}``; values that are not named are called "label <value>".
        colours: ``{name: "#rrggbb"}``; the default palette for the others.
        max_voxels: larger scans are reduced; None keeps the full resolution.

    Raises:
        VolumeError: label maps of another number of dimensions or with fractional values, or a channel that the
            scan does not have.
    """
    notes: list[str] = []
    shown = _one_channel(scan, channel, notes)
    maps = {
        role: _on_grid_of(shown, _label_map(volume, role), role, notes)
        for role, volume in (("prediction", prediction), ("reference", reference))
        if volume is not None
    }
    names = _names(maps.values(), labels)
    palette = {**label_colours(names), **(colours or {})}
    small = _reduced(shown, max_voxels, notes)
    layers = [_layer(role, each, small.grid, names, palette) for role, each in maps.items()]
    if len(maps) == 2:
        layers.append(_disagreement(*(layer.array for layer in layers)))
    values = small.array[np.isfinite(small.array)]
    return Scene(
        title=title,
        scan=small,
        layers=tuple(layers),
        windows=_windows(values),
        unit="HU" if _is_ct(values) else "",
        notes=tuple(notes),
    )


def _one_channel(scan: Volume, channel: int | None, notes: list[str]) -> Volume:
    if channel is None and scan.spatial_dims == 2 and scan.channels in (3, 4):
        notes.append("A colour picture, shown in grey.")
        return scan.with_array(np.tensordot(LUMA, scan.array[:3].astype(np.float32), axes=1))
    channel = channel or 0
    if not 0 <= channel < scan.channels:
        raise VolumeError(
            f"channel {channel} of a scan with {scan.channels}", expected=f"a number from 0 to {scan.channels - 1}"
        )
    if scan.channels > 1:
        notes.append(f"Channel {channel} of {scan.channels} is shown.")
    return scan.with_array(scan.with_channel_axis()[channel])


def _label_map(volume: Volume, role: str) -> Volume:
    if volume.channels != 1:
        raise VolumeError(f"a {role} of {volume.channels} channels", expected="a label map with one value per voxel")
    array = volume.with_channel_axis()[0]
    whole = np.rint(array).astype(np.int64)
    if array.dtype.kind == "f" and not np.array_equal(whole, array):
        raise VolumeError(f"a {role} with fractional values", expected="a label map, which holds whole numbers")
    return volume.with_array(whole)


def _on_grid_of(scan: Volume, volume: Volume, role: str, notes: list[str]) -> Volume:
    if volume.spatial_dims != scan.spatial_dims:
        raise VolumeError(
            f"a {volume.spatial_dims}D {role} with a {scan.spatial_dims}D scan",
            expected="the same number of dimensions",
        )
    if volume.grid.matches(scan.grid):
        return volume
    from resvox.volumes import resample

    notes.append(f"The {role} lies on another grid than the scan; it was resampled (nearest neighbour).")
    return resample(volume, scan.grid, interpolation="nearest")


def _names(maps: Iterable[Volume], labels: Mapping[str, int] | None) -> dict[str, int]:
    """``{name: value}`` of all labels but the background: named ones in their order, then the others."""
    named = {name: int(value) for name, value in (labels or {}).items() if int(value) != 0}
    known = set(named.values())
    found = sorted({int(value) for volume in maps for value in np.unique(volume.array)} - known - {0})
    return {**named, **{f"label {value}": value for value in found}}


def _reduced(scan: Volume, max_voxels: int | None, notes: list[str]) -> Volume:
    voxels = int(np.prod(scan.grid.shape))
    if max_voxels is None or voxels <= max_voxels:
        return scan
    from resvox.preprocessing import respaced
    from resvox.volumes import resample

    # The finest axes are coarsened first: a scan of thick slices keeps its slices.
    spacing = np.asarray(scan.spacing_mm, dtype=float)
    size = spacing * scan.grid.shape
    low, high = float(spacing.min()), float(size.max())
    for _ in range(60):
        middle = (low + high) / 2
        fits = np.prod(np.ceil(size / np.maximum(spacing, middle))) <= max_voxels
        low, high = (low, middle) if fits else (middle, high)
    grid = respaced(scan.grid, tuple(float(mm) for mm in np.maximum(spacing, high)))
    before, after = (" x ".join(map(str, shape)) for shape in (scan.grid.shape, grid.shape))
    notes.append(f"Reduced from {before} to {after} voxels for the browser; volumes are those of the full resolution.")
    return resample(scan, grid, interpolation="linear", antialias=True, fill=None)


def _layer(role: str, volume: Volume, grid: Grid, names: Mapping[str, int], colours: Mapping[str, str]) -> SceneLayer:
    from resvox.volumes import resample

    values = np.asarray([0, *names.values()])
    order = np.argsort(values)
    dense = np.arange(len(values), dtype=np.uint8 if len(values) <= 256 else np.int16)
    full = dense[order][np.searchsorted(values[order], volume.array)]
    counts = np.bincount(full.ravel(), minlength=len(values))
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000 if volume.spatial_dims == 3 else None
    array = full
    if volume.grid.shape != grid.shape:
        array = resample(volume.with_array(full), grid, interpolation="nearest").array.astype(full.dtype)
    return SceneLayer(
        role=role,
        title=role.capitalize(),
        array=array,
        labels=tuple(
            SceneLabel(
                index=index,
                name=name,
                value=value,
                colour=colours[name].lower(),
                millilitres=None if voxel_ml is None else float(counts[index]) * voxel_ml,
                centre_mm=_centre_mm(full, index, volume.grid) if counts[index] else None,
            )
            for index, (name, value) in enumerate(names.items(), start=1)
        ),
    )


def _centre_mm(array: Array, index: int, grid: Grid) -> tuple[float, float, float]:
    """The world position (RAS) of the voxel of a label that lies nearest to the label's centroid."""
    voxels = np.argwhere(array == index)
    nearest = voxels[np.abs(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()]
    x, y, *z = (float(each) for each in grid.world_mm(tuple(int(each) for each in nearest)))
    return (-x, -y, z[0] if z else 0.0)


def _disagreement(prediction: Array, reference: Array) -> SceneLayer:
    array = np.zeros(prediction.shape, np.uint8)
    array[(prediction != 0) & (reference == 0)] = 1
    array[(prediction == 0) & (reference != 0)] = 2
    array[(prediction != 0) & (reference != 0) & (prediction != reference)] = 3
    kinds = (("only in the prediction", "#e69f00"), ("only in the reference", "#56b4e9"), ("another label", "#cc79a7"))
    labels = tuple(
        SceneLabel(index=index, name=name, value=index, colour=colour, millilitres=None, centre_mm=None)
        for index, (name, colour) in enumerate(kinds, start=1)
    )
    return SceneLayer(role="disagreement", title="Disagreement", array=array, labels=labels)


def _is_ct(values: Array) -> bool:
    return bool(values.size) and float(values.min()) < HOUNSFIELD_AIR


def _windows(values: Array) -> tuple[DisplayWindow, ...]:
    if values.size == 0:
        return (DisplayWindow(name="full", low=0.0, high=1.0),)
    least, most = float(values.min()), float(values.max())
    full = DisplayWindow(name="full", low=least, high=max(most, least + 1e-6))
    if _is_ct(values):
        return (*CT_WINDOWS, full)
    low, high = (float(each) for each in np.percentile(values, (1, 99.5)))
    automatic = DisplayWindow(name="auto", low=low, high=high) if high > low else full
    return (automatic, full) if automatic is not full else (full,)


def stored_values(scan: Volume) -> tuple[Array, float, float]:
    """The scan as 16-bit integers with ``value = stored * slope + intercept``.

    Scans in whole numbers that fit (CT) keep them, and a wide range is rounded to whole numbers; others are rounded
    to 2048 levels over their range, which is more than a screen shows.
    """
    array = np.nan_to_num(np.asarray(scan.array, dtype=np.float32), copy=True, nan=0.0, posinf=0.0, neginf=0.0)
    least, most = float(array.min()), float(array.max())
    fits = least >= -32768 and most <= 32767
    if fits and (most - least >= GREY_LEVELS or np.array_equal(array, np.rint(array))):
        return np.rint(array).astype(np.int16), 1.0, 0.0
    slope = (most - least) / (GREY_LEVELS - 1) or 1.0
    return np.rint((array - least) / slope).astype(np.int16), slope, least
