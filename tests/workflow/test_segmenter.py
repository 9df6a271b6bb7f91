"""A model file becomes a function from scans to label maps."""

from __future__ import annotations

import numpy as np
import pytest

import resvox
from resvox.errors import InferenceError, WeightsError
from resvox.volumes import Volume
from resvox.workflow.segmenter import Segmenter


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
