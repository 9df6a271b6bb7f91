"""Transformers in Keras. The twin of ``torch/transformers.py``.

Tokens are (batch, tokens, channels) as in PyTorch, maps (batch, \\*size, channels), mask logits (batch, queries,
tokens).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from resvox.blueprint import transformers as tf
from resvox.keras.initialize import Normal
from resvox.keras.layers import LayerScope, Tensor, add, cut_to, layer, through
from resvox.keras.operations import Shape, registered


@registered
class ToTokens(keras.layers.Layer):
    """A map as tokens: (batch, \\*size, channels) to (batch, voxels, channels)."""

    def call(self, x: Any) -> Any:
        shape = ops.shape(x)
        return ops.reshape(x, (shape[0], -1, shape[-1]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], _voxels(input_shape[1:-1]), input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


@registered
class ToMap(keras.layers.Layer):
    """Tokens as a map: (batch, voxels, channels) to (batch, \\*size, channels), the size of the second input."""

    def call(self, inputs: Sequence[Any]) -> Any:
        tokens, reference = inputs
        return ops.reshape(tokens, (ops.shape(tokens)[0], *ops.shape(reference)[1:-1], tokens.shape[-1]))

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        tokens, reference = input_shape
        return (tokens[0], *reference[1:-1], tokens[-1])

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


@registered
class Swap(keras.layers.Layer):
    """Swaps the last two of three axes."""

    def call(self, x: Any) -> Any:
        return ops.transpose(x, (0, 2, 1))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[2], input_shape[1])

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


@registered
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector per position to a map, interpolated from its stored grid.

    Linear with half-pixel centres, the same values as PyTorch's ``interpolate(..., align_corners=False)``.
    """

    def __init__(self, *, grid: Sequence[int], seed: int | None = None, **base: Any):
        super().__init__(**base)
        self.grid = tuple(grid)
        self.initializer = Normal(tf.EMBEDDING_STD, seed)

    def build(self, input_shape: Shape) -> None:
        shape = (*self.grid, input_shape[-1], 1)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.initializer)

    def call(self, x: Any) -> Any:
        size, places = ops.shape(x)[1:-1], self.kernel[..., 0]
        for axis, (stored, wanted) in enumerate(zip(self.grid, size, strict=True)):
            # (target, source) times (..., source, ...), with the new axis moved to the position of the old one
            mixed = ops.tensordot(_mixtures(stored, wanted, places.dtype), places, axes=[[1], [axis]])
            places = ops.moveaxis(mixed, 0, axis)
        return x + places[None]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid": self.grid, "seed": self.initializer.seed}


def _mixtures(stored: int, wanted: Any, dtype: Any) -> Any:
    """Matrix (target, source) of linear interpolation with half-pixel centres along one axis."""
    step = stored / ops.cast(wanted, "float32")
    centres = (ops.cast(ops.arange(wanted), "float32") + 0.5) * step - 0.5
    centres = ops.clip(centres, 0.0, stored - 1.0)  # the border is repeated beyond itself
    away = ops.abs(centres[:, None] - ops.cast(ops.arange(stored), "float32")[None])
    return ops.cast(ops.maximum(1.0 - away, 0.0), dtype)


