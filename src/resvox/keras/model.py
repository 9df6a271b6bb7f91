"""The base of all Keras models of this package: a functional model with its blueprint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from resvox.blueprint import Blueprint
from resvox.blueprint.choices import plain
from resvox.errors import BlueprintError, WeightsError
from resvox.keras.as_built import changes, quantize, quantized_layers, settings_of
from resvox.keras.layers import LayerScope, Tensor
from resvox.keras.operations import registered

# applies a network: (network, scope, image) to (output, maps P1, P2, ...)
Spelling = Callable[[Any, LayerScope, Tensor], tuple[Tensor, Sequence[Tensor]]]


def registered_model(kind: type[Any]) -> type[Any]:
    """Registers a model for ``.keras`` files, and by its bare name, under which Keras's older ``.h5`` files keep it."""
    keras.saving.get_custom_objects().setdefault(kind.__name__, kind)
    return registered(kind)


class BlueprintModel(keras.Model):
    """A functional model built from a blueprint. Abstract: subclasses define the networks that they build.

    A saved model holds the blueprint, the input shape, the name, the dtype policy and which layers are frozen, and
    is built from them again, so it loads without ``custom_objects``.

    Attributes:
        blueprint: the network's description.
        pyramid_outputs: ``{"P1": KerasTensor, ...}``, the feature maps from fine to coarse.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        /,
        *,
        spell: Spelling,
        input_shape: Sequence[int | None] | None,
        input_tensor: Tensor | None,
        include_rescaling: bool,
        name: str | None,
        dtype: Any,
    ) -> None:
        policy = policy_of(dtype)
        image = x = image_input(blueprint, input_shape, input_tensor)
        if include_rescaling:
            x = keras.layers.Rescaling(1.0 / 255.0, name="rescaling", dtype=policy)(x)
        output, maps = spell(blueprint.network, LayerScope(dtype=policy), x)
        super().__init__(inputs=image, outputs=output, name=name or blueprint.name.replace(".", "_"))
        self.dtype_policy = policy
        self.blueprint = blueprint
        self.include_rescaling = include_rescaling
        self._pyramid = tuple(maps)
        self._as_built = json.dumps(settings_of(self))  # as text, because Keras tracks dicts as parts of the model

    @property
    def pyramid_outputs(self) -> dict[str, Tensor]:
        """The maps ``{"P1": ..., "P2": ...}``, fine to coarse, each (batch, \\*size, channels)."""
        return {f"P{level}": x for level, x in enumerate(self._pyramid, start=1)}

    @property
    def beside_blueprint(self) -> tuple[str, ...]:
        """Steps of this model that are not in its blueprint; only a ``.keras`` file stores them."""
        return ("include_rescaling=True",) if self.include_rescaling else ()

    def check_as_built(self, *, quantized: bool = False) -> None:
        """Refuse layers that were changed after the model was built: a file holds the blueprint, not the change.

        Args:
            quantized: accept layers that Keras quantized. Those with LoRA are always accepted: their kernels hold it.

        Raises:
            WeightsError: naming the layers.
        """
        found = changes(json.loads(self._as_built), settings_of(self))
        if not quantized:
            found += [f"{name} is quantized ({mode})" for name, (mode, _) in quantized_layers(self).items()]
        if found:
            more = f" and {len(found) - 4} more" if len(found) > 4 else ""
            quantizes = any("quantized" in each for each in found)
            raise WeightsError(
                f"a model that computes something else than its blueprint: {'; '.join(found[:4])}{more}",
                expected="the network as it was built",
                fix="save it before it is quantized, or as a whole with model.save('model.keras')"
                if quantizes
                else "build it with the options that say so, such as norm=('batch', {'eps': 1e-3})",
            )

    def get_config(self) -> dict[str, Any]:
        """Everything the model is built from, in JSON's types.

        Raises:
            WeightsError: layers were changed after the model was built.
        """
        self.check_as_built(quantized=True)
        quantized = quantized_layers(self)
        return {
            **({"quantized": {name: list(how) for name, how in quantized.items()}} if quantized else {}),
            "blueprint": self.blueprint.to_json(),
            "input_shape": list(self.inputs[0].shape[1:]),
            "include_rescaling": self.include_rescaling,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "trainable": self.trainable,
            "frozen": [each.name for each in self.layers if not each.trainable],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> BlueprintModel:
        """The inverse of :meth:`get_config`, with initial weights."""
        known = dict(config)
        blueprint = Blueprint.from_json(known.pop("blueprint"))
        frozen, trainable = set(known.pop("frozen")), known.pop("trainable")
        quantized = known.pop("quantized", {})
        known["dtype"] = keras.dtype_policies.get(known["dtype"])
        model = cls(blueprint, **known)
        if not trainable:
            model.trainable = False
        for each in model.layers:
            each.trainable = each.name not in frozen
            if each.name in quantized:
                quantize(each, *quantized[each.name])
        return model


def policy_of(dtype: Any) -> keras.DTypePolicy:
    """The dtype policy of a name such as ``"mixed_bfloat16"``, of a policy, or (None) the current one."""
    return keras.config.dtype_policy() if dtype is None else keras.dtype_policies.get(dtype)


def image_input(blueprint: Blueprint, shape: Sequence[int | None] | None, tensor: Tensor | None) -> Tensor:
    """The input of a model: the given one, or a new one; axes without a size accept any.

    Raises:
        BlueprintError: a shape that the blueprint contradicts, or a tensor that is not a ``keras.Input``.
    """
    if tensor is not None:
        _check_input(tensor, shape)
        shape = tensor.shape[1:]
    open_shape = (*[None] * blueprint.spatial_dims, blueprint.in_channels)
    found = open_shape if shape is None else tuple(plain(shape))
    if len(found) != len(open_shape) or found[-1] != blueprint.in_channels:
        raise BlueprintError(
            f"input_shape={found} for a network of {blueprint.spatial_dims} dims and {blueprint.in_channels} channels",
            expected=f"(*spatial, channels) such as {open_shape}",
        )
    return keras.Input(found, name="image") if tensor is None else tensor


def _check_input(tensor: Tensor, shape: Sequence[int | None] | None) -> None:
    history = getattr(tensor, "_keras_history", None)
    if history is None or not isinstance(history.operation, keras.layers.InputLayer):
        raise BlueprintError(
            f"an input_tensor that is {tensor!r}",
            expected="the tensor of keras.Input(...)",
            fix="build the model without input_tensor and call it on your tensor",
        )
    if shape is not None and tuple(tensor.shape[1:]) != tuple(shape):
        raise BlueprintError(
            f"input_shape={tuple(shape)} and an input_tensor of {tuple(tensor.shape[1:])}",
            expected="two that agree",
            fix="leave input_shape out",
        )


def expect(blueprint: Blueprint, kinds: tuple[type, ...], owner: str) -> None:
    """Reject a blueprint of another kind of network; the error names the function that builds any."""
    if not isinstance(blueprint.network, kinds):
        raise BlueprintError(
            f"{blueprint.name!r} for {owner}",
            expected="a network that is a " + " or ".join(kind.__name__ for kind in kinds),
            fix="use resvox.keras.build, which finds the class",
        )
