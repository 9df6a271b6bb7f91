"""The networks that are built in PyTorch and in Keras and compared, and the numbers put into both.

Imported by pytest, by the process that computes PyTorch's answers and by one process a backend, so it needs numpy
and the blueprint alone. Tensors and images are drawn from seeds, so that only answers are handed over.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import resvox
from resvox.catalog import VARIANTS

THIN = {"widths": (8, 12, 16, 24), "stem_width": 8, "in_channels": 2, "num_classes": 3}
# odd, even and different along every axis
SIZES = {2: ((33, 46),), 3: ((17, 34, 20),)}
MORE_SIZES = {2: ((32, 64), (33, 33)), 3: ((32, 32, 32), (17, 17, 17), (5, 9, 6))}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network by name and options, and the spatial sizes it is run on."""

    id: str
    name: str
    dims: int
    options: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[tuple[int, ...], ...] = ()
    image_seed: int = 1

    def blueprint(self) -> resvox.Blueprint:
        return resvox.get_blueprint(self.name, spatial_dims=self.dims, **self.options)


def _case(name: str, dims: int, label: str = "", *, sizes: Any = None, **options: Any) -> Case:
    mark = f"{name}-{dims}d" + (f"-{label}" if label else "")
    return Case(id=mark, name=name, dims=dims, options={**THIN, **options}, sizes=sizes or SIZES[dims])


def every_row(*, shallow: bool) -> list[Case]:
    """Every row of the catalog in 2D and 3D at thin widths; ``shallow`` builds two blocks a stage at most.

    A shallow network holds every kind of block at every place that the deep one has; rows that are then the same
    network are run once.
    """
    cases, seen = [], set()
    for dims in (2, 3):
        for row in VARIANTS:
            options = {"depths": tuple(min(depth, 2) for depth in row.depths)} if shallow else {}
            case = _case(row.name, dims, **options)
            network = case.blueprint().network
            if network not in seen:
                cases.append(case)
                seen.add(network)
    return cases


def _options() -> list[Case]:
    short = {"depths": (1, 1, 1, 1)}
    two = {"depths": (1, 1, 2, 2)}
    # the third stage dilates two axes, the fourth then strides the other: stride and dilation in one convolution
    mixed = ((1, 2, 2), 2, (1, 2, 2), 2, (2, 1, 1))
    return [
        _case("resnet18", 2, "sizes", sizes=MORE_SIZES[2], **short),
        _case("resnet18vd", 3, "sizes", sizes=MORE_SIZES[3], **short),
        _case("resnet18v2", 2, "sizes", sizes=MORE_SIZES[2], **short),
        _case("resnet18", 3, "instance", norm="instance", **short),
        _case("resnet26", 2, "group", norm=("group", {"num_groups": 4}), **short),
        _case("resnet18", 2, "plain-batch", norm=("batch", {"affine": False, "eps": 1e-3}), **short),
        _case("resnet18v2", 3, "plain-instance", norm=("instance", {"affine": False}), **short),
        _case("resnet18", 3, "stride8", output_stride=8, **two),
        _case("resnet50v2", 2, "stride8", output_stride=8, **two),
        _case("resnet50vd", 2, "stride16", output_stride=16, **two),
        _case("resnext50", 3, "stride16", output_stride=16, groups=4, width_per_group=32, **short),
        _case("resnet18", 3, "axes", strides=((1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2), 2), **short),
        _case("resnet26", 3, "axes8", strides=mixed, output_stride=8, **two),
        _case("resnet18vd", 3, "axes8", strides=mixed, output_stride=8, **short),
        _case("resnet18", 2, "zeropad", shortcut="zero_pad", **short),
        _case("resnet26", 3, "zeropad", shortcut="zero_pad", **short),
        _case("resnet18v2", 2, "zeropad", shortcut="zero_pad", **short),
        _case("resnet18", 2, "stem3x3", stem="3x3", **short),
        _case("resnet18v2", 3, "stem3x3", stem="3x3", **short),
        _case("resnet18v2", 2, "deep", stem="deep", **short),
        _case("resnet18", 3, "kernel", stem_kernel=(1, 7, 5), **short),
        _case("resnet18", 2, "leaky", activation=("leaky_relu", {"negative_slope": 0.2}), **short),
        _case("resnet18v2", 2, "elu", activation=("elu", {"alpha": 0.7}), **short),
        _case("resnet26", 2, "gelu", activation="gelu", **short),
        _case("seresnet18", 3, "silu", activation="silu", **short),
        _case("seresnet50", 2, "gate-first", se_placement="before_norm", se_rounding="floor", se_ratio=2, **short),
        _case("seresnet18", 2, "v2", shortcut="zero_pad", drop_path=0.3, **short),
        _case("resnet18", 2, "softmax", output_activation="softmax", **short),
        _case("resnet18", 3, "pooled", num_classes=0, **short),
        _case("resnet18v2", 2, "pooled", num_classes=0, **short),
        Case(
            id="resnet26v2-2d-features",
            name="resnet50v2",
            dims=2,
            options={**{k: v for k, v in THIN.items() if k != "num_classes"}, **short, "features_only": True},
            sizes=SIZES[2],
        ),
        *_unets(),
        *_staged_networks(),
        *_monai_networks(),
    ]


