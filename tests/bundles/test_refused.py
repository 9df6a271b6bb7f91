"""What a bundle must not be: code, parts that are missing or unknown, several configurations, names outside its folder.

Each is one line that names the file, and nothing is run.
"""

from __future__ import annotations

import json
import zipfile

import pytest
from bundles.making import configuration, metadata, write_bundle
from typer.testing import CliRunner

from resvox.cli import app
from resvox.errors import WeightsError
from resvox.prediction.model_files import model_files

RUN = "$__import__('os').system('touch {}/ran')"
STEP, POST, INFERER = ("preprocessing", "transforms"), ("postprocessing", "transforms"), ("inferer",)


def changed(place, value, kind="spleen"):
    """A configuration with another value at a place."""
    config = configuration(kind)
    part = config
    for key in place[:-1]:
        part = part[key]
    if isinstance(place[-1], int) and place[-1] == len(part):
        part.append(value)
    else:
        part[place[-1]] = value
    return config


FAULTS = {
    "code in a number": ((*STEP, 3, "pixdim"), RUN, r"preprocessing\.transforms\.3\.pixdim is Python code .*never run"),
    "code as a transform": ((*STEP, 4), RUN, r"preprocessing\.transforms\.4 is Python code"),
    "code as all transforms": (("preprocessing",), RUN, r"preprocessing is Python code"),
    "code as a class": ((*STEP, 4, "_target_"), RUN, r"the transform .*; expected one of Orientation"),
    "a call as a class": ((*STEP, 4), {"_target_": "os.system", "command": "x"}, "the transform system; expected one"),
    "code in the inferer": ((*INFERER, "overlap"), RUN, r"inferer\.overlap is Python code"),
    "code as the inferer": (INFERER, RUN, "inferer is Python code"),
    "code after the network": (
        (*POST, 3), {"_target_": "Lambdad", "keys": "pred", "func": RUN}, "Lambda with code .*never run; fix: remove",
    ),
    "code in the flag": (("preprocessing",), {"_target_": "Compose", "_disabled_": RUN}, "_disabled_ is Python code"),
    "code in a choice": ((*STEP, 3, "pixdim"), f"$[1.0] if @image_key else {RUN[1:]}", "pixdim is Python code"),
    "code in a modelname": (("modelname",), RUN, "modelname is Python code"),
    "a path as modelname": (("modelname",), "../../model.pt", "modelname is '../../model.pt'; expected the name of a"),
    "an unknown transform": (
        (*STEP, 6), {"_target_": "RandRotated", "keys": "image"},
        r"preprocessing\.transforms\.6: the transform RandRotated; expected one of Orientation, Spacing",
    ),
    "an unknown argument": ((*STEP, 3, "speed"), 3, "speed of Spacing; expected of "),
    "another padding": ((*STEP, 3, "padding_mode"), "zeros", "padding_mode='zeros' of Spacing; expected 'border'"),
    "spline interpolation": ((*STEP, 3, "mode"), 3, "mode=3 of Spacing"),
    "no spacing": ((*STEP, 3), {"_target_": "Spacingd", "keys": "image"}, "Spacing without pixdim"),
    "another inferer": (INFERER, {"_target_": "SimpleInferer"}, "the inferer SimpleInferer; .*write a SlidingWindow"),
    "no inferer": (INFERER, None, "inferer is nothing; expected an object with _target_"),
    "a whole axis": ((*INFERER, "roi_size"), [-1, 16, 16], r"roi_size=\[-1, 16, 16\]; expected 3 numbers"),
    "a full overlap": ((*INFERER, "overlap"), 1.0, "overlap=1.0"),
    "an unknown end": (
        (*POST, 2), {"_target_": "VoteEnsembled", "keys": "pred"}, "the transform VoteEnsembled; expected one of Activ",
    ),
    "two decisions": ((*POST, 3), {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}, "a second decision"),
    "a threshold after softmax": (
        (*POST, 2), {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}, "a threshold after softmax",
    ),
    "several images": ((*STEP, 0, "keys"), ["t1", "t2"], r"preprocessing of 2 images \(t1, t2\); expected one image"),
    "a circle": (("image_key",), "@image_key", "refers to itself"),
    "no such key": ((*STEP, 0, "keys"), "@nothing", "refers to 'nothing'; expected a key of the configuration"),
    "a macro": ((*STEP, 3, "pixdim"), "%other.json::pixdim", "is '%other.json::pixdim'; expected a value of this file"),
    "a list for an object": (("network_def",), [1], "no network_def"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_faulty_configuration_is_one_line_and_nothing_runs(tmp_path, name):
    place, value, text = FAULTS[name]
    value = json.loads(json.dumps(value).replace("{}", str(tmp_path)))
    bundle = write_bundle(tmp_path / "bundle", "spleen", changed(place, value))
    with pytest.raises(WeightsError, match=text) as caught:
        model_files(bundle)
    assert "\n" not in str(caught.value)
    assert "inference.json" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_value_that_refers_to_itself_many_times_over_is_refused_at_once(tmp_path):
    config = configuration("spleen")
    config["a0"] = [0] * 9
    for number in range(1, 12):
        config[f"a{number}"] = [f"@a{number - 1}"] * 9
    config["preprocessing"]["transforms"][3]["pixdim"] = "@a11"
    with pytest.raises(WeightsError, match="pixdim refers to itself, or to very much"):
        model_files(write_bundle(tmp_path / "bundle", "spleen", config))


MISSING = {
    "configs/inference.json": "no configuration; expected one of configs/inference.json",
    "configs/metadata.json": r"a bundle without configs/metadata\.json; expected network_data_format in it",
    "models/model.pt": r"a bundle without models/model\.pt; expected the weights .*large_files\.yml",
}


@pytest.mark.parametrize("name", list(MISSING))
def test_what_is_missing_is_named(tmp_path, name):
    bundle = write_bundle(tmp_path / "bundle", "spleen")
    (bundle / name).unlink()
    with pytest.raises(WeightsError, match=MISSING[name]):
        model_files(bundle)
    done = CliRunner().invoke(app, ["predict", str(bundle), str(tmp_path), "-o", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "Traceback" not in done.output


def test_two_configurations_are_refused(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", "spleen")
    (bundle / "configs" / "inference.yaml").write_text("{}")
    with pytest.raises(WeightsError, match=r"2 configurations: inference\.json, inference\.yaml; .*remove all but"):
        model_files(bundle)


DESCRIBED = {
    "nothing": ({}, r"network_data_format\.inputs is missing"),
    "too few labels": (
        {"0": "background"},
        r"outputs\.pred\.channel_def is .*; expected a name for each of 2 channels",
    ),
    "no names": (None, r"outputs\.pred\.channel_def is missing"),
    "numbers": ({"0": 1, "1": 2}, r"outputs\.pred\.channel_def is "),
    "one name twice": ({"0": "spleen", "1": "spleen"}, "names two channels alike"),
}


@pytest.mark.parametrize("name", list(DESCRIBED))
def test_metadata_without_names_is_refused(tmp_path, name):
    names, text = DESCRIBED[name]
    described = metadata("spleen") if name != "nothing" else {}
    if described:
        described["network_data_format"]["outputs"]["pred"]["channel_def"] = names
    with pytest.raises(WeightsError, match=text):
        model_files(write_bundle(tmp_path / "bundle", "spleen", described=described))


def test_broken_files_are_named(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", "spleen")
    (bundle / "configs" / "metadata.json").write_text("[" * 100_000)
    with pytest.raises(WeightsError, match=r"metadata\.json: metadata that cannot be read"):
        model_files(bundle)
    (bundle / "configs" / "inference.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(WeightsError, match=r"inference\.json: a configuration that cannot be read"):
        model_files(bundle)


@pytest.mark.parametrize("name", ["../ran", "/ran", "bundle/../../ran", "C:\\ran", "..\\ran"])
def test_a_zip_with_a_name_outside_its_folder_is_refused(tmp_path, name):
    bundle = write_bundle(tmp_path / "bundle", "spleen")
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in bundle.rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path))
        archive.writestr(name, "x")
    with pytest.raises(
        WeightsError, match=r"bundle\.zip: a zip with the member .*; expected names below its own folder"
    ):
        model_files(path)
    assert not (tmp_path / "ran").exists()
