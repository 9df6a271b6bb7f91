"""The network of an nnU-Net configuration: three classes, their numbers, and nothing that is imported by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from resvox.weights.nnunet.fields import JsonFields

Axes = tuple[int, ...]

RESIDUAL_ENCODER = "ResidualEncoderUNet"
PLAIN = "PlainConvUNet"
RESIDUAL = "ResidualUNet"
# the classes, and the catalog's names of their networks
NETWORKS = {RESIDUAL_ENCODER: "resenc_unet", PLAIN: "plain_unet", RESIDUAL: "residual_unet"}
BLOCKS = {"BasicBlockD": "basic", "BottleneckD": "bottleneck"}
# The names in plans are paths of classes. They are read as words: the last component decides, nothing is imported.
NORMS = {"InstanceNorm2d": "instance", "InstanceNorm3d": "instance", "BatchNorm2d": "batch", "BatchNorm3d": "batch"}
SLOPE = 0.01  # torch's LeakyReLU, which nnU-Net leaves as it is
EPS = 1e-5
_IGNORED = {"conv_op", "dropout_op_kwargs", "deep_supervision", "num_classes", "input_channels"}
_KNOWN = _IGNORED | {
    "n_stages", "features_per_stage", "kernel_sizes", "strides", "n_blocks_per_stage", "n_conv_per_stage",
    "n_conv_per_stage_decoder", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op", "nonlin", "nonlin_kwargs",
    "nonlin_first", "block", "bottleneck_channels", "stem_channels", "pool", "pool_type",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NnunetNetwork:
    """A network of a configuration.

    Attributes:
        kind: ``"ResidualEncoderUNet"``, ``"PlainConvUNet"`` or ``"ResidualUNet"``.
        features: channels of each stage.
        kernels: per stage, per axis.
        strides: per stage, per axis; the first is 1 for models that nnU-Net plans.
        encoder: residual blocks, or convolutions, of each stage.
        decoder: convolutions, or residual blocks, of each level, deepest first; one fewer than stages.
        conv_bias: whether convolutions have a bias beside their norm.
        norm: ``"instance"`` or ``"batch"``.
        eps: of the norms.
        affine: whether norms have a weight and a bias.
        slope: of the leaky ReLU; 0 for a ReLU.
        block: ``"basic"`` or ``"bottleneck"``.
        bottleneck_channels: inner channels of the bottlenecks per stage; None where blocks are basic.
        stem_channels: channels of the first convolution; None: those of the first stage.
    """

    kind: str
    features: tuple[int, ...]
    kernels: tuple[Axes, ...]
    strides: tuple[Axes, ...]
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    conv_bias: bool = True
    norm: str = "instance"
    eps: float = EPS
    affine: bool = True
    slope: float = SLOPE
    block: str = "basic"
    bottleneck_channels: tuple[int, ...] | None = None
    stem_channels: int | None = None

    @property
    def model(self) -> str:
        """The catalog's name of the network."""
        return NETWORKS[self.kind]

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.kernels[0])

    def options(self) -> dict[str, Any]:
        """The options with which :func:`resvox.create_model` builds it, beside dims, channels and classes."""
        found: dict[str, Any] = {
            "features": self.features,
            "kernels": self.kernels,
            "strides": self.strides,
            "depths": self.encoder,
            "decoder_depths": self.decoder,
            "conv_bias": self.conv_bias,
            "norm": (self.norm, {"eps": self.eps, "affine": self.affine}),
            "activation": ("leaky_relu", {"negative_slope": self.slope}) if self.slope else "relu",
        }
        if self.kind != PLAIN:
            found["block"] = self.block
            if self.bottleneck_channels is not None:
                found["bottleneck_channels"] = self.bottleneck_channels
            if self.stem_channels is not None:
                found["stem_channels"] = self.stem_channels
        return found

    def with_norm(self, norm: str) -> NnunetNetwork:
        """The same with another norm: a trainer such as nnUNetTrainerBN overrides the one in the plans."""
        return replace(self, norm=norm)