def _unets() -> list[Case]:
    short = {"depths": (1, 1, 1, 1), "decoder_filters": (16, 12, 8, 8, 4)}
    small: tuple[tuple[int, ...], ...] = ((1, 1), (2, 5), (37, 30))
    volume = ((17, 20, 33),)
    return [
        _case("unet", 2, "sizes", sizes=small, **short),
        _case("unet", 3, "nearest", sizes=volume, **short),
        _case("unet", 2, "linear", sizes=small, decoder_interpolation="linear", **short),
        _case("unet", 3, "linear", sizes=volume, decoder_interpolation="linear", **short),
        _case("unet", 2, "transpose", sizes=small, decoder_block_type="transpose", **short),
        _case("unet", 3, "transpose", sizes=volume, decoder_block_type="transpose", **short),
        _case("unet", 3, "transpose2", decoder_block_type="transpose", decoder_transpose_kernel=2, **short),
        _case("unet", 3, "v2", encoder_name="resnet18v2", encoder_depth=4, norm="instance", **short),
        _case("unet", 2, "vd", encoder_name="resnet50vd", encoder_depth=3, head_kernel=3, **short),
        _case("unet", 2, "bare", encoder_depth=2, decoder_normalization=None, output_activation="sigmoid", **short),
        _case("unet", 3, "axes", strides=((1, 2, 2), (1, 2, 2), 2, 2, 2), decoder_interpolation="linear", **short),
        _case("unet", 3, "axes-transpose", strides=((1, 2, 2), 2, 2, 2, (1, 2, 2)),
              decoder_block_type="transpose", decoder_activation="gelu", **short),
        _case("unet", 2, "supervised", sizes=small, encoder_depth=4, deep_supervision=True, **short),
        _case("unet_plus_plus", 2, "supervised", sizes=small, encoder_depth=4, deep_supervision=True, **short),
        _case("unet_plus_plus", 3, "vd", encoder_name="resnet18vd", encoder_depth=3, sizes=volume,
              decoder_block_type="transpose", decoder_filter_order="deepest_first", **short),
        _case("attention_unet", 2, "v2", sizes=small, encoder_name="resnet18v2", deep_supervision=True, **short),
        _case("attention_unet", 3, "axes", strides=((1, 2, 2), 2, 2, 2, (1, 2, 2)), encoder_name="seresnet18",
              encoder_depth=4, decoder_interpolation="linear", sizes=volume, **short),
        _case("trans_unet", 2, "supervised", sizes=small, encoder_depth=3, deep_supervision=True, image_size=64,
              decoder_normalization="batch", **TRANSFORMER, **short),
        _case("trans_unet", 3, "axes", strides=((1, 2, 2), 2, 2, 2, (1, 2, 2)), image_size=(20, 33, 40),
              sizes=volume, **TRANSFORMER, **short),
    ]  # fmt: skip


