"""The loss against its formula, lists of outputs, and the learning rate as a function of the step."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from resvox.training import Plan
from resvox.training.losses import SegmentationLoss
from resvox.training.schedule import learning_rate, make_optimizer


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
