"""The page: curves, scores by label and case, the worst cases, the plan with its reasons, the data, the time."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resvox._version import __version__
from resvox.training.logs import read_metrics
from resvox.training.records import Snapshot, read_snapshots
from resvox.training.run_folder import RunFolder
from resvox.workflow.training_report.facts import columns, read_fingerprint

NAME = "report.html"
NOT_SCORES = ("step", "loss", "learning_rate", "seconds")
SHOWN = 40  # cases in the table, the worst first
POINTS = 400  # of the curve of the loss


def write_training_report(folder: Path) -> Path | None:
    """Write ``folder/report.html`` from what the run has left so far, atomically; None before its first step."""
    from resvox.viewer.report import page, write_page

    run = RunFolder(folder)
    rows = read_metrics(run.metrics)
    if not rows:
        return None
    best_step, cases = _validation(run)
    pieces = [
        _figures(rows, best_step),
        _curves(rows),
        *_labels(rows, best_step),
        *_cases(cases, best_step),
        *_worst(run, cases, best_step),
        _plan(run),
        *_data(folder),
        _time(rows),
    ]
    lead = f"{folder.resolve().name}: {rows[-1]['step']} steps."
    made = page("resvox train", lead, pieces, footer=f"Made by resvox {__version__}. Not for diagnosis.")
    return write_page(folder / NAME, made)


def _validation(run: RunFolder) -> tuple[int, Mapping[str, Mapping[str, float | None]]]:
    if not run.validation.is_file():
        return 0, {}
    found = json.loads(run.validation.read_text(encoding="utf-8"))
    return int(found["best_step"]), dict(found["best_cases"])


def _scores(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the score columns."""
    return [name for name in rows[0] if name not in NOT_SCORES]


def _validated(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(row["step"], row[name]) for row in rows if row.get(name) is not None]


def _figures(rows: Sequence[Mapping[str, Any]], best_step: int) -> str:
    from resvox.viewer.report import tiles

    names = _scores(rows)
    points = _validated(rows, names[0]) if names else []
    last = points[-1] if points else None
    at_best = dict(points).get(best_step)
    shown = [("Steps", str(rows[-1]["step"]), f"{rows[-1]['seconds'] or 0:.0f} s of training"),
             ("Loss", f"{rows[-1]['loss']:.4f}", "of the last step")]  # fmt: skip
    if at_best is not None:
        shown.append((names[0], f"{at_best:.4f}", f"the best, at step {best_step}"))
    if last is not None:
        shown.append((names[0], f"{last[1]:.4f}", f"at step {last[0]}"))
    return tiles(shown)


