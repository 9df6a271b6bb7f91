"""Transformers in PyTorch. The twin of ``keras/transformers.py``."""

from __future__ import annotations

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from resvox.blueprint import transformers as tf
from resvox.torch.layers import cut_to, layer

torch.fx.wrap("cut_to")
torch.fx.wrap("_masked_softmax")
torch.fx.wrap("_resized")

INTERPOLATION = {2: "bilinear", 3: "trilinear"}


def to_tokens(x: Tensor) -> Tensor:
    """A map as tokens: (batch, channels, \\*size) to (batch, voxels, channels)."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, reference: Tensor) -> Tensor:
    """Tokens as a map: (batch, voxels, channels) to (batch, channels, \\*size), the size of ``reference``."""
    return tokens.transpose(1, 2).unflatten(2, reference.shape[2:])


class PositionEmbedding(nn.Module):
    """Adds a learned vector per position to a map (batch, channels, \\*size), interpolated from its stored grid."""

    __constants__ = ("mode",)

    def __init__(self, node: tf.PositionEmbedding) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, node.channels, *node.grid))
        self.mode = INTERPOLATION[len(node.grid)]

    def forward(self, x: Tensor) -> Tensor:
        return x + _resized(self.weight, x, self.mode)


def _resized(weight: Tensor, x: Tensor, mode: str) -> Tensor:
    """Interpolated to the size of ``x``; one call for torch.fx, whose quantization has no trilinear kernel."""
    return F.interpolate(weight, size=x.shape[2:], mode=mode, align_corners=False)


class Queries(nn.Module):
    """Learned vectors, repeated for every image of the batch: (batch, count, channels)."""

    def __init__(self, node: tf.Queries) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(node.count, node.channels))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.weight.repeat(tokens.shape[0], 1, 1)


class AttentionProduct(nn.Module):
    """Scaled dot-product attention, softmax(q k / sqrt(channels / heads)) v in every head.

    Written out: PyTorch's ``FlopCounterMode`` counts its fused kernel on some devices only.
    """

    __constants__ = ("heads", "scale")

    def __init__(self, node: tf.AttentionProduct) -> None:
        super().__init__()
        self.heads = node.heads
        self.scale = (node.channels // node.heads) ** -0.5

    def forward(self, query: Tensor, key: Tensor, value: Tensor, evidence: Tensor | None = None) -> Tensor:
        """(batch, queries, channels) from tokens (batch, tokens, channels).

        With ``evidence`` (batch, queries, tokens) a query attends to the tokens with values of at least 0, or to all
        tokens if no value reaches 0.
        """
        heads = self._split(query * self.scale), self._split(key), self._split(value)
        logits = heads[0] @ heads[1].transpose(2, 3)
        weights = logits.softmax(3) if evidence is None else _masked_softmax(logits, evidence)
        mixed = weights @ heads[2]
        return mixed.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        """(batch, tokens, channels) to (batch, heads, tokens, channels / heads)."""
        return x.unflatten(2, [self.heads, -1]).transpose(1, 2)


def _masked_softmax(logits: Tensor, evidence: Tensor) -> Tensor:
    """Attention weights (batch, heads, queries, tokens); one call for torch.fx, which cannot quantize booleans."""
    allowed = evidence >= 0
    allowed = allowed | ~allowed.any(2, keepdim=True)
    return logits.masked_fill(~allowed.unsqueeze(1), float("-inf")).softmax(3)


class MaskProduct(nn.Module):
    """Mask logits, one mask per query: (batch, queries, tokens)."""

    __constants__ = ("scale",)

    def __init__(self, node: tf.MaskProduct) -> None:
        super().__init__()
        self.scale = node.channels**-0.5

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        return (queries * self.scale) @ tokens.transpose(1, 2)


class MaskVote(nn.Module):
    """Class logits (batch, queries, classes + 1) and mask logits to class scores (batch, classes, tokens)."""

    def forward(self, classes: Tensor, masks: Tensor) -> Tensor:
        known = classes.softmax(2)[:, :, :-1]  # the last class is "no object"
        return known.transpose(1, 2) @ masks.sigmoid()


class Attention(nn.Module):
    """Attention of queries (batch, queries, channels) to tokens (batch, tokens, channels)."""

    def __init__(self, node: tf.Attention, spatial_dims: int) -> None:
        super().__init__()
        self.query = layer(node.query, spatial_dims)
        self.key = layer(node.key, spatial_dims)
        self.value = layer(node.value, spatial_dims)
        self.dot = AttentionProduct(node.dot)
        self.out = layer(node.out, spatial_dims)

    def forward(self, queries: Tensor, tokens: Tensor, evidence: Tensor | None = None) -> Tensor:
        return self.out(self.dot(self.query(queries), self.key(tokens), self.value(tokens), evidence))


class Mlp(nn.Module):
    """Two linear layers with an activation between them, applied to each token."""

    def __init__(self, node: tf.Mlp, spatial_dims: int) -> None:
        super().__init__()
        self.fc1 = layer(node.fc1, spatial_dims)
        self.act = layer(node.act, spatial_dims)
        self.drop1 = layer(node.drop1, spatial_dims)
        self.fc2 = layer(node.fc2, spatial_dims)
        self.drop2 = layer(node.drop2, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class TransformerBlock(nn.Module):
    """Self-attention and an MLP, each after a norm and with a shortcut."""

    def __init__(self, node: tf.TransformerBlock, spatial_dims: int) -> None:
        super().__init__()
        self.norm1 = layer_norm(node.norm1)
        self.attn = Attention(node.attn, spatial_dims)
        self.drop = layer(node.drop, spatial_dims)
        self.norm2 = layer_norm(node.norm2)
        self.mlp = Mlp(node.mlp, spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.drop(self.attn(normed, normed))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """One token per patch; the far border is zero-padded to whole patches."""

    def __init__(self, node: tf.PatchEmbedding, spatial_dims: int) -> None:
        super().__init__()
        self.conv = layer(node.conv, spatial_dims)
        # with patch - 1 zeros at the far border, a patch starts wherever the map has a voxel
        self.zeros = [n for p in reversed(node.patch) for n in (0, p - 1)]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, self.zeros))


class VisionTransformer(nn.Module):
    """Vision transformer: from a map to a map with one voxel per patch."""

    def __init__(self, node: tf.VisionTransformer, spatial_dims: int) -> None:
        super().__init__()
        self.embed = PatchEmbedding(node.embed, spatial_dims)
        self.position = PositionEmbedding(node.position)
        self.blocks = nn.ModuleList(
            TransformerBlock(block, spatial_dims)
            for block in node.blocks.items
            if isinstance(block, tf.TransformerBlock)
        )
        self.norm = layer_norm(node.norm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.position(self.embed(x))
        tokens = to_tokens(x)
        for block in self.blocks:
            tokens = block(tokens)
        return to_map(self.norm(tokens), x)


class QueryLevel(nn.Module):
    """Masked cross-attention of the queries to one map of the encoder."""

    def __init__(self, node: tf.QueryLevel, spatial_dims: int) -> None:
        super().__init__()
        self.conv = layer(node.conv, spatial_dims)
        self.norm = layer(node.norm, spatial_dims)
        self.up = layer(node.up, spatial_dims)
        self.norm1 = layer_norm(node.norm1)
        self.attn = Attention(node.attn, spatial_dims)
        self.drop = layer(node.drop, spatial_dims)
        self.norm2 = layer_norm(node.norm2)
        self.mlp = Mlp(node.mlp, spatial_dims)

    def forward(self, queries: Tensor, masks: Tensor, skip: Tensor) -> Tensor:
        """Queries after masked cross-attention to ``skip``; ``masks``: logits of tokens, (batch, queries, \\*grid)."""
        keys = to_tokens(self.norm(self.conv(skip)))
        evidence = cut_to(self.up(masks), skip).flatten(2)  # at least 0: a probability of at least one half
        queries = queries + self.drop(self.attn(self.norm1(queries), keys, evidence))
        return queries + self.mlp(self.norm2(queries))


class QueryDecoder(nn.Module):
    """Learned queries, refined from coarse to fine, which give class scores of every token."""

    def __init__(self, node: tf.QueryDecoder, spatial_dims: int) -> None:
        super().__init__()
        self.embedding = Queries(node.embedding)
        self.norm = layer_norm(node.norm)
        self.dot = MaskProduct(node.dot)
        self.levels = nn.ModuleList(
            QueryLevel(level, spatial_dims) for level in node.levels.items if isinstance(level, tf.QueryLevel)
        )
        self.classes = layer(node.classes, spatial_dims)
        self.vote = MaskVote()

    def forward(self, vit: Tensor, maps: list[Tensor]) -> Tensor:
        """Class scores as a map (batch, classes, \\*grid). ``maps``: the encoder's, fine to coarse, last unused."""
        tokens, grid = to_tokens(vit), vit.shape[2:]
        queries = self.embedding(tokens)
        asking = self.norm(queries)
        masks = self.dot(asking, tokens)
        for number, level in enumerate(self.levels):
            queries = level(queries, masks.unflatten(2, grid), maps[len(maps) - 2 - number])
            asking = self.norm(queries)
            masks = self.dot(asking, tokens)
        return self.vote(self.classes(asking), masks).unflatten(2, grid)


def layer_norm(node: tf.LayerNorm) -> nn.Module:
    """PyTorch's layer norm for the last axis."""
    return nn.LayerNorm(node.channels, eps=node.eps)
