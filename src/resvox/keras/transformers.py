"""Transformers, spelled in Keras. The twin of ``torch/transformers.py``.

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
from resvox.keras.layers import Place, Tensor, add, cut_to, layer, through
from resvox.keras.operations import Shape, registered


@registered
class ToTokens(keras.layers.Layer):
    """(batch, \\*size, channels) to (batch, voxels, channels)."""

    def call(self, x: Any) -> Any:
        shape = ops.shape(x)
        return ops.reshape(x, (shape[0], -1, shape[-1]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], _voxels(input_shape[1:-1]), input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


@registered
class ToMap(keras.layers.Layer):
    """(batch, voxels, channels) to (batch, \\*size, channels), the size that of the second input."""

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
    """The last two axes of three swapped."""

    def call(self, x: Any) -> Any:
        return ops.transpose(x, (0, 2, 1))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[2], input_shape[1])

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


@registered
class PositionEmbedding(keras.layers.Layer):
    """Adds to a map a learned vector a place, interpolated from the grid it is stored on.

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
            # (wanted, stored) times (..., stored, ...), the new axis brought to the place of the old one
            mixed = ops.tensordot(_mixtures(stored, wanted, places.dtype), places, axes=[[1], [axis]])
            places = ops.moveaxis(mixed, 0, axis)
        return x + places[None]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid": self.grid, "seed": self.initializer.seed}


def _mixtures(stored: int, wanted: Any, dtype: Any) -> Any:
    """How much of every stored place is in every wanted one: (wanted, stored)."""
    step = stored / ops.cast(wanted, "float32")
    centres = (ops.cast(ops.arange(wanted), "float32") + 0.5) * step - 0.5
    centres = ops.clip(centres, 0.0, stored - 1.0)  # beyond the border the border itself is repeated
    away = ops.abs(centres[:, None] - ops.cast(ops.arange(stored), "float32")[None])
    return ops.cast(ops.maximum(1.0 - away, 0.0), dtype)


@registered
class Queries(keras.layers.Layer):
    """Learned vectors, once for every image of the batch: tokens to (batch, count, channels)."""

    def __init__(self, *, count: int, seed: int | None = None, **base: Any):
        super().__init__(**base)
        self.count = count
        self.initializer = Normal(tf.EMBEDDING_STD, seed)

    def build(self, input_shape: Shape) -> None:
        # (channels, count): the axes of a linear layer's kernel, so that the one rule for axes holds here too
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
    """softmax(q k / sqrt(channels / heads)) v in every head; of (query, key, value) or (query, key, value, masks).

    ``masks`` are logits on the map of the tokens, (batch, \\*size, queries): those below 0 (a probability below one
    half) are not attended, but where a query has no other, it attends to all.
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
    """Over the last axis; Keras's own warns of a single token, where the answer is simply 1."""
    weights = ops.exp(logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True)))
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def allowed(masks: Any) -> Any:
    """Mask logits (batch, \\*size, queries) to what each query may attend to, (batch, queries, voxels)."""
    shape = ops.shape(masks)
    good = ops.swapaxes(ops.reshape(masks, (shape[0], -1, shape[-1])), 1, 2) >= 0
    return ops.logical_or(good, ops.logical_not(ops.any(good, axis=2, keepdims=True)))


