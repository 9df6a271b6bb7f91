"""What is named on a command line becomes cases, and a bad one never stops the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resvox.errors import VolumeError
from resvox.volumes import InputCase, Volume, find_cases, read_case, write_volume

Write = Callable[..., Path]


def put(path: Path, value: float = 1.0, shape: tuple[int, ...] = (3, 4, 5), kind: type = np.int16) -> Path:
    volume = Volume(np.full(shape, value, kind), spacing_mm=(2.0,) * min(3, len(shape)))
    return write_volume(volume, path)


def names(cases: list[InputCase]) -> list[tuple[str, list[str]]]:
    return [(case.id, [path.name for path in case.paths]) for case in cases]


def test_files_and_folders_become_cases_in_order(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nrrd", "sub/c.mha", "z/.hidden.nii.gz", "z/d.nii"):
        put(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    single = put(tmp_path / "x.nii.gz")
    cases = find_cases([single, tmp_path / "in"])
    assert names(cases) == [
        ("x", ["x.nii.gz"]),
        ("a", ["a.nrrd"]),
        ("b", ["b.nii.gz"]),
        ("c", ["c.mha"]),
        ("d", ["d.nii"]),
    ]
    assert all(case.problem is None for case in cases)
    assert names(find_cases(single)) == [("x", ["x.nii.gz"])]
    assert names(find_cases(str(single))) == [("x", ["x.nii.gz"])]


def test_channel_files_are_grouped_and_stacked(tmp_path: Path) -> None:
    for case in ("p1", "p2"):
        for channel in (1, 0):
            put(tmp_path / f"{case}_000{channel}.nii.gz", value=10 * channel + int(case[1]))
    cases = find_cases(tmp_path, channels=2)
    assert names(cases) == [
        ("p1", ["p1_0000.nii.gz", "p1_0001.nii.gz"]),
        ("p2", ["p2_0000.nii.gz", "p2_0001.nii.gz"]),
    ]
    volume = read_case(cases[1])
    assert (volume.array.shape, volume.array.dtype) == ((2, 3, 4, 5), np.float32)
    assert volume.array[:, 0, 0, 0].tolist() == [2.0, 12.0]
    files = sorted(tmp_path.iterdir(), reverse=True)
    assert {case.id for case in find_cases(files, channels=2)} == {"p1", "p2"}


def test_one_channel_named_as_nnunet_does_loses_its_ending(tmp_path: Path) -> None:
    put(tmp_path / "p1_0000.nii.gz")
    put(tmp_path / "p1_0007.nrrd")  # another format: no channel of the first
    assert [case.id for case in find_cases(tmp_path)] == ["p1", "p1_0007"]


def test_one_channel_cases_come_as_a_stack_of_one(tmp_path: Path) -> None:
    volume = read_case(find_cases(put(tmp_path / "x.nii.gz"))[0])
    assert (volume.array.shape, volume.spatial_dims, volume.channels) == ((1, 3, 4, 5), 3, 1)


def test_a_file_may_hold_all_its_channels(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((6, 7, 3), np.uint8)).save(tmp_path / "rgb.png")
    case = find_cases(tmp_path, channels=3)[0]
    assert read_case(case).array.shape == (3, 6, 7)
    with pytest.raises(VolumeError, match=r"rgb\.png: 3 channels; expected 1"):
        read_case(find_cases(tmp_path, channels=1)[0])


def test_a_wrong_number_of_channels_is_the_problem_of_that_case(tmp_path: Path) -> None:
    for name in ("good_0000", "good_0001", "bad_0000", "bad_0001", "bad_0002", "lone_0000"):
        put(tmp_path / f"{name}.nii.gz")
    bad, good, lone = find_cases(tmp_path, channels=2)
    assert good.problem is None
    assert read_case(good).channels == 2
    assert str(bad.problem) == (
        f"{tmp_path / 'bad_0000.nii.gz'}: 3 channel files (bad_0000.nii.gz, bad_0001.nii.gz, bad_0002.nii.gz); "
        "expected 2; fix: name the files to use one by one, or without _0000 endings where they are not channels"
    )
    with pytest.raises(VolumeError, match="3 channel files"):
        read_case(bad)
    with pytest.raises(
        VolumeError, match=r"lone_0000\.nii\.gz: 1 channel; expected 2; fix: put lone_0001\.nii\.gz beside it"
    ):
        read_case(lone)
    two_of_one = find_cases(tmp_path, channels=1)
    assert [case.problem is None for case in two_of_one] == [False, False, True]


def test_channels_on_different_grids_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "p_0000.nii.gz")
    put(tmp_path / "p_0001.nii.gz", shape=(3, 4, 6))
    with pytest.raises(VolumeError) as caught:
        read_case(find_cases(tmp_path, channels=2)[0])
    assert str(caught.value).startswith(
        f"{tmp_path / 'p_0001.nii.gz'}: its grid is not that of p_0000.nii.gz: 3x4x6 voxels of 2 x 2 x 2 mm"
    )


def test_dicom_folders_are_cases(dicom_series: Write, pydicom_files: Path, tmp_path: Path) -> None:
    array = np.arange(60).reshape(3, 4, 5)
    dicom_series(tmp_path / "study" / "p1", array)
    dicom_series(tmp_path / "study" / "p2", array + 5, series_uid="1.2.9")
    put(tmp_path / "study" / "p3.nii.gz")
    (tmp_path / "study" / "DICOMDIR").write_bytes((pydicom_files / "dicomdirtests" / "DICOMDIR").read_bytes())
    cases = find_cases(tmp_path / "study")
    assert names(cases) == [("p3", ["p3.nii.gz"]), ("p1", ["p1"]), ("p2", ["p2"])]
    assert [read_case(case).array.max() for case in cases] == [1.0, 59.0, 64.0]
    assert names(find_cases(tmp_path / "study" / "p1")) == [("p1", ["p1"])]


def test_the_series_to_read_travels_with_the_case(dicom_series: Write, tmp_path: Path) -> None:
    array = np.arange(60).reshape(3, 4, 5)
    dicom_series(tmp_path / "p", array, number=1, series_uid="1.1")
    dicom_series(tmp_path / "p", array + 7, number=2, series_uid="1.2")
    with pytest.raises(VolumeError, match="2 series and none chosen"):
        read_case(find_cases(tmp_path / "p")[0])
    assert read_case(find_cases(tmp_path / "p", series=2)[0]).array.min() == 7.0


def test_names_are_told_apart_by_their_folder_then_by_number(tmp_path: Path) -> None:
    for name in ("a/ct.nii.gz", "b/CT.nii.gz", "c/ct.nii.gz", "c/ct.nrrd"):
        put(tmp_path / name)
    cases = find_cases([tmp_path / "a", tmp_path / "b", tmp_path / "c", tmp_path / "a" / "ct.nii.gz"])
    assert [case.id for case in cases] == ["a_ct", "b_CT", "c_ct", "c_ct_2"]
    assert len({case.id.casefold() for case in cases}) == 4


def test_bad_inputs_become_cases_with_their_problem(tmp_path: Path) -> None:
    good = put(tmp_path / "good.nii.gz")
    (tmp_path / "text.nii.gz").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "study" / "p1").mkdir(parents=True)
    put(tmp_path / "study" / "p2.nii.gz")
    cases = find_cases(
        [good, tmp_path / "text.nii.gz", tmp_path / "empty", tmp_path / "nowhere.nii.gz", tmp_path / "study"]
    )
    lines = []
    for case in cases:
        try:
            read_case(case)
        except VolumeError as error:
            lines.append(str(error))
    assert [case.id for case in cases] == ["good", "text", "empty", "nowhere", "p2", "p1"]
    assert lines == [
        f"{tmp_path / 'text.nii.gz'}: not gzip-compressed; expected a .nii.gz file; fix: check what it is",
        f"{tmp_path / 'empty'}: no images in this folder; expected image files or a DICOM series",
        f"{tmp_path / 'nowhere.nii.gz'}: no such file or folder; expected an image",
        f"{tmp_path / 'study' / 'p1'}: no images in this folder; expected image files or a DICOM series",
    ]


def test_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    put(tmp_path / "in" / "x.nii.gz")
    os.symlink(tmp_path / "in", tmp_path / "in" / "again")
    assert names(find_cases(tmp_path / "in")) == [("x", ["x.nii.gz"])]


def test_unknown_channels_take_what_is_there(tmp_path: Path) -> None:
    paths = (put(tmp_path / "a.nii.gz"), put(tmp_path / "b.nii.gz", 3))
    volume = read_case(InputCase(id="x", paths=paths))
    assert volume.array[:, 0, 0, 0].tolist() == [1.0, 3.0]


def test_a_scan_has_one_name_whether_its_file_or_its_folder_is_named(tmp_path):
    path = tmp_path / "liver_0000.nii.gz"
    write_volume(Volume(np.zeros((2, 3, 4), np.float32), spacing_mm=(1, 1, 1)), path)
    assert [case.id for case in find_cases([path])] == [case.id for case in find_cases([tmp_path])] == ["liver"]


def problems(cases: list[InputCase]) -> dict[str, str]:
    return {case.id: str(case.problem) for case in cases if case.problem is not None}


def test_broken_links_are_reported_where_an_image_was_meant(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.nii.gz")
    for name in ("b.nii.gz", "c.dcm", "IM0001", "notes.txt", ".hidden.nii.gz"):
        (tmp_path / "in" / name).symlink_to(tmp_path / ".git" / "annex" / name)
    cases = find_cases(tmp_path / "in")
    assert [case.id for case in cases] == ["a", "IM0001", "b", "c"]
    line = problems(cases)["b"]
    assert line.startswith(
        f"{tmp_path / 'in' / 'b.nii.gz'}: a link to {tmp_path / '.git' / 'annex' / 'b.nii.gz'}, which"
    )
    assert "git annex get" in line
    with pytest.raises(VolumeError, match="a link to"):
        read_case(find_cases(tmp_path / "in" / "b.nii.gz")[0])


def test_pointers_of_large_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n")
    (tmp_path / "b.png").write_bytes(b"/annex/objects/MD5E-s5--0.png\n")
    for case in find_cases(tmp_path):
        with pytest.raises(VolumeError, match="a pointer of Git LFS or git-annex"):
            read_case(case)


def test_two_links_to_one_file_are_two_cases_and_one_path_is_one(tmp_path: Path) -> None:
    put(tmp_path / "store" / "x.nii.gz", 5)
    (tmp_path / "in").mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "store" / "x.nii.gz")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "store")
    cases = find_cases([tmp_path / "in", tmp_path / "in" / ".." / "in" / "a.nii.gz"])
    assert [case.id for case in cases] == ["a", "b", "x"]
    assert [read_case(case).array.max() for case in cases] == [5, 5, 5]


def test_a_pair_is_one_case_by_either_name_and_its_halves_are_reported(tmp_path: Path) -> None:
    import nibabel

    for name in ("a", "b", "c"):
        nibabel.save(nibabel.Nifti1Pair(np.ones((3, 4, 5), np.int16), np.eye(4)), tmp_path / f"{name}.img")
    (tmp_path / "b.img").unlink()
    (tmp_path / "c.hdr").unlink()
    a, b, c = find_cases(tmp_path)
    assert read_case(a).array.shape == (1, 5, 4, 3)
    with pytest.raises(VolumeError, match=r"b\.hdr: no b\.img beside it"):
        read_case(b)
    with pytest.raises(VolumeError, match=r"c\.img: no header file c\.hdr beside it"):
        read_case(c)
    assert len(find_cases([tmp_path / "a.hdr", tmp_path / "a.img"])) == 1


def test_gaps_and_doubles_among_channel_files_are_the_problem_of_their_case(tmp_path: Path) -> None:
    for name in (
        "gap_0000.nii",
        "gap_0002.nii",
        "twice_0000.nii",
        "twice_0000.NII",
        "mixed_0000.nii",
        "mixed_0001.NII",
    ):
        put(tmp_path / "x.nii").rename(tmp_path / name)
    cases = find_cases(tmp_path, channels=2)
    assert sorted(case.id for case in cases) == ["gap", "mixed", "twice"]
    lines = problems(cases)
    assert "case 'gap' has no channel 1 (gap_0000.nii, gap_0002.nii); expected channel files numbered" in lines["gap"]
    assert "case 'twice' has channel 0 twice (twice_0000.NII, twice_0000.nii)" in lines["twice"]
    assert read_case(next(case for case in cases if case.id == "mixed")).channels == 2


def test_names_of_nested_folders_stay_when_cases_are_added(tmp_path: Path) -> None:
    for subject in ("sub1", "sub2"):
        put(tmp_path / "in" / subject / "ct" / "image.nii.gz")
    first = [case.id for case in find_cases(tmp_path / "in")]
    assert first == ["sub1_ct_image", "sub2_ct_image"]
    for name in ("sub0/ct/image", "sub1/mr/image", "image"):
        put(tmp_path / "in" / f"{name}.nii.gz")
    second = [case.id for case in find_cases(tmp_path / "in")]
    assert second == ["in_image", "sub0_ct_image", "sub1_ct_image", "sub1_mr_image", "sub2_ct_image"]
    put(tmp_path / "other" / "sub1" / "ct" / "image.nii.gz")
    both = [case.id for case in find_cases([tmp_path / "in", tmp_path / "other"])]
    assert both == [
        *["in_image", "sub0_ct_image", "in_sub1_ct_image", "sub1_mr_image", "sub2_ct_image"],
        "other_sub1_ct_image",
    ]


def test_a_folder_can_be_left_out(tmp_path: Path) -> None:
    for name in ("in/a", "in/out/a", "in/out/deep/b"):
        put(tmp_path / f"{name}.nii.gz")
    assert [case.id for case in find_cases(tmp_path / "in", leave_out=tmp_path / "in" / "out")] == ["a"]
