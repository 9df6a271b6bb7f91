"""Plans that fit the weights they begin from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from resvox.errors import PlanError
from resvox.training.tasks import fields_for, weights_fields_for

if TYPE_CHECKING:
    from resvox.training.plans.base import TrainingPlan


def network_fields(task: str, weights: str | os.PathLike[str], peer: str | None, model: str | None) -> dict[str, Any]:
    """The fields of a plan that weights settle before it is made: which network, which norm.

    Raises:
        WeightsError: weights that cannot be read. PlanError: a task that takes none.
    """
    from resvox.weights import network_of

    fields_for(task, {"weights": os.fspath(weights)})  # refuses them where the task does
    found = network_of(weights, peer=peer)
    return {"norm": found.norm, "further_options": dict(found.options), **weights_fields_for(task, found, model)}


def strides_of(
    plan: TrainingPlan, weights: str | os.PathLike[str], peer: str | None
) -> tuple[int | tuple[int, ...], ...]:
    """The strides that the weights were trained with; along a new axis those of the plan.

    Raises:
        WeightsError: weights that cannot be read. PlanError: weights of 3D networks for 2D data.
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
    return tuple(each[0] if len(set(each)) == 1 else each for each in strides)
