"""The cache: label values become class indices, changes are noticed, a kill leaves nothing half done."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

import resvox.training.prepared as prepared_module
import resvox.training.segmentation.cache as cache_module
from resvox.datasets.dicom_labels import RT_STRUCTURE_SET
from resvox.errors import ResvoxError
from resvox.preprocessing import nonzero_mask
from resvox.training import Plan, read_dataset
from resvox.training.segmentation.cache import prepare_case
from resvox.volumes import Volume
from resvox.volumes.tiff import write_tiff

PREPROCESSING = Plan(num_classes=3).preprocessing()


def test_prepared_arrays(folder_of, tmp_path):
    dataset = read_dataset(folder_of())
    case = prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / "cache")
    assert case.image.shape == (1, 16, 16, 16)
    assert case.image.dtype == np.float32
    assert isinstance(case.image, np.memmap)
    assert case.label.dtype == np.uint8
    for index in (1, 2):
        assert set(case.label.ravel()[case.voxels(index)]) == {index}
        assert len(case.voxels(index)) == (case.label == index).sum()


def test_values_that_are_not_consecutive_become_indices(folder_of, tmp_path):
    folder = folder_of(ids=("a",), labels={"background": 0, "ball": 40, "box": 300})
    path = folder / "labelsTr/a.nii.gz"
    image = SimpleITK.ReadImage(str(path))
    values = np.array([0, 40, 300], np.uint16)[SimpleITK.GetArrayFromImage(image)]
    changed = SimpleITK.GetImageFromArray(values)
    changed.CopyInformation(image)
    SimpleITK.WriteImage(changed, str(path))
    dataset = read_dataset(folder)
    case = prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / "cache")
    assert np.array_equal(np.asarray(list(dataset.labels.values()))[case.label], values)


ZSCORE, WINDOW = {"kind": "zscore", "nonzero_only": True}, {"kind": "window", "low": -9, "high": 9}


@pytest.mark.parametrize("normalization", [ZSCORE, WINDOW])
def test_where_a_prediction_is_background_is_kept(folder_of, tmp_path, normalization):
    dataset = read_dataset(folder_of())
    plan = Plan(num_classes=3, crop="nonzero_mask", normalization=(normalization,))
    case = dataset.cases[0]
    image = SimpleITK.ReadImage(str(case.images[0]))
    array = SimpleITK.GetArrayFromImage(image)
    array[:, 8:] = 0
    array[0, 0, 0] = 1  # keeps the box at full size
    array[-1, -1, -1] = 1
    changed = SimpleITK.GetImageFromArray(array)
    changed.CopyInformation(image)
    SimpleITK.WriteImage(changed, str(case.images[0]))
    prepared = prepare_case(case, dataset, plan.preprocessing(), tmp_path / "cache")
    np.testing.assert_array_equal(prepared.outside, ~nonzero_mask(array[np.newaxis]))
    assert prepare_case(case, dataset, PREPROCESSING, tmp_path / "cache").outside is None


def test_another_spacing_beside_a_tiff_is_another_scan(tmp_path):
    path = tmp_path / "a_0000.tif"
    write_tiff(Volume(np.zeros((3, 4, 5), np.uint8), spacing_mm=(1.0, 1.0, 1.0)), path)
    alone = prepared_module.stamp(path)
    (tmp_path / "a.json").write_text('{"spacing": [1, 1, 1]}')
    beside = prepared_module.stamp(path)
    (tmp_path / "a.json").write_text('{"spacing": [2.5, 1, 1]}')
    assert len({json.dumps(each) for each in (alone, beside, prepared_module.stamp(path))}) == 3


def test_few_coordinates_are_kept_of_a_large_label(folder_of, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "COORDINATES_PER_LABEL", 10)
    dataset = read_dataset(folder_of())
    first, again = (prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / name) for name in ("one", "two"))
    assert len(first.voxels(1)) == 10
    assert np.array_equal(first.voxels(1), again.voxels(1))
    assert set(first.label.ravel()[first.voxels(1)]) == {1}


def test_prepared_once_until_something_changes(folder_of, tmp_path, monkeypatch):
    folder = folder_of()
    dataset = read_dataset(folder)
    case = dataset.cases[0]
    prepared = prepare_case(case, dataset, PREPROCESSING, tmp_path / "cache")

    def never(*args):
        raise AssertionError("prepared again")

    with monkeypatch.context() as patched:
        patched.setattr(cache_module, "_write", never)
        assert prepare_case(case, dataset, PREPROCESSING, tmp_path / "cache") == prepared
    other = Plan(num_classes=3, spacing_mm=(2, 2, 2)).preprocessing()
    assert prepare_case(case, dataset, other, tmp_path / "cache").folder != prepared.folder
    stamp = case.label.stat()
    os.utime(case.label, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1_000_000))
    assert prepare_case(case, dataset, PREPROCESSING, tmp_path / "cache").folder != prepared.folder


def test_a_failure_half_way_leaves_no_case(folder_of, tmp_path, monkeypatch):
    dataset = read_dataset(folder_of())

    def fail(*args, **options):
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(
            json, "dumps", lambda *a, dumps=json.dumps, **k: fail() if "voxels_of" in a[0] else dumps(*a, **k)
        )
        with pytest.raises(OSError, match="disk full"):
            prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / "cache")


def test_another_process_that_was_faster_wins(folder_of, tmp_path, monkeypatch):
    dataset = read_dataset(folder_of())
    case = dataset.cases[0]
    faster = prepare_case(case, dataset, PREPROCESSING, tmp_path / "cache")
    before = (faster.folder / "image.npy").stat().st_ino
    prepared_module._write_entry(
        faster.folder, lambda folder: cache_module._write(case, dataset, PREPROCESSING, folder)
    )
    assert (faster.folder / "image.npy").stat().st_ino == before
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [faster.folder.name]


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def zeroed(path):
    path.write_bytes(bytes(path.stat().st_size))


def one_byte_changed(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def replaced_by_a_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = [Path.unlink, truncated, emptied, zeroed, one_byte_changed, replaced_by_a_folder]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["image.npy", "label.npy", "voxels.npy", "facts.json"])
def test_a_damaged_entry_is_prepared_anew(folder_of, tmp_path, name, damage):
    dataset = read_dataset(folder_of(ids=("a",)))
    whole = prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / "cache")
    image, label = np.array(whole.image), np.array(whole.label)
    damage(whole.folder / name)
    again = prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / "cache")
    assert again == whole
    assert np.array_equal(again.image, image)
    assert np.array_equal(again.label, label)
    assert len(again.voxels(1)) == (label == 1).sum()


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"shape": [1]}'])
def test_facts_that_lack_a_field_are_written_anew(folder_of, tmp_path, text):
    dataset = read_dataset(folder_of(ids=("a",)))
    whole = prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / "cache")
    (whole.folder / "facts.json").write_text(text)
    assert prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / "cache") == whole


def test_an_entry_without_checksums_is_used_as_it_is(folder_of, tmp_path, monkeypatch):
    dataset = read_dataset(folder_of(ids=("a",)))
    whole = prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / "cache")
    facts = json.loads((whole.folder / "facts.json").read_text())
    del facts["checksums"]  # as version 0.1 wrote it
    (whole.folder / "facts.json").write_text(json.dumps(facts))
    monkeypatch.setattr(cache_module, "_write", None)
    assert prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / "cache") == whole


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left"),  # names no file
        (OSError("6400 requested and 3968 written"), "the disk is full"),  # np.save's own
    ],
)
def test_a_full_disk_is_one_line_with_folder_and_fix(folder_of, tmp_path, monkeypatch, error, words):
    dataset = read_dataset(folder_of(ids=("a",)))

    def full(*args, **options):
        raise error

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ResvoxError, match=rf"cache: a prepared case could not be written \({words}.*fix: free"):
        prepare_case(dataset.cases[0], dataset, PREPROCESSING, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def write_marked(path, content):
    """A file that is known as DICOM by its first bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM" + content)
    return path


