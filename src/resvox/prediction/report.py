"""The report of a folder of label maps: a table of cases, and an interactive page for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resvox._version import __version__
from resvox.errors import ResvoxError

if TYPE_CHECKING:
    from resvox.cards.segmentation import SegmentationCard
    from resvox.prediction.cases import Case
    from resvox.prediction.options import PredictOptions
    from resvox.prediction.outcomes import CaseOutcome, PredictResult

NAME = "report.html"
PAGES = "views"  # the folder of the interactive pages


def report_of(
    options: PredictOptions, result: PredictResult, cases: Sequence[Case], *, notify: Callable[[str], object]
) -> Path:
    """`write_report` for the model and the scans of a batch."""
    from resvox.cards.segmentation import SegmentationCard
    from resvox.prediction.inputs import read_scan
    from resvox.prediction.model_files import chosen_files

    card = chosen_files(options)[0].card
    assert isinstance(card, SegmentationCard)  # other tasks refuse the option
    return write_report(result, cases, card, read=read_scan, notify=notify)


def write_report(
    result: PredictResult,
    cases: Sequence[Case],
    card: SegmentationCard,
    *,
    read: Callable[[Case], object],
    notify: Callable[[str], object],
) -> Path:
    """Write ``out/report.html`` and a page for each case into ``out/views``.

    Args:
        result: what a batch has done. Label maps that were there before are shown, too.
        cases: those of the result, in its order.
        card: of the model: names and colours of the labels.
        read: reads the scan of a case.
        notify: called with a line for each case that cannot be shown.

    Raises:
        ViewerMissingError: the viewer's script is not installed.
    """
    from resvox.viewer.report import link, page, paragraph, section, table, write_page

    rows, links, doubts = [], [], _doubts(result)
    pairs = sorted(zip(cases, result.cases, strict=True), key=lambda pair: -doubts.get(pair[1].id, -1.0))
    for case, outcome in pairs:
        volumes: Mapping[str, float] = {}
        if outcome.path is not None and outcome.status in ("written", "present"):
            try:
                volumes = _write_page(case, outcome, card, read, result.out / PAGES)
                links.append(link(f"{PAGES}/{outcome.id}.html", outcome.id))
            except (OSError, MemoryError) as error:
                notify(f"{outcome.id} is not in the report: {error}")
            except ResvoxError as error:
                if not (result.out / PAGES).is_dir():
                    raise
                notify(f"{outcome.id} is not in the report: {error}")
        own = (f"{doubts[outcome.id]:.3f}" if outcome.id in doubts else "-",) if doubts else ()
        rows.append((*_row(outcome, card, volumes), *own))
    names = [name for name, value in card.labels.items() if value]
    head = ("case", "status", "seconds", *names, *(("doubt",) if doubts else ()))
    order = [paragraph("The most doubtful case comes first; review.csv has the same order.")] if doubts else []
    pieces = [
        section("Cases", table("Volumes in mL", head, rows), *order, paragraph(str(result))),
        section("Look around", *(links or [paragraph("No label map could be shown.")])),
    ]
    lead = f"{len(rows)} cases, labels {', '.join(names)}."
    footer = f"Made by resvox {__version__}. Not for diagnosis."
    return write_page(result.out / NAME, page("resvox predict", lead, pieces, footer=footer))


def _doubts(result: PredictResult) -> dict[str, float]:
    """The doubt of each case, where it was asked for in this run or an earlier one."""
    from resvox.prediction.log import RunLog

    log = RunLog(result.out)
    lines = {case.id: log.by_case.get(case.id) or {} for case in result.cases}
    return {case: float(line["doubt"]) for case, line in lines.items() if "doubt" in line}


def _write_page(
    case: Case, outcome: CaseOutcome, card: SegmentationCard, read: Callable[[Case], object], folder: Path
) -> dict[str, float]:
    """Write one interactive page; the volumes of the labels in mL."""
    from resvox.viewer.interactive import View
    from resvox.viewer.scene import build_scene
    from resvox.volumes import Volume, read_label_map

    assert outcome.path is not None
    scan = read(case)
    assert isinstance(scan, Volume)
    scene = build_scene(scan, read_label_map(outcome.path), title=outcome.id, labels=card.labels, colours=card.colours)
    View(scene).save(folder / f"{outcome.id}.html")
    return {label.name: label.millilitres for label in scene.layers[0].labels if label.millilitres is not None}


def _row(outcome: CaseOutcome, card: SegmentationCard, volumes: Mapping[str, float]) -> tuple[str, ...]:
    names = [name for name, value in card.labels.items() if value]
    shown = (f"{volumes[name]:.2f}" if name in volumes else "-" for name in names)
    spent = f"{sum(outcome.seconds.values()):.1f}" if outcome.seconds else "-"
    return (outcome.id, outcome.status, spent, *shown)
