import csv
import json
import os

import pytest
from rich.console import Console

from resvox.errors import EvaluationError
from resvox.evaluation import LabelScore, LabelSummary, ScoreTable

MISSED = LabelScore(dice=0.0, hd95_mm=None, surface_dice=0.0, missed=True)
EXTRA = LabelScore(dice=0.0, hd95_mm=None, surface_dice=0.0, extra=True)
ABSENT = LabelScore(dice=None, hd95_mm=None, surface_dice=None)


def compared(dice, hd95_mm, surface_dice):
    return LabelScore(dice=dice, hd95_mm=hd95_mm, surface_dice=surface_dice)


@pytest.fixture
def scores():
    return ScoreTable(
        {
            "case 1": {"left, lung": compared(0.9, 2.0, 0.8), "[red]rib[/red]": MISSED, "gland": ABSENT},
            "case 2": {"left, lung": compared(2 / 3, 4.0, 0.4), "[red]rib[/red]": EXTRA, "gland": ABSENT},
            "case 3": {"left, lung": ABSENT, "[red]rib[/red]": compared(0.6, 8.0, 0.9), "gland": ABSENT},
        },
        tolerance_mm=1.5,
    )


def test_means_leave_out_what_is_undefined_and_count_it(scores):
    lung, rib, gland = scores.summary.values()
    assert (lung.dice, lung.hd95_mm, lung.surface_dice) == pytest.approx(((0.9 + 2 / 3) / 2, 3.0, 0.6))
    assert (lung.compared, lung.missed, lung.extra, lung.absent) == (2, 0, 0, 1)
    # Missed and extra count as 0 in Dice and surface Dice; HD95 is the mean of the one case that has one.
    assert (rib.dice, rib.hd95_mm, rib.surface_dice) == pytest.approx((0.2, 8.0, 0.3))
    assert (rib.compared, rib.missed, rib.extra, rib.absent) == (1, 1, 1, 0)
    assert gland == LabelSummary(dice=None, hd95_mm=None, surface_dice=None, compared=0, missed=0, extra=0, absent=3)


def test_the_overall_mean_is_over_labels(scores):
    overall = scores.overall
    assert overall.dice == pytest.approx(((0.9 + 2 / 3) / 2 + 0.2) / 2)
    assert overall.hd95_mm == pytest.approx(5.5)
    assert (overall.compared, overall.missed, overall.extra, overall.absent) == (3, 1, 1, 4)


def test_json_is_case_label_and_three_numbers_and_nothing_else(scores, tmp_path):
    path = scores.to_json(tmp_path / "new" / "metrics.json")
    read = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)  # no NaN, no Infinity
    assert list(read) == ["case 1", "case 2", "case 3"]
    assert read["case 2"]["left, lung"] == {"dice": 0.666667, "hd95_mm": 4.0, "surface_dice": 0.4}
    assert read["case 1"]["[red]rib[/red]"] == {"dice": 0.0, "hd95_mm": None, "surface_dice": 0.0}
    assert read["case 1"]["gland"] == {"dice": None, "hd95_mm": None, "surface_dice": None}
    assert read == scores.to_dict()


def test_csv_has_one_row_a_case_and_label(scores, tmp_path):
    path = scores.to_csv(tmp_path / "scores.csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["label"]) for row in rows] == [(row.case, row.label) for row in scores.rows]
    assert rows[3] == {
        "case": "case 2",
        "label": "left, lung",
        "dice": "0.666667",
        "hd95_mm": "4.0",
        "surface_dice": "0.4",
        "outcome": "compared",
    }
    assert list(rows[1].values())[2:] == ["0.0", "", "0.0", "missed"]
    assert list(rows[2].values())[2:] == ["", "", "", "absent"]


def drawn(scores, **options):
    console = Console(width=110, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(scores.table(**options))
    return console.export_text()


def test_the_terminal_shows_rows_means_and_what_was_missed(scores):
    text = drawn(scores, title="lungs [v1]")
    assert "lungs [v1]" in text
    assert "surface Dice (1.5 mm)" in text
    assert "[red]rib[/red]" in text  # a name, not markup
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines()]
    assert ["case 1", "left, lung", "0.900", "2.00", "0.800", ""] in cells
    assert ["", "[red]rib[/red]", "0.000", "-", "0.000", "missed"] in cells
    assert ["", "gland", "-", "-", "-", "absent"] in cells
    assert ["mean", "left, lung", "0.783", "3.00", "0.600", ""] in cells
    assert ["", "[red]rib[/red]", "0.200", "8.00", "0.300", "1 missed, 1 extra"] in cells
    assert ["mean", "all labels", "0.492", "5.50", "0.450", "1 missed, 1 extra"] in cells


def test_means_that_repeat_the_rows_are_not_shown():
    one = ScoreTable({"case": {"lung": compared(0.5, 1.0, 0.5)}})
    assert "mean" not in drawn(one)
    two = ScoreTable({"case": {"lung": compared(0.5, 1.0, 0.5), "rib": compared(0.7, 1.0, 0.5)}})
    assert drawn(two).count("mean") == 1


def test_a_failed_write_leaves_the_old_file_and_no_other(scores, tmp_path, monkeypatch):
    path = scores.to_json(tmp_path / "metrics.json")
    before = path.read_text()

    def broken(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        ScoreTable({"case": {"lung": ABSENT}}).to_json(path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_cases_are_an_empty_table(tmp_path):
    empty = ScoreTable({})
    assert empty.overall.dice is None
    assert empty.to_json(tmp_path / "m.json").read_text() == "{}\n"
    assert "Dice" in drawn(empty)


def test_an_entry_that_is_no_score_is_refused():
    with pytest.raises(EvaluationError, match="dict for label 'lung' of case 'a'; expected a LabelScore"):
        ScoreTable({"a": {"lung": {"dice": 1.0}}})
