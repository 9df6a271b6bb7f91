"""The network of a model folder, filled with the weights of a fold: exactly as its plans describe it, or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resvox.blueprint import Blueprint
from resvox.catalog import get_blueprint
from resvox.errors import WeightsError
from resvox.factory import build, check_framework
from resvox.weights.adaptation import Adaptation
from resvox.weights.fitting import fit
from resvox.weights.importers import nnunet
from resvox.weights.models import tensor_adapter
from resvox.weights.naming import name_source
from resvox.weights.nnunet.checkpoint import NnunetCheckpoint
from resvox.weights.nnunet.folder import NnunetFolder
from resvox.weights.provenance import remember
from resvox.weights.sources import read_source


def nnunet_blueprint(
    folder: NnunetFolder, checkpoint: NnunetCheckpoint | None = None, *, deep_supervision: bool = False
) -> Blueprint:
    """The network that a folder's plans describe.

    Args:
        folder: the model folder.
        checkpoint: its tensors decide between instance and batch norm, which a trainer may override; without it the
            plans do.
        deep_supervision: with the heads of the coarser levels, which work in training alone.

    Raises:
        WeightsError: plans of a network that is not known.
    """
    network = folder.configuration.network
    if checkpoint is not None:
        has_statistics = any(name.endswith("running_mean") for name in checkpoint.weights)
        network = network.with_norm("batch" if has_statistics else "instance")
    supervised = deep_supervision and len(network.features) > 2
    return get_blueprint(
        network.model,
        spatial_dims=network.spatial_dims,
        in_channels=folder.in_channels,
        num_classes=folder.dataset.output_channels,
        deep_supervision=supervised,
        **network.options(),
    )


def load_fold(
    folder: NnunetFolder,
    fold: str,
    *,
    framework: str = "torch",
    deep_supervision: bool = False,
    exact: bool = False,
) -> Any:
    """The network of a fold, in PyTorch (in evaluation) or Keras.

    Args:
        folder: the model folder.
        fold: one of ``folder.checkpoints``.
        framework: "torch" or "keras".
        deep_supervision: with the heads of the coarser levels, for training on.
        exact: in PyTorch, compute instance norms by the operation that nnU-Net uses, so that logits are its own to the
            bit on the same processor. Maps of one voxel are then refused by PyTorch.

    Raises:
        WeightsError: a checkpoint that is broken or unsafe, or whose tensors are not those of the network that the
            plans describe, such as those of a trainer that builds another one.
    """
    check_framework(framework)
    checkpoint = folder.read_fold(fold)
    blueprint = nnunet_blueprint(folder, checkpoint, deep_supervision=deep_supervision)
    source = replace(read_source(dict(checkpoint.weights)), where=str(checkpoint.path))
    try:
        named = replace(name_source(source, nnunet.PEER.name, None), blueprints=(blueprint,))
        tensors, report = fit(named, blueprint, Adaptation())
    except WeightsError as error:
        raise WeightsError(
            f"trainer {checkpoint.trainer!r}: {error.got}",
            expected=f"the tensors of {folder.configuration.network.kind} as plans.json describes it",
            fix=error.fix if error.fix.startswith("do not") else "a trainer that builds another network cannot be read",
            path=checkpoint.path,
        ) from error
    model = build(blueprint, framework=framework)
    tensor_adapter(model)[0].update(model, tensors)
    if framework == "torch":
        model.eval()
        if exact:
            use_operations_of_nnunet(model)
    remember(model, report.to_dict())
    return model


def use_operations_of_nnunet(model: Any) -> None:
    """Compute the instance norms of a network in PyTorch by the operation that nnU-Net uses, in place."""
    from resvox.torch.layers import use_torch_instance_norms

    use_torch_instance_norms(model)
