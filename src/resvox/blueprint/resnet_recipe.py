"""The recipe of a ResNet: a row of the catalog and the user's options, validated when it is created."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from resvox.blueprint.choices import NormChoice
from resvox.blueprint.leaves import Activation, Axes, is_number, is_whole, require

STEMS = ("7x7", "deep", "3x3")
SHORTCUTS = ("projection", "zero_pad")
SE_PLACEMENTS = ("after_norm", "before_norm")
SE_ROUNDINGS = ("multiple_of_8", "floor")
STRIDE_PLACES = ("conv2", "conv1")
STRIDE_BLOCKS = ("first", "last")
POOL_PADDINGS = ("minus_infinity", "zeros")
BIAS_PLACES = ("stem", "conv1", "conv2", "conv3", "downsample")
LEVELS = 5  # P1 (the stem) and the four residual stages


@dataclass(frozen=True, kw_only=True)
class ResNetRecipe:
    """All options from which a ResNet is resolved; sizes are per axis.

    Args:
        block: ``"basic"`` or ``"bottleneck"``.
        depths: blocks in each residual stage.
        strides: of the stem, the pooling and the last three stages. A pooling of stride 1 is not built.
        output_stride: 8, 16 or 32; a stage beyond it dilates instead of striding (as in torchvision, the first
            block of a dilated stage keeps the dilation of the stage before).
        se_placement: the gate after the last norm of a block, ``"after_norm"`` (the paper, timm), or before it,
            ``"before_norm"``.
        se_rounding: the gate's inner channels, channels / se_ratio, to the nearest ``"multiple_of_8"`` and never
            below 8 (timm), or ``"floor"``.
        stride_on: which convolution of a bottleneck strides: ``"conv2"`` (v1.5: torchvision, timm) or ``"conv1"`` (v1
            as first published, keras.applications).
        stride_block: which block of a pre-activation stage strides: the ``"first"``, or the ``"last"`` one of the
            stage before (keras.applications' V2), whose shortcut then picks every stride-th voxel.
        conv_bias: the convolutions that have a bias: True for all of them, or some of ``"stem"``, ``"conv1"``,
            ``"conv2"``, ``"conv3"`` (of every block) and ``"downsample"``.
        pool_padding: the values beyond the border for the pooling of the stem: ``"minus_infinity"``, or ``"zeros"``
            (keras.applications' V2, whose stem is not activated).
        dilate_first_block: whether the first block of a dilated stage has the dilation of its stage (MedicalNet)
            instead of that of the stage before.
        depth: number of levels P1..P<depth>; deeper stages are not built.
        num_classes: 0 for pooled features, ``None`` for a backbone without a head.
    """

    spatial_dims: int
    in_channels: int
    block: str
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: str = "7x7"
    stem_width: int = 64
    stem_kernel: Axes | None = None
    strides: tuple[Axes, ...] = ()
    preactivation: bool = False
    average_down: bool = False
    groups: int = 1
    width_per_group: int = 64
    se_ratio: int | None = None
    se_placement: str = "after_norm"
    se_rounding: str = "multiple_of_8"
    norm: NormChoice = field(default_factory=NormChoice)
    activation: Activation = field(default_factory=lambda: Activation(kind="relu"))
    shortcut: str = "projection"
    stride_on: str = "conv2"
    stride_block: str = "first"
    conv_bias: tuple[str, ...] = ()
    pool_padding: str = "minus_infinity"
    dilate_first_block: bool = False
    output_stride: int = 32
    drop_path: float = 0.0
    zero_init_residual: bool = False
    depth: int = LEVELS
    num_classes: int | None = None
    output_activation: Activation | None = None

    def __post_init__(self) -> None:
        require(self.spatial_dims in (2, 3), f"spatial_dims={self.spatial_dims!r}", "2 or 3")
        for name in ("in_channels", "stem_width", "groups", "width_per_group"):
            value = getattr(self, name)
            require(is_whole(value, 1), f"{name}={value!r}", "a whole number of at least 1")
        require(self.block in ("basic", "bottleneck"), f"block={self.block!r}", "'basic' or 'bottleneck'")
        for name in ("depths", "widths"):
            value = getattr(self, name)
            good = isinstance(value, tuple) and len(value) == 4 and all(is_whole(n, 1) for n in value)
            require(good, f"{name}={value!r}", "four whole numbers of at least 1")
        good = self.se_ratio is None or is_whole(self.se_ratio, 1)
        require(good, f"se_ratio={self.se_ratio!r}", "a whole number of at least 1, or None")
        self._check_squeeze_excitation()
        good = type(self.zero_init_residual) is bool
        require(good, f"zero_init_residual={self.zero_init_residual!r}", "True or False")
        require(self.stem in STEMS, f"stem={self.stem!r}", "one of " + ", ".join(map(repr, STEMS)))
        require(
            self.shortcut in SHORTCUTS,
            f"shortcut={self.shortcut!r}",
            "one of " + ", ".join(map(repr, SHORTCUTS)),
        )
        self._check_peers_habits()
        good = is_whole(self.output_stride, 8) and self.output_stride in (8, 16, 32)
        require(good, f"output_stride={self.output_stride!r}", "8, 16 or 32")
        require(1 <= self.depth <= LEVELS, f"encoder_depth={self.depth!r}", "1 to 5")
        good = is_number(self.drop_path) and 0 <= self.drop_path < 1
        require(good, f"drop_path={self.drop_path!r}", "a number from 0 to below 1")
        plain = self.groups == 1 and self.width_per_group == 64
        require(
            self.block == "bottleneck" or plain,
            f"groups={self.groups}, width_per_group={self.width_per_group} with basic blocks",
            "groups=1 and width_per_group=64",
            "choose a bottleneck variant (resnet26, resnet50 and up)",
        )
        strides_good = not self.strides or (
            len(self.strides) == LEVELS and all(len(s) == self.spatial_dims for s in self.strides)
        )
        require(
            strides_good,
            f"strides={self.strides!r}",
            f"five of them (stem, pooling, stages 2 to 4), each {self.spatial_dims} numbers",
        )
        require(
            self.num_classes is None or self.num_classes >= 0,
            f"num_classes={self.num_classes!r}",
            "at least 1, or 0 for pooled features",
        )
        require(
            self.output_activation is None or bool(self.num_classes),
            f"output_activation={self.output_activation.kind if self.output_activation else None!r} without classes",
            "num_classes of at least 1",
            "leave the output's activation out",
        )

    def _check_squeeze_excitation(self) -> None:
        for name, known in (("se_placement", SE_PLACEMENTS), ("se_rounding", SE_ROUNDINGS)):
            value = getattr(self, name)
            require(value in known, f"{name}={value!r}", " or ".join(map(repr, known)))
            require(
                self.se_ratio is not None or value == known[0],
                f"{name}={value!r} without squeeze and excitation",
                "a network with se_ratio",
                "give se_ratio= too, or choose a seresnet",
            )
        require(
            not self.preactivation or self.se_placement == "after_norm",
            "se_placement='before_norm' with pre-activation blocks, which end without a norm",
            "se_placement='after_norm'",
            "leave se_placement out",
        )

    def _check_peers_habits(self) -> None:
        for name, known in (
            ("stride_on", STRIDE_PLACES),
            ("stride_block", STRIDE_BLOCKS),
            ("pool_padding", POOL_PADDINGS),
        ):
            value = getattr(self, name)
            good = isinstance(value, str) and value in known
            require(good, f"{name}={value!r}", " or ".join(map(repr, known)))
        good = isinstance(self.conv_bias, tuple) and all(place in BIAS_PLACES for place in self.conv_bias)
        places = ", ".join(map(repr, BIAS_PLACES))
        require(good, f"conv_bias={self.conv_bias!r}", f"True, False or some of {places}")
        good = type(self.dilate_first_block) is bool
        require(good, f"dilate_first_block={self.dilate_first_block!r}", "True or False")
        require(
            self.stride_on == "conv2" or (self.block == "bottleneck" and not self.preactivation),
            f"stride_on={self.stride_on!r} with {self._kind} blocks",
            "post-activation bottleneck blocks",
            "leave stride_on out",
        )
        require(
            self.stride_block == "first" or (self.preactivation and self.output_stride == 32),
            f"stride_block={self.stride_block!r} with {self._kind} blocks and output_stride={self.output_stride}",
            "pre-activation blocks and output_stride=32",
            "leave stride_block out",
        )

    @property
    def _kind(self) -> str:
        return ("pre-activation " if self.preactivation else "") + self.block

    @property
    def expansion(self) -> int:
        """Ratio of the output channels of a stage to its width."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def level_strides(self) -> tuple[Axes, ...]:
        """Strides of stem, pooling and the last three stages; a 3x3 stem (small images) keeps its size."""
        if self.strides:
            return self.strides
        first = 1 if self.stem == "3x3" else 2
        return tuple((n,) * self.spatial_dims for n in (first, first, 2, 2, 2))

    def levels(self) -> Iterator[Level]:
        """Stride and dilation of each level P1..P5: a stage strides while ``output_stride`` allows it."""
        ones = (1,) * self.spatial_dims
        stem, pool, *later = self.level_strides
        yield Level(stride=stem, before=ones, first_dilation=ones, dilation=ones)
        yield Level(stride=pool, before=ones, first_dilation=ones, dilation=ones)
        reach, dilation = multiply(stem, pool), ones
        for wanted in later:
            before = dilation
            fits = [r * s <= self.output_stride for r, s in zip(reach, wanted, strict=True)]
            stride = tuple(s if ok else 1 for s, ok in zip(wanted, fits, strict=True))
            dilation = tuple(d if ok else d * s for d, s, ok in zip(dilation, wanted, fits, strict=True))
            reach = multiply(reach, stride)
            first = dilation if self.dilate_first_block else before
            yield Level(stride=stride, before=before, first_dilation=first, dilation=dilation)


@dataclass(frozen=True, kw_only=True)
class Level:
    """How a level of the pyramid is computed from the one above: stride, and dilation of its first and later blocks.

    ``before`` is the dilation of the level above.
    """

    stride: Axes
    before: Axes
    first_dilation: Axes
    dilation: Axes


def multiply(a: Axes, b: Axes) -> Axes:
    """The product per axis."""
    return tuple(x * y for x, y in zip(a, b, strict=True))
