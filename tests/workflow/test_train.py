"""A tiny dataset to a model that predicts; a plan written, edited and used."""

from __future__ import annotations

import dataclasses
import inspect
import json

import numpy as np
import pytest

from resvox.cli.train import train as train_command
from resvox.errors import DatasetError, PlanError
from resvox.training import Plan
from resvox.viewer import label_colours
from resvox.weights import read_header
from resvox.workflow import TrainOptions, predict, train


@pytest.fixture
def tiny_dataset(tmp_path, write_scan):
    """Two scans with a bright block, in nnU-Net layout."""
    for number in range(2):
        rng = np.random.default_rng(number)
        label = np.zeros((16, 16, 16), np.uint8)
        label[3:11, 4 + number : 12 + number, 4:12] = 1
        scan = (rng.normal(0, 30, label.shape) + 500.0 * label).astype(np.int16)
        write_scan(tmp_path / "data" / "imagesTr" / f"c{number}_0000.nii.gz", scan)
        write_scan(tmp_path / "data" / "labelsTr" / f"c{number}.nii.gz", label)
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "block": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(described))
    return tmp_path / "data"


def edit_to_tiny(path):
    """The plan of a net small enough for a test."""
    plan = Plan.load(path).with_changes(
        encoder="resnet10", encoder_depth=1, decoder_filters=(4,), strides=(2, 1, 1, 1, 1), patch_size=(8, 8, 8),
        batch_size=2, steps=3, warmup_steps=1, validation_interval=3, checkpoint_interval=3, augmentation="none",
    )  # fmt: skip
    return plan.save(path)


def test_a_plan_is_written_edited_and_used_and_the_model_predicts(tiny_dataset, tmp_path):
    run, shown = tmp_path / "run", []
    planned = train(tiny_dataset, run, plan_only=True, on_plan=lambda dataset, plan: shown.append(plan))
    assert planned.fit is None
    assert shown == [Plan.load(run / "plan.yaml")]
    assert sorted(path.name for path in run.iterdir()) == ["fingerprint.json", "plan.yaml"]

    edit_to_tiny(planned.plan_path)
    trained = train(tiny_dataset, run, plan=planned.plan_path, seed=3, progress=False)
    assert trained.plan.seed == 3
    assert len(trained.fit.history) == 3
    assert (run / "metrics.csv").is_file()
    metadata = read_header(run / "model.safetensors").metadata
    assert metadata["labels"] == {"background": 0, "block": 1}
    assert metadata["colours"] == label_colours(["background", "block"])

    result = predict(run, tiny_dataset / "imagesTr", tmp_path / "out")
    assert [case.status for case in result.cases] == ["written", "written"]

    with pytest.raises(PlanError, match=r"holds a training run already.*--resume.*--overwrite"):
        train(tiny_dataset, run, plan=planned.plan_path, seed=3, progress=False)
    with pytest.raises(PlanError, match="the plan has changed since the checkpoint: seed 3 -> 4"):
        train(tiny_dataset, run, resume=True, seed=4, progress=False)
    assert train(tiny_dataset, run, resume=True, progress=False).plan == trained.plan


@pytest.mark.parametrize(
    ("model", "deep", "options"),
    [
        ("segresnet_ds", True, {"init_filters": 4, "blocks_down": (1, 1, 1)}),
        ("monai_unet", False, {"channels": (4, 4, 4)}),
    ],
)
def test_networks_with_encoders_of_their_own_learn_and_predict(tiny_dataset, tmp_path, model, deep, options):
    run = tmp_path / "run"
    planned = train(tiny_dataset, run, model=model, plan_only=True)
    edit_to_tiny(planned.plan_path)
    plan = Plan.load(planned.plan_path).with_changes(deep_supervision=deep, further_options=options)
    plan.save(planned.plan_path)
    assert train(tiny_dataset, run, plan=planned.plan_path, progress=False).fit.history
    blueprint = read_header(run / "model.safetensors").blueprint
    assert (blueprint.network.supervision is not None) == deep
    if model == "monai_unet":
        assert blueprint.network.encoder.strides == ((2, 2, 2), (1, 1, 1), (1, 1, 1))  # the plan's
    result = predict(run, tiny_dataset / "imagesTr", tmp_path / "out")
    assert [case.status for case in result.cases] == ["written", "written"]


def test_a_plan_that_is_there_is_not_replaced_unasked(tiny_dataset, tmp_path):
    train(tiny_dataset, tmp_path / "run", plan_only=True, patch_size=(8, 8, 8), spacing_mm=(3.0, 2.0, 2.0))
    with pytest.raises(PlanError, match=r"plan\.yaml: a plan exists already.*--plan.*--overwrite"):
        train(tiny_dataset, tmp_path / "run", plan_only=True)
    result = train(tiny_dataset, tmp_path / "run", plan_only=True, overwrite=True, steps=77, minutes=2)
    assert (result.plan.steps, result.plan.max_minutes) == (77, 2)


def test_steps_shorter_than_the_plans_warm_up_shorten_it(tiny_dataset, tmp_path):
    path = train(tiny_dataset, tmp_path / "run", plan_only=True).plan_path
    plan = train(tiny_dataset, tmp_path / "other", plan=path, plan_only=True, steps=10).plan
    assert (plan.steps, plan.warmup_steps) == (10, 0)


def test_what_is_no_dataset_is_refused_by_name(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no such file or folder"):
        train(tmp_path / "nowhere", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_options_at_once_are_the_keywords(tiny_dataset, tmp_path):
    options = TrainOptions(plan_only=True, steps=77, minutes=2, patch_size=(8, 8, 8))
    by_options = train(tiny_dataset, tmp_path / "one", options=options).plan
    by_keywords = train(tiny_dataset, tmp_path / "two", plan_only=True, steps=77, minutes=2, patch_size=[8, 8, 8]).plan
    assert by_options == by_keywords
    with pytest.raises(PlanError, match="options and keywords at once"):
        train(tiny_dataset, tmp_path / "three", options=options, seed=1)


def test_keywords_and_command_line_have_the_options_defaults():
    keywords = inspect.signature(train).parameters
    command = inspect.signature(train_command).parameters
    for item in dataclasses.fields(TrainOptions):
        assert keywords[item.name].default == item.default
        name = {"spacing_mm": "spacing"}.get(item.name, item.name)
        if name != "progress":
            assert command[name].default == item.default


@pytest.mark.parametrize("values", [{"processes": 0}, {"workers": -1}])
def test_options_out_of_range_are_refused(values):
    with pytest.raises(PlanError, match="at least"):
        TrainOptions(**values)
