"""A model for values: volumes on the grid of their scans, resumed, and scored."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import torch

import resvox
from resvox import workflow
from resvox.errors import EvaluationError, InferenceError, WeightsError
from resvox.prediction.regressor import Regressor
from resvox.volumes import Volume, read_volume, write_volume
from resvox.weights import read_header


class DoubleEngine:
    """Instead of a network: twice what it sees."""

    name, device, precision = "double", "cpu", "float32"

    def __init__(self, module, **options):
        pass

    def __call__(self, windows):
        return 2 * windows


@pytest.fixture(scope="session")
def regressor_file(tmp_path_factory):
    network = resvox.create_model(
        "resnet18_3d", depths=(1, 1), widths=(4, 4), spatial_dims=3, in_channels=1, num_classes=1
    )
    metadata = {
        "task": "regression",
        "preprocessing": {
            "orientation": "SPL", "spacing_mm": None, "normalization": [{"kind": "window", "low": -1000, "high": 1000}]
        },
        "channel_names": ["CT"],
        "target_names": ["dose"],
        "target_mean": [5.0],
        "target_std": [10.0],
        "inference": {"roi_size": [8, 8, 8], "overlap": 0.25, "mirror_axes": []},
    }  # fmt: skip
    path = tmp_path_factory.mktemp("regressor") / "model.safetensors"
    return resvox.save_model(network, path, metadata=metadata)


@pytest.mark.parametrize(("kind", "ending"), [("onnx", ".onnx"), ("openvino", ".xml"), ("torch-export", ".pt2")])
def test_an_exported_network_gives_the_values_of_the_model(regressor_file, write_scan, tmp_path, kind, ending):
    done = workflow.export(regressor_file, tmp_path / f"net{ending}", format=kind)
    told = json.loads(done.description.read_text())
    assert "target_std" in told["output"]["meaning"]
    assert told["metadata"]["target_mean"] == [5.0]
    assert told["checked"]["labels_changed"] is None
    assert "labels" not in str(done.check)
    scan = write_scan(tmp_path / "scans" / "a.nii.gz")
    made = []
    for model, name in ((regressor_file, "ours"), (done.path, "theirs")):
        result = workflow.predict(model, scan, tmp_path / name)
        assert result.ok, result.cases[0].reason
        made.append(read_volume(result.cases[0].path).array)
    assert np.ptp(made[0]) > 0
    np.testing.assert_allclose(made[1], made[0], rtol=1e-4, atol=1e-4)


def test_the_values_of_several_models_are_averaged(regressor_file, write_scan, tmp_path):
    scan, folds = write_scan(tmp_path / "a.nii.gz"), []
    metadata = read_header(regressor_file).metadata
    for fold in range(2):
        network = resvox.load_model(regressor_file)
        with torch.no_grad():
            next(p for name, p in network.named_parameters() if name.endswith("bias")).add_(fold + 1)
        folds.append(tmp_path / "folds" / f"fold_{fold}" / "model.safetensors")
        resvox.save_model(network, folds[-1], metadata=metadata)
    alone = [Regressor([fold], engine="torch").predict(read_volume(scan)).volume.array for fold in folds]
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    both = Regressor(tmp_path / "folds", engine="torch").predict(read_volume(scan)).volume.array
    np.testing.assert_allclose(both, (alone[0] + alone[1]) / 2, atol=1e-4)
    result = workflow.predict(folds, scan, tmp_path / "out", engine="torch")
    np.testing.assert_allclose(read_volume(result.cases[0].path).array, both, atol=1e-4)


@pytest.fixture
def doubled(monkeypatch):
    monkeypatch.setattr("resvox.inference.engines.make_engine", DoubleEngine, raising=False)


def test_values_lie_on_the_grid_of_the_scan_in_their_units(regressor_file, doubled, write_scan, tmp_path):
    affine = np.array([[-2.0, 0, 0, 7], [0, 0, 2.5, -9], [0, 3, 0, 4], [0, 0, 0, 1]])  # not the network's order
    scan = write_scan(tmp_path / "scans" / "a.nii.gz", affine=affine)
    result = workflow.predict(regressor_file, scan, tmp_path / "out")
    (case,) = result.with_status("written")
    made, source = nibabel.load(case.path), nibabel.load(scan)
    np.testing.assert_allclose(made.affine, source.affine, atol=1e-3)
    # (2 * x / 1000) * 10 + 5, x as far as the window keeps it
    np.testing.assert_allclose(made.get_fdata(), source.get_fdata() / 50 + 5, atol=1e-3)
    assert made.get_data_dtype() == np.float32
    assert set(case.seconds) == {"read", "preprocess", "network", "restore", "write"}


def test_a_second_run_does_what_is_missing(regressor_file, doubled, write_scan, tmp_path):
    for name in "ab":
        write_scan(tmp_path / "scans" / f"{name}.nii.gz")
    (tmp_path / "scans" / "c.nii.gz").write_text("no scan")
    first = workflow.predict(regressor_file, tmp_path / "scans", tmp_path / "out")
    assert [case.status for case in first.cases] == ["written", "written", "failed"]
    (tmp_path / "out" / "b.nii.gz").unlink()
    again = workflow.predict(regressor_file, tmp_path / "scans", tmp_path / "out")
    assert [case.status for case in again.cases] == ["present", "written", "failed"]
    assert "c.nii.gz" in again.cases[2].reason


def test_a_network_of_the_catalog_answers(regressor_file, write_scan, tmp_path):
    made = Regressor(regressor_file).predict(read_volume(write_scan(tmp_path / "a.nii.gz")))
    assert made.volume.array.shape == read_volume(tmp_path / "a.nii.gz").array.shape
    assert np.isfinite(made.volume.array).all()


def test_what_a_regressor_has_no_use_for_is_refused(regressor_file, write_scan, tmp_path, make_model):
    scan = write_scan(tmp_path / "a.nii.gz")
    with pytest.raises(InferenceError, match=r"probabilities=True with a model for regression.*leave --probabilities"):
        workflow.predict(regressor_file, scan, tmp_path / "out", probabilities=True)
    with pytest.raises(InferenceError, match="mirroring, with a model that was trained without it"):
        workflow.predict(regressor_file, scan, tmp_path / "out", mirror=True)
    with pytest.raises(WeightsError, match=r"a model for segmentation; expected .* --task regression"):
        Regressor(make_model())


def test_values_are_scored_by_case(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        reference = rng.normal(20, 5, (6, 7, 8)).astype(np.float32)
        grid = {"spacing_mm": (2.0, 1.0, 1.0)}
        write_volume(Volume(reference, **grid), tmp_path / "true" / f"{name}.nii.gz")
        write_volume(Volume(reference + 1, **grid), tmp_path / "made" / f"{name}.nii.gz")
    (tmp_path / "made" / "b.nii.gz").unlink()
    result = workflow.evaluate(
        tmp_path / "made",
        tmp_path / "true",
        task="regression",
        json_path=tmp_path / "s.json",
        csv_path=tmp_path / "s.csv",
    )
    assert result.missing == ("b",)
    assert result.scores.scores["a"]["value"].mae == pytest.approx(1, abs=1e-4)
    assert (tmp_path / "s.json").is_file()
    assert (tmp_path / "s.csv").read_text().startswith("case,value,mae,rmse,psnr_db,ssim\na,value,")
    with pytest.raises(EvaluationError, match=r"true/a\.nii\.gz: values .* not whole numbers; expected a label map"):
        workflow.evaluate(tmp_path / "made", tmp_path / "true")


def test_values_are_predicted_by_several_processes_into_one_log(regressor_file, write_scan, tmp_path):
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in "abc"]
    result = workflow.predict(regressor_file, scans, tmp_path / "out", processes=2, engine="torch", device="cpu")
    assert [case.status for case in result.cases] == ["written"] * 3
    lines = [json.loads(line) for line in (tmp_path / "out" / "predict.jsonl").read_text().splitlines()]
    assert sorted(line["case"] for line in lines) == ["a", "b", "c"]
    assert {line["engine"] for line in lines} == {"torch"}


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_streamed_prediction_is_that_of_the_whole_volume(regressor_file, write_scan, tmp_path, engine):
    """As version 0.1 computed it: all windows of plain torch blended, then brought to the scan's grid."""
    from resvox.inference import TorchEngine, sliding_window_inference

    path = tmp_path / "model.safetensors"
    metadata = {**read_header(regressor_file).metadata}
    metadata["preprocessing"] = {**metadata["preprocessing"], "spacing_mm": [4.0, 3.0, 3.0]}
    network = resvox.load_model(regressor_file)
    resvox.save_model(network, path, metadata=metadata)
    array = np.random.default_rng(0).integers(-900, 900, (23, 19, 17)).astype(np.int16)
    scan = read_volume(write_scan(tmp_path / "a.nii.gz", array))
    regressor = Regressor(path, engine=engine, device="cpu")
    prepared = regressor.preprocessing.apply(scan)
    plain = TorchEngine(network, device="cpu", precision="float32")
    whole = sliding_window_inference(prepared.array, plain, roi_size=(8, 8, 8), overlap=0.25)
    expected = prepared.restore_scores(whole * np.float32(10) + np.float32(5)).array[0]
    made = regressor.predict(scan)
    np.testing.assert_allclose(made.volume.array, expected, rtol=1e-4, atol=1e-3)
    assert regressor.engine.name == engine
    tiled = Regressor(path, engine=engine, device="cpu", memory_gb=1e-9).predict(scan)
    np.testing.assert_allclose(tiled.volume.array, made.volume.array, rtol=1e-5, atol=1e-4)


def test_an_engine_whose_values_are_off_is_not_used(regressor_file, write_scan, tmp_path, monkeypatch):
    import resvox.inference.engines.torch_engine as torch_engine

    monkeypatch.setenv("RESVOX_CACHE", "")  # no verdict of an earlier test
    real = torch_engine.engine_of_network

    def wrong(request):
        engine = real(request)

        class Wrong:
            name, device, precision = "torch", "cpu", "float32"

            def __call__(self, windows):
                return engine(windows) + np.float32(0.002)

        return Wrong()

    scan = read_volume(write_scan(tmp_path / "a.nii.gz"))
    expected = Regressor(regressor_file, engine="torch-plain", device="cpu").predict(scan).volume.array
    monkeypatch.setattr(torch_engine, "engine_of_network", wrong)
    notes = []
    regressor = Regressor(regressor_file, engine="torch", device="cpu", notify=notes.append)
    np.testing.assert_allclose(regressor.predict(scan).volume.array, expected, atol=1e-5)
    assert "torch in float32 would change values by 0.20 % of their standard deviation; not used" in notes
