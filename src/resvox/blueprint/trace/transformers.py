"""Transformers walked: tokens, attention, queries."""

from __future__ import annotations

import math
from dataclasses import replace

from resvox.blueprint import transformers as tf
from resvox.blueprint.leaves import Axes
from resvox.blueprint.node import join
from resvox.blueprint.trace.dispatch import chain, visit, visits
from resvox.blueprint.trace.leaves import times
from resvox.blueprint.trace.signal import Signal, Tape
from resvox.errors import BlueprintError


def as_tokens(signal: Signal) -> Signal:
    """A map's voxels in a row, or queries: (batch, tokens, channels)."""
    return replace(signal, tokens=True)


def as_map(signal: Signal) -> Signal:
    """Tokens in their places again: (batch, channels, \\*size)."""
    return replace(signal, tokens=False)


def masks_as_map(queries: int, tokens: Signal) -> Signal:
    """A channel a query, a voxel a token."""
    return replace(as_map(tokens), channels=queries)


def _expect(found: int, wanted: int, path: str) -> None:
    if found != wanted:
        raise BlueprintError(f"{found} channels arrive at {path!r}", expected=f"{wanted} channels there")


@visits(tf.LayerNorm)
def _layer_norm(node: tf.LayerNorm, path: str, signal: Signal, tape: Tape) -> Signal:
    _expect(signal.channels, node.channels, path)
    return tape.leaf(path, "layer norm", node, signal, signal, 0)


@visits(tf.PositionEmbedding)
def _position(node: tf.PositionEmbedding, path: str, signal: Signal, tape: Tape) -> Signal:
    _expect(signal.channels, node.channels, path)
    _expect_axes(signal, node.grid, path)
    return tape.leaf(path, f"position embedding, {times(node.grid)}", node, signal, signal, 0)


def _expect_axes(signal: Signal, axes: Axes, path: str) -> None:
    if len(signal.size) != len(axes):
        raise BlueprintError(f"a map of {len(signal.size)} axes at {path!r}", expected=f"{len(axes)} axes there")


@visits(tf.Queries)
def _queries(node: tf.Queries, path: str, signal: Signal, tape: Tape) -> Signal:
    after = replace(signal, channels=node.channels, size=(node.count,))
    return tape.leaf(path, f"{node.count} learned queries", node, signal, after, 0)


@visits(tf.PatchEmbedding)
def _patches(node: tf.PatchEmbedding, path: str, signal: Signal, tape: Tape) -> Signal:
    whole = tuple(n + p - 1 for n, p in zip(signal.size, node.patch, strict=True))
    return visit(node.conv, join(path, "conv"), replace(signal, size=whole), tape)


def _attend(node: tf.Attention, path: str, queries: Signal, tokens: Signal, tape: Tape) -> Signal:
    """Queries look at tokens; a self-attention's are the same."""
    with tape.group(path, f"attention, {node.dot.heads} heads", queries) as out:
        query = visit(node.query, join(path, "query"), queries, tape)
        for name in ("key", "value"):
            _expect(visit(getattr(node, name), join(path, name), tokens, tape).channels, node.dot.channels, path)
        _expect(query.channels, node.dot.channels, path)
        pairs = math.prod(queries.size) * math.prod(tokens.size)
        text = f"scaled dot products with {math.prod(tokens.size)} tokens"
        # two products: queries with keys, then the weights with values
        mixed = tape.leaf(join(path, "dot"), text, node.dot, query, query, 2 * 2 * pairs * query.channels)
        out.append(visit(node.out, join(path, "out"), mixed, tape))
    return out[0]


@visits(tf.Mlp)
def _mlp(node: tf.Mlp, path: str, signal: Signal, tape: Tape) -> Signal:
    with tape.group(path, "MLP", signal) as out:
        out.append(chain(node, ("fc1", "act", "drop1", "fc2", "drop2"), path, signal, tape))
    return out[0]


@visits(tf.TransformerBlock)
def _block(node: tf.TransformerBlock, path: str, signal: Signal, tape: Tape) -> Signal:
    with tape.group(path, "transformer block", signal) as out:
        normed = visit(node.norm1, join(path, "norm1"), signal, tape)
        signal = _attend(node.attn, join(path, "attn"), normed, normed, tape)
        out.append(chain(node, ("norm2", "mlp"), path, signal, tape))
    return out[0]


@visits(tf.VisionTransformer)
def _vision_transformer(node: tf.VisionTransformer, path: str, signal: Signal, tape: Tape) -> Signal:
    with tape.group(path, f"vision transformer of {len(node.blocks)} blocks", signal) as out:
        x = chain(node, ("embed", "position"), path, signal, tape)
        out.append(as_map(chain(node, ("blocks", "norm"), path, as_tokens(x), tape)))
    return out[0]


def _ask(node: tf.QueryDecoder, path: str, queries: Signal, tokens: Signal, tape: Tape) -> Signal:
    """Normalized queries; their mask logits (batch, queries, tokens) are a row."""
    asking = visit(node.norm, join(path, "norm"), queries, tape)
    _expect(asking.channels, node.dot.channels, path)
    _expect(tokens.channels, node.dot.channels, path)
    count = math.prod(tokens.size)
    flops = 2 * math.prod(queries.size) * count * node.dot.channels
    tape.leaf(join(path, "dot"), "masks", node.dot, asking, replace(asking, channels=count), flops)
    return asking


def _level(node: tf.QueryLevel, path: str, queries: Signal, tokens: Signal, skip: Signal, tape: Tape) -> Signal:
    with tape.group(path, "queries look", skip) as out:
        keys = chain(node, ("conv", "norm"), path, skip, tape)
        masks = visit(node.up, join(path, "up"), masks_as_map(queries.size[0], tokens), tape)
        if any(n < wanted for n, wanted in zip(masks.size, skip.size, strict=True)):
            raise BlueprintError(f"masks of {masks.size} at {path!r}", expected=f"at least the map's {skip.size}")
        normed = visit(node.norm1, join(path, "norm1"), queries, tape)
        queries = _attend(node.attn, join(path, "attn"), normed, as_tokens(keys), tape)
        out.append(chain(node, ("norm2", "mlp"), path, queries, tape))
    return out[0]


def votes(node: tf.QueryDecoder, path: str, tokens: Signal, maps: list[Signal], tape: Tape) -> Signal:
    """The classes of every token as a map: (batch, classes, \\*grid). ``maps`` are the encoder's, fine to coarse."""
    with tape.group(path, f"{node.embedding.count} queries, {len(node.levels)} levels", as_tokens(tokens)) as out:
        queries = visit(node.embedding, join(path, "embedding"), as_tokens(tokens), tape)
        asking = _ask(node, path, queries, tokens, tape)
        for (name, level), skip in zip(node.levels.children(), reversed(maps), strict=True):
            assert isinstance(level, tf.QueryLevel)
            queries = _level(level, join(path, f"levels.{name}"), queries, tokens, skip, tape)
            asking = _ask(node, path, queries, tokens, tape)
        classes = visit(node.classes, join(path, "classes"), asking, tape)
        _expect(classes.channels, node.vote.num_classes + 1, path)
        voted = replace(classes, channels=math.prod(tokens.size), size=(node.vote.num_classes,))
        flops = 2 * math.prod((*voted.size, *classes.size, *tokens.size))
        tape.leaf(join(path, "vote"), "votes for the classes", node.vote, classes, voted, flops)
        out.append(replace(as_map(tokens), channels=node.vote.num_classes))
    return out[0]