def _staged_networks() -> list[Case]:
    """nnU-Net's networks: both kinds of blocks, flat kernels and strides, with and without heads on coarser levels."""
    stages = {"features": (4, 4, 6), "depths": (1, 2, 1), "decoder_depths": (2, 1)}
    flat = {"strides": (1, (1, 2, 2), 2), "kernels": ((1, 3, 3), 3, 3)}
    networks = [
        ("resenc_unet", 3, "flat", {**stages, **flat}),
        ("resenc_unet", 2, "bottleneck", {**stages, "block": "bottleneck", "norm": "batch", "stem_channels": 6,
                                          "deep_supervision": True}),
        ("plain_unet", 3, "bare", {**stages, "norm": ("instance", {"affine": False}), "conv_bias": False}),
        ("residual_unet", 2, "supervised", {**stages, "deep_supervision": True}),
    ]  # fmt: skip
    return _whole(networks)


def _monai_networks() -> list[Case]:
    """SegResNet, SegResNetDS and MONAI's UNet: every kind of upsampling, flat kernels, strides over 2."""
    segresnet = {"init_filters": 8, "blocks_down": (1, 2, 1)}
    networks = [
        ("segresnet", 3, "linear", segresnet),
        ("segresnet", 2, "deconv", {**segresnet, "upsample_mode": "deconv", "norm": "instance"}),
        ("segresnet_ds", 3, "flat", {**segresnet, "resolution": (3, 1, 1), "dsdepth": 2}),
        ("monai_unet", 3, "units", {"channels": (4, 6, 8), "strides": (2, (1, 2, 2))}),
        ("monai_unet", 2, "plain", {"channels": (4, 6, 8), "strides": (3, 5), "num_res_units": 0, "norm": "batch"}),
    ]
    return _whole(networks)


def _whole(networks: list[tuple[str, int, str, dict[str, Any]]]) -> list[Case]:
    """Networks whose encoder is their own."""
    sizes = {2: ((37, 30),), 3: ((17, 20, 33),)}
    return [
        Case(id=f"{name}-{dims}d-{label}", name=name, dims=dims, sizes=sizes[dims],
             options={"in_channels": 2, "num_classes": 3, **options})
        for name, dims, label, options in networks
    ]  # fmt: skip


TRANSFORMER = {"num_vit_layers": 2, "num_heads": 4, "num_queries": 5, "embed_dim": 24, "mlp_dim": 32}
ENCODERS = ("resnet18", "resnet26", "resnet50v2", "resnet18vd", "resnext50", "seresnet18")
# what keeps a segmentation model small beside the widths of its encoder
THIN_DECODERS: dict[str, dict[str, Any]] = {
    name: {"decoder_filters": (16, 12, 8, 8, 4)} for name in ("unet", "unet_plus_plus", "attention_unet")
}
THIN_DECODERS["trans_unet"] = {**THIN_DECODERS["unet"], **TRANSFORMER}


def _segmenters() -> list[Case]:
    """Every segmentation model on every kind of block, in 2D and 3D, at a size that divides and one that does not."""
    sizes = {2: ((64, 32), (37, 30)), 3: ((32, 64, 32), (17, 20, 33))}
    cases = []
    for name, thin in THIN_DECODERS.items():
        for encoder in ENCODERS:
            blocks = {"depths": (1, 2, 1, 1), **({"groups": 4, "width_per_group": 32} if "next" in encoder else {})}
            options = {"encoder_name": encoder, **blocks, **thin}
            cases += [_case(name, dims, encoder, sizes=sizes[dims], **options) for dims in (2, 3)]
    return cases


