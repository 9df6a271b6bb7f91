"""The demo's report: what was made, what it scored, what that means, and how to do it again."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from resvox._version import __version__

if TYPE_CHECKING:
    from resvox.evaluation import LabelScore
    from resvox.workflow.demo.result import DemoRun

# Hounsfield units: from air, so that lungs and ribs show in one picture; from fat, where there is bone alone.
CHEST_WINDOW, SPINE_WINDOW = (-1000.0, 600.0), (-200.0, 700.0)


def write_report(run: DemoRun, path: Path) -> Path:
    """Write the page, self-contained."""
    from resvox.viewer.report import notice, page, write_page

    title = "resvox demo: a scan training never saw" if run.data.unseen else "resvox demo: a CT in, a label map out"
    pieces = [
        _figures(run),
        notice("What this shows, and what it does not", *run.meaning),
        _overlay_section(run),
        *_page_section(run),
        _score_section(run),
        _curve_section(run),
        _how_section(run),
    ]
    labels = ", ".join(name for name, value in run.data.labels.items() if value)
    lead = f"A 3D {run.plan.model} with a {run.plan.encoder} encoder learned to find {labels} in one chest CT, " + (
        "then labelled a lumbar CT of another patient." if run.data.unseen else "then labelled that CT again."
    )
    return write_page(path, page(title, lead, pieces, footer=f"Made by resvox {__version__}."))


def _figures(run: DemoRun) -> str:
    from resvox.viewer.report import tiles

    (case,) = run.scores.scores.values()
    shown = [(f"Dice, {label}", _number(score.dice, 3), _surface(score)) for label, score in case.items()]
    total = sum(run.seconds.values())
    return tiles([*shown, ("Whole way", _duration(total), f"of it training {_duration(run.seconds['training'])}")])


def _overlay_section(run: DemoRun) -> str:
    from resvox.viewer import label_colours, overlay_png
    from resvox.viewer.report import picture, section
    from resvox.volumes import read_volume

    maps = {"prediction": read_volume(run.prediction), "reference": read_volume(run.data.reference)}
    image = read_volume(run.data.image)
    window = SPINE_WINDOW if run.data.unseen else CHEST_WINDOW
    png = overlay_png(image, maps, run.data.labels, label_colours(run.data.labels), window=window)
    what = ", ".join(name for name, value in run.data.labels.items() if value)
    return section(
        "Prediction and reference",
        picture(
            png,
            alt=f"Axial, coronal and sagittal slices of the CT with {what} in colour: the prediction above, the "
            "reference below.",
            caption="The same three slices twice, those where most labels show. Millimetres are drawn equally long "
            "in every direction. The patient's right is on the left.",
        ),
    )


def _page_section(run: DemoRun) -> list[str]:
    """A link to the interactive page, where there is one."""
    from resvox.viewer.report import link, section

    if run.page is None:
        return []
    return [section("Look around", link(run.page.name, "Open the scan with both label maps in three planes and 3D"))]


def _score_section(run: DemoRun) -> str:
    from resvox.viewer import label_colours
    from resvox.viewer.report import paragraph, section, table

    (case,) = run.scores.scores.values()
    rows = [
        (label, _number(score.dice, 3), _number(score.hd95_mm, 1), _number(score.surface_dice, 3))
        for label, score in case.items()
    ]
    return section(
        "Scores",
        table(
            f"Case {run.data.case}, every label against the reference",
            ("label", "Dice", "HD95 (mm)", f"surface Dice ({run.scores.tolerance_mm:g} mm)"),
            rows,
            swatches=label_colours(run.data.labels),
        ),
        paragraph(
            "Dice is the overlap, 1 at best. HD95 is the distance that 95 % of the boundary stays within, both ways, 0 "
            "at best. Surface Dice is the share of the boundary that lies within the tolerance."
        ),
    )


def _curve_section(run: DemoRun) -> str:
    from resvox.viewer import curve_png
    from resvox.viewer.report import picture, section

    history = run.fit.history
    losses = [row["step"] for row in history], [row["loss"] for row in history]
    light, dark = (
        curve_png({"loss": losses}, x_label="step", y_label="Dice + cross-entropy loss", theme=theme)
        for theme in ("light", "dark")
    )
    first, last = history[0]["loss"], history[-1]["loss"]
    return section(
        "How it learned",
        picture(
            light,
            dark=dark,
            alt=f"The training loss over {len(history)} steps, from {first:.2f} to {last:.2f}.",
            caption=f"Training loss a step, from {first:.2f} to {last:.2f} in {len(history)} steps. Each step sees "
            f"{run.plan.batch_size} random patches, so it jumps.",
        ),
    )


def _how_section(run: DemoRun) -> str:
    from resvox.viewer.report import console, paragraph, section, table, two_columns

    parts = [(part, _duration(seconds)) for part, seconds in run.seconds.items()]
    stages = [(f"prediction: {stage}", _duration(spent)) for stage, spent in run.predicted.seconds.items()]
    plan = run.plan
    strides = ", ".join("x".join(map(str, stride)) for stride in plan.axis_strides[: plan.encoder_depth])
    chosen = [
        f"{plan.model}, encoder {plan.encoder}, {plan.encoder_depth} stages",
        f"strides {strides} (D x H x W)",
        f"voxels of {' x '.join(f'{mm:.3g}' for mm in plan.spacing_mm or ())} mm, {plan.orientation}",
        f"patches of {' x '.join(map(str, plan.patch_size))} voxels, {plan.batch_size} a step",
        f"{len(run.fit.history)} steps of {plan.optimizer}",
    ]
    return section(
        "What was run",
        paragraph("The same by hand:"),
        console([f"$ {line}" for line in run.commands]),
        two_columns(("Plan", chosen), ("Versions", _versions())),
        table("Time", ("part", "time"), [*parts, *stages]),
    )


def _versions() -> list[str]:
    from importlib.metadata import version

    packages = ("torch", "monai", "lightning-fabric", "SimpleITK", "numpy")
    made_of = [f"{name} {version(name)}" for name in packages]
    return [f"resvox {__version__}", f"Python {platform.python_version()}", *made_of]


def _surface(score: LabelScore) -> str:
    return "not found" if score.missed else f"HD95 {_number(score.hd95_mm, 1)} mm"


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
