"""The loss against its formula, lists of outputs, and the learning rate as a function of the step."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from resvox.errors import PlanError
from resvox.training import Plan
from resvox.training.losses import ClassificationLoss, RegressionLoss, SegmentationLoss, deep_supervision_weights
from resvox.training.optimization.averaging import WeightAverage
from resvox.training.optimization.schedule import learning_rate, make_optimizer


def test_dice_and_cross_entropy_by_formula():
    torch.manual_seed(0)
    logits, label = torch.randn(2, 3, 4, 5, 6), torch.randint(0, 3, (2, 4, 5, 6))
    chance = logits.softmax(1)
    dice = 0.0
    for index in (1, 2):
        p, g = chance[:, index], (label == index).float()
        dice += (1 - (2 * (p * g).sum() + 1e-5) / (p.sum() + g.sum() + 1e-5)) / 2
    entropy = -torch.log(chance.gather(1, label[:, None])).mean()
    assert SegmentationLoss("dice_ce")(logits, label) == pytest.approx(float(dice + entropy), rel=1e-5)
    assert SegmentationLoss("ce")(logits, label) == pytest.approx(float(entropy), rel=1e-5)


def test_deep_supervision_weighs_outputs_by_halves():
    torch.manual_seed(0)
    label = torch.randint(0, 3, (2, 8, 8))
    fine, coarse = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)
    loss = SegmentationLoss("ce")
    expected = (2 * loss(fine, label) + loss(coarse, label[:, 1::2, 1::2])) / 3
    assert loss([fine, coarse], label) == pytest.approx(float(expected), rel=1e-5)


def test_half_precision_does_not_overflow():
    logits = torch.zeros(1, 2, 64, 64, 64, dtype=torch.float16)
    label = torch.ones(1, 64, 64, 64, dtype=torch.int64)
    assert torch.isfinite(SegmentationLoss("dice_ce")(logits, label))


@pytest.mark.parametrize("decay", ["poly", "cosine", "constant"])
def test_learning_rate_warms_up_and_decays(decay):
    plan = Plan(steps=100, warmup_steps=10, learning_rate=1.0, decay=decay)
    rates = [learning_rate(plan, step) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    halfway = {"poly": 0.5**0.9, "cosine": 0.5, "constant": 1.0}[decay]
    assert rates[55] == pytest.approx(halfway)
    assert rates[-1] > 0


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_weight_decay_is_for_kernels_only(name):
    module = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2))
    optimizer = make_optimizer(module, Plan(optimizer=name, weight_decay=0.1), torch.device("cpu"))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert {n: decay[id(p)] for n, p in module.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }
    assert math.isclose(optimizer.param_groups[0]["lr"], 1e-3)


class TwoLevels(torch.nn.Module):
    """A network as deep supervision trains it: a list while it trains, one answer otherwise."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.fine = torch.nn.Conv3d(channels, outputs, 3, padding=1)
        self.coarse = torch.nn.Conv3d(channels, outputs, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        fine = self.fine(image)
        return [fine, self.coarse(image)] if self.training else fine


def test_a_network_that_answers_with_a_list_learns_at_every_level():
    torch.manual_seed(0)
    network = TwoLevels(1, 3)
    image, label = torch.randn(2, 1, 6, 6, 6), torch.randint(0, 3, (2, 6, 6, 6))
    loss = SegmentationLoss("dice_ce")
    total = loss(network(image), label)
    expected = (2 * loss(network.fine(image), label) + loss(network.coarse(image), label)) / 3
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    network.eval()
    assert loss(network(image), label).item() == pytest.approx(loss(network.fine(image), label).item(), rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_weights_of_levels_halve_and_add_up_to_one(count):
    weights = deep_supervision_weights(count)
    assert sum(weights) == pytest.approx(1)
    assert all(b == pytest.approx(a / 2) for a, b in itertools.pairwise(weights))


def test_values_are_compared_at_every_level():
    torch.manual_seed(0)
    target, fine, coarse = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8), torch.randn(2, 1, 4, 4)
    smaller = torch.nn.functional.avg_pool2d(target, 2)  # halving by linear interpolation is the mean of four
    for kind, distance in (("l1", torch.abs), ("mse", torch.square)):
        expected = (2 * distance(fine - target).mean() + distance(coarse - smaller).mean()) / 3
        assert RegressionLoss(kind)([fine, coarse], target) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(PlanError, match="loss='l3'; expected l1 or mse or huber"):
        RegressionLoss("l3")


def test_classes_are_weighed_by_their_weights():
    logits, target = torch.randn(4, 2), torch.tensor([0, 0, 0, 1])
    each = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    weighed = (each * torch.tensor([2 / 3, 2 / 3, 2 / 3, 2.0])).sum() / 4
    loss = ClassificationLoss(class_weights=[2 / 3, 2.0])
    assert loss(logits, target) == pytest.approx(float(weighed), rel=1e-5)
    # two halves of a batch, as two processes see them, come to the same
    halves = (loss(logits[:2], target[:2]) + loss(logits[2:], target[2:])) / 2
    assert halves == pytest.approx(float(weighed), rel=1e-5)


def test_the_coarsest_of_several_levels_can_be_dropped():
    assert deep_supervision_weights(3, drops_coarsest=True) == pytest.approx([2 / 3, 1 / 3, 0])
    assert deep_supervision_weights(1, drops_coarsest=True) == [1]
    torch.manual_seed(0)
    label = torch.randint(0, 3, (2, 8, 8))
    fine, middle = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)
    coarse = torch.full((2, 3, 2, 2), float("inf"), requires_grad=True)
    loss = SegmentationLoss("dice_ce", drops_coarsest=True)
    total = loss([fine, middle, coarse], label)
    kept = SegmentationLoss("dice_ce")
    sized = label[:, 1::2, 1::2]
    assert total.item() == pytest.approx((2 * kept(fine, label) + kept(middle, sized)).item() / 3, rel=1e-5)
    total.backward()
    assert coarse.grad is not None  # processes that train together wait for it
    assert not coarse.grad.any()
    target = torch.randn(2, 1, 8, 8)
    values = [torch.randn(2, 1, 8, 8), torch.randn(2, 1, 4, 4)]
    alone = RegressionLoss("l1")(values[0], target)
    assert torch.equal(RegressionLoss("l1", drops_coarsest=True)(values, target), alone)


