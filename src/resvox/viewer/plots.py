"""Plots of scores as PNG bytes: reliability, risk against coverage, bars, histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resvox.viewer.pictures import LINES, PAPER, as_png, empty_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def calibration_png(
    reliability: Sequence[tuple[float, float, int]], risk: Sequence[tuple[float, float]], *, theme: str = "light"
) -> bytes:
    """Accuracy against confidence, and risk against coverage where there is any.

    Args:
        reliability: mean confidence, accuracy and number of predictions of each interval.
        risk: coverage and risk.
    """
    paper, _, rule = PAPER[theme]
    panels = [kind for kind, points in (("reliability", reliability), ("risk", risk)) if points]
    figure = empty_figure(4.6 * max(len(panels), 1), 4.2, paper)
    for at, kind in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), at + 1)
        if kind == "reliability":
            axes.plot([0, 1], [0, 1], color=rule, linewidth=1)
            axes.plot([each[0] for each in reliability], [each[1] for each in reliability], marker="o", markersize=4,
                      color=LINES[theme][0])  # fmt: skip
            _style(axes, "confidence", "accuracy", theme)
            axes.set_xlim(0, 1)
        else:
            axes.plot(*zip(*risk, strict=True), marker="o", markersize=3, color=LINES[theme][1])
            _style(axes, "coverage: share of cases, the surest first", "risk: 1 - mean Dice", theme)
        axes.set_ylim(0, None if kind == "risk" else 1)
    figure.subplots_adjust(left=0.13 if len(panels) == 1 else 0.08, right=0.97, bottom=0.13, top=0.96, wspace=0.28)
    return as_png(figure)


def bars_png(
    values: Sequence[tuple[str, float]],
    *,
    x_label: str,
    theme: str = "light",
    limits: tuple[float, float] | None = None,
) -> bytes:
    """Horizontal bars, the first on top: (name, value)."""
    paper, _, _ = PAPER[theme]
    figure = empty_figure(9.6, 0.9 + 0.24 * len(values), paper)
    axes = figure.add_subplot(1, 1, 1)
    places = list(range(len(values)))[::-1]
    axes.barh(places, [value for _, value in values], color=LINES[theme][0], height=0.7)
    axes.set_yticks(places, [name[:40] for name, _ in values])
    _style(axes, x_label, "", theme)
    if limits is not None:
        axes.set_xlim(*limits)
    figure.subplots_adjust(left=0.25, right=0.98, bottom=min(0.5, 0.55 / figure.get_figheight()), top=0.98)
    return as_png(figure)


def histograms_png(columns: Sequence[tuple[str, Sequence[float]]], *, theme: str = "light") -> bytes:
    """Small histograms side by side: (name, values)."""
    paper, _, _ = PAPER[theme]
    figure = empty_figure(2.4 * max(len(columns), 1), 2.3, paper)
    for at, (name, values) in enumerate(columns):
        axes = figure.add_subplot(1, len(columns), at + 1)
        axes.hist(list(values), bins=min(20, max(5, len(set(values)))), color=LINES[theme][0])
        _style(axes, name, "cases" if at == 0 else "", theme)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.25, top=0.95, wspace=0.3)
    return as_png(figure)


def _style(axes: Axes, x_label: str, y_label: str, theme: str) -> None:
    paper, ink, rule = PAPER[theme]
    axes.set_facecolor(paper)
    axes.set_xlabel(x_label, color=ink, fontsize=9)
    axes.set_ylabel(y_label, color=ink, fontsize=9)
    axes.tick_params(colors=ink, labelsize=8, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(rule)