def _full() -> list[Case]:
    sizes = {2: ((33, 46),), 3: ((17, 34, 20),)}
    chosen = [("resnet18", 2), ("resnet18", 3), ("resnext50", 2), ("unet", 3)]
    return [Case(id=f"{name}-{dims}d-full", name=name, dims=dims, sizes=sizes[dims]) for name, dims in chosen]


def everything_full() -> list[Case]:
    """Every row at its own widths, and U-Nets: ``make laws``."""
    sizes = {2: ((65, 96), (224, 224)), 3: ((33, 48, 34),)}
    names = [row.name for row in VARIANTS] + ["unet"]
    cases = [
        Case(id=f"{name}-{dims}d-full", name=name, dims=dims, sizes=sizes[dims]) for name in names for dims in (2, 3)
    ]
    blocks = [("linear", {"decoder_interpolation": "linear"}), ("transpose", {"decoder_block_type": "transpose"})]
    for label, options in blocks:
        cases += [
            Case(id=f"unet-{dims}d-{label}-full", name="unet", dims=dims, options=options, sizes=sizes[dims])
            for dims in (2, 3)
        ]
    return cases + _segmenters()


def _once(cases: list[Case]) -> list[Case]:
    """JAX compiles every operation for every size: one size each, but where sizes are what the case is for."""
    return [case if case.id.endswith("-sizes") else replace(case, sizes=case.sizes[-1:]) for case in cases]


# what each backend runs in every test run
CASES: dict[str, list[Case]] = {
    "torch": [*every_row(shallow=False), *_options(), *_full()],
    "jax": _once([*every_row(shallow=True), *_options(), *_full()]),
    "tensorflow": [*every_row(shallow=True), *_options(), *_full()],
}


def all_cases() -> list[Case]:
    """Every case of any backend, once; TensorFlow has all sizes."""
    found = {answer_key(case, ()): case for case in [*CASES["torch"], *CASES["tensorflow"]]}
    return list(found.values())


def answer_key(case: Case, size: tuple[int, ...]) -> str:
    """The name under which PyTorch's answer to that case at that size is kept."""
    who = f"{case.name} {case.dims} {case.options!r}"
    return f"{zlib.crc32(who.encode()):08x}-{'x'.join(map(str, size))}"


def random_tensors(blueprint: resvox.Blueprint, seed: int = 0) -> dict[str, np.ndarray]:
    """A value for every tensor: kernels that keep the size of signals, scales around 1, variances above 0."""
    rng, found = np.random.default_rng(seed), {}
    for name, spec in blueprint.tensors().items():
        values = rng.standard_normal(spec.shape, dtype=np.float32)
        if len(spec.shape) > 1:
            values *= np.float32(math.sqrt(2.0 / math.prod(spec.shape[1:])))
        elif name.endswith("running_var"):
            values = np.abs(values) + np.float32(0.5)
        else:
            values = values * np.float32(0.2) + np.float32(name.endswith("weight"))
        found[name] = values
    # Without this the sums of a hundred random blocks grow until every gate is a switch, which a rounding error can
    # throw: float32 and float64 of PyTorch itself were 2e-3 apart in seresnet101. A trained branch adds little.
    for gated in {name.split(".se.")[0] for name in found if ".se." in name}:
        last = next(number for number in "32" if f"{gated}.bn{number}.weight" in found)
        for value in ("weight", "bias"):
            found[f"{gated}.bn{last}.{value}"] *= np.float32(0.1)
    return found


def random_image(blueprint: resvox.Blueprint, size: tuple[int, ...], seed: int = 1) -> np.ndarray:
    """Two images, channels last: (2, \\*size, channels)."""
    shape = (2, *size, blueprint.in_channels)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def relative_difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest absolute difference over the largest wanted value."""
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    assert np.isfinite(found).all()
    return float(np.abs(found.astype(np.float64) - wanted).max() / max(np.abs(wanted).max(), 1e-30))
