"""Fine-tuning: loading weights to begin from, frozen stages, learning rates by depth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from resvox.blueprint.resnet_recipe import LEVELS
from resvox.hub import local_path
from resvox.training.plans.base import TrainingPlan
from resvox.weights import load_weights
from resvox.weights.by_name import Names, keep_by_name

HEAD_STAGE = LEVELS  # stem and four residual stages are 0 to 4; everything behind them is the head
_STAGE = re.compile(r"(?:encoder\.)?(?:layer(?P<v1>\d)|(?:stages|levels)\.(?P<v2>\d))(?:\.|$)")
_STEM = re.compile(r"(?:encoder\.)?(?:conv|conv1|bn1|act1|maxpool|stem)(?:\.|$)")


def stage_of(name: str) -> int:
    """Where a parameter or module lies by its name: 0 the stem, 1 to 4 the residual stages, 5 what is behind them."""
    if _STEM.match(name):
        return 0
    found = _STAGE.match(name)
    if found is None:
        return HEAD_STAGE
    number = int(found["v1"]) if found["v1"] else int(found["v2"]) + 1
    return min(number, HEAD_STAGE - 1)  # a network may have more stages: the deep ones count as the last


def begin_from_weights(module: nn.Module, plan: TrainingPlan, names: Names | None = None) -> str:
    """Fill a new network with the plan's weights; returns what was loaded, in words, or an empty text.

    Args:
        names: of the network's outputs and channels. Those that the weights name too keep their part of the head and
            of the first convolution, see `resvox.weights.by_name`; None begins with a new head.

    Raises:
        WeightsError: weights that do not fit the plan's network.
    """
    if plan.weights is None:
        return ""
    report = load_weights(
        module,
        plan.weights,
        peer=plan.weights_peer,
        first_conv=plan.weights_first_conv,
        classifier="drop",
        inflate=plan.weights_inflate,
    )
    kept = (
        []
        if names is None or plan.weights_head == "new"
        else keep_by_name(module, local_path(plan.weights), names, peer=plan.weights_peer)
    )
    return "; ".join([str(report), *kept])


def freeze(module: nn.Module, plan: TrainingPlan) -> None:
    """The first stages learn nothing."""
    for name, parameter in module.named_parameters():
        if stage_of(name) < plan.frozen_stages:
            parameter.requires_grad_(False)


def train_mode(model: nn.Module, plan: TrainingPlan) -> None:
    """Training mode, but for frozen stages: their running statistics stay as well."""
    model.train()
    for name, each in model.named_modules():
        # a wrapped network's names begin with the wrapper's
        inner = name.removeprefix("_forward_module.").removeprefix("module.")
        if inner and stage_of(inner) < plan.frozen_stages:
            each.train(False)


def parameter_groups(module: nn.Module, plan: TrainingPlan) -> list[dict[str, Any]]:
    """Groups for an optimizer: weight decay on kernels only; with a layer decay, one group per stage with its share.

    The head learns at the plan's rate, each stage before it at ``layer_decay`` times the one behind it (Clark et al.,
    arXiv:2003.10555).
    """
    if plan.layer_decay == 1.0:
        return list(_by_kind(list(module.parameters()), plan, {}))
    groups: list[dict[str, Any]] = []
    for stage in range(HEAD_STAGE + 1):
        parameters = [value for name, value in module.named_parameters() if stage_of(name) == stage]
        groups += _by_kind(parameters, plan, {"share": plan.layer_decay ** (HEAD_STAGE - stage)})
    return [group for group in groups if group["params"]]


def _by_kind(parameters: list[nn.Parameter], plan: TrainingPlan, shared: dict[str, Any]) -> Iterator[dict[str, Any]]:
    learning = [each for each in parameters if each.requires_grad]
    yield {"params": [each for each in learning if each.ndim > 1], "weight_decay": plan.weight_decay, **shared}
    yield {"params": [each for each in learning if each.ndim <= 1], "weight_decay": 0.0, **shared}
