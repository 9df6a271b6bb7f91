"""Load a peer's weights into a resvox model: exactly, or not at all with the reason."""

from __future__ import annotations

from typing import Any

from resvox.blueprint import Blueprint
from resvox.blueprint.choices import plain
from resvox.catalog.arguments import settle_aliases
from resvox.errors import WeightsError
from resvox.factory import build, check_framework
from resvox.weights.adaptation import Adaptation
from resvox.weights.architecture import describe
from resvox.weights.bundle.network import from_bundle
from resvox.weights.fitting import fit
from resvox.weights.models import network_in, tensor_adapter
from resvox.weights.naming import NamedTensors, name_source
from resvox.weights.provenance import remember
from resvox.weights.report import LoadReport
from resvox.weights.sources import Source, read_source


def load_weights(
    model: Any,
    source: Any,
    *,
    peer: str | None = None,
    first_conv: str = "error",
    classifier: str = "error",
    inflate: str | None = None,
    inflate_axis: int = 0,
) -> LoadReport:
    """Fill a model with weights from anywhere: every tensor is checked, and what the peer computes too.

    Args:
        model: a torch or Keras model that resvox built. A segmentation model takes the weights of a residual network
            into its encoder.
        source: a file (.pth, .pt, .safetensors, .h5, .weights.h5, .keras, .npz), a state dict, a folder of the
            Hugging Face cache, or ``hf://owner/name[@revision]``.
        peer: the library that wrote the weights, one of ``resvox.weights.PEERS``; recognised by names and shapes
            where that is possible.
        first_conv: the first convolution for another number of channels: "sum", "repeat" (scaled) or "first".
        classifier: "drop" leaves the source's head out and the model's as it is.
        inflate: 2D weights in a 3D model: "centre" or "average" along the new axis.
        inflate_axis: which of (D, H, W) is the new one.

    Returns:
        What was used, dropped, adapted and kept, each with the reason.

    Raises:
        WeightsError: a source that cannot be read or is not safe; unknown, missing or misshapen tensors, all of them
            in one text; a peer that computes something else than the model, with the options that would match.

    Example:
        >>> model = resvox.create_model("unet", encoder_name="resnet50", spatial_dims=3, in_channels=1)
        >>> report = resvox.load_weights(
        ...     model, "resnet50.pth", first_conv="sum", classifier="drop", inflate="centre"
        ... )
    """
    adaptation = Adaptation(
        first_conv=first_conv, classifier=classifier, inflate=inflate, inflate_axis=plain(inflate_axis)
    )
    model = network_in(model)
    adapter, _ = tensor_adapter(model)
    blueprint = adapter.blueprint_to_fill(model)
    named = name_source(read_source(source), peer, blueprint)
    tensors, report = fit(named, blueprint, adaptation)
    adapter.update(model, tensors)
    remember(model, {**report.to_dict(), **_asked(adaptation)})
    return report


def create_model_from(
    source: Any,
    *,
    peer: str | None = None,
    framework: str = "torch",
    first_conv: str = "error",
    classifier: str = "error",
    inflate: str | None = None,
    inflate_axis: int = 0,
    **options: Any,
) -> Any:
    """The model that a source's weights belong to, filled with them.

    Args:
        source, peer, first_conv, classifier, inflate, inflate_axis: as of :func:`load_weights`.
        framework: "torch" or "keras".
        **options: of :func:`resvox.create_model`, where the source leaves them open (the stride of a MONAI stem, the
            dilation of a torchvision net), or where the weights are adapted to them (``in_channels``,
            ``num_classes``, ``spatial_dims=3``).

    Raises:
        WeightsError: a source that cannot be read, or whose tensors are not those of a known network.
        BlueprintError: options that are not valid.

    Example:
        >>> model = resvox.create_model_from(
        ...     "resnet50.pth", spatial_dims=3, in_channels=1, first_conv="sum", inflate="centre"
        ... )
    """
    check_framework(framework)
    adaptation = Adaptation(
        first_conv=first_conv, classifier=classifier, inflate=inflate, inflate_axis=plain(inflate_axis)
    )
    source, options = from_bundle(source, {"peer": peer, **options})
    peer = options.pop("peer")
    read = read_source(source)
    named = name_source(read, peer, None)
    if not named.blueprints:
        raise WeightsError(
            f"tensors of no known network ({named.unclear})",
            expected="a residual network, or a U-Net on one",
            fix="build the model with resvox.create_model and load the weights into it",
            path=read.where,
        )
    blueprint = _settled(named, read, options) if options else named.blueprints[0]
    tensors, report = fit(named, blueprint, adaptation)
    model = build(blueprint, framework=framework)
    tensor_adapter(model)[0].update(model, tensors)
    if framework == "torch":
        model.eval()
    remember(model, {**report.to_dict(), **_asked(adaptation)})
    return model


def _settled(named: NamedTensors, read: Source, options: dict[str, Any]) -> Blueprint:
    if named.importer is None:
        raise WeightsError(
            f"options {', '.join(options)} for a model file",
            expected="no options: the file has them all",
            path=read.where,
        )
    found = describe({name: tuple(value.shape) for name, value in named.tensors.items()})
    return found.blueprint({**named.importer.peer_defaults(found)[0], **settle_aliases(options)})


def _asked(adaptation: Adaptation) -> dict[str, Any]:
    """The rules that were asked for, as a file remembers them."""
    asked: dict[str, Any] = {}
    if adaptation.first_conv != "error":
        asked["first_conv"] = adaptation.first_conv
    if adaptation.inflate:
        asked.update(inflate=adaptation.inflate, inflate_axis=adaptation.inflate_axis)
    return asked
