"""Properties of the maps of a backbone, with the names of timm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from resvox.blueprint import Blueprint
from resvox.blueprint import networks as net


@dataclass(frozen=True, kw_only=True)
class FeatureInfo:
    """One row per map, fine to coarse: ``num_chs``, ``reduction`` (per axis where they differ), ``module``."""

    rows: tuple[dict[str, object], ...]

    @staticmethod
    def of(blueprint: Blueprint) -> FeatureInfo:
        """The rows of the maps that an encoder returns."""
        # 64 voxels are divisible by every stride, so that the rows give strides and not the size of a small map
        stages = blueprint.stages((64,) * blueprint.spatial_dims)
        post = isinstance(blueprint.network, net.ResNet)
        first = "act1" if post else "stem"
        rows: list[dict[str, object]] = []
        for stage in stages:
            if stage.feature_level is None:
                continue
            strides = stage.stride
            rows.append(
                {
                    "num_chs": stage.output_shape[1],
                    "reduction": strides[0] if len(set(strides)) == 1 else strides,
                    "module": first if stage.feature_level == 1 else stage.name.removesuffix(".blocks"),
                }
            )
        return FeatureInfo(rows=tuple(rows[index] for index in blueprint.maps))

    def __iter__(self) -> Iterator[dict[str, object]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, object]:
        return self.rows[index]

    def channels(self, indices: Sequence[int] | None = None) -> list[object]:
        """Channels of the maps."""
        return [row["num_chs"] for row in self._chosen(indices)]

    def reduction(self, indices: Sequence[int] | None = None) -> list[object]:
        """Strides of the maps relative to the input."""
        return [row["reduction"] for row in self._chosen(indices)]

    def module_name(self, indices: Sequence[int] | None = None) -> list[object]:
        """The sub-module that computes each map."""
        return [row["module"] for row in self._chosen(indices)]

    def _chosen(self, indices: Sequence[int] | None) -> list[dict[str, object]]:
        return list(self.rows) if indices is None else [self.rows[i] for i in indices]
