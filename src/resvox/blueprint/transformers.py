"""Transformers in networks for images: tokens, attention, and learned class queries (cross-attention).

A map (batch, channels, \\*size) and its tokens (batch, voxels, channels) hold the same values; voxels are in the order
of the map's memory, last axis fastest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
from resvox.blueprint.node import Node, Sequence, TensorSpec

EMBEDDING_STD = 0.02  # standard deviation of initial position embeddings and queries


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Node):
    """Normalization of every token over its channels (arXiv:1607.06450)."""

    channels: int
    eps: float

    def __post_init__(self) -> None:
        require(is_whole(self.channels, 1), f"layer norm channels={self.channels!r}", "a whole number of at least 1")
        require(is_number(self.eps) and self.eps > 0, f"layer norm eps={self.eps!r}", "a positive number")

    def own_tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        """The weights of the layer."""
        for name in ("weight", "bias"):
            yield name, TensorSpec(shape=(self.channels,), role="parameter")


@dataclass(frozen=True, kw_only=True)
class PositionEmbedding(Node):
    """A learned vector for every position of a grid, added to a map; interpolated for a map of another size.

    Interpolation is linear with half-pixel centres. Weight (1, channels, \\*grid).
    """

    channels: int
    grid: Axes

    def __post_init__(self) -> None:
        good = is_whole(self.channels, 1) and len(self.grid) in (2, 3) and all(is_whole(n, 1) for n in self.grid)
        require(
            good,
            f"position embedding of {self.channels!r} channels on a grid of {self.grid!r}",
            "whole numbers of at least 1, the grid's one per axis",
        )

    def own_tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        """The weights of the layer."""
        yield "weight", TensorSpec(shape=(1, self.channels, *self.grid), role="parameter")


@dataclass(frozen=True, kw_only=True)
class Queries(Node):
    """Learned query vectors, the same for every image, that attend to the tokens. Weight (count, channels)."""

    count: int
    channels: int

    def __post_init__(self) -> None:
        for name in ("count", "channels"):
            value = getattr(self, name)
            require(is_whole(value, 1), f"queries {name}={value!r}", "a whole number of at least 1")

    def own_tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        """The weights of the layer."""
        yield "weight", TensorSpec(shape=(self.count, self.channels), role="parameter")


@dataclass(frozen=True, kw_only=True)
class AttentionProduct(Node):
    """Scaled dot-product attention in several heads (arXiv:1706.03762): softmax(q k / sqrt(channels / heads)) v.

    A query attends to the tokens that its mask allows, or to all tokens if the mask allows no token.
    """

    channels: int
    heads: int

    def __post_init__(self) -> None:
        good = is_whole(self.channels, 1) and is_whole(self.heads, 1) and self.channels % self.heads == 0
        require(
            good, f"attention over {self.channels!r} channels in {self.heads!r} heads", "channels that the heads divide"
        )


@dataclass(frozen=True, kw_only=True)
class MaskProduct(Node):
    """Mask logits of every query: its dot product with each token / sqrt(channels)."""

    channels: int


@dataclass(frozen=True, kw_only=True)
class MaskVote(Node):
    """Class scores of a token: the sum over queries of class probability times mask probability at the token.

    The last class of a query is "no object" and is left out of the sum, so that a single class can be learned as well.
    """

    num_classes: int


@dataclass(frozen=True, kw_only=True)
class Attention(Node):
    """Multi-head attention: queries, keys and values projected, the product, and a projection of the joined heads."""

    query: Linear
    key: Linear
    value: Linear
    dot: AttentionProduct
    out: Linear


@dataclass(frozen=True, kw_only=True)
class Mlp(Node):
    """Two linear layers with an activation between them, applied to each token."""

    fc1: Linear
    act: Activation
    drop1: Dropout | None
    fc2: Linear
    drop2: Dropout | None


@dataclass(frozen=True, kw_only=True)
class TransformerBlock(Node):
    """Self-attention and an MLP, each after a norm and with a shortcut (pre-norm, arXiv:2010.11929)."""

    norm1: LayerNorm
    attn: Attention
    drop: Dropout | None
    norm2: LayerNorm
    mlp: Mlp


@dataclass(frozen=True, kw_only=True)
class PatchEmbedding(Node):
    """A convolution whose kernel is its stride: one token per patch. The far border is zero-padded to whole patches."""

    conv: Conv

    @property
    def patch(self) -> Axes:
        """Size of a patch in voxels of the map."""
        return self.conv.stride


@dataclass(frozen=True, kw_only=True)
class VisionTransformer(Node):
    """Patch and position embedding, transformer blocks, a norm: a map in, a map with one voxel per patch out."""

    embed: PatchEmbedding
    position: PositionEmbedding
    blocks: Sequence
    norm: LayerNorm


@dataclass(frozen=True, kw_only=True)
class QueryLevel(Node):
    """Masked cross-attention of the queries to one map of the encoder.

    ``conv`` and ``norm`` bring the map to the queries' channels; ``up`` brings the masks to its size (nearest,
    cropped). A token whose mask logit is below 0 (probability below 0.5) is not attended (arXiv:2112.01527,
    arXiv:2310.07781).
    """

    conv: Conv
    norm: Norm
    up: Upsample
    norm1: LayerNorm
    attn: Attention
    drop: Dropout | None
    norm2: LayerNorm
    mlp: Mlp


@dataclass(frozen=True, kw_only=True)
class QueryDecoder(Node):
    """Learned queries, refined level by level from coarse to fine, which give class scores of every token.

    ``norm`` and ``dot`` give the masks before the first level and after each level. The threshold has no gradient:
    these two layers learn from the last masks alone.
    """

    embedding: Queries
    norm: LayerNorm
    dot: MaskProduct
    levels: Sequence
    classes: Linear
    vote: MaskVote
