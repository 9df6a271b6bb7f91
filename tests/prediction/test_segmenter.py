"""A model file becomes a function from scans to label maps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import resvox
from resvox.errors import InferenceError, WeightsError
from resvox.prediction.segmenter import Segmenter
from resvox.volumes import Volume


def scan(shape=(9, 8, 7), channels=None):
    full = shape if channels is None else (channels, *shape)
    array = np.random.default_rng(1).integers(-900, 900, full).astype(np.int16)
    return Volume(array, spacing_mm=(3.0, 2.0, 2.0)[-len(shape) :])


def test_label_values_are_the_models_and_the_grid_is_the_scans(make_model, threshold_engine):
    volume = scan()
    made = Segmenter(make_model()).segment(volume)
    expected = np.where(volume.array > 250, 7, np.where(volume.array < -250, 3, 0))
    np.testing.assert_array_equal(made.label_map.array, expected)
    assert made.label_map.grid == volume.grid
    assert made.probabilities is None
    assert set(made.seconds) == {"preprocess", "network", "restore"}


def test_probabilities_sum_to_one_on_the_scans_grid(make_model):
    volume = scan()
    made = Segmenter(make_model()).segment(volume, probabilities=True)
    assert made.probabilities.array.shape == (3, 9, 8, 7)
    np.testing.assert_allclose(made.probabilities.array.sum(axis=0), 1, atol=1e-5)


def test_progress_counts_windows(make_model):
    seen = []
    Segmenter(make_model()).segment(scan(), progress=lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1]


def test_colours_are_the_models_where_it_has_them(make_model):
    colours = Segmenter(make_model()).colours
    assert colours["bright"] == "#123456"
    assert set(colours) == {"background", "dark", "bright"}


def test_mirroring_takes_the_axes_of_training(make_model):
    assert Segmenter(make_model(), mirror=True).mirror_axes == (0, 1)
    assert Segmenter(make_model()).mirror_axes == ()


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        (scan((8, 8)), "a 2D image; expected a 3D image"),
        (scan(channels=2), r"2 channels; expected 1 \(CT\)"),
    ],
)
def test_another_kind_of_scan_is_refused(make_model, volume, text):
    with pytest.raises(InferenceError, match=text):
        Segmenter(make_model()).segment(volume)


def test_a_run_folder_is_its_model(make_model):
    path = make_model()
    assert Segmenter(path.parent).path == path


def test_what_is_no_model_is_refused_by_name(make_model, tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere: no such model; expected a model.safetensors or"):
        Segmenter(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"no model.safetensors in this folder.*--resume"):
        Segmenter(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a model at all")
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        Segmenter(tmp_path)


def test_a_bare_network_is_refused_because_it_does_not_know_its_preprocessing(tmp_path):
    network = resvox.create_model(
        "unet", encoder_name="resnet10", encoder_depth=1, decoder_filters=(4,), widths=(4,) * 4
    )
    resvox.save_model(network, tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="without preprocessing, labels, channel_names, inference"):
        Segmenter(tmp_path / "bare.safetensors")


def test_mirroring_a_model_that_was_trained_without_it_is_refused(make_model, tmp_path):
    from resvox.weights import read_header

    path = tmp_path / "model.safetensors"
    metadata = read_header(make_model()).metadata
    metadata["inference"]["mirror_axes"] = []
    resvox.save_model(resvox.load_model(make_model()), path, metadata=metadata)
    with pytest.raises(InferenceError, match=r"trained without it.*leave --mirror out"):
        Segmenter(path, mirror=True)


def test_labels_first_is_close_and_a_tile_at_a_time_is_the_same(make_model, make_spaced):
    path = make_spaced(make_model())
    volume = scan((20, 18, 22))
    plain = {"engine": "torch-plain"}
    accurate = Segmenter(path, **plain).segment(volume)
    tiled = Segmenter(path, memory_gb=1e-9, **plain).segment(volume)
    np.testing.assert_array_equal(tiled.label_map.array, accurate.label_map.array)
    faster = Segmenter(path, resample="labels", **plain).segment(volume)
    assert faster.label_map.grid == volume.grid
    assert (faster.label_map.array == accurate.label_map.array).mean() > 0.7
    assert set(np.unique(faster.label_map.array)) <= {0, 3, 7}
    tiled_labels = Segmenter(path, resample="labels", memory_gb=1e-9, **plain).segment(volume)
    np.testing.assert_array_equal(tiled_labels.label_map.array, faster.label_map.array)


def test_the_streamed_label_map_is_that_of_the_full_buffer(make_model, make_spaced):
    from resvox.inference import TorchEngine, labels_from_logits, sliding_window_inference

    segmenter = Segmenter(make_spaced(make_model()), engine="torch-plain")
    volume = scan((20, 18, 22))
    prepared = segmenter.prepare(volume)
    engine = TorchEngine(resvox.load_model(segmenter.path), device="cpu", precision="float32")
    logits = sliding_window_inference(prepared.array, engine, roi_size=8, overlap=0.25)
    scores = prepared.restore_scores(logits).array
    ranked = np.sort(scores, axis=0)
    clear = ranked[-1] - ranked[-2] > 1e-4
    expected = np.array([0, 3, 7])[labels_from_logits(scores)]
    np.testing.assert_array_equal(segmenter.segment(volume).label_map.array[clear], expected[clear])
    assert clear.mean() > 0.95


def test_several_models_are_averaged(make_model, tmp_path):
    from resvox.weights import read_header

    volume = scan()
    paths = []
    for fold in range(2):
        network = resvox.load_model(make_model())
        network.head.bias.data[fold + 1] += 50.0 * (fold + 1)  # the second fold shouts louder
        paths.append(tmp_path / f"fold_{fold}" / "model.safetensors")
        resvox.save_model(network, paths[-1], metadata=read_header(make_model()).metadata)
    alone = [Segmenter(path, engine="torch").segment(volume).label_map.array for path in paths]
    assert [set(np.unique(each)) for each in alone] == [{3}, {7}]
    for model in (paths, tmp_path):  # named, or the folder that holds the folds
        both = Segmenter(model, engine="torch")
        assert set(np.unique(both.segment(volume).label_map.array)) == {7}
        assert both.engine.name == "torch"
        assert both.paths == tuple(paths)


def test_models_of_other_labels_are_not_averaged(make_model, tmp_path):
    from resvox.weights import read_header

    metadata = {**read_header(make_model()).metadata, "labels": {"background": 0, "dark": 1, "bright": 2}}
    other = resvox.save_model(resvox.load_model(make_model()), tmp_path / "model.safetensors", metadata=metadata)
    with pytest.raises(WeightsError, match=r"model\.safetensors: other labels than .*models of one training plan"):
        Segmenter([make_model(), other])
    with pytest.raises(WeightsError, match="no model; expected at least one"):
        Segmenter([])


def test_empty_windows_are_passed_over_on_request(make_model):
    array = np.full((24, 8, 8), -1000, np.int16)
    array[18:] = np.random.default_rng(0).integers(-900, 900, (6, 8, 8))
    volume = Volume(array, spacing_mm=(3.0, 2.0, 2.0))
    made = Segmenter(make_model(), engine="torch", skip_empty=True).segment(volume)
    assert 0 < made.skipped < made.windows
    assert (made.label_map.array[: 24 - 8 - 6] == 0).all()
    # by default a window without contrast is computed once: of those at 0 and 6, which hold air alone, the first
    assert Segmenter(make_model(), engine="torch").segment(volume).skipped == 1


def test_options_that_cannot_be_are_refused(make_model):
    with pytest.raises(InferenceError, match=r"resample='magic'; expected 'logits' or 'labels'"):
        Segmenter(make_model(), resample="magic")
    with pytest.raises(InferenceError, match=r"memory_gb=0; expected a number above 0"):
        Segmenter(make_model(), memory_gb=0)
    with pytest.raises(InferenceError, match=r"engine='onnxruntime'; expected"):
        Segmenter(make_model(), engine="onnxruntime")


@pytest.fixture
def make_spaced(tmp_path):
    """The model with another grid than the scans', so that labels must be brought back."""

    def make(path):
        from resvox.weights import read_header

        metadata = read_header(path).metadata
        metadata["preprocessing"]["spacing_mm"] = [4.0, 3.0, 3.0]
        network = resvox.load_model(path)
        generator = np.random.default_rng(3)
        network.head.weight.data.copy_(
            network.head.weight.data.new_tensor(generator.normal(0, 3, network.head.weight.shape))
        )
        return resvox.save_model(network, tmp_path / "spaced.safetensors", metadata=metadata)

    return make


