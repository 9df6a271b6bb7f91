"""How sure a model is: temperature, calibrated probabilities, maps of doubt, the review list, their evaluation."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction.conftest import make_model, write_scan  # noqa: F401 (fixtures)

import resvox
from resvox.cards.segmentation import SegmentationCard
from resvox.errors import EvaluationError, InferenceError, WeightsError
from resvox.evaluation.calibration.reliability import Reliability, reliability_of
from resvox.evaluation.calibration.risk import risk_coverage
from resvox.inference.ensemble import EnsembleEngine
from resvox.inference.restoring import Restorer
from resvox.inference.streaming import FinishedSlice
from resvox.inference.uncertainty.doubt import DisagreeingEngine, DoubtMaps, entropy, likely
from resvox.preprocessing import Preprocessing, Window
from resvox.training.segmentation.temperature import best_temperature, losses_of_case
from resvox.volumes import Volume, read_label_map, read_volume, write_label_map, write_volume
from resvox.weights import read_header
from resvox.workflow import evaluate, predict

LABELS = np.array([[False, False], [True, False], [False, True]])  # of three class indices to two targets


def drawn(rng, temperature, size=(16, 16, 16)):
    """Logits and classes drawn from them at a temperature: dividing by it is right."""
    logits = rng.normal(0, 4, (3, *size)).astype(np.float32)
    cumulated = likely(logits, temperature=temperature, independent=False).cumsum(axis=0)
    return logits, (rng.random(size) > cumulated).sum(axis=0).clip(0, 2).astype(np.uint8)


# ---------------------------------------------------------------------------------------------- temperature


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0, 5.0])
def test_the_temperature_that_labels_were_drawn_at_is_found(true):
    rng = np.random.default_rng(0)
    sums = sum(losses_of_case(*drawn(rng, true), LABELS, is_softmax=True) for _ in range(3))
    assert best_temperature(sums) == pytest.approx(true, rel=0.06)


def test_the_temperature_of_regions_is_found_and_ignored_voxels_do_not_count():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 4, (2, 24, 24, 24)).astype(np.float32)
    inside = rng.random(logits.shape) < likely(logits, temperature=3.0, independent=True)
    members = np.array([[False, False], [True, False], [False, True], [True, True]])
    reference = (inside[0] + 2 * inside[1]).astype(np.uint8)
    found = losses_of_case(logits, reference, members, is_softmax=False)
    assert best_temperature(found) == pytest.approx(3.0, rel=0.06)
    assert best_temperature(losses_of_case(logits, np.full_like(reference, 4), members, is_softmax=False)) is None


def test_the_temperature_lowers_the_calibration_error_of_other_cases():
    rng = np.random.default_rng(2)
    found = best_temperature(losses_of_case(*drawn(rng, 3.0), LABELS, is_softmax=True))
    logits, truth = drawn(rng, 3.0, (40, 40, 40))
    before, after = (
        reliability_of(likely(logits, temperature=each, independent=False).reshape(3, -1), truth.ravel())
        for each in (1.0, found)
    )
    assert after.ece < 0.015 < 0.1 < before.ece
    assert after.brier < before.brier


def test_training_writes_a_temperature_into_the_card(tmp_path):
    from workflow.test_folds import write_cases, write_plan

    from resvox.workflow import train

    data = write_cases(tmp_path / "data")
    train(data, tmp_path / "run", plan=write_plan(data, tmp_path / "plan.yaml"), device="cpu", progress=False)
    metadata = read_header(tmp_path / "run" / "model.safetensors").metadata
    assert 0.2 <= metadata["temperature"] <= 20
    assert SegmentationCard.from_dict(metadata).temperature == metadata["temperature"]
    for wrong in (0, -1.0, "hot"):
        with pytest.raises(WeightsError, match="temperature"):
            SegmentationCard.from_dict({**metadata, "temperature": wrong})
    assert SegmentationCard.from_dict({k: v for k, v in metadata.items() if k != "temperature"}).temperature is None


# ---------------------------------------------------------------------------------------------- maps


class Fixed:
    """An engine whose logits are the first channel times a factor, against 0."""

    name, device, precision = "fixed", "cpu", "float32"

    def __init__(self, *factors):
        self.factors = np.asarray(factors, np.float32).reshape(1, -1, 1, 1, 1)

    def __call__(self, windows):
        return windows[:, :1] * self.factors


def test_an_ensemble_keeps_its_logits_to_the_bit_and_disagrees_where_members_do():
    windows = np.random.default_rng(0).normal(0, 1, (2, 1, 4, 4, 4)).astype(np.float32)
    same, other = [Fixed(0, 3), Fixed(0, 3)], [Fixed(0, 30), Fixed(0, -30)]
    for engines in (same, other):
        found = DisagreeingEngine(engines, temperature=1.0, independent=False)(windows)
        assert np.array_equal(found[:, :-1], EnsembleEngine(engines)(windows))
        assert found.shape == (2, 3, 4, 4, 4)
    assert DisagreeingEngine(same, temperature=1.0, independent=False)(windows)[:, -1].max() < 1e-6
    apart = DisagreeingEngine(other, temperature=1.0, independent=False)(np.ones_like(windows))[:, -1]
    assert apart.min() > 0.99
    softer = DisagreeingEngine(other, temperature=60.0, independent=False)(np.ones_like(windows))[:, -1]
    assert softer.max() < 0.2
    with pytest.raises(InferenceError, match="at least two"):
        DisagreeingEngine(same[:1], temperature=1.0, independent=False)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.booleans(), st.floats(0.2, 5))
def test_entropy_is_from_0_to_1_and_1_where_nothing_is_known(outputs, independent, temperature):
    logits = np.random.default_rng(outputs).normal(0, 5, (outputs, 5, 5)).astype(np.float32)
    found = entropy(likely(logits, temperature=temperature, independent=independent), independent=independent)
    assert found.shape == (5, 5)
    assert 0 <= found.min() <= found.max() <= 1
    level = entropy(likely(0 * logits, temperature=1.0, independent=independent), independent=independent)
    assert level.min() > 0.999


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(3, 14)] * 3), st.sampled_from([None, (1.5, 1.0, 0.7), (3.0, 2.0, 2.0)]), st.booleans())
def test_maps_lie_on_the_scans_grid_and_labels_are_those_without_them(shape, spacing_mm, members):
    rng = np.random.default_rng(0)
    scan = Volume(rng.normal(0, 1, shape).astype(np.float32), spacing_mm=(2.0, 1.0, 1.0))
    rule = Window(low=-5.0, high=5.0)
    prepared = Preprocessing(orientation="SPL", spacing_mm=spacing_mm, normalization=(rule,)).apply(scan)
    logits = rng.normal(0, 3, (3 + members, *prepared.grid.shape)).astype(np.float32)
    if members:
        logits[-1] = rng.random(prepared.grid.shape)

    def slices(values):
        return [FinishedSlice(index=at, start=0, logits=values[:, at]) for at in range(values.shape[1])]

    doubt = DoubtMaps(prepared, temperature=2.0, independent=False, members=members)
    labels, likely_ones = Restorer(prepared, probabilities=True, temperature=2.0, doubt=doubt).restore(slices(logits))
    plain, _ = Restorer(prepared).restore(slices(logits[:3]))
    assert np.array_equal(labels.array, plain.array)
    uncertainty, apart = doubt.volumes()
    whole = entropy(likely(logits[:3], temperature=2.0, independent=False), independent=False)
    assert np.allclose(uncertainty.array, prepared.restore_scores(whole[np.newaxis]).array[0], atol=1e-5)
    assert uncertainty.grid == scan.grid
    assert likely_ones.array.shape == (3, *shape)
    softened = prepared.restore_scores(likely(logits[:3], temperature=2.0, independent=False)).array
    assert np.allclose(likely_ones.array, softened, atol=1e-5)
    if members:
        assert np.allclose(apart.array, prepared.restore_scores(logits[-1:]).array[0], atol=1e-5)
    assert (apart is None) == (not members)
    assert 0 <= doubt.scores.doubt <= 1


def test_slices_of_overlapping_tiles_are_counted_once():
    scan = Volume(np.zeros((4, 6, 5), np.float32), spacing_mm=(1.0, 1.0, 1.0))
    prepared = Preprocessing(normalization=(Window(low=0.0, high=1.0),)).apply(scan)
    logits = np.random.default_rng(0).normal(0, 3, (3, 4, 6, 5)).astype(np.float32)
    whole = DoubtMaps(prepared, temperature=1.0, independent=False, members=False)
    tiled = DoubtMaps(prepared, temperature=1.0, independent=False, members=False)
    list(whole.counted(FinishedSlice(index=at, start=0, logits=logits[:, at]) for at in range(4)))
    for start, stop in ((0, 4), (3, 6)):
        list(tiled.counted(FinishedSlice(index=at, start=start, logits=logits[:, at, start:stop]) for at in range(4)))
    assert tiled.scores.expected_dice == pytest.approx(whole.scores.expected_dice, rel=1e-6)


@pytest.mark.parametrize("members", [False, True])
def test_nothing_is_doubted_outside_of_a_mask(members):
    array = np.zeros((6, 7, 8), np.float32)
    array[1:5, 2:6, 1:7] = 1
    prepared = Preprocessing(crop="nonzero_mask", minimum_size=(6, 6, 6)).apply(
        Volume(np.where(np.indices(array.shape).sum(0) % 3, array, 0), spacing_mm=(1.0, 1.0, 1.0))
    )
    outside = prepared.labels(prepared.mask) == 0
    assert outside.any()
    logits = np.random.default_rng(0).normal(0, 3, (3 + members, *prepared.grid.shape)).astype(np.float32)
    wild, tame = logits.copy(), logits.copy()
    wild[1, outside], tame[0, outside] = 3, 300
    found = []
    for values in (wild, tame):
        doubt = DoubtMaps(prepared, temperature=1.0, independent=False, members=members)
        slices = [FinishedSlice(index=at, start=0, logits=values[:, at]) for at in range(values.shape[1])]
        Restorer(prepared, doubt=doubt).restore(slices)
        found.append(doubt)
        for each in doubt.volumes():
            assert each is None or not each.array[prepared.mask.array == 0].any()
    np.testing.assert_allclose(found[0].scores.expected_dice, found[1].scores.expected_dice, rtol=1e-6)


# ---------------------------------------------------------------------------------------------- predict


@pytest.fixture
def calibrated_model(make_model, tmp_path):  # noqa: F811
    """A function: the model of a seed with a temperature."""
    import torch

    def make(seed: int, temperature: float | None = 2.0):
        torch.manual_seed(seed)
        network = resvox.load_model(make_model())
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        metadata = dict(read_header(make_model()).metadata)
        if temperature is not None:
            metadata["temperature"] = temperature
        return resvox.save_model(network, tmp_path / f"m{seed}" / "model.safetensors", metadata=metadata)

    return make


def test_predict_writes_maps_scores_and_a_list_sorted_by_doubt(calibrated_model, write_scan, tmp_path):  # noqa: F811
    scans = []
    for number, name in enumerate("abc"):
        array = np.random.default_rng(number).integers(-900, 900, (9, 10, 11)).astype(np.int16)
        scans.append(write_scan(tmp_path / "scans" / f"{name}.nii.gz", array))
    models = [calibrated_model(seed) for seed in range(2)]
    out, plain = tmp_path / "out", tmp_path / "plain"
    predict(models, scans, out, device="cpu", engine="torch", uncertainty=True, probabilities=True, calibrated=True)
    predict(models, scans, plain, device="cpu", engine="torch", probabilities=True)
    for name in "abc":
        assert np.array_equal(
            read_label_map(out / f"{name}.nii.gz").array, read_label_map(plain / f"{name}.nii.gz").array
        )
        grid = read_volume(scans[0]).grid
        for kind in ("uncertainty", "disagreement"):
            found = read_volume(out / f"{name}_{kind}.nii.gz")
            assert found.grid == grid
            assert 0 <= found.array.min() <= found.array.max() <= 1
        soft, hard = (read_volume(each / f"{name}_probabilities.nii.gz").array for each in (out, plain))
        assert soft.max(axis=0).mean() < hard.max(axis=0).mean()  # a temperature above 1 softens
    rows = list(csv.DictReader((out / "review.csv").open()))
    assert sorted(row["case"] for row in rows) == list("abc")
    doubts = [float(row["doubt"]) for row in rows]
    assert doubts == sorted(doubts, reverse=True)
    assert {"disagreement", "expected_dice_dark", "expected_dice_bright"} < set(rows[0])
    # maps are no label maps, and no inputs of the next run in the same folder
    references = tmp_path / "references"
    for name in "abc":
        write_label_map(read_label_map(plain / f"{name}.nii.gz"), references / f"{name}.nii.gz")
    scored = evaluate(out, references, labels={"dark": 3, "bright": 7}, calibration_path=tmp_path / "c.json")
    assert scored.extra == ()
    assert scored.calibration.risk.area == 0  # its own label maps
    written = json.loads((tmp_path / "c.json").read_text())
    assert {"ece", "brier", "reliability", "cases", "risk"} <= set(written)
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    folder = scans[0].parent
    for _ in range(2):
        again = predict(models[0], folder, folder, device="cpu", engine="torch", uncertainty=True, suffix="_seg")
        assert [case.id for case in again.cases] == list("abc")


def test_one_model_has_no_disagreement_and_what_cannot_be_is_refused(calibrated_model, write_scan, tmp_path):  # noqa: F811
    scan, plain = write_scan(tmp_path / "a.nii.gz"), calibrated_model(5, temperature=None)
    notes = []
    predict(plain, scan, tmp_path / "out", device="cpu", engine="torch", uncertainty=True, on_note=notes.append)
    assert any("no temperature" in note for note in notes)
    assert not (tmp_path / "out" / "a_disagreement.nii.gz").exists()
    with pytest.raises(InferenceError, match=r"no temperature.*--calibrated"):
        predict(plain, scan, tmp_path / "other", device="cpu", calibrated=True)
    with pytest.raises(InferenceError, match=r"skip_empty=True beside uncertainty"):
        predict(plain, scan, tmp_path / "other", device="cpu", uncertainty=True, skip_empty=True)
    write_label_map(read_label_map(tmp_path / "out" / "a.nii.gz"), tmp_path / "alone" / "a.nii.gz")
    with pytest.raises(EvaluationError, match="neither probabilities nor a review"):
        evaluate(tmp_path / "alone", tmp_path / "alone", labels={"x": 3}, calibration_path=tmp_path / "c.json")


# ---------------------------------------------------------------------------------------------- evaluation


def test_the_calibration_error_and_brier_score_by_hand():
    likely_ones = np.array([[0.9, 0.9, 0.6, 0.2], [0.1, 0.1, 0.4, 0.8]])
    found = reliability_of(likely_ones, np.array([0, 1, 0, 1]))
    # intervals: 0.6 (one, right), 0.8 (one, right), 0.9 (two, one of them right)
    assert found.ece == pytest.approx((abs(0.6 - 1) + abs(0.8 - 1) + abs(1.8 - 1)) / 4)
    assert found.brier == pytest.approx((2 * 0.1**2 + 2 * 0.9**2 + 2 * 0.4**2 + 2 * 0.2**2) / 4)
    assert (found + Reliability()).to_dict() == found.to_dict()
    assert Reliability().ece is None
    with pytest.raises(EvaluationError, match="0 to 1"):
        reliability_of(likely_ones * 5, np.array([0, 1, 0, 1]))


def test_ece_agrees_with_another_implementation():
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(0)
    first = rng.random(5000)
    truth = (rng.random(5000) > first**2).astype(int)
    found = reliability_of(np.stack([first, 1 - first]), truth)
    sure, right = np.maximum(first, 1 - first), (np.where(first >= 0.5, 0, 1) == truth).astype(int)
    accuracy, confidence = calibration_curve(right, sure, n_bins=15, strategy="uniform")
    assert [(x, y) for x, y, _ in found.curve] == [
        pytest.approx(pair) for pair in zip(confidence, accuracy, strict=True)
    ]


def test_risk_falls_with_coverage_where_doubt_is_right():
    dice = {f"c{at}": 1 - at / 10 for at in range(10)}
    right = risk_coverage({case: 1 - value for case, value in dice.items()}, dice)
    wrong = risk_coverage(dict(dice), dice)
    assert right.area == right.least_area < wrong.area
    assert right.found(dice_below=0.35) == (3, 3)
    assert wrong.found(dice_below=0.35) == (0, 3)
    assert [share for share, _ in right.curve][-1] == 1.0
    with pytest.raises(EvaluationError, match="no case with both"):
        risk_coverage({"x": 1.0}, dice)


def test_calibration_files_that_do_not_fit_are_refused_by_name(tmp_path):
    labels = Volume(np.pad(np.ones((2, 2, 2), np.uint8), 2), spacing_mm=(1.0, 1.0, 1.0))
    write_label_map(labels, tmp_path / "p" / "a.nii.gz")
    write_label_map(labels, tmp_path / "r" / "a.nii.gz")
    four = Volume(np.zeros((4, 6, 6, 6), np.float32), spacing_mm=(1.0, 1.0, 1.0))
    write_volume(four, tmp_path / "p" / "a_probabilities.nii.gz")
    with pytest.raises(EvaluationError, match=r"a_probabilities.*4 channels.*2 for background"):
        evaluate(tmp_path / "p", tmp_path / "r", labels={"x": 1}, calibration_path=tmp_path / "c.json")
    (tmp_path / "p" / "a_probabilities.nii.gz").unlink()
    (tmp_path / "p" / "review.csv").write_text("name,doubt\na,0.5\n")
    with pytest.raises(EvaluationError, match=r"review\.csv: not a review list"):
        evaluate(tmp_path / "p", tmp_path / "r", labels={"x": 1}, calibration_path=tmp_path / "c.json")
