"""The plan: through YAML and back without loss, and every contradiction refused by name."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.blueprint import leaves
from resvox.errors import PlanError
from resvox.training import ClassificationPlan, Plan, RegressionPlan, load_plan
from resvox.training.plans import fields


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    dims = draw(st.sampled_from([2, 3]))
    stride = st.one_of(st.integers(1, 2), st.tuples(*[st.integers(1, 2)] * dims))
    strides = draw(st.tuples(*[stride] * 5))
    depth = draw(st.integers(1, 5))
    totals = [1] * dims
    for each in strides[:depth]:
        for axis in range(dims):
            totals[axis] *= each if isinstance(each, int) else each[axis]
    channels = draw(st.integers(1, 3))
    steps = draw(st.integers(2, 10_000))
    normalization = st.one_of(
        st.just({"kind": "zscore", "nonzero_only": True}),
        st.builds(lambda low: {"kind": "window", "low": low, "high": low + 1.5}, st.floats(-1000, 1000)),
    )
    return Plan(
        spatial_dims=dims,
        in_channels=channels,
        num_classes=draw(st.integers(2, 100)),
        encoder=draw(st.sampled_from(["resnet18", "no", "1e3", "a: b", "null", "# x"])),
        encoder_depth=depth,
        decoder_filters=draw(st.tuples(*[st.integers(1, 64)] * depth)),
        strides=strides,
        norm=draw(st.sampled_from(["batch", "instance", "group"])),
        orientation=draw(st.sampled_from([None, "SPL", "RAS"])) if dims == 3 else None,
        spacing_mm=draw(st.one_of(st.none(), st.tuples(*[st.floats(0.01, 20)] * dims))),
        normalization=draw(st.tuples(*[normalization] * channels)),
        patch_size=tuple(total * draw(st.integers(1, 5)) for total in totals),
        deep_supervision=draw(st.booleans()),
        foreground_fraction=draw(st.floats(0, 1)),
        mirror_axes=draw(st.sampled_from([(), (0,), (1, 0)])),
        learning_rate=draw(st.floats(1e-7, 10)),
        steps=steps,
        warmup_steps=draw(st.integers(0, steps - 1)),
        max_minutes=draw(st.one_of(st.none(), st.floats(0.1, 1000))),
        seed=draw(st.integers(0, 2**31)),
        notes={"seed": "because\nof: this # and that"},
    )


@given(plan=plans())
@settings(deadline=None, max_examples=60)
def test_yaml_round_trip(plan):
    with tempfile.TemporaryDirectory() as folder:
        path = plan.save(Path(folder) / "plan.yaml")
        again = Plan.load(path)
        assert again == plan
        assert again.to_dict() == plan.to_dict()
        text = path.read_text()
    assert "#   why: because of: this # and that\nseed: " in text
    assert not plan.differences(again)


def test_every_field_has_a_comment_in_the_yaml():
    lines = Plan().to_yaml().splitlines()
    for name in Plan().to_dict():
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"{name}:")]
        assert lines[at - 1].startswith("# ")


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    # YAML 1.1 reads 1e-3 as text, and people write it.
    (tmp_path / "plan.yaml").write_text("learning_rate: 1e-3\npatch_size: [32, 32, 32]\nsteps: 2e3\n")
    plan = Plan.load(tmp_path / "plan.yaml")
    assert (plan.learning_rate, plan.patch_size, plan.steps) == (1e-3, (32, 32, 32), 2000)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learnig_rate": 1}, ["unknown field 'learnig_rate'", "did you mean 'learning_rate'?"]),
        ({"zzz": 1}, ["unknown field 'zzz'", "remove it"]),
        ({"norm": "bath"}, ["norm='bath'", "one of batch, instance, group", "did you mean 'batch'?"]),
        ({"batch_size": 1.5}, ["batch_size=1.5", "a whole number"]),
        ({"batch_size": True}, ["batch_size=True"]),
        ({"batch_size": 0}, ["batch_size=0", "at least 1"]),
        ({"learning_rate": float("nan")}, ["learning_rate=nan"]),
        ({"foreground_fraction": 1.2}, ["foreground_fraction=1.2", "a fraction from 0 to 1"]),
        ({"overlap": 1}, ["overlap=1"]),
        ({"steps": 10}, ["warmup_steps=50 with steps=10", "set warmup_steps to 0"]),
        ({"patch_size": [30, 64, 64]}, ["patch_size=(30, 64, 64)", "(32, 32, 32)", "use patch_size (32, 64, 64)"]),
        ({"patch_size": [64, 64]}, ["patch_size=(64, 64)", "3 positive numbers, one per axis"]),
        ({"spacing_mm": [1, 1, 0]}, ["spacing_mm=(1.0, 1.0, 0.0)"]),
        ({"strides": [2, 2, 2]}, ["strides=(2, 2, 2)", "5 strides"]),
        ({"strides": [[1, 2], 2, 2, 2, 2]}, ["each a number or 3 numbers"]),
        ({"decoder_filters": [16]}, ["decoder_filters=(16,) with encoder_depth=5"]),
        ({"mirror_axes": [3]}, ["mirror_axes=(3,)", "axes from 0 to 2"]),
        ({"in_channels": 2}, ["1 normalizations for in_channels=2"]),
        ({"normalization": [{"kind": "magic"}]}, ["magic"]),
        ({"orientation": "XYZ"}, ["XYZ"]),
        ({"spatial_dims": 4}, ["spatial_dims=4"]),
        ({"max_minutes": 0}, ["max_minutes=0"]),
        ({"deep_supervision": 1}, ["deep_supervision=1", "true or false"]),
        ({"ema_decay": 1}, ["ema_decay=1.0", "a fraction from 0 to 1"]),
        ({"augmentation": "nnUNet"}, ["augmentation='nnUNet'", "did you mean 'nnunet'?"]),
        ({"foreground_order": "first"}, ["foreground_order='first'", "one of spread, last"]),
        ({"foreground_by": "labels"}, ["foreground_by='labels'", "did you mean 'label'?"]),
        ({"label_smoothing": 1.0}, ["label_smoothing=1.0", "a fraction from 0 to 1"]),
        ({"channel_dropout": 0.1}, ["channel_dropout=0.1 with in_channels=1", "set channel_dropout to 0"]),
        ({"task": "classification"}, ["task='classification' in a plan for segmentation"]),
    ],
)
def test_contradictions_are_refused_in_clear_words(values, words, tmp_path):
    with pytest.raises(PlanError) as caught:
        Plan.from_dict(values, path="plan.yaml")
    assert str(caught.value).startswith("plan.yaml: ")
    for word in words:
        assert word in str(caught.value)


def test_files_that_are_no_plan(tmp_path):
    with pytest.raises(PlanError, match="no such plan"):
        Plan.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(PlanError, match="not YAML"):
        Plan.load(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(PlanError, match="not a mapping"):
        Plan.load(tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("normalization: [{kind: zscore, 0.5: true}]", "unknown 0.5"),
        ("normalization: [{kind: zscore, null: true}]", "unknown None"),
        ("notes: {a: b, 1: c, '1': d}", "one name twice"),
        ("notes: &a {steps: *a}", "not YAML .an alias, .*line 1"),
        ("labels: " + "[" * 5000, "not YAML"),
        ("steps: 2020-13-45", "not YAML"),
    ],
)
def test_yaml_that_means_something_odd_is_refused_in_one_line(line, words, tmp_path):
    text = "num_classes: 2\nencoder: resnet10\n" if line.startswith("normalization") else ""
    path = tmp_path / "plan.yaml"
    path.write_text(f"{line}\n{text}")
    with pytest.raises(PlanError, match=words) as caught:
        load_plan(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_changes_keep_the_other_notes():
    plan = Plan(notes={"seed": "s", "steps": "t"}).with_changes(steps=200)
    assert plan.steps == 200
    assert plan.notes == {"seed": "s"}
    assert Plan().differences(plan) == {"steps": (10_000, 200)}
    with pytest.raises(PlanError, match="did you mean 'steps'"):
        plan.with_changes(step=3)


def test_total_stride_counts_the_levels_in_use():
    plan = Plan(strides=((1, 2, 2), 2, 2, 2, 2), encoder_depth=3, decoder_filters=(32, 16, 8))
    assert plan.total_stride == (4, 8, 8)


def test_a_plan_of_any_task_is_read_by_its_task(tmp_path):
    for plan in (
        Plan(),
        ClassificationPlan(spatial_dims=2, image_size=(8, 8)),
        RegressionPlan(outputs=2, target_mean=(0, 1), target_std=(1, 2)),
    ):
        again = load_plan(plan.save(tmp_path / "plan.yaml"))
        assert type(again) is type(plan)
        assert again == plan
    (tmp_path / "plan.yaml").write_text("steps: 100")  # one of before there were tasks
    assert type(load_plan(tmp_path / "plan.yaml")) is Plan
    (tmp_path / "plan.yaml").write_text("task: detection")
    with pytest.raises(
        PlanError, match=r"plan.yaml: task='detection'; expected one of segmentation, classification, reg"
    ):
        load_plan(tmp_path / "plan.yaml")


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    [
        (
            ClassificationPlan,
            {"image_size": [8, 8, 8], "spatial_dims": 2},
            ["image_size=(8, 8, 8)", "2 positive numbers"],
        ),
        (ClassificationPlan, {"norm": "batch", "batch_size": 1}, ["norm='batch' with batch_size=1"]),
        (ClassificationPlan, {"class_balance": "weight"}, ["did you mean 'weights'?"]),
        (ClassificationPlan, {"num_classes": 1}, ["num_classes=1", "at least 2"]),
        (ClassificationPlan, {"label_smoothing": 1.0}, ["label_smoothing=1.0", "a fraction"]),
        (ClassificationPlan, {"patch_size": [8, 8]}, ["unknown field 'patch_size'"]),
        (RegressionPlan, {"target_std": [0.0]}, ["target_std=(0.0,)", "above 0"]),
        (RegressionPlan, {"outputs": 2}, ["with outputs=2", "one mean"]),
        (RegressionPlan, {"crop": "nonzero"}, ["crop='nonzero'", "one of none"]),
        (RegressionPlan, {"patch_size": [30, 64, 64]}, ["use patch_size (32, 64, 64)"]),
    ],
)
def test_contradictions_of_other_tasks(cls, values, words):
    plain = {"spatial_dims": 2, "image_size": (8, 8)} if cls is ClassificationPlan else {}
    with pytest.raises(PlanError) as caught:
        cls.from_dict({**plain, **values})
    for word in words:
        assert word in str(caught.value)


def test_a_model_gets_the_decisions_that_it_takes():
    options = Plan(model="unet_plus_plus", encoder="resnet50vd", deep_supervision=True).model_options()
    assert options["encoder_name"] == "resnet50vd"
    assert options["decoder_filter_order"] == "deepest_first"
    assert options["deep_supervision"] is True
    plan = RegressionPlan(model="resnet18_3d", encoder_depth=1, strides=(2, 1, 1, 1, 1))
    options = plan.model_options()
    assert options["stride"] == 2
    assert "encoder_name" not in options
    with pytest.raises(PlanError, match="deep_supervision=True with model='resnet18_3d'"):
        plan.with_changes(deep_supervision=True).model_options()


def test_the_norms_of_a_plan_are_those_of_the_blueprint():
    assert fields.NORMS == leaves.NORMS