@pytest.mark.parametrize("engine", ["torch-plain", "auto"])
def test_many_classes_are_blended_as_features_with_the_same_labels(make_model, tmp_path, engine):
    from resvox.inference import TorchEngine, labels_from_logits, sliding_window_inference
    from resvox.weights import read_header

    torch.manual_seed(1)
    network = resvox.create_model(
        "unet", encoder_name="resnet10", encoder_depth=2, decoder_filters=(4, 4), widths=(4,) * 4, stem_width=4,
        spatial_dims=3, in_channels=1, num_classes=9,
    ).eval()  # fmt: skip
    generator = np.random.default_rng(0)
    network.head.weight.data.copy_(network.head.weight.data.new_tensor(generator.normal(0, 3, (9, 4, 1, 1, 1))))
    metadata = read_header(make_model()).metadata
    metadata["labels"] = {f"part {value}": value for value in range(9)}
    metadata["preprocessing"]["spacing_mm"] = [4.0, 3.0, 3.0]
    path = resvox.save_model(network, tmp_path / "model.safetensors", metadata=metadata)
    segmenter = Segmenter(path, engine=engine, precision="float32")
    assert segmenter._head.classes == 9
    volume = scan((20, 18, 22))
    made = segmenter.segment(volume, probabilities=True)
    prepared = segmenter.prepare(volume)
    plain = TorchEngine(network, device="cpu", precision="float32")
    scores = prepared.restore_scores(sliding_window_inference(prepared.array, plain, roi_size=8, overlap=0.25)).array
    ranked = np.sort(scores, axis=0)
    clear = ranked[-1] - ranked[-2] > 1e-3
    np.testing.assert_array_equal(made.label_map.array[clear], labels_from_logits(scores)[clear])
    assert clear.mean() > 0.95
    assert len(np.unique(made.label_map.array)) >= 3
    np.testing.assert_allclose(made.probabilities.array.sum(axis=0), 1, atol=1e-4)
    first = Segmenter(path, engine=engine, precision="float32", resample="labels").segment(volume)
    assert set(np.unique(first.label_map.array)) <= set(range(9))


