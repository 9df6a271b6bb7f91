"""Training from weights: the plan that fits them, stages that stay, learning rates by depth."""

from __future__ import annotations

import pytest
import torch

import resvox
from resvox import workflow
from resvox.errors import PlanError, WeightsError
from resvox.training import Plan
from resvox.training.finetuning import freeze, parameter_groups, stage_of, train_mode
from resvox.training.loop import build_model
from resvox.training.optimization.schedule import make_optimizer, set_learning_rate
from resvox.training.plans.from_weights import network_fields

THIN = {"widths": (4, 6, 8, 10), "stem_width": 4, "depths": (1, 1, 1, 1)}
SHORT = {"steps": 3, "patch_size": (32, 32, 32), "batch_size": 1, "progress": False, "device": "cpu"}


@pytest.fixture
def weights(tmp_path):
    """2D weights of a small network, as torchvision saves them."""
    torch.manual_seed(0)
    model = resvox.create_model("resnet18", num_classes=7, **THIN)
    return resvox.export_weights(model, tmp_path / "resnet18.pth", peer="torchvision")


@pytest.fixture
def plan(weights):
    return Plan(encoder="resnet18", norm="batch", further_options=dict(THIN), weights=str(weights), frozen_stages=2,
                layer_decay=0.5, decoder_filters=(8, 8, 8, 8, 4))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("encoder.conv1.weight", 0), ("bn1.bias", 0), ("stem.conv.weight", 0), ("encoder.layer1.0.conv1.weight", 1),
        ("layer4.2.bn3.weight", 4), ("stages.0.blocks.1.norm1.weight", 1),
        ("encoder.stages.3.blocks.0.conv1.weight", 4),
        ("decoder.blocks.0.conv1.weight", 5), ("fc.weight", 5), ("norm.weight", 5), ("head.fc.bias", 5),
        ("decoder.blocks.0.bn1.weight", 5),
    ],
)  # fmt: skip
def test_stages_by_name(name, stage):
    assert stage_of(name) == stage


def test_frozen_stages_keep_their_values_and_statistics(plan):
    model = build_model(plan)
    freeze(model, plan)
    train_mode(model, plan)
    optimizer = make_optimizer(model, plan, torch.device("cpu"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(2, 1, 16, 16, 16)).square().mean().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(stage_of(name) >= 2 for name in changed)
    assert "encoder.layer2.0.bn1.running_mean" in changed
    assert not model.encoder.bn1.training
    assert not model.encoder.layer1[0].bn1.training
    assert model.encoder.layer2[0].bn1.training


def test_each_stage_learns_slower_than_the_one_behind_it(plan):
    model = build_model(plan.with_changes(frozen_stages=0))
    groups = parameter_groups(model, plan.with_changes(frozen_stages=0))
    shares = sorted({group["share"] for group in groups})
    assert shares == [0.5**5, 0.5**4, 0.5**3, 0.5**2, 0.5, 1.0]
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(map(id, grouped))) == len(list(model.parameters()))
    optimizer = torch.optim.SGD(groups, lr=1.0)
    set_learning_rate(optimizer, 0.1)
    by_share = {group["share"]: group["lr"] for group in optimizer.param_groups}
    assert by_share == {share: pytest.approx(0.1 * share) for share in shares}
    plain = parameter_groups(model, plan.with_changes(layer_decay=1.0, frozen_stages=0))
    assert [set(group) for group in plain] == [{"params", "weight_decay"}] * 2  # as checkpoints have had them


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer_decay": 0.0}, "layer_decay=0.0; expected above 0 and at most 1"),
        ({"frozen_stages": 6}, "frozen_stages=6"),
        ({"weights": None}, "frozen_stages=2, weights=None; expected 0 to 5, and weights to keep"),
        ({"weights_inflate": "center"}, "weights_inflate='center'; expected one of centre, average"),
    ],
)
def test_a_plan_that_contradicts_itself(plan, changes, words):
    with pytest.raises(PlanError) as caught:
        plan.with_changes(**changes)
    assert words in str(caught.value)


def test_a_plan_with_weights_comes_back_from_its_file(plan, tmp_path):
    path = plan.save(tmp_path / "plan.yaml")
    again = Plan.load(path)
    assert again.differences(plan) == {}
    assert build_model(again).blueprint == build_model(plan).blueprint


def test_training_begins_from_weights_and_the_file_says_so(folder_of, weights, tmp_path, capsys):
    data = folder_of()
    drawn = workflow.train(
        data, tmp_path / "drawn", weights=weights, frozen_stages=5, layer_decay=0.8, plan_only=True, **SHORT
    )
    plan = drawn.plan.with_changes(decoder_filters=(8, 8, 8, 8, 4))
    assert (plan.encoder, plan.norm) == ("resnet10", "batch")
    result = workflow.train(data, tmp_path / "run", plan=plan, progress=False, device="cpu")
    assert tuple(plan.further_options["widths"]) == (4, 6, 8, 10)
    kept = resvox.weights.read_header(result.fit.model_path).metadata["weights_from"]
    assert kept["peer"] == "torchvision-style"
    assert kept["inflate"] == "centre"
    model = resvox.load_model(result.fit.model_path)
    flat = torch.load(weights, weights_only=True)
    assert torch.equal(model.encoder.layer3[0].bn2.running_mean, flat["layer3.0.bn2.running_mean"])  # frozen
    assert torch.equal(model.encoder.layer1[0].conv1.weight[:, :, 1], flat["layer1.0.conv1.weight"])
    assert torch.allclose(model.encoder.conv1.weight[:, 0, 3], flat["conv1.weight"].sum(1), atol=1e-6)
    resumed = workflow.train(data, tmp_path / "run", resume=True, progress=False, device="cpu")
    assert resumed.fit.history[-1]["step"] == 3
    assert resvox.weights.read_header(resumed.fit.model_path).metadata["weights_from"] == kept


