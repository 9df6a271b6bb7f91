"""The loss without one-hot truths: MONAI's values and gradients, voxels that are ignored, and its largest arrays."""

from __future__ import annotations

import itertools

import pytest
import torch
from monai.losses import DiceCELoss
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resvox.training import dice_cross_entropy
from resvox.training.dice_cross_entropy import IGNORED, DiceCrossEntropy

SHAPES = [(2, 5, 9, 8, 7), (3, 2, 10, 11), (2, 117, 6, 5, 4)]


@pytest.fixture(autouse=True)
def several_slabs(monkeypatch):
    monkeypatch.setattr(dice_cross_entropy, "SLAB_VALUES", 900)


def drawn(shape, *, seed=0, missing=1):
    """Logits and class indices, of which one class is nowhere; the first sample is of the background alone."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    label[label == missing] = 0
    label[0] = 0
    return 3 * torch.randn(shape, generator=generator), label


def value_and_gradient(loss, logits, label):
    logits = logits.clone().requires_grad_()
    value = loss(logits, label)
    (1.5 * value).backward()
    return value.detach(), logits.grad


@pytest.mark.parametrize(("shape", "batch_dice", "smoothing"), itertools.product(SHAPES, [True, False], [0.0, 0.1]))
def test_values_and_gradients_are_those_of_monai(shape, batch_dice, smoothing):
    logits, label = drawn(shape)
    # in float64, as MONAI's own float32 is as far from it as ours
    monai = DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=batch_dice, label_smoothing=smoothing
    )
    expected, slope = value_and_gradient(monai, logits.double(), label[:, None])
    own = DiceCrossEntropy(batch_dice=batch_dice, label_smoothing=smoothing)
    value, gradient = value_and_gradient(own, logits, label)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    assert float((gradient - slope).abs().max()) < 1e-6 * float(slope.abs().max())


def test_the_layout_of_the_logits_changes_nothing():
    logits, label = drawn(SHAPES[0])
    plain = value_and_gradient(DiceCrossEntropy(), logits, label)
    last = value_and_gradient(DiceCrossEntropy(), logits.contiguous(memory_format=torch.channels_last_3d), label)
    torch.testing.assert_close(last, plain, rtol=1e-5, atol=1e-9)


def test_a_finite_difference_of_the_loss_is_its_gradient_where_voxels_are_ignored():
    logits, label = drawn((2, 4, 3, 5, 4))
    label[torch.rand(label.shape, generator=torch.Generator().manual_seed(3)) < 0.3] = IGNORED
    loss = DiceCrossEntropy(batch_dice=False, label_smoothing=0.2)
    assert torch.autograd.gradcheck(lambda each: loss(each, label), logits.double().requires_grad_(), eps=1e-6)


class Largest(TorchDispatchMode):
    """How many new arrays have at least so many elements."""

    def __init__(self, least):
        super().__init__()
        self.least, self.count = least, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        known = {each.untyped_storage().data_ptr() for each in given}
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor) and each.untyped_storage().data_ptr() not in known:
                self.count += each.untyped_storage().nbytes() >= 4 * self.least
        return made


def test_the_only_array_of_the_size_of_the_logits_is_their_gradient():
    logits, label = drawn((2, 40, 12, 8, 8))
    logits.requires_grad_()
    loss = DiceCrossEntropy()
    with Largest(logits.numel() // 4) as forward:
        value = loss(logits, label)
    with Largest(logits.numel() // 4) as backward:
        value.backward()
    assert (forward.count, backward.count) == (0, 1)
    with Largest(logits.numel() // 4) as monai:
        DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)(logits, label[:, None])
    assert monai.count > 2