def test_few_classes_a_wide_head_and_folds_are_blended_as_logits(make_model, tmp_path):
    from resvox.weights import read_header

    assert Segmenter(make_model(), engine="torch")._head is None
    network = resvox.create_model(
        "unet", encoder_name="resnet10", encoder_depth=2, decoder_filters=(4, 4), widths=(4,) * 4, stem_width=4,
        spatial_dims=3, in_channels=1, num_classes=6, head_kernel=3,
    )  # fmt: skip
    metadata = {**read_header(make_model()).metadata, "labels": {f"part {value}": value for value in range(6)}}
    wide = resvox.save_model(network, tmp_path / "wide.safetensors", metadata=metadata)
    assert Segmenter(wide, engine="torch")._head is None
    assert Segmenter([make_model(), make_model()], engine="torch")._head is None


@pytest.fixture
def make_own_way(make_model, tmp_path):
    """The model with more in its metadata, as a bundle of MONAI becomes one."""

    def make(**metadata):
        from resvox.weights import read_header

        found = {**read_header(make_model()).metadata, **metadata}
        if "regions" in found:
            del found["labels"], found["colours"]
        return resvox.save_model(resvox.load_model(make_model()), tmp_path / "own.safetensors", metadata=found)

    return make


# A crop after the change of spacing cannot be undone slice by slice.
WHOLE = {"kind": "monai", "transforms": [{"transform": "Spacing", "pixdim": [2.5]}, {"transform": "CropForeground"}]}
REGIONS = {"regions": {"all": [1, 2, 3], "some": [2, 3], "few": [3]}, "regions_class_order": [1, 2, 3]}
SIGMOID = {"activation": "sigmoid", "restored": "probabilities", "threshold": 0.5}
SOFTMAX = {"activation": "softmax", "restored": "probabilities"}


