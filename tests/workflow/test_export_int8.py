"""Networks in int8: quantized on scans, compared with the original, named or tried under the accuracy guard."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from workflow.int8_toys import save, scan_array, trained, write_scans

import resvox
from resvox import workflow
from resvox.errors import InferenceError
from resvox.inference import Allowance
from resvox.inference.engines import choosing, devices
from resvox.inference.engines.agreement import LabelAgreement
from resvox.inference.engines.quantization import nncf_quantization
from resvox.prediction.segmenter import Segmenter
from resvox.volumes import Volume
from resvox.workflow import export, export_int8

NOTHING = Allowance(share=0.0, least_dice=1.0)
ANYTHING = Allowance(share=1.0, least_dice=0.0)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """A folder for each network: the model, its scans, and the quantized network beside it."""
    made = {}

    def make(dims, norm):
        if (dims, norm) not in made:
            folder = tmp_path_factory.mktemp(f"int8-{dims}-{norm}")
            model = save(trained(dims, norm), folder / "model.safetensors", dims)
            scans = write_scans(folder / "scans", dims, range(4))
            made[dims, norm] = model, scans, export(model, format="openvino", precision="int8", calibrate=scans)
        return made[dims, norm]

    return make


@pytest.fixture
def toy(toys, tmp_path):
    """A copy of the 2-D one, to be changed."""
    model, _, _ = toys(2, "instance")
    shutil.copytree(model.parent, tmp_path / "toy")
    return tmp_path / "toy" / "model.safetensors"


@pytest.fixture
def int8_units(monkeypatch):
    """A processor with units for int8 and none for bfloat16, whatever runs the tests."""
    monkeypatch.setattr(devices, "has_int8", lambda device: device == "cpu")
    monkeypatch.setattr(choosing, "_has_bfloat16", lambda row, place: False)


def volume(dims, seed=9):
    return Volume(scan_array(seed, dims), spacing_mm=(1.0,) * dims)


def share_changed(model, done, dims):
    wanted = Segmenter(model, engine="torch-plain").segment(volume(dims)).label_map.array
    made = Segmenter(done)
    assert len(np.unique(wanted)) == 3
    found = made.segment(volume(dims)).label_map.array
    assert made.engine_words == "openvino, int8, cpu"
    return float(np.mean(found != wanted))


def operations(path):
    import openvino

    return openvino.Core().read_model(path).get_ordered_ops()


def inputs_of(operation):
    return [each.get_node().get_type_name() for each in operation.input_values()]


@pytest.mark.parametrize(("dims", "norm"), [(2, "instance"), (3, "batch")])
def test_a_quantized_network_agrees_as_far_as_it_states(toys, dims, norm):
    model, _, done = toys(dims, norm)
    assert done.path == model.with_name("model.int8.xml")
    told = json.loads(done.description.read_text())
    assert (told["precision"], told["checked"]["compared_on"]) == ("int8", "1 other scan")
    assert told["checked"]["labels_changed"] == done.check.labels_changed
    assert 0 < done.check.labels_changed < 0.01
    assert done.check.least_dice > 0.97
    assert share_changed(model, done.path, dims) < 0.01
    assert [path for path in model.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(("dims", "norm"), [(2, "instance"), (3, "batch")])
def test_its_inner_convolutions_have_int8_weights_and_the_rest_is_in_float32(toys, dims, norm):
    _, _, done = toys(dims, norm)
    every = operations(done.path)
    assert any(each.get_element_type().to_string() == "i8" for each in every if each.get_type_name() == "Constant")
    layers = [each for each in every if each.get_type_name() in ("Convolution", "ConvolutionBackpropData")]
    assert len({each.get_type_name() for each in layers}) == 2  # upsampling is merged with the convolution after it
    quantized = [inputs_of(each)[1] != "Constant" for each in layers]  # weights: i8, then as many operations as needed
    assert quantized == [False, *[True] * (len(layers) - 2), False]
    norms = [each for each in every if each.get_type_name() == "GroupNormalization"]
    assert bool(norms) == (norm == "instance")
    assert not any("FakeQuantize" in inputs_of(each) for each in norms)


def test_it_is_made_for_the_window_and_says_nothing_of_this_machine(toys):
    model, _, done = toys(2, "instance")
    assert not done.any_size
    assert json.loads(done.description.read_text())["input"]["shape"] == [1, 1, 16, 16]
    texts = [path.read_bytes() for path in model.parent.glob("model.int8.*")]
    folders = [str(each).encode() for each in (model.parent, resvox.__path__[0])]
    assert len(texts) == 3
    assert not [folder for folder in folders for text in texts if folder in text]


def test_int8_by_name_takes_the_file_beside_the_model(toys, tmp_path):
    model, scans, done = toys(3, "batch")
    result = workflow.predict(model, scans / "s0.nii.gz", tmp_path / "named", precision="int8")
    direct = workflow.predict(done.path, scans / "s0.nii.gz", tmp_path / "direct")
    assert result.engine == direct.engine == "openvino, int8, cpu"
    (line,) = map(json.loads, (tmp_path / "named" / "predict.jsonl").read_text().splitlines())
    assert (line["precision"], line["model"]["path"]) == ("int8", str(model))
    from resvox.volumes import read_volume

    found, wanted = (read_volume(tmp_path / name / "s0.nii.gz").array for name in ("named", "direct"))
    np.testing.assert_array_equal(found, wanted)


def test_without_a_quantized_network_the_command_that_writes_it_is_named(toy):
    toy.with_name("model.int8.xml").unlink()
    with pytest.raises(InferenceError, match=r"without model\.int8\.xml.*resvox export .* --precision int8 --calib"):
        Segmenter(toy, precision="int8")


def test_one_of_another_model_is_refused(toy, int8_units):
    network = resvox.load_model(toy)
    network.head.bias.data += 1e-3
    save(network, toy, 2)
    with pytest.raises(InferenceError, match=r"model\.int8\.xml: .* of another model than model\.safetensors"):
        Segmenter(toy, precision="int8")
    notes = []
    made = Segmenter(toy, notify=notes.append)
    made.segment(volume(2))
    assert made.engine.precision == "float32"
    assert len(notes) == 1
    assert "of another model" in notes[0]


@pytest.mark.parametrize("ending", [".xml", ".bin"])
def test_one_that_is_damaged_is_refused(toy, ending):
    path = toy.with_name(f"model.int8{ending}")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InferenceError, match="files have changed since it was exported"):
        Segmenter(toy, precision="int8")
    with pytest.raises(InferenceError, match="OpenVINO does not take this network"):
        Segmenter(toy.with_name("model.int8.xml"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_in_int8_computes_in_nothing_else(toys, precision):
    with pytest.raises(InferenceError, match=rf"precision='{precision}' with a network in int8"):
        Segmenter(toys(2, "instance")[2].path, precision=precision)


def test_a_network_in_float32_does_not_compute_in_int8(toys, tmp_path):
    done = export(toys(2, "instance")[0], tmp_path / "net.xml", format="openvino")
    with pytest.raises(InferenceError, match=r"precision='int8' with a network in float32.*resvox export MODEL"):
        Segmenter(done.path, precision="int8")


@pytest.mark.parametrize(
    ("features", "found"), [({"avx2", "avx512f"}, False), ({"avx_vnni"}, True), ({"avx512_vnni", "amx_int8"}, True)]
)
def test_units_for_int8_are_known_by_the_features_of_the_processor(monkeypatch, features, found):
    monkeypatch.setattr(devices, "_processor_features", lambda: features)
    assert devices.has_int8("cpu") == found
    assert not devices.has_int8("cuda")


def test_auto_tries_it_first_where_the_processor_has_units_for_it(toy, int8_units, monkeypatch):
    monkeypatch.setattr(LabelAgreement, "tolerance", 0.05)
    made = Segmenter(toy)
    made.segment(volume(2))
    assert made.engine_words == "openvino, int8, cpu"
    assert made.engine.changed < 0.05
    monkeypatch.setattr(devices, "has_int8", lambda device: False)
    assert Segmenter(toy).engine_words == "openvino, float32, cpu"


def test_auto_gives_it_up_where_it_changes_more_labels_than_the_guard_allows(toy, int8_units, monkeypatch):
    monkeypatch.setattr(LabelAgreement, "tolerance", -1.0)  # nothing but plain torch
    notes = []
    made = Segmenter(toy, notify=notes.append, engine="openvino")
    assert made.engine_words == "openvino, int8, cpu"
    found = made.segment(volume(2)).label_map.array
    assert made.engine_words == "torch, float32, cpu"
    assert [note.split(" would")[0] for note in notes] == ["openvino in int8", "openvino in float32"]
    np.testing.assert_array_equal(found, Segmenter(toy, engine="torch-plain").segment(volume(2)).label_map.array)


def test_the_verdict_on_one_export_does_not_hold_for_the_next(toy, int8_units, monkeypatch):
    monkeypatch.setattr(LabelAgreement, "tolerance", 0.05)
    Segmenter(toy).segment(volume(2))
    assert Segmenter(toy).engine.changed is not None
    described = toy.with_name("model.int8.xml")
    described.write_text(described.read_text() + "\n")
    beside = toy.with_name("model.int8.json")
    told = json.loads(beside.read_text())
    from resvox.files import sha256_of

    beside.write_text(json.dumps({**told, "sha256": sha256_of(described)}))
    assert Segmenter(toy).engine.changed is None


def test_of_a_network_whose_last_layer_is_applied_afterwards_features_are_computed(tmp_path, monkeypatch):
    """With more classes than features the predictor applies the last layer itself."""
    monkeypatch.setattr(export_int8, "LABELS", ANYTHING)  # it has learned little
    model = save(trained(2, "batch", classes=9, steps=30), tmp_path / "model.safetensors", 2, classes=9)
    done = export(model, format="openvino", precision="int8", calibrate=write_scans(tmp_path / "scans", 2, range(2)))
    late, plain = Segmenter(model, precision="int8"), Segmenter(done.path)
    window = scan_array(5, 2, 16)[None, None] / np.float32(1000)
    assert (late.engine(window).shape[1], plain.engine(window).shape[1]) == (8, 9)
    found = late.segment(volume(2)).label_map.array
    assert np.mean(found != plain.segment(volume(2)).label_map.array) < 1e-3


def test_a_network_that_changes_too_many_labels_is_not_written(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(export_int8, "LABELS", NOTHING)
    model, scans, _ = toys(2, "instance")
    with pytest.raises(InferenceError, match=r"int8 changes too much: 0\.\d+ % of labels differ .* --calibrate"):
        export(model, tmp_path / "net.xml", format="openvino", precision="int8", calibrate=scans)
    assert list(tmp_path.iterdir()) == []


def test_scans_without_a_label_show_no_difference(toys, tmp_path):
    model, scans, _ = toys(2, "instance")
    network = resvox.load_model(model)
    network.head.bias.data[0] += 100
    blind = save(network, tmp_path / "model.safetensors", 2)
    with pytest.raises(InferenceError, match=r"no label in the 16 windows of 1 other scan .*other or more scans"):
        export(blind, format="openvino", precision="int8", calibrate=scans)


def test_classes_and_values_are_quantized_and_guarded_too(tmp_path, monkeypatch, int8_units):
    monkeypatch.setattr(export_int8, "LABELS", ANYTHING)  # neither has learned anything
    monkeypatch.setattr(export_int8, "VALUES", 10.0)
    scans = write_scans(tmp_path / "scans", 2, range(3))
    common = {"preprocessing": {"normalization": [{"kind": "window", "low": -1000, "high": 1000}]}}
    models = {
        "classification": (
            resvox.create_model("resnet10", widths=(8,) * 4, stem_width=8, in_channels=1, num_classes=2),
            {"labels": {"a": 0, "b": 1}, "inference": {"image_size": [40, 40], "fit": "crop", "batch_size": 2}},
        ),
        "regression": (
            resvox.create_model(
                "unet", encoder_name="resnet10", encoder_depth=2, decoder_filters=(8, 8), widths=(8,) * 4, stem_width=8,
                in_channels=1, num_classes=1,
            ),
            {"target_mean": [0.0], "target_std": [1.0], "inference": {"roi_size": [16, 16], "overlap": 0.25}},
        ),
    }  # fmt: skip
    for task, (network, own) in models.items():
        metadata = {"task": task, "channel_names": ["CT"], **common, **own}
        model = resvox.save_model(network, tmp_path / task / "model.safetensors", metadata=metadata)
        done = export(model, format="openvino", precision="int8", calibrate=scans)
        assert (done.check.rms is None) == (task == "classification")
        assert done.check.compared_on == "1 other scan"
        named = workflow.predict(model, scans, tmp_path / task / "named", precision="int8")
        assert named.ok, named.cases[0].reason
        assert named.engine == "openvino, int8, cpu"
        notes = []
        guarded = workflow.predict(model, scans, tmp_path / task / "guarded", on_note=notes.append)
        assert guarded.engine == ("openvino, float32, cpu" if notes else "openvino, int8, cpu")
        assert all("openvino in int8 would" in note for note in notes)


def test_the_command_line_reports_each_part_and_refuses_in_one_line(toys, tmp_path, capsys):
    from typer.testing import CliRunner

    from resvox.cli import app
    from resvox.cli.printers.export import ExportDisplay

    model, _, _ = toys(2, "instance")
    done = CliRunner().invoke(app, ["export", str(model), "--precision", "int8", "-o", str(tmp_path / "net.onnx")])
    assert done.exit_code == 1
    assert "fix: --format openvino" in done.output
    with ExportDisplay() as display:
        for part in ("calibrating", "comparing"):
            for number in (1, 2):
                display.progress(part, number, 2)
        display.note("not calibrated on a.nii.gz")
    printed = capsys.readouterr().err.splitlines()
    assert printed == ["calibrating (2)", "comparing (2)", "note: not calibrated on a.nii.gz"]


def test_options_that_do_not_fit_are_refused(toys, tmp_path, monkeypatch):
    model, scans, _ = toys(2, "instance")
    with pytest.raises(InferenceError, match=r"precision='int8' with format='onnx'.*--format openvino"):
        export(model, tmp_path / "net.onnx", precision="int8", calibrate=scans)
    with pytest.raises(InferenceError, match=r"scans to calibrate on, with precision='float32'"):
        export(model, tmp_path / "net.onnx", calibrate=scans)
    with pytest.raises(InferenceError, match=r"precision='int4'; expected 'float32' or 'int8'"):
        export(model, tmp_path / "net.xml", format="openvino", precision="int4")
    int8 = {"format": "openvino", "precision": "int8"}
    with pytest.raises(InferenceError, match=r"without scans.*keeps none; fix: --calibrate SCANS"):
        export(model, tmp_path / "net.xml", **int8)
    with pytest.raises(InferenceError, match=r"no scan to calibrate on \(.*nothing"), pytest.warns(RuntimeWarning):
        export(model, tmp_path / "net.xml", calibrate=tmp_path / "nothing", **int8)
    monkeypatch.setattr(nncf_quantization, "is_installed", lambda package: package != "nncf")
    with pytest.raises(InferenceError, match=r"without nncf; .*pip install 'resvox\[int8\]'"):
        export(model, tmp_path / "net.xml", calibrate=scans, **int8)
    assert list(tmp_path.iterdir()) == []


def test_scans_that_cannot_be_listed_are_named_and_not_what_is_written(toys, tmp_path, monkeypatch):
    def refused(*args):
        raise PermissionError(13, "Permission denied", "scans/private")

    model, scans, _ = toys(2, "instance")
    monkeypatch.setattr(Segmenter, "find", refused)
    with pytest.raises(InferenceError, match=r"^scans/private: scans to calibrate on .* \(Permission denied\)"):
        export(model, tmp_path / "net.xml", format="openvino", precision="int8", calibrate=scans)
    assert list(tmp_path.iterdir()) == []
