"""The networks for dense prediction: one line of data per variant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DenseVariant:
    """A row of the table: stages, and the default interface."""

    name: str
    class_name: str
    family: str
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    spatial_dims: int
    num_classes: int


DENSE_VARIANTS: tuple[DenseVariant, ...] = (
    DenseVariant(
        name="resnet18_3d",
        class_name="ResNet18_3D",
        family="resnet_dense",
        depths=(2, 2, 2, 2),
        widths=(64, 128, 128, 128),
        spatial_dims=3,
        num_classes=6,
    ),
)
DENSE_BY_NAME: dict[str, DenseVariant] = {variant.name: variant for variant in DENSE_VARIANTS}
