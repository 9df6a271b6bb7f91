"""Names: which there are, and from a name to a model."""

from __future__ import annotations

import builtins
import sys
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

    In a script, where nothing shows what a line gives, the table is printed by the call itself, as medicai does.

    Args:
        family: ``"resnet"``, ``"resnext"``, ``"seresnet"``, ``"seresnext"``, ``"wide_resnet"``, or medicai's
            ``"senet"`` for the two with gates; all by default.

    Raises:
        resvox.errors.UnknownModelError: an unknown family.
    """
    families = ("seresnet", "seresnext") if str(family).lower() == "senet" else (family,)
    found = [resvox.list_models(family=each, task="classification") for each in families]
    models = ModelList(name for names in found for name in names)
    if not _is_interactive():
        print(repr(models))
    return models


def _is_interactive() -> bool:
    """Whether a prompt or a notebook shows the value of a line: Python's sets ``sys.ps1``, IPython ``__IPYTHON__``."""
    return "ps1" in vars(sys) or "__IPYTHON__" in vars(builtins)


def create_model(model: str | None = None, /, **arguments: Any) -> keras.Model:
    """The model of a name, such as ``"resnet50"``, ``"resnet50v2"``, ``"resnet50_v2"`` or ``"unet"``.

    Args:
        model: the name; case does not matter. ``name=`` is that of the model that is built, or without ``model`` what
            ``model`` would be.
        **arguments: of the model's class.

    Raises:
        resvox.errors.UnknownModelError: no such name.
    """
    name = arguments.pop("name", None) if model is None else model
    known = resolve_name(name)
    if known not in _BUILDERS:
        raise UnknownModelError(
            f"{name!r} in medicai.models", expected="a residual network or one of " + ", ".join(SEGMENTERS)
        )
    return _BUILDERS[known](**arguments)
