"""The one table of image formats: what a name means, and that no other module keeps a list of endings."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import resvox
from resvox.volumes import Volume, find_cases, read_volume, write_volume
from resvox.volumes.formats import (
    DICOM_ENDINGS,
    FORMATS,
    READ_ENDINGS,
    WRITTEN_ENDINGS,
    ending_of,
    format_of,
    is_dicom_name,
    is_image,
    is_label_map,
    is_picture,
    paired_files,
    stem_of,
)


def test_every_ending_belongs_to_one_format() -> None:
    endings = [ending for row in FORMATS for ending in (*row.endings, *row.data_endings)]
    assert len(endings) == len(set(endings))
    assert all(ending.startswith(".") and ending == ending.lower() for ending in endings)
    assert all(set(row.written) <= set(row.endings) for row in FORMATS)


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_names_are_understood_in_any_case(row: object) -> None:
    for ending in row.endings:  # type: ignore[attr-defined]
        for written in (ending, ending.upper(), ending.title()):
            name = f"Patient.1{written}"
            assert (format_of(name), ending_of(name), stem_of(name)) == (row, ending, "Patient.1")


def test_names_with_endings_inside() -> None:
    assert stem_of("a.img.nii.gz") == "a.img"
    assert stem_of("dir.nii/a.nii.nii") == "a.nii"
    assert stem_of("notes.txt") == "notes.txt"
    assert (ending_of(".nii.gz"), ending_of("nii.gz"), ending_of("a.gz")) == ("", "", "")


@pytest.mark.parametrize(
    ("asked", "true_of", "false_of"),
    [
        (is_image, ["a.NII.GZ", "a.hdr", "a.jpg"], ["a.dcm", "a.img", "a.txt", "a"]),
        (is_picture, ["a.PNG", "a.tiff"], ["a.nrrd", "a.dcm"]),
        (is_label_map, ["a.bmp", "a.nhdr"], ["a.JPG", "a.img", "a.dcm"]),
        (is_dicom_name, ["IM.IMA", "a.dcm"], ["IM0001", "a.nii"]),
    ],
)
def test_kinds_of_files(asked: Callable[[str], bool], true_of: list[str], false_of: list[str]) -> None:
    assert [name for name in true_of if not asked(name)] == []
    assert [name for name in false_of if asked(name)] == []


def test_pairs_are_found_by_either_name(tmp_path: Path) -> None:
    for header, voxels in (("a.hdr", "a.img"), ("B.HDR", "B.IMG"), ("c.hdr.gz", "c.img.gz"), ("d.hdr", "D.Img")):
        (tmp_path / header).touch()
        (tmp_path / voxels).touch()
        assert paired_files(tmp_path / header) == (tmp_path / header, tmp_path / voxels)
        assert paired_files(tmp_path / voxels) == (tmp_path / header, tmp_path / voxels)
    assert paired_files(tmp_path / "e.img") == (tmp_path / "e.hdr", tmp_path / "e.img")
    assert paired_files(tmp_path / "a.nii.gz") is None
    assert paired_files(tmp_path / "a.mhd") is None


@pytest.mark.parametrize("ending", WRITTEN_ENDINGS)
def test_what_is_written_is_found_and_read(ending: str, tmp_path: Path) -> None:
    path = write_volume(Volume(np.full((4, 5), 7, np.uint8), spacing_mm=(1, 1)), tmp_path / f"x{ending}")
    assert [case.paths for case in find_cases(tmp_path)] == [(path,)]
    assert (read_volume(path).array == 7).all()


def test_no_other_module_lists_endings() -> None:
    """A second list of endings drifts: a format that one command reads is then unknown to another."""
    known = {*READ_ENDINGS, *WRITTEN_ENDINGS, *DICOM_ENDINGS}
    source = Path(resvox.__file__).parent
    lists = [
        f"{path.relative_to(source)}:{node.lineno}"
        for path in source.rglob("*.py")
        if path.relative_to(source).as_posix() != "volumes/formats.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Tuple, ast.List, ast.Set, ast.Dict)) and len(known & set(_words(node))) > 1
    ]
    assert not lists


def _words(node: ast.Tuple | ast.List | ast.Set | ast.Dict) -> list[str]:
    elements = node.keys if isinstance(node, ast.Dict) else node.elts
    return [each.value for each in elements if isinstance(each, ast.Constant) and isinstance(each.value, str)]
