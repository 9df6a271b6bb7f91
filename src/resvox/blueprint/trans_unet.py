"""From a recipe to a resolved TransUNet.

It has a residual encoder, a vision transformer on its deepest map, learned class queries (cross-attention) refined
from coarse to fine, and a convolutional decoder: the hybrid of arXiv:2102.04306 with the learnable queries of
arXiv:2310.07781.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from resvox.blueprint import transformers as tf
from resvox.blueprint.choices import NormChoice
from resvox.blueprint.encoders import encoder_channels, encoder_depth, encoder_reduction, encoder_strides
from resvox.blueprint.leaves import (
    Activation,
    Axes,
    Conv,
    Dropout,
    Linear,
    Norm,
    Upsample,
    is_number,
    is_whole,
    require,
)
from resvox.blueprint.networks import Encoder, SupervisionHead, TransDecoder, TransUNet, UNetDecoderBlock
from resvox.blueprint.node import Sequence
from resvox.blueprint.resnet_recipe import multiply

LAYER_NORM_EPS = 1e-6
PATCH_REACH = 16  # voxels of the image per token, where the deepest map of the encoder is finer than that
MOST_GROUPS = 32
IMAGE_SIZES = {2: 224, 3: 96}


@dataclass(frozen=True, kw_only=True)
class TransUNetRecipe:
    """All options from which a TransUNet is resolved.

    Args:
        encoder: resolved, without a head.
        filters: channels of the decoder blocks, deepest first; those beyond the depth are ignored.
        image_size: the size for which the position embedding is stored; for other sizes it is interpolated.
        patch_size: voxels of the deepest map per token; ``None`` takes the smallest patch with which a token covers 16
            voxels of the image along the axis with the largest total stride, as in the paper.
        num_vit_layers, num_heads, embed_dim, mlp_dim, dropout_rate: of the transformer and of the queries' layers.
        num_queries: learned queries.
        interpolation: of the decoder, ``"linear"`` or ``"nearest"``.
        norm: of the decoder; ``None`` leaves it out and gives the convolutions a bias.
        deep_supervision: a head on every map of the decoder but the last.
    """

    encoder: Encoder
    num_classes: int
    image_size: Axes
    patch_size: Axes | None = None
    filters: tuple[int, ...] = (256, 128, 64, 32, 16)
    num_vit_layers: int = 12
    num_heads: int = 8
    num_queries: int = 100
    embed_dim: int = 512
    mlp_dim: int = 1024
    dropout_rate: float = 0.1
    interpolation: str = "linear"
    norm: NormChoice | None = None
    activation: Activation = field(default_factory=lambda: Activation(kind="leaky_relu", slope=0.01))
    deep_supervision: bool = False
    output_activation: Activation | None = None

    def __post_init__(self) -> None:
        require(self.num_classes >= 1, f"num_classes={self.num_classes!r}", "at least 1 for a segmenter")
        for name in ("num_vit_layers", "num_heads", "num_queries", "embed_dim", "mlp_dim"):
            value = getattr(self, name)
            require(is_whole(value, 1), f"{name}={value!r}", "a whole number of at least 1")
        require(
            self.embed_dim % self.num_heads == 0,
            f"embed_dim={self.embed_dim} with num_heads={self.num_heads}",
            "an embed_dim that num_heads divides",
            f"take num_heads={math.gcd(self.embed_dim, self.num_heads)}, or another embed_dim",
        )
        good = is_number(self.dropout_rate) and 0 <= self.dropout_rate < 1
        require(good, f"dropout_rate={self.dropout_rate!r}", "a number from 0 to below 1")
        good = self.interpolation in ("nearest", "linear")
        require(good, f"decoder_interpolation={self.interpolation!r}", "'nearest' or 'linear'")
        self._check_depth()

    def _check_depth(self) -> None:
        depth = encoder_depth(self.encoder)
        good = isinstance(self.filters, tuple) and len(self.filters) >= depth
        good = good and all(is_whole(width, 1) for width in self.filters)
        require(
            good,
            f"decoder_filters={self.filters!r} with encoder_depth={depth}",
            f"at least {depth} numbers, each at least 1, deepest first",
        )
        require(type(self.deep_supervision) is bool, f"deep_supervision={self.deep_supervision!r}", "True or False")
        good = depth > 1 or not self.deep_supervision
        require(good, "deep_supervision=True with encoder_depth=1", "a depth of at least 2", "there is one level only")

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.image_size)

    @property
    def patch(self) -> Axes:
        """Voxels of the deepest map in a token, per axis."""
        if self.patch_size is not None:
            return self.patch_size
        return (max(1, PATCH_REACH // max(encoder_reduction(self.encoder))),) * self.spatial_dims

    @property
    def grid(self) -> Axes:
        """Tokens of an image of ``image_size``: every stride leaves ceil(n / stride) of n."""
        reach = multiply(encoder_reduction(self.encoder), self.patch)
        return tuple(-(-n // r) for n, r in zip(self.image_size, reach, strict=True))

    def dropout(self) -> Dropout | None:
        """The dropout layer; None at rate 0."""
        return Dropout(rate=self.dropout_rate) if self.dropout_rate > 0 else None


def resolve_trans_unet(recipe: TransUNetRecipe) -> TransUNet:
    """The network of a recipe, every number settled."""
    widths, scales = encoder_channels(recipe.encoder), encoder_strides(recipe.encoder)
    head = _conv(recipe, recipe.filters[len(widths) - 1], recipe.num_classes, 1)
    return TransUNet(
        encoder=recipe.encoder,
        decoder=_decoder(recipe, widths, scales),
        head=Sequence(items=(head, Upsample(scale=scales[0], mode=recipe.interpolation))),
        supervision=_supervision(recipe, scales) if recipe.deep_supervision else None,
        activation=recipe.output_activation,
    )


def _decoder(recipe: TransUNetRecipe, widths: list[int], scales: list[Axes]) -> TransDecoder:
    channels, blocks = recipe.filters[0], []
    # the input is the transformer's map and the class scores of the queries; each block joins the next finer map
    for scale, skip, out in zip(reversed(scales), reversed(widths[:-1]), recipe.filters[1:], strict=False):
        blocks.append(_decoder_block(recipe, channels + skip, out, scale))
        channels = out
    entering = recipe.embed_dim + recipe.num_classes
    return TransDecoder(
        vit=_vision_transformer(recipe, widths[-1]),
        queries=_query_decoder(recipe, widths, scales),
        up=Upsample(scale=recipe.patch, mode=recipe.interpolation),
        conv=_conv(recipe, entering, recipe.filters[0], 3, bias=recipe.norm is None),
        bn=recipe.norm.over(recipe.filters[0]) if recipe.norm else None,
        act=recipe.activation,
        blocks=Sequence(items=tuple(blocks)),
    )


def _decoder_block(recipe: TransUNetRecipe, channels: int, out: int, scale: Axes) -> UNetDecoderBlock:
    return UNetDecoderBlock(
        gate=None,
        up=Upsample(scale=scale, mode=recipe.interpolation),
        joins=True,
        conv1=_conv(recipe, channels, out, 3, bias=recipe.norm is None),
        bn1=recipe.norm.over(out) if recipe.norm else None,
        act1=recipe.activation,
        conv2=None,
        bn2=None,
        act2=None,
    )


def _vision_transformer(recipe: TransUNetRecipe, channels: int) -> tf.VisionTransformer:
    zeros, ones = (0,) * recipe.spatial_dims, (1,) * recipe.spatial_dims
    embed = Conv(
        in_channels=channels,
        out_channels=recipe.embed_dim,
        kernel=recipe.patch,
        stride=recipe.patch,
        padding=zeros,
        dilation=ones,
        bias=True,
        init="uniform_fan_in",
    )
    return tf.VisionTransformer(
        embed=tf.PatchEmbedding(conv=embed),
        position=tf.PositionEmbedding(channels=recipe.embed_dim, grid=recipe.grid),
        blocks=Sequence(items=(_block(recipe),) * recipe.num_vit_layers),
        norm=_layer_norm(recipe),
    )


def _block(recipe: TransUNetRecipe) -> tf.TransformerBlock:
    return tf.TransformerBlock(
        norm1=_layer_norm(recipe),
        attn=_attention(recipe),
        drop=recipe.dropout(),
        norm2=_layer_norm(recipe),
        mlp=_mlp(recipe),
    )


def _query_decoder(recipe: TransUNetRecipe, widths: list[int], scales: list[Axes]) -> tf.QueryDecoder:
    scale, levels = recipe.patch, []
    # coarse to fine: P<depth - 1> down to P1; a token of the transformer covers ``scale`` voxels of each
    for width, stride in zip(reversed(widths[:-1]), reversed(scales), strict=False):
        scale = multiply(scale, stride)
        levels.append(_level(recipe, width, scale))
    return tf.QueryDecoder(
        embedding=tf.Queries(count=recipe.num_queries, channels=recipe.embed_dim),
        norm=_layer_norm(recipe),
        dot=tf.MaskProduct(channels=recipe.embed_dim),
        levels=Sequence(items=tuple(levels)),
        classes=Linear(in_features=recipe.embed_dim, out_features=recipe.num_classes + 1),
        vote=tf.MaskVote(num_classes=recipe.num_classes),
    )


def _level(recipe: TransUNetRecipe, channels: int, scale: Axes) -> tf.QueryLevel:
    groups = max(g for g in range(1, MOST_GROUPS + 1) if recipe.embed_dim % g == 0)
    return tf.QueryLevel(
        conv=_conv(recipe, channels, recipe.embed_dim, 1, bias=False),
        norm=Norm(kind="group", channels=recipe.embed_dim, eps=1e-5, momentum=0.1, groups=groups),
        up=Upsample(scale=scale, mode="nearest"),
        norm1=_layer_norm(recipe),
        attn=_attention(recipe),
        drop=recipe.dropout(),
        norm2=_layer_norm(recipe),
        mlp=_mlp(recipe),
    )


def _supervision(recipe: TransUNetRecipe, scales: list[Axes]) -> Sequence:
    scale, heads = scales[0], []
    maps = list(zip(recipe.filters, reversed(scales), strict=False))
    for width, stride in reversed(maps[: len(scales) - 1]):  # finest first, without P1, to which the head is applied
        scale = multiply(scale, stride)
        conv = _conv(recipe, width, recipe.num_classes, 1)
        heads.append(SupervisionHead(conv=conv, up=Upsample(scale=scale, mode="linear")))
    return Sequence(items=tuple(heads))


def _layer_norm(recipe: TransUNetRecipe) -> tf.LayerNorm:
    return tf.LayerNorm(channels=recipe.embed_dim, eps=LAYER_NORM_EPS)


def _attention(recipe: TransUNetRecipe) -> tf.Attention:
    width = recipe.embed_dim
    square = Linear(in_features=width, out_features=width)
    # a bias of the keys adds one number to all logits of a query, which softmax ignores: it would have no gradient
    key = Linear(in_features=width, out_features=width, bias=False)
    dot = tf.AttentionProduct(channels=width, heads=recipe.num_heads)
    return tf.Attention(query=square, key=key, value=square, dot=dot, out=square)


def _mlp(recipe: TransUNetRecipe) -> tf.Mlp:
    return tf.Mlp(
        fc1=Linear(in_features=recipe.embed_dim, out_features=recipe.mlp_dim),
        act=Activation(kind="gelu"),
        drop1=recipe.dropout(),
        fc2=Linear(in_features=recipe.mlp_dim, out_features=recipe.embed_dim),
        drop2=recipe.dropout(),
    )


def _conv(recipe: TransUNetRecipe, inner: int, outer: int, kernel: int, *, bias: bool = True) -> Conv:
    dims = recipe.spatial_dims
    ones = (1,) * dims
    return Conv(
        in_channels=inner,
        out_channels=outer,
        kernel=(kernel,) * dims,
        stride=ones,
        padding=(kernel // 2,) * dims,
        dilation=ones,
        bias=bias,
        init="uniform_fan_in" if bias else "he_fan_out",
    )
