"""Manifests as editors and spreadsheets save them: used alike by every task, or one line that names the file."""

from __future__ import annotations

import shutil

import pytest

from resvox.datasets import read_classification, read_dataset, read_regression
from resvox.errors import DatasetError

ROWS = [
    ("imagesTr/größe_0000.nii.gz", "labelsTr/a.nii.gz", "train"),
    ("imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz", "Val"),
]


@pytest.fixture
def folder(folder_of):
    found = folder_of()
    (found / "imagesTr/a_0000.nii.gz").rename(found / "imagesTr/größe_0000.nii.gz")
    return found


def write(folder, rows, *, head="image,label,split", encoding="utf-8", separator=",", end="\n"):
    lines = [head.replace(",", separator), *(separator.join(row) for row in rows)]
    (folder / "m.csv").write_bytes((end.join(lines) + end).encode(encoding))
    return folder / "m.csv"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_separator_of_a_spreadsheet_is_read(folder, encoding, separator, end):
    dataset = read_dataset(write(folder, ROWS, encoding=encoding, separator=separator, end=end))
    assert [(case.id, case.split) for case in dataset.cases] == [("größe", "train"), ("b", "validation")]


@pytest.mark.parametrize("head", ["Image,LABEL,Split", " image , label , split ", "\ufeffimage,label,split"])
def test_names_of_columns_are_read_in_any_case(folder, head):
    assert [case.split for case in read_dataset(write(folder, ROWS, head=head)).cases] == ["train", "validation"]


def test_columns_may_stand_in_any_order_and_rows_may_be_empty(folder):
    rows = [(split, label, image) for image, label, split in ROWS]
    manifest = write(folder, [rows[0], ("", "", ""), rows[1], ("", "", "")], head="split,label,image")
    assert len(read_dataset(manifest).cases) == 2


def test_the_separator_line_of_excel_is_skipped(folder):
    manifest = write(folder, [("image", "label", "split"), *ROWS], head="sep=;", separator=";")
    assert [case.id for case in read_dataset(manifest).cases] == ["größe", "b"]


def test_backslashes_and_absolute_names(folder):
    (image, label, _), other = ROWS
    rows = [
        (image.replace("/", "\\"), label.replace("/", "\\"), "train"),
        (*(str(folder / each) for each in other[:2]), "val"),
    ]
    assert len(read_dataset(write(folder, rows)).cases) == 2


@pytest.mark.parametrize("column", ["group", "Patient", "patient_id", "Patient ID", "subject", "Subject-ID"])
@pytest.mark.parametrize("task", ["label", "class", "target"])
def test_a_person_is_known_by_any_usual_column_in_every_task(folder, column, task):
    second = {"label": "labelsTr/b.nii.gz", "class": "x", "target": "labelsTr/b.nii.gz"}[task]
    rows = [("imagesTr/b_0000.nii.gz", second, f"c{n}", f"p{n // 2}") for n in range(6)]
    if task == "class":
        rows = [(image, "xy"[n % 2], *rest) for n, (image, _, *rest) in enumerate(rows)]
    manifest = write(folder, rows, head=f"image,{task},id,{column}")
    dataset = {"label": read_dataset, "class": read_classification, "target": read_regression}[task](manifest)
    split = dataset.split()
    assert {case.group for case in dataset.cases} == {"p0", "p1", "p2"}
    assert not {case.group for case in split.train} & {case.group for case in split.validation}


@pytest.mark.parametrize("word", ["testing", "Test", "TS"])
def test_every_task_knows_the_same_words_for_parts(folder, word):
    for task, reader in (("label", read_dataset), ("class", read_classification), ("target", read_regression)):
        image, answer = "imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz"
        cells = [("x", "train"), ("y", "train"), ("y", word)] if task == "class" else [(answer, "train"), ("", word)]
        rows = [(image, cell, f"c{n}", part) for n, (cell, part) in enumerate(cells)]
        dataset = reader(write(folder, rows, head=f"image,{task},id,split"))
        assert [case.split for case in dataset.cases][-2:] == ["train", "test"]


def test_a_fold_column_says_who_validates(folder):
    rows = [(*row[:2], str(fold)) for row, fold in zip(ROWS, (1, 0), strict=True)]
    split = read_dataset(write(folder, rows, head="image,label,fold")).split()
    assert [case.id for case in split.validation] == ["b"]
    assert split.reason == "fold 0 of 2 that the dataset names validates"


def test_images_of_one_name_in_several_folders_keep_apart(folder):
    rows = []
    for patient in ("p1", "p2"):
        shutil.copytree(folder / "imagesTr", folder / patient)
        rows.append((f"{patient}/b_0000.nii.gz", "labelsTr/b.nii.gz"))
    assert [case.id for case in read_dataset(write(folder, rows, head="image,label")).cases] == [
        "p1_b_0000",
        "p2_b_0000",
    ]


def test_a_column_that_is_nearly_known_is_said(folder):
    with pytest.warns(UserWarning, match=r"m\.csv: column 'splits' is not used \(is 'split' meant\?\)"):
        read_dataset(write(folder, ROWS, head="image,label,splits"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "m.csv: an empty file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "m.csv: not a text file"),
        (b"image,label\na.nii.gz,b.nii.gz,c\n", "line 2 has 3 cells; expected 2"),
        (b"image,image,label\na,b,c\n", "two columns are called 'image'"),
        (b"image,label\nx.nii.gz,y.nii.gz\n", "x.nii.gz: no image file (line 2 of m.csv)"),
        (b"image,label\n" + b"x" * 5000 + b",y\n", "no image file (line 2 of m.csv)"),
        (b'image,label\n"' + b"x" * 200_000 + b'",y\n', "not CSV in line 2"),
        (b"image,label,fold\nimagesTr/b_0000.nii.gz,labelsTr/b.nii.gz,first\n", "fold 'first' (line 2)"),
        (b"image,label,split\nimagesTr/b_0000.nii.gz,labelsTr/b.nii.gz,unseen\n", "split='unseen' (line 2)"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_the_file(folder, data, words):
    (folder / "m.csv").write_bytes(data)
    with pytest.raises(DatasetError) as caught:
        read_dataset(folder / "m.csv")
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)


def test_columns_of_scans_and_label_maps_that_were_swapped_are_named(folder):
    (folder / "dataset.json").unlink()
    rows = [(label, image) for image, label, _ in ROWS]
    with pytest.raises(
        DatasetError, match=r"different values from -?\d+ to \d+ .*name label maps in the column 'label'"
    ):
        read_dataset(write(folder, rows, head="image,label"))


def test_a_workbook_is_named_as_such(tmp_path):
    (tmp_path / "cases.xlsx").write_bytes(b"PK")
    for reader in (read_dataset, read_classification, read_regression):
        with pytest.raises(DatasetError, match=r"cases\.xlsx: a workbook; expected a \.csv file; fix: save it as CSV"):
            reader(tmp_path / "cases.xlsx")
