"""DICOM SEG and RTSTRUCT: placed where the NIfTI label map is in every orientation, and read back equal."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from delivery.series import NAMES, ORIENTATIONS, labels_on, oblique, write_series
from volumes.dicom_slices import make_slice

from resvox.datasets.dicom_labels import is_dicom_labels, read_dicom_labels
from resvox.delivery.naming import Algorithm, label_set
from resvox.delivery.rtstruct import write_rtstruct
from resvox.delivery.seg import write_seg
from resvox.delivery.source import read_source
from resvox.errors import DatasetError, VolumeError
from resvox.volumes import Volume, read_volume, resample, write_label_map

ALL = [(o, r) for o in [*ORIENTATIONS, oblique()] for r in (False, True)]  # 24 planes and flips, both slice orders


def centroids_mm(volume: Volume, values) -> dict[int, np.ndarray]:
    return {v: volume.grid.world_mm(np.argwhere(volume.array == v)).mean(axis=0) for v in values}


def seg_centroids_mm(path) -> dict[int, np.ndarray]:
    """Centroids (x, y, z; LPS mm) of a binary SEG from its frames' own positions alone, by segment number."""
    dataset = pydicom.dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    along, down = np.asarray(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    rows_mm, columns_mm = (float(each) for each in shared.PixelMeasuresSequence[0].PixelSpacing)
    points: dict[int, list[np.ndarray]] = {}
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        place = np.asarray(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        index = np.argwhere(frame)
        world = place + index[:, :1] * rows_mm * down + index[:, 1:] * columns_mm * along
        points.setdefault(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber, []).append(world)
    return {number: np.concatenate(found).mean(axis=0) for number, found in points.items()}


@pytest.mark.parametrize(("orientation", "reverse"), ALL)
def test_segments_lie_where_the_nifti_label_map_does(tmp_path, orientation, reverse):
    source = read_source(write_series(tmp_path / "series", orientation, reverse=reverse))
    label_map = labels_on(source.grid)
    nifti = read_volume(write_label_map(label_map, tmp_path / "labels.nii.gz"))
    path = write_seg(nifti, source, label_set(NAMES), tmp_path / "seg.dcm").path
    expected = centroids_mm(nifti, (2, 5))
    found = seg_centroids_mm(path)
    for number, value in ((1, 2), (2, 5)):
        np.testing.assert_allclose(found[number], expected[value], atol=0.01)


@pytest.mark.parametrize(("orientation", "reverse"), ALL[::5])
@pytest.mark.parametrize("kind", ["binary", "labelmap", "rtstruct"])
def test_what_is_written_is_read_back_equal(tmp_path, orientation, reverse, kind):
    source = read_source(write_series(tmp_path / "series", orientation, reverse=reverse))
    label_map = labels_on(source.grid)
    path = tmp_path / "labels.dcm"
    if kind == "rtstruct":
        write_rtstruct(label_map, source, label_set(NAMES), path)
    else:
        write_seg(label_map, source, label_set(NAMES), path, kind=kind)
    assert is_dicom_labels(path)
    read = read_dicom_labels(path, source.grid, values=NAMES)
    np.testing.assert_array_equal(read.volume.array, label_map.array)
    assert read.overlaps == 0
    numbered = read_dicom_labels(path, source.grid)
    assert dict(numbered.labels) == {"liver": 1, "left kidney": 2, "spleen": 3}


def test_a_label_map_on_another_grid_is_placed_by_its_world_positions(tmp_path, case):
    source, label_map, labels = case
    turned = Volume(
        np.flip(np.transpose(label_map.array, (2, 0, 1)), 1).copy(),
        spacing_mm=tuple(np.asarray(source.grid.spacing_mm)[[2, 0, 1]]),
        origin_mm=tuple(source.grid.world_mm((source.grid.shape[0] - 1, 0, 0))),
        direction=np.asarray(source.grid.direction)[:, [2, 0, 1]] * [1, -1, 1],
    )
    path = write_seg(turned, source, labels, tmp_path / "seg.dcm").path
    np.testing.assert_array_equal(read_dicom_labels(path, source.grid, values=NAMES).volume.array, label_map.array)


def test_segments_carry_codes_sides_colours_and_those_that_are_absent(tmp_path, case):
    source, label_map, labels = case
    result = write_seg(
        label_map, source, labels, tmp_path / "seg.dcm", algorithm=Algorithm(name="toy", identifier="ab")
    )
    assert (result.kind, result.absent) == ("binary", ("spleen",))
    dataset = pydicom.dcmread(result.path)
    assert [item.SegmentLabel for item in dataset.SegmentSequence] == ["liver", "left kidney", "spleen"]
    types = [item.SegmentedPropertyTypeCodeSequence[0] for item in dataset.SegmentSequence]
    assert [item.CodeValue for item in types] == ["10200004", "64033007", "78961009"]
    assert types[1].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert all("RecommendedDisplayCIELabValue" in item for item in dataset.SegmentSequence)
    assert dataset.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "toy"
    assert dataset.FrameOfReferenceUID == source.frame_of_reference
    referenced = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len(referenced) == len(source.datasets)


def test_a_rerun_has_the_same_identifiers_and_another_model_others(tmp_path, case):
    source, label_map, labels = case

    def identifiers(model):
        algorithm = Algorithm(identifier=model)
        seg = pydicom.dcmread(write_seg(label_map, source, labels, tmp_path / "s.dcm", algorithm=algorithm).path)
        rt = pydicom.dcmread(write_rtstruct(label_map, source, labels, tmp_path / "r.dcm", algorithm=algorithm).path)
        return [(each.SeriesInstanceUID, each.SOPInstanceUID) for each in (seg, rt)]

    assert identifiers("one") == identifiers("one")
    assert not set(identifiers("one")) & set(identifiers("two"))


def test_many_labels_become_a_label_map_segmentation(tmp_path, case):
    source, _, _ = case
    array = np.arange(np.prod(source.grid.shape)).reshape(source.grid.shape) % 40
    labels = label_set({f"part {value}": value for value in range(1, 40)})
    result = write_seg(Volume.on_grid(array.astype(np.uint8), source.grid), source, labels, tmp_path / "seg.dcm")
    assert result.kind == "labelmap"
    names = {f"part {value}": value for value in range(1, 40)}
    np.testing.assert_array_equal(read_dicom_labels(result.path, source.grid, values=names).volume.array, array)


def test_probabilities_become_a_fractional_segmentation(tmp_path, case):
    source, label_map, labels = case
    chances = np.stack([(label_map.array == value) * 0.8 + 0.1 for value in (2, 5, 9)]).astype(np.float32)
    path = write_seg(Volume.on_grid(chances, source.grid), source, labels, tmp_path / "f.dcm", kind="fractional").path
    dataset = pydicom.dcmread(path)
    assert dataset.SegmentationType == "FRACTIONAL"
    assert set(np.unique(dataset.pixel_array)) == {26, 230}  # 0.1 and 0.9 of 255, rounded


def test_contours_lie_in_the_planes_of_their_slices_and_refer_to_them(tmp_path):
    source = read_source(write_series(tmp_path / "series", oblique()))
    result = write_rtstruct(labels_on(source.grid), source, label_set(NAMES), tmp_path / "r.dcm")
    assert (result.contours, result.absent) == (6, ("spleen",))
    dataset = pydicom.dcmread(result.path)
    assert [roi.ROIName for roi in dataset.StructureSetROISequence] == ["liver", "left kidney", "spleen"]
    slices = {str(each.SOPInstanceUID): each for each in source.datasets}
    for item in dataset.ROIContourSequence:
        for contour in item.get("ContourSequence", []):
            image = slices[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            along, down = np.asarray(image.ImageOrientationPatient, float).reshape(2, 3)
            points = np.asarray(contour.ContourData, float).reshape(-1, 3)
            assert contour.NumberOfContourPoints == len(points) >= 4
            off = (points - np.asarray(image.ImagePositionPatient, float)) @ np.cross(along, down)
            np.testing.assert_allclose(off, 0, atol=1e-5)
            assert max(len(str(value)) for value in contour.ContourData) <= 16


def test_a_multiframe_source_is_referred_to_by_frame(tmp_path, case):
    source, label_map, labels = case
    single = [pydicom.dcmread(path) for path in source.files]
    enhanced = multiframe_of(single)
    enhanced.save_as(tmp_path / "enhanced.dcm")
    multi = read_source(tmp_path / "enhanced.dcm")
    moved = resample(label_map, multi.grid, interpolation="nearest")
    seg = write_seg(moved, multi, labels, tmp_path / "seg.dcm").path
    np.testing.assert_array_equal(read_dicom_labels(seg, multi.grid, values=NAMES).volume.array, moved.array)
    rt = write_rtstruct(moved, multi, labels, tmp_path / "rt.dcm").path
    contour = pydicom.dcmread(rt).ROIContourSequence[0].ContourSequence[0]
    assert contour.ContourImageSequence[0].ReferencedFrameNumber in range(1, 7)
    np.testing.assert_array_equal(read_dicom_labels(rt, multi.grid, values=NAMES).volume.array, moved.array)


def multiframe_of(single):
    """The slices as one Enhanced CT object."""
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    for each in single:
        each.PatientName, each.PatientBirthDate, each.PatientSex, each.StudyDate, each.StudyTime = "p", "", "", "", ""
        each.AccessionNumber, each.StudyID, each.ReferringPhysicianName, each.Manufacturer = "", "", "", ""
        each.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return LegacyConvertedEnhancedCTImage(
        legacy_datasets=single, series_instance_uid="1.2.9", series_number=2, sop_instance_uid="1.2.9.1",
        instance_number=1,
    )  # fmt: skip


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_series_that_cannot_be_referred_to_is_named(tmp_path, missing):
    folder = write_series(tmp_path / "series")
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset[missing]
        dataset.save_as(path)
    with pytest.raises(VolumeError, match=rf"\.dcm: a DICOM file without {missing}"):
        read_source(folder)


def test_missing_patient_attributes_are_no_obstacle(tmp_path):
    folder = write_series(tmp_path / "series")
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.PatientID
        dataset.save_as(path)
    source = read_source(folder)
    write_seg(labels_on(source.grid), source, label_set(NAMES), tmp_path / "seg.dcm")


def test_two_series_and_one_slice_are_one_line_each(tmp_path):
    folder = write_series(tmp_path / "series")
    write_series(folder / "other")
    with pytest.raises(VolumeError, match="2 series and none chosen"):
        read_source(folder)
    alone = make_slice(np.zeros((4, 4), np.int16), position=(0, 0, 0))
    alone.save_as(tmp_path / "alone.dcm")
    with pytest.raises(VolumeError, match="one image plane"):
        read_source(tmp_path / "alone.dcm")


def test_values_without_a_label_and_structures_that_are_not_declared_are_named(tmp_path, case):
    source, label_map, _ = case
    with pytest.raises(VolumeError, match="values 5 without a label"):
        write_seg(label_map, source, label_set({"liver": 2}), tmp_path / "seg.dcm")
    path = write_rtstruct(label_map, source, label_set(NAMES), tmp_path / "r.dcm").path
    with pytest.raises(DatasetError, match="structures left kidney, spleen, which the dataset does not declare"):
        read_dicom_labels(path, source.grid, values={"background": 0, "Liver": 1})


def test_contours_of_another_scan_and_open_ones_are_refused(tmp_path, case):
    source, label_map, labels = case
    path = write_rtstruct(label_map, source, labels, tmp_path / "r.dcm").path
    elsewhere = Volume(label_map.array, spacing_mm=source.grid.spacing_mm, origin_mm=(0.0, 0.0, 900.0)).grid
    with pytest.raises(VolumeError, match=r"r\.dcm: a contour at slice"):
        read_dicom_labels(path, elsewhere)
    dataset = pydicom.dcmread(path)
    dataset.ROIContourSequence[0].ContourSequence[0].ContourGeometricType = "OPEN_PLANAR"
    dataset.save_as(path)
    with pytest.raises(VolumeError, match="OPEN_PLANAR"):
        read_dicom_labels(path, source.grid)
    with pytest.raises(DatasetError, match="neither a DICOM SEG nor an RTSTRUCT"):
        read_dicom_labels(source.files[0], source.grid)