def test_the_files_of_a_dicom_folder_are_those_below_it_too(tmp_path):
    folder = tmp_path / "case"
    first, second = (write_marked(folder / "study" / series / "1", b"x") for series in ("one", "two"))
    stamped, checksum = prepared_module.stamp(folder), prepared_module.sources_checksum([folder])
    assert [name for name, _, _ in stamped] == [str(first.resolve()), str(second.resolve())]
    (folder / ".hidden").write_bytes(b"not read by the reader either")
    assert prepared_module.stamp(folder) == stamped
    write_marked(second, b"another")
    assert prepared_module.stamp(folder) != stamped
    assert prepared_module.sources_checksum([folder]) != checksum


def test_a_flat_dicom_folder_is_stamped_as_before(tmp_path):
    """Entries that older versions prepared are found again."""
    paths = [write_marked(tmp_path / "case" / name, name.encode()) for name in ("b", "a", "B")]
    found = prepared_module.stamp(tmp_path / "case")
    assert found == [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(paths)]


def test_names_are_part_of_the_key_where_structures_are_read_by_them(folder_of, tmp_path):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = read_dataset(folder_of(ids=("a",)))
    swapped = dataclasses.replace(dataset, labels={"background": 0, "box": 1, "ball": 2})
    path = tmp_path / "structures.dcm"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = RT_STRUCTURE_SET
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    structures = FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
    structures.SOPClassUID = RT_STRUCTURE_SET
    structures.save_as(path, enforce_file_format=True)
    of_names = dataclasses.replace(dataset.cases[0], label=path)

    def key(case, described):
        return json.dumps(cache_module._determined_by(case, described, PREPROCESSING), default=str)

    assert key(of_names, dataset) != key(of_names, swapped)
    assert key(dataset.cases[0], dataset) == key(dataset.cases[0], swapped)  # its values are in the file
    assert len(cache_module._determined_by(dataset.cases[0], dataset, PREPROCESSING)[0]) == 4  # as in older versions
