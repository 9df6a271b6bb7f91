"""The peers' names of layers, one table each, beside ours."""

from __future__ import annotations

from resvox.weights.importers.table import Row, Table

_SAME_V1 = (
    Row("conv1", "conv1"),
    Row("bn1", "bn1", "norm"),
    Row("layer{s}.{b}.conv{n}", "layer{s}.{b}.conv{n}"),
    Row("layer{s}.{b}.bn{n}", "layer{s}.{b}.bn{n}", "norm"),
    Row("layer{s}.{b}.downsample.0", "layer{s}.{b}.downsample.0"),
    Row("layer{s}.{b}.downsample.1", "layer{s}.{b}.downsample.1", "norm"),
    Row("fc", "fc"),
)
# "vd" nets: an average pool before the shortcut's convolution, three convolutions in the stem; and gates
_TIMM = (
    *_SAME_V1,
    Row("conv1.{i}", "conv1.{i}", "norm"),
    Row("layer{s}.{b}.downsample.2", "layer{s}.{b}.downsample.2", "norm"),
    Row("layer{s}.{b}.se.fc{n}", "layer{s}.{b}.se.fc{n}"),
)
_PREACT_BLOCK = "stages.{s}.blocks.{b}."
_TIMM_V2 = (
    Row("stem.conv", "stem.conv"),
    Row("stem.conv{n}", "stem.conv{n}"),
    Row("stem.norm{n}", "stem.norm{n}", "norm"),
    Row(_PREACT_BLOCK + "norm{n}", _PREACT_BLOCK + "norm{n}", "norm"),
    Row(_PREACT_BLOCK + "conv{n}", _PREACT_BLOCK + "conv{n}"),
    Row(_PREACT_BLOCK + "se.fc{n}", _PREACT_BLOCK + "se.fc{n}"),
    Row(_PREACT_BLOCK + "downsample.conv", _PREACT_BLOCK + "downsample.conv"),
    Row("norm", "norm", "norm"),
    Row("head.fc", "head.fc", shape="conv"),
)
TORCHVISION = Table(_TIMM)
TIMM_V2 = Table(_TIMM_V2)

TORCHVISION_VIDEO = Table(
    (
        Row("conv1", "stem.0"),
        Row("bn1", "stem.1", "norm"),
        Row("layer{s}.{b}.conv{n}", "layer{s}.{b}.conv{n}.0"),
        Row("layer{s}.{b}.bn{n}", "layer{s}.{b}.conv{n}.1", "norm"),
        Row("layer{s}.{b}.downsample.0", "layer{s}.{b}.downsample.0"),
        Row("layer{s}.{b}.downsample.1", "layer{s}.{b}.downsample.1", "norm"),
        Row("fc", "fc"),
    )
)


def _inside(rows: tuple[Row, ...], ours: str, theirs: str) -> tuple[Row, ...]:
    return tuple(Row(ours + row.ours, theirs + row.theirs, row.kind) for row in rows if row.ours != "fc")


SMP = Table(
    (
        *_inside(_TIMM, "encoder.", "encoder."),
        *_inside(_TIMM, "encoder.", "encoder.model."),  # timm's encoders inside of SMP
        Row("decoder.blocks.{b}.conv{n}", "decoder.blocks.{b}.conv{n}.0"),
        Row("decoder.blocks.{b}.bn{n}", "decoder.blocks.{b}.conv{n}.1", "norm"),
        Row("head", "segmentation_head.0"),
    )
)

KERAS_V1 = Table(
    (
        Row("conv1", "conv1_conv"),
        Row("bn1", "conv1_bn", "norm"),
        # a file lists a block's layers in this order where the block projects
        Row("layer{s}.{b}.conv1", "conv{s+1}_block{b+1}_1_conv"),
        Row("layer{s}.{b}.bn1", "conv{s+1}_block{b+1}_1_bn", "norm"),
        Row("layer{s}.{b}.conv2", "conv{s+1}_block{b+1}_2_conv"),
        Row("layer{s}.{b}.bn2", "conv{s+1}_block{b+1}_2_bn", "norm"),
        Row("layer{s}.{b}.downsample.0", "conv{s+1}_block{b+1}_0_conv"),
        Row("layer{s}.{b}.conv3", "conv{s+1}_block{b+1}_3_conv"),
        Row("layer{s}.{b}.downsample.1", "conv{s+1}_block{b+1}_0_bn", "norm"),
        Row("layer{s}.{b}.bn3", "conv{s+1}_block{b+1}_3_bn", "norm"),
        Row("fc", "predictions"),
    ),
    style="keras",
)
KERAS_V2 = Table(
    (
        Row("stem.conv", "conv1_conv"),
        Row(_PREACT_BLOCK + "norm1", "conv{s+2}_block{b+1}_preact_bn", "norm"),
        Row(_PREACT_BLOCK + "conv1", "conv{s+2}_block{b+1}_1_conv"),
        Row(_PREACT_BLOCK + "norm2", "conv{s+2}_block{b+1}_1_bn", "norm"),
        Row(_PREACT_BLOCK + "conv2", "conv{s+2}_block{b+1}_2_conv"),
        Row(_PREACT_BLOCK + "norm3", "conv{s+2}_block{b+1}_2_bn", "norm"),
        Row(_PREACT_BLOCK + "downsample.conv", "conv{s+2}_block{b+1}_0_conv"),
        Row(_PREACT_BLOCK + "conv3", "conv{s+2}_block{b+1}_3_conv"),
        Row("norm", "post_bn", "norm"),
        Row("head.fc", "predictions"),
    ),
    style="keras",
)

