"""A self-test of bfloat16 weight gradients on this processor."""

from __future__ import annotations

import functools

import torch
from torch.nn import functional as F

from resvox.blueprint.leaves import Conv
from resvox.catalog import get_blueprint
from resvox.errors import PlanError
from resvox.training.plans.base import TrainingPlan
from resvox.training.plans.precision import Precision

FLAT = 2  # voxels along the first axis of a map whose gradients came out as garbage


def check_bfloat16(plan: TrainingPlan, precision: Precision, *, is_cuda: bool) -> None:
    """Refuse bfloat16 on a processor where a gradient that this plan needs is not computed.

    PyTorch 2.13 on a processor with AVX512_BF16 and no AMX left the weight gradient of a 3-wide convolution over a
    map of depth 2 unwritten: now and then a number such as 1e34, after which every weight is NaN. The patch sizes that
    train small networks lead to such maps, so it is tried before a run begins.

    Raises:
        PlanError: naming a way out.
    """
    if is_cuda or precision is not Precision.bfloat16 or len(plan.sample_size) != 3 or not _has_flat_map(plan):
        return
    if not gradient_is_sound():
        size = "x".join(map(str, plan.sample_size))
        raise PlanError(
            f"precision={precision.value} with maps of depth {FLAT} from samples of {size}",
            expected="a processor whose gradients of such maps are numbers; PyTorch's are not on this one",
            fix="set precision to 32-true, or choose another size along the first axis",
        )


def _has_flat_map(plan: TrainingPlan) -> bool:
    blueprint = get_blueprint(plan.model, **plan.built_options())
    rows = [row for top in blueprint.stages(plan.sample_size) for row in top.walk()]
    return any(
        isinstance(row.node, Conv) and row.node.kernel == (3, 3, 3) and row.output_shape[2] == FLAT for row in rows
    )


@functools.cache
def gradient_is_sound() -> bool:
    """Whether the weight gradient of a small convolution over a map of depth 2 equals the one of float32."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        # memory that PyTorch hands out again next, so that what is not written shows
        left = [torch.full((count,), 3e33) for count in (32 * 32 * 27, 32 * 32 * 27 // 2, 1 << 16)]
        del left
        weight = 0.05 * torch.randn(32, 32, 3, 3, 3, generator=generator)
        image = torch.randn(2, 32, FLAT, 2, 2, generator=generator)
        asked = torch.randn(2, 32, FLAT, 2, 2, generator=generator)
        found, wanted = (_gradient(weight, image, asked, dtype) for dtype in (torch.bfloat16, torch.float32))
        if not bool((found - wanted).norm() <= 0.05 * wanted.norm()):  # False for NaN too; rounding is 0.003
            return False
    return True


def _gradient(weight: torch.Tensor, image: torch.Tensor, asked: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    leaf = weight.clone().requires_grad_()
    F.conv3d(image.to(dtype), leaf.to(dtype), padding=1).backward(asked.to(dtype))
    assert leaf.grad is not None
    return leaf.grad
