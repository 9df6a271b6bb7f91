"""Pictures as PNG bytes: label maps over a scan in three planes, and curves of a training run."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from resvox.viewer.colours import rgb
from resvox.viewer.slices import PLANES, Array, Plane, display_window, most_informative_slice, to_radiological

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from resvox.volumes import Volume

FILL = 0.38  # of a label's colour: the anatomy below stays readable
PAPER = {"light": ("#ffffff", "#1c2733", "#d5dbe1"), "dark": ("#161d26", "#e4e9ee", "#35414e")}
LINES = {"light": ("#0072B2", "#C04D00", "#007A59"), "dark": ("#56B4E9", "#F0A03C", "#3CC79B")}


def overlay_png(
    image: Volume,
    maps: Mapping[str, Volume],
    labels: Mapping[str, int],
    colours: Mapping[str, str],
    *,
    window: tuple[float, float] | None = None,
    width_inches: float = 11.0,
) -> bytes:
    """Label maps over a scan, one row per map, in three planes.

    The slices are those that show most of the last map that has a label.

    Args:
        image: (*spatial) or (channels, *spatial), 2D or 3D; the first channel is shown.
        maps: ``{title: label map}`` on the grid of the image, e.g. prediction and reference.
        labels: ``{name: value}``; 0 is not drawn.
        colours: ``{name: "#rrggbb"}``.
        window: the values shown black and white; by default computed from the image.

    Returns:
        A PNG. Millimetres are equally long in both directions of every panel, however thick the slices are.
    """
    scan, spacing_mm = to_radiological(image)
    turned = {title: to_radiological(each)[0] for title, each in maps.items()}
    planes: Sequence[Plane | None] = PLANES if image.spatial_dims == 3 else (None,)
    # By the last map, the reference where there is one: a bad prediction must not select the slices.
    chooser = [each for each in turned.values() if each.any()][-1:]
    at = [None if p is None else most_informative_slice(chooser, p.axis, scan.shape[p.axis]) for p in planes]
    sizes_mm = [_size_mm(scan.shape, spacing_mm, plane) for plane in planes]

    total = sum(width for _, width in sizes_mm)
    row_inches = max(height for height, _ in sizes_mm) / total * width_inches * 0.97
    figure = empty_figure(width_inches, len(turned) * (row_inches + 0.32) + 0.45, "#0d1117")
    grid = figure.add_gridspec(
        len(turned),
        len(planes),
        width_ratios=[width for _, width in sizes_mm],
        left=0.012, right=0.988, top=1 - 0.32 / figure.get_figheight(), bottom=0.45 / figure.get_figheight(),
        wspace=0.025, hspace=0.32 / row_inches,
    )  # fmt: skip
    shown = window or display_window(scan)
    for row, (title, label_map) in enumerate(turned.items()):
        for column, (plane, index) in enumerate(zip(planes, at, strict=True)):
            axes = figure.add_subplot(grid[row, column])
            cuts = _cut(scan, plane, index), _cut(label_map, plane, index)
            _panel(axes, *cuts, sizes_mm[column], shown, labels, colours)
            _captions(axes, title, plane, index)
    _legend(figure, [name for name, value in labels.items() if value != 0], colours)
    return as_png(figure)


def curve_png(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    theme: str = "light",
    limits: tuple[float, float] | None = None,
) -> bytes:
    """Lines over steps, e.g. loss; ``series`` is ``{name: (x, y)}``; ``theme`` is "light" or "dark"."""
    paper, ink, rule = PAPER[theme]
    figure = empty_figure(9.6, 3.2, paper)
    axes = figure.add_axes((0.07, 0.16, 0.91, 0.78))
    axes.set_facecolor(paper)
    for (name, (x, y)), colour in zip(series.items(), LINES[theme] * len(series), strict=False):
        dots = {"marker": "o", "markersize": 4} if len(x) <= 12 else {}
        axes.plot(x, y, color=colour, linewidth=1.6, label=name, **dots)  # type: ignore[arg-type]
    axes.set_xlabel(x_label, color=ink, fontsize=9)
    axes.set_ylabel(y_label, color=ink, fontsize=9)
    if limits is not None:
        axes.set_ylim(*limits)
    axes.tick_params(colors=ink, labelsize=8, length=3)
    axes.grid(axis="y", color=rule, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(rule)
    if len(series) > 1:
        axes.legend(frameon=False, labelcolor=ink, fontsize=9)
    return as_png(figure)


def _cut(array: Array, plane: Plane | None, index: int | None) -> Array:
    return array if plane is None or index is None else np.take(array, index, axis=plane.axis)


def _size_mm(shape: Sequence[int], spacing_mm: Sequence[float], plane: Plane | None) -> tuple[float, float]:
    kept = [axis for axis in range(len(shape)) if plane is None or axis != plane.axis]
    height, width = (shape[axis] * spacing_mm[axis] for axis in kept)
    return height, width


def _panel(
    axes: Axes,
    scan: Array,
    label_map: Array,
    size_mm: tuple[float, float],
    window: tuple[float, float],
    labels: Mapping[str, int],
    colours: Mapping[str, str],
) -> None:
    height, width = size_mm
    extent = (0.0, width, height, 0.0)
    axes.imshow(
        scan,
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        extent=extent,
        interpolation="bilinear",
        aspect="equal",
    )
    fill = np.zeros((*label_map.shape, 4))
    for name, value in labels.items():
        if value == 0 or not (mask := label_map == value).any():
            continue
        fill[mask] = (*rgb(colours[name]), FILL)
        rows, columns = mask.shape
        if min(rows, columns) > 1:  # a contour needs at least two rows and two columns
            across, down = (
                (np.arange(columns) + 0.5) * width / columns,
                (np.arange(rows) + 0.5) * height / rows,
            )
            axes.contour(across, down, mask.astype(float), levels=[0.5], colors=[colours[name]], linewidths=1.0)
    axes.imshow(fill, extent=extent, interpolation="nearest", aspect="equal")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()


def _captions(axes: Axes, title: str, plane: Plane | None, index: int | None) -> None:
    text = title if plane is None else f"{title}, {plane.name} {index}"
    axes.set_title(text, color="#e6edf3", fontsize=10, loc="left", pad=4)
    if plane is None:
        return
    at: dict[str, tuple[float, float, str, str]] = {
        plane.left: (0.02, 0.5, "left", "center"),
        plane.right: (0.98, 0.5, "right", "center"),
        plane.top: (0.5, 0.98, "center", "top"),
        plane.bottom: (0.5, 0.02, "center", "bottom"),
    }
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2, foreground="#0d1117")]  # readable on bone and on a label
    for letter, (x, y, across, along) in at.items():
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            ha=across,
            va=along,
            color="#e6edf3",
            fontsize=8,
            path_effects=outline,
        )


def _legend(figure: Figure, names: Sequence[str], colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    figure.legend(
        handles=[Patch(facecolor=colours[name], label=name) for name in names[:14]],
        loc="lower center", ncols=min(len(names), 7) or 1, frameon=False, labelcolor="#e6edf3", fontsize=9.5,
    )  # fmt: skip


def empty_figure(width: float, height: float, colour: str) -> Figure:
    """A figure of a size in inches, on paper of a colour."""
    # Figure without pyplot: no global state, no window system, and Agg is what savefig uses for a PNG.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor=colour)


def as_png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"format": "png", "dpi": 110, "metadata": {"Software": None}}
    figure.savefig(buffer, facecolor=figure.get_facecolor(), **options)
    return buffer.getvalue()
