"""From a recipe to a resolved UNet++, and its pruning to a smaller one."""

from __future__ import annotations

from dataclasses import replace

from resvox.blueprint.choices import plain
from resvox.blueprint.encoders import cut_encoder, encoder_channels, encoder_depth, encoder_strides
from resvox.blueprint.leaves import Conv, Upsample, is_whole, require
from resvox.blueprint.networks import BridgedHead, UNetDecoderBlock, UNetPlusPlus, UNetPlusPlusDecoder
from resvox.blueprint.node import Node, Sequence
from resvox.blueprint.unet import UNetRecipe, decoder_block, head_of, transpose

FILTER_ORDERS = ("finest_first", "deepest_first")


def resolve_unet_plus_plus(recipe: UNetRecipe, filter_order: str = "finest_first") -> UNetPlusPlus:
    """The network of a recipe, every number settled.

    Args:
        recipe: its ``filters`` are the channels of the rows of the grid.
        filter_order: ``"finest_first"``: the first of the filters is that of the finest row (as in the recipe whose
            parameter counts are widely quoted; with decreasing filters the finest row is the widest and costs the
            most). ``"deepest_first"``: the first is that of the deepest row, as in a U-Net and in the paper.
    """
    require(
        filter_order in FILTER_ORDERS,
        f"decoder_filter_order={filter_order!r}",
        "'finest_first' or 'deepest_first'",
    )
    count = encoder_depth(recipe.encoder) - 1
    filters = recipe.filters[:count]
    filters = filters if filter_order == "finest_first" else filters[::-1]
    rows = tuple(_row(recipe, number, filters) for number in reversed(range(count)))
    last = filters[0] if count else encoder_channels(recipe.encoder)[0]
    heads: tuple[Node, ...] = ()
    if recipe.deep_supervision:
        heads = tuple(_supervision_head(recipe, filters[0]) for _ in range(count - 1))
    return UNetPlusPlus(
        encoder=recipe.encoder,
        decoder=UNetPlusPlusDecoder(rows=Sequence(items=rows), bridge=_bridge(recipe, last)),
        head=head_of(recipe, last),
        supervision=Sequence(items=heads) if recipe.deep_supervision else None,
        activation=recipe.output_activation,
    )


def _bridge(recipe: UNetRecipe, channels: int) -> Upsample | Sequence:
    """From the finest row to the size of the image, by the recipe's kind of enlarging; channels stay."""
    scale = encoder_strides(recipe.encoder)[0]
    if recipe.block_type == "transpose" and max(scale) > 1:
        return transpose(recipe, channels, channels, scale)
    return Upsample(scale=scale, mode=recipe.interpolation)


def _supervision_head(recipe: UNetRecipe, channels: int) -> Node:
    bridge, conv = _bridge(recipe, channels), head_of(recipe, channels)
    return BridgedHead(bridge=bridge, conv=conv) if isinstance(bridge, Sequence) else conv


def _row(recipe: UNetRecipe, number: int, filters: tuple[int, ...]) -> Sequence:
    """The nodes X(number, 1), X(number, 2), ... of a row; a coarser row has fewer."""
    widths, strides = encoder_channels(recipe.encoder), encoder_strides(recipe.encoder)
    own = filters[number]
    nodes = []
    for column in range(1, len(filters) - number + 1):
        below = widths[number + 1] if column == 1 else filters[number + 1]
        joined = widths[number] + (column - 1) * own
        nodes.append(decoder_block(recipe, below, joined, own, strides[number + 1]))
    return Sequence(items=tuple(nodes))


def prune(network: UNetPlusPlus, level: int) -> tuple[UNetPlusPlus, dict[str, str]]:
    """The smaller network that ends with X(0, level), and the names of its tensors in the whole network.

    Args:
        network: with supervision, so that X(0, level) has a head.
        level: from 1 to the number of rows.

    Returns:
        The smaller network, and {path in it: path in the whole network} for paths that differ.

    Raises:
        BlueprintError: the level does not exist or has no head.
    """
    rows, level = len(network.decoder.rows), plain(level)
    require(is_whole(level, 1) and level <= rows, f"level={level!r}", f"a whole number from 1 to {rows}")
    if level == rows:
        return replace(network, supervision=None), {}
    heads = network.supervision
    require(
        heads is not None,
        f"level={level} of a UNet++ without deep supervision",
        f"level={rows}, the whole network",
        "build and train it with deep_supervision=True",
    )
    assert heads is not None
    place = rows - 1 - level
    found, bridge = heads.items[place], network.decoder.bridge
    learned = isinstance(found, BridgedHead)
    head: Node = found
    if isinstance(found, BridgedHead):
        head, bridge = found.conv, found.bridge
    assert isinstance(head, Conv)
    gone = rows - level  # the deepest rows, and as many nodes of each other row
    kept = tuple(Sequence(items=tuple(row[: len(row) - gone])) for row in grid(network.decoder)[gone:])
    smaller = replace(
        network,
        encoder=cut_encoder(network.encoder, level + 1),
        decoder=replace(network.decoder, rows=Sequence(items=kept), bridge=bridge),
        head=head,
        supervision=None,
    )
    moved = {f"decoder.rows.{number}": f"decoder.rows.{number + gone}" for number in range(level)}
    if learned:
        return smaller, {
            "head": f"supervision.{place}.conv",
            "decoder.bridge": f"supervision.{place}.bridge",
            **moved,
        }
    return smaller, {"head": f"supervision.{place}", **moved}


def grid(decoder: UNetPlusPlusDecoder) -> list[list[UNetDecoderBlock]]:
    """The nodes row by row, deep to shallow."""
    found = []
    for row in decoder.rows.items:
        assert isinstance(row, Sequence)
        found.append([node for node in row.items if isinstance(node, UNetDecoderBlock)])
    return found


def original(name: str, moved: dict[str, str]) -> str:
    """Name in the whole network of a tensor of a pruned one; ``moved``: the second result of :func:`prune`."""
    for here, there in moved.items():
        if name.startswith(f"{here}."):
            return there + name.removeprefix(here)
    return name
