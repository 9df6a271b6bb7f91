"""The engine of a model: of one network or the mean of several, each trained or exported; and its late last layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from resvox.digests import begin_digest, digest_of
from resvox.prediction.model_files import BUNDLE_FORMAT, NNUNET_FORMAT, OWN_FORMAT, ModelFile
from resvox.prediction.quantized.files import quantized_of

if TYPE_CHECKING:
    import torch

    from resvox.blueprint.leaves import Activation, Conv
    from resvox.inference import Engine, LinearHead
    from resvox.inference.engines.agreement import Agreement
    from resvox.prediction.options import PredictOptions


NETWORKS_OF_TORCH = (OWN_FORMAT, NNUNET_FORMAT, BUNDLE_FORMAT)


def takes_batches(files: Sequence[ModelFile]) -> bool:
    """Whether several inputs may be computed in one pass: an exported network may have a fixed batch of one."""
    return all(each.format in NETWORKS_OF_TORCH for each in files)


def begin_fingerprints(files: Sequence[ModelFile], options: PredictOptions) -> None:
    """Begin the digests of model files in threads, beside the imports that come before `engine_of`."""
    for file in files:
        if file.format in NETWORKS_OF_TORCH and not options.exact:
            begin_digest(file.path)


def engine_of(
    files: Sequence[ModelFile],
    options: PredictOptions,
    *,
    agreement: Agreement | None = None,
    head: LinearHead | None = None,
    notify: Callable[[str], object] | None = None,
    together: Callable[[Sequence[Engine]], Engine] | None = None,
) -> Engine:
    """The engine that computes a model's outputs.

    Args:
        files: one, or several whose outputs are averaged.
        agreement: the measure of the accuracy guard; None is that of label maps.
        head: the last layer, where it is applied after blending.
        notify: called with a line of text where an engine is given up or memory runs out.
        together: several engines as one; None is the mean of their outputs.

    Raises:
        InferenceError: an engine, device or precision that cannot be.
    """
    from resvox.inference import EnsembleEngine

    engines = [_engine_of_one(each, options, agreement, head, notify) for each in files]
    return engines[0] if len(engines) == 1 else (together or EnsembleEngine)(engines)


def _engine_of_one(
    file: ModelFile,
    options: PredictOptions,
    agreement: Agreement | None,
    head: LinearHead | None,
    notify: Callable[[str], object] | None,
) -> Engine:
    from resvox.inference.engines import engine_of_file, make_engine

    if options.exact:
        from resvox.inference.engines.torch_engine import TorchEngine

        module = _network(file, exact=True)
        return TorchEngine(module, device=options.device, precision="float32", channels_last=False, notify=notify)
    if file.format in NETWORKS_OF_TORCH:
        return make_engine(
            lambda: _network(file, exact=False),
            roi_size=file.card.input_size,
            in_channels=file.card.network_channels,
            engine=options.engine,
            device=options.device,
            precision=options.precision,
            fingerprint=digest_of(file.path),
            quantized=quantized_of(file, options, notify),
            head=head,
            agreement=agreement,
            notify=notify,
        )
    return engine_of_file(
        file.path,
        file.format,
        roi_size=file.card.input_size,
        in_channels=file.card.network_channels,
        engine=options.engine,
        device=options.device,
        precision=options.precision,
        notify=notify,
    )


def _network(file: ModelFile, *, exact: bool) -> torch.nn.Module:
    if file.format == NNUNET_FORMAT:
        from resvox.prediction.nnunet.files import nnunet_module

        return nnunet_module(file.path, exact=exact)
    if file.format == BUNDLE_FORMAT:
        from resvox.prediction.bundle.files import bundle_module

        return bundle_module(file.path)
    from resvox.weights import load_model

    module: torch.nn.Module = load_model(file.path)
    if exact:
        from resvox.weights.nnunet.loading import use_operations_of_nnunet

        use_operations_of_nnunet(module)
    return module


def describe(engine: Engine) -> str:
    """An engine in words, such as ``openvino, bfloat16, cpu``."""
    return f"{engine.name}, {engine.precision}, {engine.device}"


def late_head(file: ModelFile) -> LinearHead | None:
    """The last layer of a model that has more classes than features before it, where that layer is linear and 1 wide.

    None for other models, whose windows are answered with logits.
    """
    from resvox.weights.formats.safetensors import raw_header, read_header

    if file.format != OWN_FORMAT:
        return None
    shape = raw_header(file.path).get("head.weight", {}).get("shape", ())
    # Most models have no more classes than features; their blueprint, which takes longer to read, is not needed.
    if len(shape) < 2 or shape[0] <= shape[1]:
        return None
    from safetensors import safe_open

    from resvox.blueprint import networks as net
    from resvox.blueprint.leaves import Conv
    from resvox.inference import LinearHead

    network = read_header(file.path).blueprint.network
    # a head of one convolution reads a map of the image's size; other heads enlarge their logits, or are no maps
    if not isinstance(network, net.Segmenter) or not isinstance(network.head, Conv):
        return None
    if not _is_linear(network.head, network.activation) or network.head.out_channels <= network.head.in_channels:
        return None
    with safe_open(file.path, framework="numpy") as tensors:
        weight = tensors.get_tensor("head.weight").astype(np.float32)
        names = set(tensors.keys())
        bias = tensors.get_tensor("head.bias").astype(np.float32) if "head.bias" in names else np.zeros(len(weight))
    return LinearHead(np.ascontiguousarray(weight.reshape(len(weight), -1)), bias.astype(np.float32))


def _is_linear(head: Conv, activation: Activation | None) -> bool:
    one_wide = set(head.kernel) == set(head.stride) == {1} and head.groups == 1
    return one_wide and (activation is None or activation.kind == "identity")