@pytest.mark.parametrize("metadata", [{"outputs": SOFTMAX}, {"outputs": SIGMOID, **REGIONS}])
def test_of_steps_that_need_the_whole_scan_only_what_is_asked_for_is_written(
    make_own_way, threshold_engine, write_scan, tmp_path, metadata
):
    from resvox.workflow import predict

    model = make_own_way(preprocessing=WHOLE, **metadata)
    source = write_scan(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32))
    options = {"probabilities": True, "region_masks": True} if "regions" in metadata else {"probabilities": True}
    for name, chosen in (("label_map", {}), ("all", options)):
        result = predict(model, source, tmp_path / name, **chosen)
        assert [(case.status, case.reason) for case in result.cases] == [("written", "")]
        made = sorted(path.name for path in (tmp_path / name).glob("a*"))
        beside = ["a_probabilities.nii.gz", *(f"a_region_{each}.nii.gz" for each in ("all", "few", "some"))]
        assert made == ["a.nii.gz", *(beside[: 1 + 3 * ("regions" in metadata)] if chosen else [])]


def test_empty_windows_are_not_skipped_where_they_need_probabilities(make_model, make_own_way, threshold_engine):
    with pytest.raises(InferenceError, match=r"skip_empty=True beside probabilities=True; expected one of them"):
        Segmenter(make_model(), skip_empty=True, probabilities=True)
    with pytest.raises(InferenceError, match=r"skip_empty=True beside probabilities=True.*leave --skip-empty or"):
        Segmenter(make_model(), skip_empty=True).segment(scan(), probabilities=True)
    for metadata in ({"outputs": SOFTMAX}, {"outputs": {**SIGMOID, "threshold": 0.2}, **REGIONS}):
        with pytest.raises(InferenceError, match=r"skip_empty=True with a model that decides on probabilities or by"):
            Segmenter(make_own_way(**metadata), skip_empty=True)


def test_labels_first_are_refused_with_what_is_made_of_outputs(make_model, make_own_way, threshold_engine):
    for name in ("probabilities", "uncertainty"):
        with pytest.raises(InferenceError, match=rf"resample='labels' beside {name}=True.*or --{name} out"):
            Segmenter(make_model(), resample="labels", **{name: True})
    with pytest.raises(InferenceError, match=r"resample='labels' beside probabilities=True"):
        Segmenter(make_model(), resample="labels").segment(scan(), probabilities=True)
    with pytest.raises(InferenceError, match=r"resample='labels' beside region_masks=True.*or --region-masks out"):
        Segmenter(make_own_way(**REGIONS), resample="labels", region_masks=True)


@pytest.mark.parametrize(("name", "most"), [("model.safetensors", 4), ("exported.onnx", 1)])
def test_on_a_gpu_an_exported_network_gets_one_window_at_a_time(make_model, tmp_path, monkeypatch, name, most):
    from resvox.weights import read_header

    sizes = []

    class OnGpu:
        name, device, precision = "onnxruntime", "cuda:0", "float32"

        def __init__(self, *request, **options):
            pass

        def __call__(self, windows):
            sizes.append(len(windows))
            return np.concatenate([windows, -windows, 0 * windows], axis=1)

    monkeypatch.setattr("resvox.inference.engines.make_engine", OnGpu)
    monkeypatch.setattr("resvox.inference.engines.engine_of_file", OnGpu)
    model = make_model()
    if name != "model.safetensors":
        model = tmp_path / name
        model.write_bytes(b"")
        metadata = read_header(make_model()).metadata
        model.with_suffix(".json").write_text(json.dumps({"file": name, "metadata": metadata}))
    Segmenter(model).segment(scan((20, 18, 22)))
    assert max(sizes) == most
    assert sizes[0] == most