def _curves(rows: Sequence[Mapping[str, Any]]) -> str:
    from resvox.viewer.pictures import curve_png
    from resvox.viewer.report import picture, section

    width = max(1, len(rows) // POINTS)
    steps = [row["step"] for row in rows][width - 1 :: width]
    means = [float(np.mean([row["loss"] for row in rows[at : at + width]])) for at in range(0, len(rows), width)]
    series = {"loss": (steps, means[: len(steps)])}
    made = [
        picture(
            curve_png(series, x_label="step", y_label="loss"),
            dark=curve_png(series, x_label="step", y_label="loss", theme="dark"),
            alt="The loss by step",
            caption=f"Loss, mean of {width} steps." if width > 1 else "Loss of each step.",
        )
    ]
    scores = {name: _columns(points) for name in _scores(rows)[:8] if (points := _validated(rows, name))}
    if scores:
        made.append(
            picture(
                curve_png(scores, x_label="step", y_label="score"),
                dark=curve_png(scores, x_label="step", y_label="score", theme="dark"),
                alt="Scores of each validation by step",
                caption="Scores of the validations.",
            )
        )
    return section("Curves", *made)


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Steps and values."""
    return [float(x) for x, _ in points], [y for _, y in points]


def _labels(rows: Sequence[Mapping[str, Any]], best_step: int) -> list[str]:
    """The scores of the best and of the last validation."""
    from resvox.viewer.report import section, table

    last = next((row for row in reversed(rows) if any(row.get(name) is not None for name in _scores(rows))), None)
    if last is None:
        return []
    best = next((row for row in rows if row["step"] == best_step), last)
    made = [(name, _number(best.get(name)), _number(last.get(name))) for name in _scores(rows)]
    head = ("score", f"best (step {best['step']})", f"last (step {last['step']})")
    return [section("Scores", table("Of the validations, on the network's grid", head, made))]


def _cases(cases: Mapping[str, Mapping[str, float | None]], best_step: int) -> list[str]:
    from resvox.viewer.report import section, table

    ordered = _ordered(cases)
    if not ordered:
        return []
    names = list(next(iter(cases.values())))
    rows = [(case, *(_number(cases[case].get(name)) for name in names)) for case in ordered[:SHOWN]]
    what = f"Dice of each case at step {best_step}, the worst first"
    more = f"; {len(ordered) - SHOWN} more in validation.json" if len(ordered) > SHOWN else ""
    return [section("Cases", table(what + more, ("case", *names), rows))]


def _ordered(cases: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Cases by their mean score, the lowest first."""
    means = {}
    for case, own in cases.items():
        known = [value for value in own.values() if value is not None]
        if known:
            means[case] = sum(known) / len(known)
    return sorted(means, key=lambda case: (means[case], case))


def _worst(run: RunFolder, cases: Mapping[str, Mapping[str, float | None]], best_step: int) -> list[str]:
    from resvox.viewer.report import picture, section

    order = _ordered(cases)
    found = [each for each in read_snapshots(run.snapshots, best_step) if each.case in order]
    found.sort(key=lambda each: order.index(each.case))
    if not found:
        return []
    names = list(next(iter(cases.values())))
    made = [
        picture(_png(each, names), alt=f"Prediction and reference of {each.case}", caption=each.case)
        for each in found[:3]
    ]
    return [section("The worst cases", *made)]


def _png(each: Snapshot, names: Sequence[str]) -> bytes:
    from resvox.viewer import label_colours, overlay_png
    from resvox.volumes import Volume

    labels = {"background": 0, **{name: at for at, name in enumerate(names, start=1)}}
    image = Volume(each.image, spacing_mm=each.spacing_mm)
    maps = {
        "prediction": Volume(each.prediction, spacing_mm=each.spacing_mm),
        "reference": Volume(each.reference, spacing_mm=each.spacing_mm),
    }
    png: bytes = overlay_png(image, maps, labels, label_colours(labels), width_inches=5.0)
    return png


def _plan(run: RunFolder) -> str:
    from resvox.viewer.report import console, paragraph, section

    lines = run.plan.read_text(encoding="utf-8").splitlines() if run.plan.is_file() else []
    return section("The plan", paragraph("Each value with its reason, where a rule chose it."), console(lines))


def _data(folder: Path) -> list[str]:
    from resvox.viewer.plots import histograms_png
    from resvox.viewer.report import paragraph, picture, section

    fingerprint = read_fingerprint(folder)
    found = columns(fingerprint)
    if not found:
        return []
    rows = [found[at : at + 4] for at in range(0, len(found), 4)]
    made = [
        picture(histograms_png(each), dark=histograms_png(each, theme="dark"), alt=", ".join(name for name, _ in each))
        for each in rows
    ]
    count = len(found[0][1])
    unit = "mL" if len(found[0][1]) and any(name == "voxels D" for name, _ in found) else "mm²"
    return [section("The data", paragraph(f"{count} cases; sizes of labels in {unit}."), *made)]


def _time(rows: Sequence[Mapping[str, Any]]) -> str:
    """Where the time went: steps, and what validations took beyond a step."""
    from resvox.viewer.report import section, table

    moments = [0.0, *(float(row["seconds"] or 0) for row in rows)]
    spent = [max(0.0, now - before) for before, now in itertools.pairwise(moments)]
    scores = _scores(rows)
    is_validated = [any(row.get(name) is not None for name in scores) for row in rows]
    plain = [value for value, validated in zip(spent, is_validated, strict=True) if not validated] or spent
    typical = statistics.median(plain)
    validations = sum(
        max(0.0, value - typical) for value, validated in zip(spent, is_validated, strict=True) if validated
    )
    total = moments[-1]
    made = [
        ("steps", f"{total - validations:.1f}", f"{typical * 1000:.0f} ms, the median"),
        ("validations", f"{validations:.1f}", f"{sum(is_validated)} of them"),
        ("in all", f"{total:.1f}", ""),
    ]
    return section("Time", table("Seconds of training", ("stage", "seconds", "each"), made))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