@registered
class Queries(keras.layers.Layer):
    """Learned vectors, repeated for every image of the batch: tokens to (batch, count, channels)."""

    def __init__(self, *, count: int, seed: int | None = None, **base: Any):
        super().__init__(**base)
        self.count = count
        self.initializer = Normal(tf.EMBEDDING_STD, seed)

    def build(self, input_shape: Shape) -> None:
        # (channels, count): axes as in the kernel of a linear layer, so that the same rule for axes holds
        shape = (input_shape[-1], self.count)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.initializer)

    def call(self, tokens: Any) -> Any:
        each = ops.transpose(self.kernel)[None]
        return ops.broadcast_to(each, (ops.shape(tokens)[0], self.count, tokens.shape[-1]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.count, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count, "seed": self.initializer.seed}


@registered
class AttentionProduct(keras.layers.Layer):
    """Scaled dot-product attention, softmax(q k / sqrt(channels / heads)) v in every head.

    Inputs are (query, key, value) or (query, key, value, masks).

    ``masks`` are logits on the map of the tokens, (batch, \\*size, queries): those below 0 (a probability below one
    half) are not attended, but a query without any other token attends to all.
    """

    def __init__(self, *, heads: int, **base: Any):
        super().__init__(**base)
        self.heads = heads

    def call(self, inputs: Sequence[Any]) -> Any:
        query, key, value = inputs[:3]
        scale = (query.shape[-1] // self.heads) ** -0.5
        logits = self._split(query * scale) @ ops.swapaxes(self._split(key), 2, 3)
        logits = ops.cast(logits, keras.backend.result_type(logits.dtype, "float32"))
        if len(inputs) == 4:
            logits = ops.where(ops.expand_dims(allowed(inputs[3]), 1), logits, float("-inf"))
        mixed = ops.cast(_softmax(logits), value.dtype) @ self._split(value)
        return ops.reshape(ops.swapaxes(mixed, 1, 2), ops.shape(query))

    def _split(self, x: Any) -> Any:
        """(batch, tokens, channels) to (batch, heads, tokens, channels / heads)."""
        shape = ops.shape(x)
        parted = ops.reshape(x, (shape[0], shape[1], self.heads, x.shape[-1] // self.heads))
        return ops.swapaxes(parted, 1, 2)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


def _softmax(logits: Any) -> Any:
    """Softmax over the last axis; that of Keras warns about a single token, for which the result is 1."""
    weights = ops.exp(logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True)))
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def allowed(masks: Any) -> Any:
    """Mask logits (batch, \\*size, queries) to what each query may attend to, (batch, queries, voxels)."""
    shape = ops.shape(masks)
    good = ops.swapaxes(ops.reshape(masks, (shape[0], -1, shape[-1])), 1, 2) >= 0
    return ops.logical_or(good, ops.logical_not(ops.any(good, axis=2, keepdims=True)))


@registered
class MaskProduct(keras.layers.Layer):
    """Mask logits, one mask per query: of (queries, tokens) to (batch, queries, tokens)."""

    def call(self, inputs: Sequence[Any]) -> Any:
        queries, tokens = inputs
        return (queries * queries.shape[-1] ** -0.5) @ ops.swapaxes(tokens, 1, 2)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        queries, tokens = input_shape
        return (queries[0], queries[1], tokens[1])

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


@registered
class MaskVote(keras.layers.Layer):
    """Class logits (batch, queries, classes + 1) and mask logits to class scores (batch, tokens, classes)."""

    def call(self, inputs: Sequence[Any]) -> Any:
        classes, masks = inputs
        known = ops.softmax(classes, axis=-1)[:, :, :-1]  # the last class is "no object"
        return ops.swapaxes(ops.sigmoid(masks), 1, 2) @ known

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        classes, masks = input_shape
        return (masks[0], masks[2], None if classes[2] is None else classes[2] - 1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


def layer_norm(node: tf.LayerNorm, scope: LayerScope) -> Any:
    """The layer that normalizes every token over its channels."""
    return keras.layers.LayerNormalization(epsilon=node.eps, **scope.base)


def attention(
    node: tf.Attention, scope: LayerScope, queries: Tensor, tokens: Tensor, masks: Tensor | None = None
) -> Tensor:
    """Attention of queries (batch, queries, channels) to tokens (batch, tokens, channels)."""
    query = layer(node.query, scope.at("query"), queries)
    seen = [layer(getattr(node, name), scope.at(name), tokens) for name in ("key", "value")]
    inputs = [query, *seen, *([] if masks is None else [masks])]
    mixed = AttentionProduct(heads=node.dot.heads, **scope.at("dot").base)(inputs)
    return layer(node.out, scope.at("out"), mixed)


def mlp(node: tf.Mlp, scope: LayerScope, x: Tensor) -> Tensor:
    """Two linear layers with an activation between them, applied to each token."""
    return through(node, ("fc1", "act", "drop1", "fc2", "drop2"), scope, x)


def transformer_block(node: tf.TransformerBlock, scope: LayerScope, x: Tensor) -> Tensor:
    """Self-attention and an MLP, each after a norm and with a shortcut."""
    normed = layer_norm(node.norm1, scope.at("norm1"))(x)
    seen = attention(node.attn, scope.at("attn"), normed, normed)
    x = add(scope.at("attn"), x, layer(node.drop, scope.at("drop"), seen))
    normed = layer_norm(node.norm2, scope.at("norm2"))(x)
    return add(scope.at("mlp"), x, mlp(node.mlp, scope.at("mlp"), normed))


def patch_embedding(node: tf.PatchEmbedding, scope: LayerScope, x: Tensor) -> Tensor:
    """One token per patch; the far border is zero-padded to whole patches."""
    if max(node.patch) > 1:
        padding = {2: keras.layers.ZeroPadding2D, 3: keras.layers.ZeroPadding3D}[len(node.patch)]
        # with patch - 1 zeros at the far border, a patch starts wherever the map has a voxel
        x = padding(tuple((0, p - 1) for p in node.patch), **scope.at("pad").spatial)(x)
    return layer(node.conv, scope.at("conv"), x)


def vision_transformer(node: tf.VisionTransformer, scope: LayerScope, x: Tensor) -> Tensor:
    """Vision transformer: from a map to a map with one voxel per patch."""
    x = patch_embedding(node.embed, scope.at("embed"), x)
    x = PositionEmbedding(grid=node.position.grid, **scope.at("position").base)(x)
    tokens = ToTokens(**scope.at("tokens").base)(x)
    for name, block in node.blocks.children():
        assert isinstance(block, tf.TransformerBlock)
        tokens = transformer_block(block, scope.at(f"blocks.{name}"), tokens)
    tokens = layer_norm(node.norm, scope.at("norm"))(tokens)
    return ToMap(**scope.at("map").base)([tokens, x])


def query_level(node: tf.QueryLevel, scope: LayerScope, queries: Tensor, masks: Tensor, skip: Tensor) -> Tensor:
    """Queries after masked cross-attention to ``skip``; ``masks``: logits of tokens, (batch, \\*grid, queries)."""
    keys = ToTokens(**scope.at("tokens").base)(through(node, ("conv", "norm"), scope, skip))
    masks = cut_to(scope.at("up"), layer(node.up, scope.at("up"), masks), skip)
    normed = layer_norm(node.norm1, scope.at("norm1"))(queries)
    seen = attention(node.attn, scope.at("attn"), normed, keys, masks)
    queries = add(scope.at("attn"), queries, layer(node.drop, scope.at("drop"), seen))
    normed = layer_norm(node.norm2, scope.at("norm2"))(queries)
    return add(scope.at("mlp"), queries, mlp(node.mlp, scope.at("mlp"), normed))


def query_decoder(node: tf.QueryDecoder, scope: LayerScope, vit: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Class scores as a map (batch, \\*grid, classes). ``maps``: the encoder's, fine to coarse; the last is unused."""
    tokens = ToTokens(**scope.at("tokens").base)(vit)
    norm = layer_norm(node.norm, scope.at("norm"))
    dot, swap, to_map = (
        kind(**scope.at(name).base) for kind, name in ((MaskProduct, "dot"), (Swap, "swap"), (ToMap, "map"))
    )
    queries = Queries(count=node.embedding.count, **scope.at("embedding").base)(tokens)
    asking = norm(queries)
    masks = dot([asking, tokens])
    for (name, level), skip in zip(node.levels.children(), reversed(maps[:-1]), strict=True):
        assert isinstance(level, tf.QueryLevel)
        queries = query_level(level, scope.at(f"levels.{name}"), queries, to_map([swap(masks), vit]), skip)
        asking = norm(queries)
        masks = dot([asking, tokens])
    classes = layer(node.classes, scope.at("classes"), asking)
    votes = MaskVote(**scope.at("vote").base)([classes, masks])
    return to_map([votes, vit])


def _voxels(size: Sequence[int | None]) -> int | None:
    return None if None in size else math.prod(n for n in size if n is not None)
