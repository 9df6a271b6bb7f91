"""Bundles are predicted with as MONAI's own path does, and so are the files that they are converted to."""

from __future__ import annotations

import json
import shutil
import zipfile

import monai
import nibabel as nib
import numpy as np
import pytest
from bundles.making import KINDS, REGIONS, configuration, write_bundle
from bundles.monai_path import label_map
from packaging.version import Version
from typer.testing import CliRunner

from resvox.cli import app
from resvox.errors import InferenceError
from resvox.prediction.bundle.outputs import cleaned
from resvox.prediction.model_files import model_files
from resvox.prediction.segmenter import Segmenter
from resvox.volumes import read_label_map, read_volume
from resvox.workflow import convert

PLAIN = {"engine": "torch", "precision": "float32"}
RUN = ["--engine", "torch", "--precision", "float32"]


def predicted(model, files, **options):
    """Our label map of the files of one case."""
    channels = [read_volume(file) for file in files]
    scan = channels[0]
    if len(channels) > 1:
        scan = scan.with_array(np.stack([each.array for each in channels]))
    return Segmenter(model, **PLAIN, **options).segment(scan).label_map.array


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_label_map_is_the_one_that_monai_makes(tmp_path, scan_of, kind):
    if kind == "prostate" and Version(monai.__version__) < Version("1.5"):
        pytest.skip("MONAI 1.4 brings this label map back to another grid than 1.5 and 1.6, which are followed")
    bundle, files = write_bundle(tmp_path / "bundle", kind, seed=3), scan_of(kind)
    theirs, _ = label_map(bundle, files)
    assert len(np.unique(theirs)) > 1
    np.testing.assert_array_equal(predicted(bundle, files), theirs)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_converted_file_and_the_zip_predict_the_same(tmp_path, scan_of, kind):
    bundle, files = write_bundle(tmp_path / "bundle", kind, seed=3, ending=".yaml"), scan_of(kind)
    expected = predicted(bundle, files)
    result = convert(bundle, tmp_path / "model.safetensors", to="torch")
    assert not result.note
    np.testing.assert_array_equal(predicted(result.path, files), expected)
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path, "bundle")
    np.testing.assert_array_equal(predicted(archive, files), expected)
    assert model_files(archive)[0].card == model_files(result.path)[0].card


def test_predict_takes_a_bundle(tmp_path, scan_of):
    bundle = write_bundle(tmp_path / "bundle", "tumour", seed=3)
    files = scan_of("tumour")
    done = CliRunner().invoke(app, ["predict", str(bundle), str(files[0].parent), "-o", str(tmp_path / "out"), *RUN])
    assert done.exit_code == 0, done.output
    theirs, _ = label_map(bundle, files)
    written = read_label_map(tmp_path / "out" / "case.nii.gz")
    np.testing.assert_array_equal(written.array, theirs)
    assert np.allclose(nib.load(tmp_path / "out" / "case.nii.gz").affine, nib.load(files[0]).affine)


def test_regions_have_masks_in_the_order_in_which_they_are_written(tmp_path, scan_of):
    bundle, files = write_bundle(tmp_path / "bundle", "tumour", seed=3), scan_of("tumour")
    card = model_files(bundle)[0].card
    assert card.regions.names == (REGIONS[1], REGIONS[0], REGIONS[2])
    assert card.class_order == (2, 1, 4)
    scan = read_volume(files[0])
    scan = scan.with_array(np.stack([read_volume(file).array for file in files]))
    made = Segmenter(bundle, **PLAIN, region_masks=True).segment(scan, probabilities=True)
    masks, likely = made.region_masks.array, made.probabilities.array
    np.testing.assert_array_equal(masks[0] > 0, likely[0] >= 0.5)
    composed = np.select([masks[2] > 0, masks[1] > 0, masks[0] > 0], [4, 1, 2], 0)
    np.testing.assert_array_equal(made.label_map.array, composed)


def test_probabilities_are_those_that_monai_interpolates(tmp_path, scan_of):
    config = configuration("spleen")
    config["postprocessing"]["transforms"] = config["postprocessing"]["transforms"][:2]  # no decision, no file
    bundle, files = write_bundle(tmp_path / "bundle", "spleen", config, seed=3), scan_of("spleen")
    theirs, _ = label_map(bundle, files, whole=True)
    made = Segmenter(bundle, **PLAIN).segment(read_volume(files[0]), probabilities=True)
    np.testing.assert_allclose(made.probabilities.array, theirs, atol=1e-5)


