"""A dataset of classes to a model, a table of predictions that is completed, and its scores."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from training.classified import shape_arrays, write_npz

import resvox
from resvox import workflow
from resvox.errors import EvaluationError, InferenceError, PlanError, WeightsError
from resvox.locks import Claims
from resvox.prediction.classifier import Classifier
from resvox.volumes import Volume, read_volume


@pytest.fixture(scope="session")
def classifier_file(tmp_path_factory):
    """A saved, untrained network with all that a prediction needs."""
    network = resvox.create_model(
        "resnet10", widths=(4, 4, 4, 4), stem_width=4, stem="3x3", spatial_dims=2, in_channels=1, num_classes=2
    )
    path = tmp_path_factory.mktemp("classifier") / "model.safetensors"
    metadata = {
        "task": "classification",
        "preprocessing": {"normalization": [{"kind": "window", "low": 0, "high": 255}]},
        "labels": {"bar": 0, "post": 1},
        "channel_names": ["intensity"],
        "inference": {"image_size": [8, 8], "fit": "resize", "batch_size": 2},
    }
    return resvox.save_model(network, path, metadata=metadata)


@pytest.fixture
def pictures(tmp_path):
    """Five pictures in the folders of their classes."""
    from PIL import Image

    images, labels = shape_arrays((2, 3))
    for number, (image, (label,)) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "pictures" / ("bar", "post")[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "pictures"


@pytest.mark.parametrize(("kind", "ending"), [("onnx", ".onnx"), ("openvino", ".xml"), ("torchscript", ".pt")])
def test_an_exported_classifier_says_what_the_model_says(classifier_file, pictures, tmp_path, kind, ending):
    done = workflow.export(classifier_file, tmp_path / f"net{ending}", format=kind)
    told = json.loads(done.description.read_text())
    assert told["output"] == {"meaning": "logits", "shape": ["batch", "classes"], "type": "float32"}
    assert told["metadata"]["labels"] == {"bar": 0, "post": 1}
    expected, found = (
        workflow.predict(model, pictures, tmp_path / name)
        for model, name in ((classifier_file, "ours"), (done.path, "theirs"))
    )
    assert statuses(expected) == statuses(found) == ["written"] * 5
    for ours, theirs in zip(table_of(tmp_path / "ours"), table_of(tmp_path / "theirs"), strict=True):
        assert (ours["case"], ours["predicted"]) == (theirs["case"], theirs["predicted"])
        assert float(ours["p_bar"]) == pytest.approx(float(theirs["p_bar"]), abs=1e-5)
    images = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)  # several answers of one buffer
    np.testing.assert_allclose(
        Classifier(done.path).probabilities(images), Classifier(classifier_file).probabilities(images), atol=1e-5
    )


def table_of(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def statuses(result):
    return [case.status for case in result.cases]


def test_from_an_npz_to_scores(tmp_path):
    data = write_npz(tmp_path / "shapes.npz", counts=(6, 6, 6))
    shown = []
    trained = workflow.train(
        data, tmp_path / "run", task="classification", model="resnet10", steps=2, batch_size=6, device="cpu",
        progress=False, on_plan=lambda dataset, plan: shown.append((dataset.classes, plan.task)),
    )  # fmt: skip
    assert shown == [(("0", "1", "2"), "classification")]
    result = workflow.predict(tmp_path / "run", data, tmp_path / "out")
    assert statuses(result) == ["written"] * 9
    rows = table_of(tmp_path / "out")
    assert list(rows[0]) == ["case", "predicted", "p_0", "p_1", "p_2", "file"]
    assert [row["case"] for row in rows] == [f"test_{number}" for number in range(9)]
    assert sum(float(rows[0][f"p_{name}"]) for name in range(3)) == pytest.approx(1, abs=1e-5)
    assert rows[3]["file"].endswith("shapes.npz#test_images[3]")
    scored = workflow.evaluate(tmp_path / "out", data, json_path=tmp_path / "s.json", csv_path=tmp_path / "s.csv")
    with np.load(data) as arrays:
        truth = arrays["test_labels"][:, 0]
    right = sum(int(row["predicted"]) == label for row, label in zip(rows, truth, strict=True))
    assert scored.scores.accuracy == pytest.approx(right / 9)
    assert json.loads((tmp_path / "s.json").read_text())["accuracy"] == pytest.approx(right / 9, abs=1e-6)
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 10
    # the run goes on with its own plan, whatever the task's default is
    assert workflow.train(data, tmp_path / "run", resume=True, progress=False).plan == trained.plan


def test_a_second_run_does_what_is_missing(classifier_file, pictures, tmp_path):
    out = tmp_path / "out"
    assert statuses(workflow.predict(classifier_file, pictures / "bar", out)) == ["written"] * 2
    result = workflow.predict(classifier_file, pictures, out)
    assert sorted(statuses(result)) == ["present", "present", "written", "written", "written"]
    whole = table_of(out)
    assert len(whole) == 5
    log = (out / "predict.jsonl").read_bytes()
    # killed while it wrote its last line, and before it wrote the table
    (out / "predict.jsonl").write_bytes(log[:-20])
    (out / "predictions.csv").unlink()
    again = workflow.predict(classifier_file, pictures, out)
    assert sorted(statuses(again)) == ["present"] * 4 + ["written"]
    assert table_of(out) == whole
    assert statuses(workflow.predict(classifier_file, pictures, out, overwrite=True)) == ["written"] * 5
    assert table_of(out) == whole
    assert not (out / ".claims").exists()


def test_an_image_that_cannot_be_used_is_told_and_the_others_are_done(classifier_file, pictures, tmp_path):
    (pictures / "bar" / "broken.png").write_text("no picture")
    result = workflow.predict(classifier_file, pictures, tmp_path / "out")
    (failed,) = result.with_status("failed")
    assert "broken.png" in failed.reason
    assert not result.ok
    assert len(table_of(tmp_path / "out")) == 5


def test_a_chunk_of_another_process_that_does_not_finish_is_reported(classifier_file, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("resvox.prediction.batch.PATIENCE_SECONDS", 0)
    monkeypatch.setattr("resvox.prediction.results.TableResults.lock_name", lambda self, cases: f"x-{cases[0].id}")
    with Claims(tmp_path / "out") as locks:
        assert locks.take("x-3")
        result = workflow.predict(classifier_file, pictures, tmp_path / "out")
    assert statuses(result) == ["elsewhere"] * 2 + ["written"] * 3
    assert not result.ok
    assert len(table_of(tmp_path / "out")) == 3


def test_predictions_of_two_models_are_not_mixed(classifier_file, pictures, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(classifier_file.read_bytes())
    workflow.predict(classifier_file, pictures, tmp_path / "out")
    with pytest.raises(InferenceError, match=r"predictions made with another model.*--overwrite"):
        workflow.predict(other, pictures, tmp_path / "out")
    assert statuses(workflow.predict(other, pictures, tmp_path / "out", overwrite=True)) == ["written"] * 5


def test_what_a_classifier_has_no_use_for_is_refused(classifier_file, pictures, tmp_path, make_model):
    with pytest.raises(InferenceError, match=r"mirror=True with a model for classification.*leave --mirror out"):
        workflow.predict(classifier_file, pictures, tmp_path / "out", mirror=True)
    with pytest.raises(WeightsError, match=r"a model for segmentation; expected .* --task classification"):
        Classifier(make_model())
    with pytest.raises(InferenceError, match="a 3D image; expected a 2D image"):
        Classifier(classifier_file).classify(Volume(np.zeros((4, 4, 4)), spacing_mm=(1, 1, 1)))
    with pytest.raises(InferenceError, match="no images"):
        workflow.predict(classifier_file, [], tmp_path / "out")
    with pytest.raises(PlanError, match=r"encoder='resnet18' for a classification.*--model resnet18"):
        workflow.train(write_npz(tmp_path / "s.npz"), tmp_path / "run", task="classification", encoder="resnet18")


def test_one_image_in_memory(classifier_file, pictures):
    from resvox.volumes import read_volume

    classifier = Classifier(classifier_file)
    chances = classifier.classify(read_volume(next((pictures / "bar").glob("*.png"))))
    assert list(chances) == ["bar", "post"]
    assert sum(chances.values()) == pytest.approx(1, abs=1e-5)


def test_scores_of_folders_and_of_manifests(classifier_file, pictures, tmp_path):
    workflow.predict(classifier_file, pictures, tmp_path / "out")
    by_folder = workflow.evaluate(tmp_path / "out", pictures)
    assert by_folder.scores.confusion.sum(axis=1).tolist() == [2, 3]
    rows = [f"pictures/{path.parent.name}/{path.name},{path.parent.name}" for path in pictures.rglob("*.png")]
    (tmp_path / "m.csv").write_text("\n".join(["image,class", *rows, *rows[:0]]))
    assert workflow.evaluate(tmp_path / "out", tmp_path / "m.csv").scores.to_dict() == by_folder.scores.to_dict()
    (tmp_path / "m.csv").write_text("\n".join(["image,class", *rows[:2], "pictures/../pictures,bar"]))
    partly = workflow.evaluate(tmp_path / "out", tmp_path / "m.csv")
    assert (len(partly.scores.cases), len(partly.missing), len(partly.extra)) == (2, 1, 3)
    assert not partly.ok
    with pytest.raises(EvaluationError, match="give as references the path that was given to resvox predict"):
        workflow.evaluate(tmp_path / "out", write_npz(tmp_path / "s.npz", counts=(2, 2)))


def test_a_table_that_is_none(tmp_path):
    (tmp_path / "predictions.csv").write_text("case,predicted\na,b\n")
    with pytest.raises(EvaluationError, match=r"predictions.csv: 1 rows with columns case, predicted; expected case"):
        workflow.evaluate(tmp_path, tmp_path)


def test_an_image_that_was_replaced_under_its_name_is_reported(classifier_file, pictures, tmp_path):
    from PIL import Image

    out = tmp_path / "out"
    workflow.predict(classifier_file, pictures, out)
    before = table_of(out)
    replaced = sorted((pictures / "bar").glob("*.png"))[0]
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(replaced)
    result = workflow.predict(classifier_file, pictures, out)
    (failed,) = result.with_status("failed")
    assert f"a prediction for {replaced.stem} exists already, made from {replaced} before it changed" in failed.reason
    assert table_of(out) == before
    assert workflow.predict(classifier_file, pictures, out, overwrite=True).ok
    assert table_of(out) != before


def test_two_images_of_one_name_are_one_row_and_one_error(classifier_file, pictures, tmp_path):
    picture = sorted(pictures.rglob("*.png"))[2]
    data = write_npz(tmp_path / "s.npz", counts=(2, 2))
    with np.load(data) as arrays:
        count = len(arrays["test_labels"])
    again = tmp_path / "again" / "s.npz"
    again.parent.mkdir()
    again.write_bytes(data.read_bytes())
    result = workflow.predict(classifier_file, [data, again, picture], tmp_path / "out")
    assert len(result.with_status("written")) == count + 1
    assert len(result.with_status("failed")) == count
    assert "two images called test_0" in result.with_status("failed")[0].reason
    assert not result.ok
    assert len(table_of(tmp_path / "out")) == count + 1


def test_classes_are_predicted_by_several_processes(classifier_file, pictures, tmp_path):
    result = workflow.predict(classifier_file, pictures, tmp_path / "out", processes=2, engine="torch")
    assert statuses(result) == ["written"] * 5
    expected = workflow.predict(classifier_file, pictures, tmp_path / "alone", engine="torch")
    assert result.ok
    assert expected.ok
    assert table_of(tmp_path / "out") == table_of(tmp_path / "alone")
    lines = [json.loads(line) for line in (tmp_path / "out" / "predict.jsonl").read_text().splitlines()]
    assert sorted(line["case"] for line in lines) == ["0", "1", "2", "3", "4"]


def test_an_engine_that_gives_another_class_is_not_used(classifier_file, pictures, tmp_path, monkeypatch):
    import resvox.inference.engines.torch_engine as torch_engine

    monkeypatch.setenv("RESVOX_CACHE", "")  # no verdict of an earlier test
    real = torch_engine.engine_of_network

    def wrong(request):
        engine = real(request)

        class Wrong:
            name, device, precision = "torch", "cpu", "float32"

            def __call__(self, windows):
                return -3 * engine(windows)

        return Wrong()

    monkeypatch.setattr(torch_engine, "engine_of_network", wrong)
    notes = []
    result = workflow.predict(
        classifier_file, pictures, tmp_path / "out", engine="torch", device="cpu", on_note=notes.append
    )
    assert result.ok
    assert any("would give an image another class; not used" in note for note in notes)
    monkeypatch.setattr(torch_engine, "engine_of_network", real)
    workflow.predict(classifier_file, pictures, tmp_path / "plain", engine="torch-plain", device="cpu")
    assert table_of(tmp_path / "out") == table_of(tmp_path / "plain")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_no_class(classifier_file, pictures, tmp_path, monkeypatch, bad):
    class Sick:
        """Finite logits for all but the brightest of the pictures."""

        name, device, precision = "sick", "cpu", "float32"

        def __call__(self, windows):
            logits = np.tile(np.float32([1, 2]), (len(windows), 1))
            logits[windows.max(axis=(1, 2, 3)) == self.brightest, 0] = bad
            return logits

    engine = Sick()
    monkeypatch.setattr("resvox.prediction.classifier.engine_of", lambda *given, **options: engine)
    classifier = Classifier(classifier_file)
    images = [read_volume(path) for path in sorted(pictures.rglob("*.png"))]
    ready = [classifier.prepare(image) for image in images]
    peaks = [float(each.max()) for each in ready]
    engine.brightest = max(peaks)
    words = r"1 logits that are NaN or infinite; expected finite logits"
    with pytest.raises(InferenceError, match=words):
        classifier.classify(images[int(np.argmax(peaks))])
    with pytest.raises(InferenceError, match=words.replace("1", "[0-9]+", 1)):
        classifier.probabilities(ready)
    result = workflow.predict(classifier_file, pictures, tmp_path / "out")
    failed = [case for case in result.cases if case.status == "failed"]
    assert len(failed) == peaks.count(max(peaks)) < len(peaks)
    assert all("NaN or infinite" in case.reason for case in failed)
    assert len(result.with_status("written")) == len(peaks) - len(failed)
