"""The residual networks: one line of data per variant."""

from __future__ import annotations

from dataclasses import dataclass

_18, _34, _101, _152 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of the table: the options that distinguish this residual network from the others."""

    name: str
    family: str
    block: str
    depths: tuple[int, int, int, int]
    preactivation: bool = False
    stem: str = "7x7"
    average_down: bool = False
    groups: int = 1
    width_per_group: int = 64
    se_ratio: int | None = None
    class_name: str = ""


def _row(name: str, class_name: str, block: str, depths: tuple[int, int, int, int], **options: object) -> Variant:
    return Variant(name=name, class_name=class_name, block=block, depths=depths, **options)  # type: ignore[arg-type]


_V1 = {"family": "resnet"}
_V2 = {"family": "resnet", "preactivation": True}
_VD = {"family": "resnet", "stem": "deep", "average_down": True}
_SE = {"family": "seresnet", "se_ratio": 16}

# fmt: off
VARIANTS: tuple[Variant, ...] = (
    _row("resnet10", "ResNet10", "basic", (1, 1, 1, 1), **_V1),
    _row("resnet18", "ResNet18", "basic", _18, **_V1),
    _row("resnet26", "ResNet26", "bottleneck", _18, **_V1),
    _row("resnet34", "ResNet34", "basic", _34, **_V1),
    _row("resnet50", "ResNet50", "bottleneck", _34, **_V1),
    _row("resnet101", "ResNet101", "bottleneck", _101, **_V1),
    _row("resnet152", "ResNet152", "bottleneck", _152, **_V1),
    _row("resnet200", "ResNet200", "bottleneck", (3, 24, 36, 3), **_V1),
    _row("resnet18v2", "ResNet18v2", "basic", _18, **_V2),
    _row("resnet34v2", "ResNet34v2", "basic", _34, **_V2),
    _row("resnet50v2", "ResNet50v2", "bottleneck", _34, **_V2),
    _row("resnet101v2", "ResNet101v2", "bottleneck", _101, **_V2),
    _row("resnet152v2", "ResNet152v2", "bottleneck", _152, **_V2),
    _row("resnet200v2", "ResNet200v2", "bottleneck", (3, 24, 36, 3), **_V2),
    _row("resnet18vd", "ResNet18vd", "basic", _18, **_VD),
    _row("resnet34vd", "ResNet34vd", "basic", _34, **_VD),
    _row("resnet50vd", "ResNet50vd", "bottleneck", _34, **_VD),
    _row("resnet101vd", "ResNet101vd", "bottleneck", _101, **_VD),
    _row("resnet152vd", "ResNet152vd", "bottleneck", _152, **_VD),
    _row("resnet200vd", "ResNet200vd", "bottleneck", (3, 12, 48, 3), **_VD),
    _row("resnet200d", "ResNet200d", "bottleneck", (3, 24, 36, 3), **_VD),
    _row("resnext50", "ResNeXt50", "bottleneck", _34, family="resnext", groups=32, width_per_group=4),
    _row("resnext101", "ResNeXt101", "bottleneck", _101, family="resnext", groups=32, width_per_group=8),
    _row("resnext101_32x4d", "ResNeXt101_32x4d", "bottleneck", _101, family="resnext", groups=32, width_per_group=4),
    _row("resnext101_64x4d", "ResNeXt101_64x4d", "bottleneck", _101, family="resnext", groups=64, width_per_group=4),
    _row("seresnet18", "SEResNet18", "basic", _18, **_SE),
    _row("seresnet34", "SEResNet34", "basic", _34, **_SE),
    _row("seresnet50", "SEResNet50", "bottleneck", _34, **_SE),
    _row("seresnet101", "SEResNet101", "bottleneck", _101, **_SE),
    _row("seresnet152", "SEResNet152", "bottleneck", _152, **_SE),
    _row("seresnext50", "SEResNeXt50", "bottleneck", _34, family="seresnext", groups=32, width_per_group=4,
         se_ratio=16),
    _row("seresnext101", "SEResNeXt101", "bottleneck", _101, family="seresnext", groups=32, width_per_group=8,
         se_ratio=16),
    _row("wide_resnet50", "WideResNet50", "bottleneck", _34, family="wide_resnet", width_per_group=128),
    _row("wide_resnet101", "WideResNet101", "bottleneck", _101, family="wide_resnet", width_per_group=128),
)
# fmt: on

ALIASES: dict[str, str] = {
    "resnext50_32x4d": "resnext50",
    "resnext101_32x8d": "resnext101",
    "wide_resnet50_2": "wide_resnet50",
    "wide_resnet101_2": "wide_resnet101",
    "seresnext50_32x4d": "seresnext50",
    "seresnext101_32x8d": "seresnext101",
    **{f"resnet{n}d": f"resnet{n}vd" for n in (18, 34, 50, 101, 152)},  # names of the vd networks in timm
    **{f"{v.name[:-2]}_{v.name[-2:]}": v.name for v in VARIANTS if v.name.endswith(("v2", "vd"))},
}

BY_NAME: dict[str, Variant] = {variant.name: variant for variant in VARIANTS}