@pytest.mark.parametrize("on_scan", [False, True])
def test_the_largest_component_is_kept_before_or_after_the_way_back(tmp_path, scan_of, on_scan):
    config, files = configuration("whole_body"), scan_of("whole_body")
    softmax, argmax, invert = config["postprocessing"]["transforms"][:3]
    largest = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"}
    order = [softmax, {**invert, "nearest_interp": False}, argmax] if on_scan else [softmax, argmax, invert]
    config["postprocessing"]["transforms"] = order
    plain = predicted(write_bundle(tmp_path / "plain", "whole_body", config, seed=3), files)
    config["postprocessing"]["transforms"] = [*order, largest] if on_scan else [softmax, argmax, largest, invert]
    bundle = write_bundle(tmp_path / "bundle", "whole_body", config, seed=3)
    card = model_files(bundle)[0].card
    assert [each.on_scan for each in card.outputs.largest] == [on_scan]
    found = predicted(bundle, files)
    assert 0 < (found > 0).sum() < (plain > 0).sum()
    assert ((found == plain) | (found == 0)).all()
    if on_scan:
        np.testing.assert_array_equal(found, cleaned(plain, card, on_scan=True))


def test_components_touch_as_far_as_the_bundle_states():
    from resvox.cards.outputs import Largest
    from resvox.prediction.bundle.outputs import _kept

    labels = np.array([[1, 0, 2, 2], [0, 1, 0, 0], [0, 0, 0, 2]], np.uint8)
    assert _kept(labels, Largest(labels=(1,))).tolist() == labels.tolist()  # over a corner
    assert (_kept(labels, Largest(labels=(1,), reach=1)) == 1).sum() == 1
    assert (_kept(labels, Largest(labels=(2,))) == 2).sum() == 2
    assert (_kept(labels, Largest(labels=(2,), count=2)) == 2).sum() == 3
    assert (_kept(labels, Largest(together=True)) > 0).sum() == 4
    assert (_kept(labels, Largest()) > 0).sum() == 4


def test_options_against_the_bundle_s_own_way_are_refused(tmp_path):
    bundle = write_bundle(tmp_path / "spleen", "spleen")
    with pytest.raises(InferenceError, match=r"resample='labels' with a model that states how .*leave --resample out"):
        Segmenter(bundle, resample="labels")
    whole = write_bundle(tmp_path / "whole", "whole_body")
    with pytest.raises(InferenceError, match=r"probabilities=True with a model that states .*labels are brought"):
        Segmenter(whole, probabilities=True)
    with pytest.raises(InferenceError, match="exact=True with a model that is no model of nnU-Net"):
        Segmenter(bundle, exact=True)


def test_weights_of_the_name_in_the_configuration_are_used(tmp_path):
    config = configuration("whole_body")
    config["displayable_configs"]["highres"] = False
    bundle = write_bundle(tmp_path / "bundle", "whole_body", config)
    (bundle / "models" / "model.pt").rename(bundle / "models" / "model_lowres.pt")
    file = model_files(bundle)[0]
    assert file.path.name == "model_lowres.pt"
    assert file.preprocessing().spacing_mm == (3.0, 3.0, 3.0)


def test_a_bundle_of_a_transform_that_is_not_known_is_converted_to_its_network_alone(tmp_path):
    config = configuration("spleen")
    config["preprocessing"]["transforms"].append({"_target_": "HistogramNormalized", "keys": "image"})
    result = convert(write_bundle(tmp_path / "bundle", "spleen", config), tmp_path / "model.safetensors", to="torch")
    assert "the network alone, which predict does not take: " in result.note
    assert "the transform HistogramNormalized; expected one of Orientation, Spacing" in result.note


def test_an_archive_of_two_bundles_is_refused(tmp_path):
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"{name}/configs/metadata.json", json.dumps({}))
    done = CliRunner().invoke(app, ["predict", str(path), str(tmp_path), "-o", str(tmp_path / "out")])
    assert "a zip of 2 bundles; expected one bundle; fix: unpack it" in done.output.replace("\n", " ")
