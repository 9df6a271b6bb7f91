"""Names: which there are, and from a name to a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import resvox
from medicai.models.residual import CLASSIFIERS
from medicai.models.segmentation import AttentionUNet, TransUNet, UNet, UNetPlusPlus
from resvox.catalog import VARIANTS, ModelList, resolve_name
from resvox.catalog.segmenters import SEGMENTERS
from resvox.errors import UnknownModelError

if TYPE_CHECKING:
    import keras

_BUILDERS = {
    **{row.name: CLASSIFIERS[row.class_name] for row in VARIANTS},
    "unet": UNet,
    "unet_plus_plus": UNetPlusPlus,
    "attention_unet": AttentionUNet,
    "trans_unet": TransUNet,
}


def list_models(family: str | None = None) -> ModelList:
    """The encoders, as a list that a terminal and Jupyter show as the "Model Registry Catalog" table.

    Args:
        family: ``"resnet"``, ``"resnext"``, ``"seresnet"``, ``"seresnext"``, ``"wide_resnet"``, or medicai's
            ``"senet"`` for the two with gates; all by default.

    Raises:
        resvox.errors.UnknownModelError: an unknown family.
    """
    families = ("seresnet", "seresnext") if str(family).lower() == "senet" else (family,)
    found = [resvox.list_models(family=each, task="classification") for each in families]
    return ModelList(name for names in found for name in names)


def create_model(name: str, **arguments: Any) -> keras.Model:
    """The model of a name, such as ``"resnet50"``, ``"resnet50v2"``, ``"resnet50_v2"`` or ``"unet"``.

    Args:
        name: case does not matter.
        **arguments: of the model's class.

    Raises:
        resvox.errors.UnknownModelError: no such name.
    """
    known = resolve_name(name)
    if known not in _BUILDERS:
        raise UnknownModelError(
            f"{name!r} in medicai.models", expected="a residual network or one of " + ", ".join(SEGMENTERS)
        )
    return _BUILDERS[known](**arguments)
