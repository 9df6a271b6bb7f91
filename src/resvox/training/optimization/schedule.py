"""The optimizer, and its learning rate as a function of the step alone."""

from __future__ import annotations

import math

import torch
from torch import nn

from resvox.training.finetuning import parameter_groups
from resvox.training.plans.base import TrainingPlan

POLY_POWER = 0.9


def learning_rate(plan: TrainingPlan, place: float) -> float:
    """Learning rate at a place in the plan, see `resvox.training.optimization.pacing`: a step, counted from 0.

    Linear warm-up, then polynomial, cosine or no decay to 0.
    """
    if place < plan.warmup_steps:
        return plan.learning_rate * min(1.0, (place + 1) / plan.warmup_steps)
    done = (place - plan.warmup_steps) / (plan.steps - plan.warmup_steps)
    factor: float = {
        "poly": (1 - done) ** POLY_POWER,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "constant": 1.0,
    }[plan.decay]
    return plan.learning_rate * factor


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set it in every group, in those of a stage its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("share", 1.0)


def make_optimizer(module: nn.Module, plan: TrainingPlan, device: torch.device) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) or SGD with Nesterov momentum; weight decay on kernels only."""
    groups = parameter_groups(module, plan)
    if plan.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=plan.learning_rate, fused=device.type == "cpu")
    return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=plan.momentum, nesterov=plan.momentum > 0)
