"""The network of a MONAI bundle: read from its configuration as data, without evaluating anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resvox.blueprint import Blueprint
from resvox.catalog import get_blueprint
from resvox.errors import WeightsError
from resvox.weights.bundle.folder import Bundle, is_bundle
from resvox.weights.importers.monai import NAME

# MONAI's class -> our name; the keys that a bundle may give it, and our options for them
NETWORKS = {"SegResNet": "segresnet", "SegResNetDS": "segresnet_ds", "UNet": "monai_unet", "Unet": "monai_unet"}
_INTERFACE = {"spatial_dims": "spatial_dims", "in_channels": "in_channels", "out_channels": "num_classes"}
_SEGRESNET = {"init_filters": "init_filters", "blocks_down": "blocks_down", "blocks_up": "blocks_up"}
_OPTIONS: dict[str, dict[str, str]] = {
    "segresnet": {**_INTERFACE, **_SEGRESNET, "upsample_mode": "upsample_mode", "dropout_prob": "dropout"},
    "segresnet_ds": {**_INTERFACE, **_SEGRESNET, "resolution": "resolution", "dsdepth": "dsdepth"},
    "monai_unet": {
        **_INTERFACE,
        "channels": "channels",
        "strides": "strides",
        "num_res_units": "num_res_units",
        "kernel_size": "kernel_size",
        "up_kernel_size": "up_kernel_size",
        "dropout": "dropout",
        "bias": "conv_bias",
    },
}
_OWN = ("norm", "act", "norm_name", "num_groups")  # keys that are translated by value
_ACTS = {"leakyrelu": "leaky_relu", "swish": "silu"}


@dataclass(frozen=True, kw_only=True)
class BundleNetwork:
    """Name and options of a bundle's network, and the file of its weights."""

    name: str
    options: Mapping[str, Any]
    weights: Path

    @property
    def blueprint(self) -> Blueprint:
        """The network, without its weights.

        Raises:
            BlueprintError: options that are not valid together.
        """
        return get_blueprint(self.name, **self.options)


def from_bundle(source: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The weights in a bundle with the options that its configuration gives; another source as it is.

    Args:
        source: as of :func:`resvox.load_weights`.
        arguments: of :func:`resvox.create_model_from`; those that are given count before the bundle's.

    Raises:
        WeightsError: a bundle whose network cannot be read, see :func:`read_bundle_network`.
    """
    if not isinstance(source, str | os.PathLike) or not is_bundle(Path(source)):
        return source, arguments
    found = read_bundle_network(Bundle.read(Path(source)))
    given = {name: value for name, value in arguments.items() if value is not None}
    return found.weights, {**found.options, **given, "peer": NAME}


def read_bundle_network(bundle: Bundle) -> BundleNetwork:
    """The network that a bundle's ``network_def`` describes.

    Raises:
        WeightsError: a network or an option that is not known here, Python code where a value is needed, or no weights.
    """
    path = bundle.configuration.path
    network = bundle.configuration.value("network_def")
    if not isinstance(network, dict):
        raise WeightsError("no network_def", expected="the network of the bundle", path=path)
    target = str(network.pop("_target_", "")).rpartition(".")[2]
    if target not in NETWORKS:
        raise WeightsError(
            f"network_def with _target_ {target!r}", expected="one of " + ", ".join(sorted(NETWORKS)), path=path
        )
    name = NETWORKS[target]
    return BundleNetwork(name=name, options=_options(name, network, path), weights=bundle.weights)


def _options(name: str, network: Mapping[str, Any], path: Path) -> dict[str, Any]:
    known, options = _OPTIONS[name], {}
    for key, value in network.items():
        if key in known:
            options[known[key]] = value
        elif key not in _OWN:
            raise WeightsError(
                f"network_def.{key} of {name}", expected="one of " + ", ".join((*known, *_OWN)), path=path
            )
    if network.get("dropout_prob", 0) is None:
        del options["dropout"]
    norm = ["group", {"num_groups": network.get("num_groups", 8)}] if network.get("norm_name") else network.get("norm")
    if norm is not None:
        options["norm"] = _norm(norm, affine=name == "segresnet_ds")
    if network.get("act") is not None:
        options["activation"] = _activation(network["act"])
    return options


def _norm(value: Any, *, affine: bool) -> Any:
    kind, arguments = _pair(value)
    given = {key: each for key, each in arguments.items() if key in ("eps", "momentum", "affine", "num_groups")}
    if kind == "instance":  # PyTorch's instance norm has no weights unless it is asked for them
        given.setdefault("affine", affine)
    return (kind, given)


def _activation(value: Any) -> Any:
    kind, arguments = _pair(value)
    kind = _ACTS.get(kind, kind)
    given = {key: each for key, each in arguments.items() if key in ("negative_slope", "alpha")}
    return (kind, given) if given else kind


def _pair(value: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[1], dict):
        return str(value[0]).lower(), dict(value[1])
    return str(value).lower(), {}