def test_our_own_model_file_is_a_beginning_too(folder_of, tmp_path):
    model = resvox.create_model(
        "unet", encoder_name="resnet18", spatial_dims=3, in_channels=1, num_classes=5, norm="instance",
        strides=((1, 2, 2), 2, 2, (1, 2, 2), 1), encoder_depth=4, decoder_filters=(8, 8, 6, 4),
        decoder_block_type="transpose", **THIN,
    )  # fmt: skip
    path = resvox.save_model(model, tmp_path / "model.safetensors")
    result = workflow.train(folder_of(), tmp_path / "run", weights=path, frozen_stages=5, **SHORT)
    assert (result.plan.norm, result.plan.encoder_depth) == ("instance", 4)
    trained = resvox.load_model(result.fit.model_path)
    assert torch.equal(trained.encoder.layer3[0].conv1.weight, model.encoder.layer3[0].conv1.weight)
    assert trained.blueprint.network.encoder == model.blueprint.network.encoder
    assert trained.blueprint.num_classes == 3


def test_weights_of_nnunet_are_a_beginning_too(folder_of, tmp_path):
    torch.manual_seed(0)
    model = resvox.create_model(
        "resenc_unet", spatial_dims=3, in_channels=1, num_classes=7, features=(4, 6, 8), depths=(1, 1, 2),
        strides=(1, (1, 2, 2), 2), kernels=((1, 3, 3), 3, 3), deep_supervision=True,
    )  # fmt: skip
    path = resvox.export_weights(model, tmp_path / "weights.pth", peer="nnunet")
    result = workflow.train(folder_of(), tmp_path / "run", weights=path, frozen_stages=3, **SHORT)
    assert (result.plan.model, result.plan.norm) == ("resenc_unet", "instance")
    trained = resvox.load_model(result.fit.model_path)
    assert trained.blueprint.network.encoder == model.blueprint.network.encoder
    assert trained.blueprint.num_classes == 3
    assert torch.equal(trained.encoder.stages[1][0].conv1.weight, model.encoder.stages[1][0].conv1.weight)  # frozen
    assert not torch.equal(trained.decoder.levels[1].up.weight, model.decoder.levels[1].up.weight)
    plan = result.plan.with_changes(deep_supervision=True, steps=1, warmup_steps=0)
    again = workflow.train(folder_of(), tmp_path / "supervised", plan=plan, progress=False, device="cpu")
    assert len(resvox.load_model(again.fit.model_path).supervision) == 1  # its heads are new, as its head is


def test_the_patch_of_a_small_scan_fits_the_strides_of_the_weights(folder_of, weights, tmp_path):
    options = {name: value for name, value in SHORT.items() if name != "patch_size"}
    plan = workflow.train(folder_of(), tmp_path / "run", weights=weights, plan_only=True, **options).plan
    assert [stride[1:] for stride in plan.axis_strides] == [(2, 2)] * 5  # the first axis is new: its own
    assert all(size % total == 0 for size, total in zip(plan.patch_size, plan.total_stride, strict=True))


def test_weights_that_do_not_fit_are_refused_before_training(folder_of, weights, tmp_path):
    with pytest.raises(WeightsError, match="computes something else"):
        workflow.train(folder_of(), tmp_path / "run", weights=weights, encoder="resnet50", **SHORT)
    with pytest.raises(PlanError, match=r"weights=.* for a regression"):
        network_fields("regression", weights, None, None)


def test_weights_keep_their_norm(folder_of, weights, tmp_path):
    data, refused = folder_of(), "norm='instance' for weights of a network with batch norm"
    with pytest.raises(PlanError, match=refused):
        workflow.train(data, tmp_path / "run", weights=weights, norm="instance", **SHORT)
    planned = workflow.train(data, tmp_path / "same", weights=weights, norm="batch", plan_only=True, **SHORT)
    assert planned.plan.norm == "batch"
    with pytest.raises(PlanError, match=refused):
        workflow.train(data, tmp_path / "edited", plan=planned.plan_path, norm="instance", progress=False)
    without = workflow.train(data, tmp_path / "new", plan_only=True, **SHORT).plan.with_changes(norm="instance")
    with pytest.raises(PlanError, match=refused):  # the weights that are given count, not what the plan has
        workflow.train(data, tmp_path / "given", plan=without, weights=weights, norm="instance", progress=False)


def test_a_norm_beside_one_of_the_further_options_is_refused(folder_of, tmp_path):
    data = folder_of()
    planned = workflow.train(data, tmp_path / "run", plan_only=True, **SHORT).plan
    further = planned.with_changes(further_options={"norm": ["group", {"num_groups": 4}]})
    with pytest.raises(PlanError, match="norm='instance' for a plan with further_options: norm:"):
        workflow.train(data, tmp_path / "other", plan=further, norm="instance", progress=False)


@pytest.mark.parametrize("recipe", ["resvox", "nnunet"])
@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_the_norm_that_is_asked_for_is_planned(folder_of, tmp_path, recipe, norm):
    options = {"recipe": recipe, "norm": norm, "plan_only": True, "device": "cpu", "progress": False}
    assert workflow.train(folder_of(), tmp_path / "run", **options).plan.norm == norm