def network_of(fields: JsonFields, dims: int) -> NnunetNetwork:
    """The network of a configuration: of the ``architecture`` in it, or in plans before nnU-Net 2.4 of its own keys.

    Raises:
        WeightsError: a class or an option that is not known, or numbers that contradict each other.
    """
    network = _new_form(fields.nested("architecture"), dims) if fields.has("architecture") else _old_form(fields)
    stages = len(network.features)
    for name, count in (("kernels", stages), ("strides", stages), ("encoder", stages), ("decoder", stages - 1)):
        if len(getattr(network, name)) != count:
            owner, key = _origin(fields, name, network.kind)
            owner.reject(key, f"{count} entries for {stages} stages")
    for name in ("kernels", "strides"):
        if any(len(each) != dims for each in getattr(network, name)):
            owner, key = _origin(fields, name, network.kind)
            owner.reject(key, f"{dims} numbers each, as many as patch_size has")
    if any(size % 2 == 0 for kernel in network.kernels for size in kernel):
        owner, key = _origin(fields, "kernels", network.kind)
        owner.reject(key, "odd kernel sizes")
    return network


def _origin(fields: JsonFields, name: str, kind: str) -> tuple[JsonFields, str]:
    """Where a number of the network was read: the object and its key."""
    if fields.has("architecture"):
        keys = {"kernels": "kernel_sizes", "strides": "strides", "encoder": _encoder_key(kind)}
        return fields.nested("architecture").nested("arch_kwargs"), keys.get(name, "n_conv_per_stage_decoder")
    keys = {"kernels": "conv_kernel_sizes", "strides": "pool_op_kernel_sizes", "encoder": "n_conv_per_stage_encoder"}
    return fields, keys.get(name, "n_conv_per_stage_decoder")


def _encoder_key(kind: str) -> str:
    return "n_conv_per_stage" if kind == PLAIN else "n_blocks_per_stage"


def _kind(fields: JsonFields, key: str) -> str:
    # older plans name a module that the class has left, so the last component decides, as in nnU-Net
    found = fields.text(key).rsplit(".", 1)[-1]
    if found not in NETWORKS:
        fields.reject(key, "one of " + ", ".join(NETWORKS), "networks of other classes cannot be read")
    return found


def _old_form(fields: JsonFields) -> NnunetNetwork:
    kind = _kind(fields, "UNet_class_name")
    encoder = fields.wholes("n_conv_per_stage_encoder")
    base, largest = fields.whole("UNet_base_num_features", least=1), fields.whole("unet_max_num_features", least=1)
    return NnunetNetwork(
        kind=kind,
        features=tuple(min(base * 2**stage, largest) for stage in range(min(len(encoder), 64))),
        kernels=fields.axes("conv_kernel_sizes"),
        strides=fields.axes("pool_op_kernel_sizes"),
        encoder=encoder,
        decoder=fields.wholes("n_conv_per_stage_decoder"),
    )


def _new_form(architecture: JsonFields, dims: int) -> NnunetNetwork:
    kind = _kind(architecture, "network_class_name")
    fields = architecture.nested("arch_kwargs")
    unknown = sorted(set(fields.values) - _KNOWN)
    if unknown:
        fields.reject(unknown[0], "one of the arguments " + ", ".join(sorted(_KNOWN)))
    _refuse_unusual(fields, dims)
    stages = fields.whole("n_stages", least=2)
    features = _per_stage(fields, "features_per_stage", stages)
    norm, eps, affine = _norm(fields)
    residual = kind != PLAIN
    return NnunetNetwork(
        kind=kind,
        features=features,
        kernels=_axes_per_stage(fields, "kernel_sizes", stages, dims),
        strides=_axes_per_stage(fields, "strides", stages, dims),
        encoder=_per_stage(fields, _encoder_key(kind), stages),
        decoder=_per_stage(fields, "n_conv_per_stage_decoder", stages - 1),
        conv_bias=fields.flag("conv_bias", False),
        norm=norm,
        eps=eps,
        affine=affine,
        slope=_slope(fields),
        block=_last(fields, "block", BLOCKS, "BasicBlockD") if residual else "basic",
        bottleneck_channels=_bottlenecks(fields, stages) if residual else None,
        stem_channels=fields.whole("stem_channels", least=1) if residual and fields.has("stem_channels") else None,
    )