def test_dice_of_each_patch_and_smoothed_labels_by_formula():
    torch.manual_seed(0)
    logits, label = torch.randn(2, 3, 4, 5, 6), torch.randint(0, 3, (2, 4, 5, 6))
    chance = logits.softmax(1)
    dice = 0.0
    for patch in (0, 1):
        for index in (1, 2):
            p, g = chance[patch, index], (label[patch] == index).float()
            dice += (1 - (2 * (p * g).sum() + 1e-5) / (p.sum() + g.sum() + 1e-5)) / 4
    logs = torch.log(chance)
    smoothed = -(0.9 * logs.gather(1, label[:, None])[:, 0] + 0.1 * logs.mean(1)).mean()
    loss = SegmentationLoss("dice_ce", batch_dice=False, label_smoothing=0.1)
    assert loss(logits, label).item() == pytest.approx(float(dice + smoothed), rel=1e-5)
    assert SegmentationLoss("ce", label_smoothing=0.1)(logits, label).item() == pytest.approx(float(smoothed), rel=1e-5)


def test_the_average_of_weights_by_formula():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = WeightAverage(module, 0.6)
    expected = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for step in range(8):
        with torch.no_grad():
            for tensor in module.state_dict().values():
                tensor.add_(1)
        average.update(module, step)
        decay = min(0.6, (1 + step) / (10 + step))
        for name, tensor in module.state_dict().items():
            whole = name.endswith("num_batches_tracked")
            expected[name] = tensor.clone() if whole else decay * expected[name] + (1 - decay) * tensor
    own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with average.applied(module):
        for name, tensor in module.state_dict().items():
            torch.testing.assert_close(tensor, expected[name])
            assert name.endswith("tracked") or not torch.equal(tensor, own[name])
    assert all(torch.equal(tensor, own[name]) for name, tensor in module.state_dict().items())
    again = WeightAverage(module, 0.6)
    again.load(average.values)
    assert all(torch.equal(again.values[name], average.values[name]) for name in own)
