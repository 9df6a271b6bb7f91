"""A plan made to fit the weights it shall begin from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from resvox.errors import PlanError

if TYPE_CHECKING:
    from resvox.training.plans.base import TrainingPlan

WEIGHTS_FIELDS = ("weights", "weights_peer", "weights_first_conv", "weights_inflate")


def network_fields(task: str, weights: str | os.PathLike[str], peer: str | None, model: str | None) -> dict[str, Any]:
    """The fields of a plan that weights settle before it is drawn: which network, which norm.

    Raises:
        WeightsError: weights that cannot be read. PlanError: a task whose networks take none.
    """
    from resvox.weights import network_of

    if task == "regression":
        raise PlanError(
            "weights for a regression", expected="a segmentation or a classification", fix="leave --weights out"
        )
    found = network_of(weights, peer=peer)
    settled: dict[str, Any] = {"norm": found.norm, "further_options": dict(found.options)}
    if task == "classification":
        return {**settled, "model": found.encoder}
    settled["encoder"] = found.encoder
    if found.segmenter is not None and found.segmenter[0] == (model or "unet"):
        decoder = dict(found.segmenter[1])
        for name in ("encoder_depth", "decoder_filters"):
            if name in decoder:
                settled[name] = decoder.pop(name)
        settled["further_options"].update(decoder)
    return settled


def with_strides_of(plan: TrainingPlan, weights: str | os.PathLike[str], peer: str | None) -> TrainingPlan:
    """The plan with the strides that the weights were trained with; along a new axis it keeps its own.

    Raises:
        WeightsError: weights that cannot be read. PlanError: strides that the plan's patch does not allow.
    """
    from resvox.weights import network_of

    found = network_of(weights, peer=peer)
    if found.spatial_dims == plan.spatial_dims:
        strides: tuple[tuple[int, ...], ...] = found.strides
    elif found.spatial_dims < plan.spatial_dims:
        strides = tuple((own[0], *theirs) for own, theirs in zip(plan.axis_strides, found.strides, strict=True))
    else:
        raise PlanError(
            f"{found.spatial_dims}D weights for {plan.spatial_dims}D data", expected="2D weights", path=weights
        )
    plain = tuple(each[0] if len(set(each)) == 1 else each for each in strides)
    if plain == plan.strides:
        return plan
    return plan.with_changes(strides=plain)
