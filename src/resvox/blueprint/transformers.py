"""Transformers in a network of images: tokens, attention, and queries that look for the classes.

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

EMBEDDING_STD = 0.02  # of places and queries when they are drawn


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Node):
    """Normalization of every token over its channels (arXiv:1607.06450)."""

    channels: int
    eps: float

    def __post_init__(self) -> None:
        require(is_whole(self.channels, 1), f"layer norm channels={self.channels!r}", "a whole number of at least 1")
        require(is_number(self.eps) and self.eps > 0, f"layer norm eps={self.eps!r}", "a positive number")

    def own_tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        for name in ("weight", "bias"):
            yield name, TensorSpec(shape=(self.channels,), role="parameter")


@dataclass(frozen=True, kw_only=True)
class PositionEmbedding(Node):
    """A learned vector for every place of a grid, added to a map; for a map of another size it is interpolated.

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
        yield "weight", TensorSpec(shape=(1, self.channels, *self.grid), role="parameter")


@dataclass(frozen=True, kw_only=True)
class Queries(Node):
    """Learned vectors, the same for every image: what asks the tokens for objects. Weight (count, channels)."""

    count: int
    channels: int

    def __post_init__(self) -> None:
        for name in ("count", "channels"):
            value = getattr(self, name)
            require(is_whole(value, 1), f"queries {name}={value!r}", "a whole number of at least 1")

    def own_tensors(self) -> Iterator[tuple[str, TensorSpec]]:
        yield "weight", TensorSpec(shape=(self.count, self.channels), role="parameter")


@dataclass(frozen=True, kw_only=True)
class AttentionProduct(Node):
    """Scaled dot-product attention in several heads (arXiv:1706.03762): softmax(q k / sqrt(channels / heads)) v.

    A query attends to the tokens that its mask allows, and to all of them where it allows none.
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
    """How well every token fits every query: their dot product / sqrt(channels), the logits of a mask each."""

    channels: int


@dataclass(frozen=True, kw_only=True)
class MaskVote(Node):
    """Queries vote for the classes of a token, each with its class probabilities times its mask there.

    The last of a query's classes is "no object", which takes no part: so one class alone can be learned as well.
    """

    num_classes: int


@dataclass(frozen=True, kw_only=True)
class Attention(Node):
    """Multi-head attention: queries, keys and values projected, the product, the heads mixed."""

    query: Linear
    key: Linear
    value: Linear
    dot: AttentionProduct
    out: Linear


@dataclass(frozen=True, kw_only=True)
class Mlp(Node):
    """Two linear layers with an activation between them, token by token."""

    fc1: Linear
    act: Activation
    drop1: Dropout | None
    fc2: Linear
    drop2: Dropout | None


@dataclass(frozen=True, kw_only=True)
class TransformerBlock(Node):
    """Self-attention and an MLP, each behind a norm and beside a shortcut (pre-norm, arXiv:2010.11929)."""

    norm1: LayerNorm
    attn: Attention
    drop: Dropout | None
    norm2: LayerNorm
    mlp: Mlp


@dataclass(frozen=True, kw_only=True)
class PatchEmbedding(Node):
    """A convolution whose kernel is its stride: a token a patch. The far border is continued by zeros to whole ones."""

    conv: Conv

    @property
    def patch(self) -> Axes:
        """Size of a patch in voxels of the map."""
        return self.conv.stride


@dataclass(frozen=True, kw_only=True)
class VisionTransformer(Node):
    """Patches with their places, transformer blocks, a norm: a map in, a map of one voxel a patch out."""

    embed: PatchEmbedding
    position: PositionEmbedding
    blocks: Sequence
    norm: LayerNorm


@dataclass(frozen=True, kw_only=True)
class QueryLevel(Node):
    """Queries look at one map of the encoder, each only where its mask says that it belongs.

    ``conv`` and ``norm`` bring the map to the queries' channels; ``up`` brings the masks to its size (nearest, cut);
    a token whose mask logit is below 0 (probability below 0.5) is not attended (arXiv:2112.01527, arXiv:2310.07781).
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
    """Learned queries, refined level by level from coarse to fine, vote for the class of every token.

    ``norm`` and ``dot`` give the masks before the first level and behind every one: a threshold passes no gradient, so
    those between are learned by what the last ones learn.
    """

    embedding: Queries
    norm: LayerNorm
    dot: MaskProduct
    levels: Sequence
    classes: Linear
    vote: MaskVote
