"""Tracing of transformers: tokens, attention, queries."""

from __future__ import annotations

import math
from dataclasses import replace

from resvox.blueprint import transformers as tf
from resvox.blueprint.leaves import Axes
from resvox.blueprint.node import join
from resvox.blueprint.trace.dispatch import trace_children, trace_node, traces
from resvox.blueprint.trace.leaves import times
from resvox.blueprint.trace.recording import FeatureMap, Recorder
from resvox.errors import BlueprintError


def as_tokens(feature_map: FeatureMap) -> FeatureMap:
    """The voxels of a map, or queries, as a sequence: (batch, tokens, channels)."""
    return replace(feature_map, tokens=True)


def as_map(feature_map: FeatureMap) -> FeatureMap:
    """Tokens as a map again: (batch, channels, \\*size)."""
    return replace(feature_map, tokens=False)


def masks_as_map(queries: int, tokens: FeatureMap) -> FeatureMap:
    """Masks as a map: one channel per query, one voxel per token."""
    return replace(as_map(tokens), channels=queries)


def _expect(found: int, wanted: int, path: str) -> None:
    if found != wanted:
        raise BlueprintError(f"{found} channels arrive at {path!r}", expected=f"{wanted} channels there")


@traces(tf.LayerNorm)
def _layer_norm(node: tf.LayerNorm, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    _expect(feature_map.channels, node.channels, path)
    return recorder.leaf(path, "layer norm", node, feature_map, feature_map, 0)


@traces(tf.PositionEmbedding)
def _position(node: tf.PositionEmbedding, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    _expect(feature_map.channels, node.channels, path)
    _expect_axes(feature_map, node.grid, path)
    return recorder.leaf(path, f"position embedding, {times(node.grid)}", node, feature_map, feature_map, 0)


def _expect_axes(feature_map: FeatureMap, axes: Axes, path: str) -> None:
    if len(feature_map.size) != len(axes):
        raise BlueprintError(f"a map of {len(feature_map.size)} axes at {path!r}", expected=f"{len(axes)} axes there")


@traces(tf.Queries)
def _queries(node: tf.Queries, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    after = replace(feature_map, channels=node.channels, size=(node.count,))
    return recorder.leaf(path, f"{node.count} learned queries", node, feature_map, after, 0)


@traces(tf.PatchEmbedding)
def _patches(node: tf.PatchEmbedding, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    whole = tuple(n + p - 1 for n, p in zip(feature_map.size, node.patch, strict=True))
    return trace_node(node.conv, join(path, "conv"), replace(feature_map, size=whole), recorder)


def _attention(
    node: tf.Attention, path: str, queries: FeatureMap, tokens: FeatureMap, recorder: Recorder
) -> FeatureMap:
    """Attention of queries to tokens; in self-attention both are the same."""
    with recorder.group(path, f"attention, {node.dot.heads} heads", queries) as out:
        query = trace_node(node.query, join(path, "query"), queries, recorder)
        for name in ("key", "value"):
            _expect(
                trace_node(getattr(node, name), join(path, name), tokens, recorder).channels, node.dot.channels, path
            )
        _expect(query.channels, node.dot.channels, path)
        pairs = math.prod(queries.size) * math.prod(tokens.size)
        text = f"scaled dot products with {math.prod(tokens.size)} tokens"
        # two products: queries with keys, then the weights with values
        mixed = recorder.leaf(join(path, "dot"), text, node.dot, query, query, 2 * 2 * pairs * query.channels)
        out.append(trace_node(node.out, join(path, "out"), mixed, recorder))
    return out[0]


@traces(tf.Mlp)
def _mlp(node: tf.Mlp, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    with recorder.group(path, "MLP", feature_map) as out:
        out.append(trace_children(node, ("fc1", "act", "drop1", "fc2", "drop2"), path, feature_map, recorder))
    return out[0]


@traces(tf.TransformerBlock)
def _block(node: tf.TransformerBlock, path: str, feature_map: FeatureMap, recorder: Recorder) -> FeatureMap:
    with recorder.group(path, "transformer block", feature_map) as out:
        normed = trace_node(node.norm1, join(path, "norm1"), feature_map, recorder)
        feature_map = _attention(node.attn, join(path, "attn"), normed, normed, recorder)
        out.append(trace_children(node, ("norm2", "mlp"), path, feature_map, recorder))
    return out[0]


@traces(tf.VisionTransformer)
def _vision_transformer(
    node: tf.VisionTransformer, path: str, feature_map: FeatureMap, recorder: Recorder
) -> FeatureMap:
    with recorder.group(path, f"vision transformer of {len(node.blocks)} blocks", feature_map) as out:
        x = trace_children(node, ("embed", "position"), path, feature_map, recorder)
        out.append(as_map(trace_children(node, ("blocks", "norm"), path, as_tokens(x), recorder)))
    return out[0]


def _mask_logits(
    node: tf.QueryDecoder, path: str, queries: FeatureMap, tokens: FeatureMap, recorder: Recorder
) -> FeatureMap:
    """The normalized queries; their mask logits (batch, queries, tokens) are recorded."""
    normed = trace_node(node.norm, join(path, "norm"), queries, recorder)
    _expect(normed.channels, node.dot.channels, path)
    _expect(tokens.channels, node.dot.channels, path)
    count = math.prod(tokens.size)
    flops = 2 * math.prod(queries.size) * count * node.dot.channels
    recorder.leaf(join(path, "dot"), "masks", node.dot, normed, replace(normed, channels=count), flops)
    return normed


def _level(
    node: tf.QueryLevel, path: str, queries: FeatureMap, tokens: FeatureMap, skip: FeatureMap, recorder: Recorder
) -> FeatureMap:
    with recorder.group(path, "masked cross-attention", skip) as out:
        keys = trace_children(node, ("conv", "norm"), path, skip, recorder)
        masks = trace_node(node.up, join(path, "up"), masks_as_map(queries.size[0], tokens), recorder)
        if any(n < wanted for n, wanted in zip(masks.size, skip.size, strict=True)):
            raise BlueprintError(f"masks of {masks.size} at {path!r}", expected=f"at least the map's {skip.size}")
        normed = trace_node(node.norm1, join(path, "norm1"), queries, recorder)
        queries = _attention(node.attn, join(path, "attn"), normed, as_tokens(keys), recorder)
        out.append(trace_children(node, ("norm2", "mlp"), path, queries, recorder))
    return out[0]


def votes(
    node: tf.QueryDecoder, path: str, tokens: FeatureMap, maps: list[FeatureMap], recorder: Recorder
) -> FeatureMap:
    """The classes of every token as a map (batch, classes, \\*grid); ``maps``: those of the encoder, fine to coarse."""
    with recorder.group(path, f"{node.embedding.count} queries, {len(node.levels)} levels", as_tokens(tokens)) as out:
        queries = trace_node(node.embedding, join(path, "embedding"), as_tokens(tokens), recorder)
        normed = _mask_logits(node, path, queries, tokens, recorder)
        for (name, level), skip in zip(node.levels.children(), reversed(maps), strict=True):
            assert isinstance(level, tf.QueryLevel)
            queries = _level(level, join(path, f"levels.{name}"), queries, tokens, skip, recorder)
            normed = _mask_logits(node, path, queries, tokens, recorder)
        classes = trace_node(node.classes, join(path, "classes"), normed, recorder)
        _expect(classes.channels, node.vote.num_classes + 1, path)
        voted = replace(classes, channels=math.prod(tokens.size), size=(node.vote.num_classes,))
        flops = 2 * math.prod((*voted.size, *classes.size, *tokens.size))
        recorder.leaf(join(path, "vote"), "class scores of the queries", node.vote, classes, voted, flops)
        out.append(replace(as_map(tokens), channels=node.vote.num_classes))
    return out[0]