def _refuse_unusual(fields: JsonFields, dims: int) -> None:
    """Refuse what changes the arithmetic or the names of the tensors and that nnU-Net's planners never write."""
    conv = fields.text("conv_op").rsplit(".", 1)[-1]
    if conv != f"Conv{dims}d":
        fields.reject("conv_op", f"torch.nn.modules.conv.Conv{dims}d, for a patch_size of {dims} numbers")
    if fields.has("dropout_op"):
        fields.reject("dropout_op", "null", "networks with dropout cannot be read")
    if fields.flag("nonlin_first", False):
        fields.reject("nonlin_first", "false")
    for name in ("pool", "pool_type"):
        if fields.values.get(name) not in (None, "conv"):
            fields.reject(name, "'conv'")


def _norm(fields: JsonFields) -> tuple[str, float, bool]:
    norm = _last(fields, "norm_op", NORMS, "")
    options = fields.nested("norm_op_kwargs") if fields.has("norm_op_kwargs") else JsonFields({}, path=fields.path)
    unknown = sorted(set(options.values) - {"eps", "affine", "momentum", "track_running_stats"})
    if unknown:
        options.reject(unknown[0], "eps and affine")
    if options.has("track_running_stats") and options.flag("track_running_stats") is (norm == "instance"):
        options.reject("track_running_stats", "what the norm does by default")
    affine = options.flag("affine", norm == "batch")
    return norm, options.number("eps") if options.has("eps") else EPS, affine


def _slope(fields: JsonFields) -> float:
    nonlin = _last(fields, "nonlin", {"LeakyReLU": "leaky_relu", "ReLU": "relu"}, "")
    if nonlin == "relu":
        return 0.0
    options = fields.object("nonlin_kwargs", {})
    if not options.keys() <= {"inplace", "negative_slope"}:
        fields.reject("nonlin_kwargs", "inplace and negative_slope")
    return fields.nested("nonlin_kwargs").number("negative_slope") if options.get("negative_slope") else SLOPE


def _last(fields: JsonFields, name: str, known: Mapping[str, str], default: str) -> str:
    """What the last component of a class's path means."""
    given = fields.text(name, default).rsplit(".", 1)[-1]
    if given not in known:
        fields.reject(name, "one of " + ", ".join(known))
    return known[given]


def _per_stage(fields: JsonFields, name: str, count: int) -> tuple[int, ...]:
    """One number per stage; a single number stands for all stages."""
    single = type(fields.values.get(name)) is int
    numbers = fields.wholes(name)
    found = numbers * min(count, 64) if single else numbers
    if len(found) != count:
        fields.reject(name, f"{count} numbers")
    return found


def _axes_per_stage(fields: JsonFields, name: str, count: int, dims: int) -> tuple[Axes, ...]:
    """Numbers per stage and axis; a single one stands for all axes, or for all stages and axes."""
    value = fields.values.get(name)
    if type(value) is int or (isinstance(value, list) and value and all(type(each) is int for each in value)):
        return tuple((each,) * dims for each in _per_stage(fields, name, count))
    return fields.axes(name)


def _bottlenecks(fields: JsonFields, stages: int) -> tuple[int, ...] | None:
    return _per_stage(fields, "bottleneck_channels", stages) if fields.has("bottleneck_channels") else None