# in medicai's blocks the shortcut's layers are number 0, so they stand before the others
_GATE = "stack{s}_block{b}_squeeze_excitation/conv{n}"
_MEDICAI_V1 = (
    Row("conv1", "conv1_conv"),
    Row("bn1", "conv1_bn", "norm"),
    Row("layer{s}.{b}.downsample.0", "stack{s-1}_block{b}_0_conv"),
    Row("layer{s}.{b}.downsample.1", "stack{s-1}_block{b}_0_bn", "norm"),
    Row("layer{s}.{b}.conv{n}", "stack{s-1}_block{b}_{n}_conv"),
    Row("layer{s}.{b}.bn{n}", "stack{s-1}_block{b}_{n}_bn", "norm"),
    Row("layer{s}.{b}.se.fc{n}", _GATE.replace("{s}", "{s-1}")),
    Row("fc", "predictions"),
)
_MEDICAI_VD = (
    Row("conv1.0", "conv1_conv"),
    Row("conv1.1", "conv1_bn", "norm"),
    Row("conv1.3", "conv2_conv"),
    Row("conv1.4", "conv2_bn", "norm"),
    Row("conv1.6", "conv3_conv"),
    Row("bn1", "conv3_bn", "norm"),
    Row("layer{s}.{b}.downsample.1", "stack{s-1}_block{b}_0_conv"),
    Row("layer{s}.{b}.downsample.2", "stack{s-1}_block{b}_0_bn", "norm"),
    Row("layer{s}.{b}.conv{n}", "stack{s-1}_block{b}_{n}_conv"),
    Row("layer{s}.{b}.bn{n}", "stack{s-1}_block{b}_{n}_bn", "norm"),
    Row("layer{s}.{b}.se.fc{n}", _GATE.replace("{s}", "{s-1}")),
    Row("fc", "predictions"),
)
_MEDICAI_V2 = (
    Row("stem.conv", "conv1_conv"),
    Row(_PREACT_BLOCK + "norm1", "stack{s}_block{b}_pre_activation_bn", "norm"),
    Row(_PREACT_BLOCK + "downsample.conv", "stack{s}_block{b}_0_conv"),
    Row(_PREACT_BLOCK + "conv{n}", "stack{s}_block{b}_{n}_conv"),
    Row(_PREACT_BLOCK + "norm{n+1}", "stack{s}_block{b}_{n}_bn", "norm"),
    Row(_PREACT_BLOCK + "se.fc{n}", _GATE),
    Row("norm", "post_bn", "norm"),
    Row("head.fc", "predictions"),
)
MEDICAI_V1 = Table(_MEDICAI_V1, style="keras")
MEDICAI_VD = Table(_MEDICAI_VD, style="keras")
MEDICAI_V2 = Table(_MEDICAI_V2, style="keras")


def medicai_unet(encoder: Table, depth: int, spatial_dims: int, head: str) -> Table:
    """medicai's U-Net: its decoder counts stages from the image, ours from the deepest map.

    ``head`` is the layer that Keras itself named, by how many it had named before.
    """
    rows = list(_inside(encoder.rows, "encoder.", ""))
    rows = [row for row in rows if row.ours not in ("encoder.head.fc", "encoder.norm")]
    dims = f"{spatial_dims}D"
    for block in range(depth):
        ours, theirs = f"decoder.blocks.{block}", f"decoder_stage{depth - block}"
        rows += [
            Row(f"{ours}.conv{{n}}", f"{theirs}_conv_{{n}}_conv_{dims}"),
            Row(f"{ours}.bn{{n}}", f"{theirs}_conv_{{n}}_norm_{dims}", "norm"),
            Row(f"{ours}.up.0", f"{theirs}_transpose_conv_{dims}"),
            Row(f"{ours}.up.1", f"{theirs}_norm_{dims}", "norm"),
        ]
    rows.append(Row("head", head))
    return Table(tuple(rows), style="keras")