@registered
class MaskProduct(keras.layers.Layer):
    """Logits of a mask a query: of (queries, tokens) to (batch, queries, tokens)."""

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
    """Class logits (batch, queries, classes + 1) and mask logits to the votes (batch, tokens, classes)."""

    def call(self, inputs: Sequence[Any]) -> Any:
        classes, masks = inputs
        known = ops.softmax(classes, axis=-1)[:, :, :-1]  # the last is "no object"
        return ops.swapaxes(ops.sigmoid(masks), 1, 2) @ known

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        classes, masks = input_shape
        return (masks[0], masks[2], None if classes[2] is None else classes[2] - 1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


def layer_norm(node: tf.LayerNorm, place: Place) -> Any:
    """The layer that normalizes every token over its channels."""
    return keras.layers.LayerNormalization(epsilon=node.eps, **place.base)


def attention(node: tf.Attention, place: Place, queries: Tensor, tokens: Tensor, masks: Tensor | None = None) -> Tensor:
    """Queries (batch, queries, channels) look at tokens (batch, tokens, channels)."""
    query = layer(node.query, place.at("query"), queries)
    seen = [layer(getattr(node, name), place.at(name), tokens) for name in ("key", "value")]
    inputs = [query, *seen, *([] if masks is None else [masks])]
    mixed = AttentionProduct(heads=node.dot.heads, **place.at("dot").base)(inputs)
    return layer(node.out, place.at("out"), mixed)


def mlp(node: tf.Mlp, place: Place, x: Tensor) -> Tensor:
    """Token by token."""
    return through(node, ("fc1", "act", "drop1", "fc2", "drop2"), place, x)


def transformer_block(node: tf.TransformerBlock, place: Place, x: Tensor) -> Tensor:
    """Self-attention and an MLP, each behind a norm and beside a shortcut."""
    normed = layer_norm(node.norm1, place.at("norm1"))(x)
    seen = attention(node.attn, place.at("attn"), normed, normed)
    x = add(place.at("attn"), x, layer(node.drop, place.at("drop"), seen))
    normed = layer_norm(node.norm2, place.at("norm2"))(x)
    return add(place.at("mlp"), x, mlp(node.mlp, place.at("mlp"), normed))


def patch_embedding(node: tf.PatchEmbedding, place: Place, x: Tensor) -> Tensor:
    """A token a patch; the far border is continued by zeros to whole ones."""
    if max(node.patch) > 1:
        padding = {2: keras.layers.ZeroPadding2D, 3: keras.layers.ZeroPadding3D}[len(node.patch)]
        # with patch - 1 zeros behind it a patch starts wherever the map still has a voxel
        x = padding(tuple((0, p - 1) for p in node.patch), **place.at("pad").spatial)(x)
    return layer(node.conv, place.at("conv"), x)


def vision_transformer(node: tf.VisionTransformer, place: Place, x: Tensor) -> Tensor:
    """A map in, a map of one voxel a patch out."""
    x = patch_embedding(node.embed, place.at("embed"), x)
    x = PositionEmbedding(grid=node.position.grid, **place.at("position").base)(x)
    tokens = ToTokens(**place.at("tokens").base)(x)
    for name, block in node.blocks.children():
        assert isinstance(block, tf.TransformerBlock)
        tokens = transformer_block(block, place.at(f"blocks.{name}"), tokens)
    tokens = layer_norm(node.norm, place.at("norm"))(tokens)
    return ToMap(**place.at("map").base)([tokens, x])


def query_level(node: tf.QueryLevel, place: Place, queries: Tensor, masks: Tensor, skip: Tensor) -> Tensor:
    """Queries after a look at ``skip``; ``masks`` are logits on the grid of tokens, (batch, \\*grid, queries)."""
    keys = ToTokens(**place.at("tokens").base)(through(node, ("conv", "norm"), place, skip))
    masks = cut_to(place.at("up"), layer(node.up, place.at("up"), masks), skip)
    normed = layer_norm(node.norm1, place.at("norm1"))(queries)
    seen = attention(node.attn, place.at("attn"), normed, keys, masks)
    queries = add(place.at("attn"), queries, layer(node.drop, place.at("drop"), seen))
    normed = layer_norm(node.norm2, place.at("norm2"))(queries)
    return add(place.at("mlp"), queries, mlp(node.mlp, place.at("mlp"), normed))


def query_decoder(node: tf.QueryDecoder, place: Place, vit: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """The votes as a map (batch, \\*grid, classes). ``maps`` are the encoder's, fine to coarse, the last unused."""
    tokens = ToTokens(**place.at("tokens").base)(vit)
    norm = layer_norm(node.norm, place.at("norm"))
    dot, swap, to_map = (
        kind(**place.at(name).base) for kind, name in ((MaskProduct, "dot"), (Swap, "swap"), (ToMap, "map"))
    )
    queries = Queries(count=node.embedding.count, **place.at("embedding").base)(tokens)
    asking = norm(queries)
    masks = dot([asking, tokens])
    for (name, level), skip in zip(node.levels.children(), reversed(maps[:-1]), strict=True):
        assert isinstance(level, tf.QueryLevel)
        queries = query_level(level, place.at(f"levels.{name}"), queries, to_map([swap(masks), vit]), skip)
        asking = norm(queries)
        masks = dot([asking, tokens])
    classes = layer(node.classes, place.at("classes"), asking)
    votes = MaskVote(**place.at("vote").base)([classes, masks])
    return to_map([votes, vit])


def _voxels(size: Sequence[int | None]) -> int | None:
    return None if None in size else math.prod(n for n in size if n is not None)
