"""Writes docs/models.md: every row of the catalog with its figures, from the blueprints alone."""

from __future__ import annotations

from pathlib import Path

import resvox
from resvox.catalog.listing import entries

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
INTRO = """# Models

Every name below works in PyTorch and in Keras, in 2D and in 3D. This page is written by
`python benchmarks/catalog_table.py` from the blueprints; no tensor is allocated for it.

Parameters are learned values with 3 input channels and 1000 classes (segmenters: a resnet18 encoder where they take
one, 1 channel in, 3 classes out). GFLOP is twice the multiply-adds of one forward pass at 224 x 224 (2D) and
96 x 96 x 96 (3D).

| model | family | parameters 2D | GFLOP 2D | parameters 3D | GFLOP 3D |
|---|---|---:|---:|---:|---:|
"""
AFTER = """
Aliases: `resnet50_v2` and `resnet50_vd` for `resnet50v2` and `resnet50vd`, timm's `resnet50d` for `resnet50vd`,
`resnext50_32x4d` and `resnext101_32x8d`, `wide_resnet50_2`. `resnet200vd` has 3, 12, 48, 3 blocks; timm's
`resnet200d` has 3, 24, 36, 3 and is a row of its own.

`resvox models` shows the same names in the terminal, `resvox.list_models(...)` in Python:

```python
import resvox

print(resvox.list_models("resnet*vd"))
assert "unet" in resvox.list_models(task="segmentation")
```

## What is this file?

`resvox models --show PATH` shows what a model on the disk is: a model file, a training run or a folder of them, a
checkpoint, an exported network, a model folder of nnU-Net, a bundle of MONAI, the zip of either, or a file of weights
of a known library. Network and options, parameters, labels with regions and the ignored value, channels, spacing,
window, preprocessing, training, scores and licence are shown as far as the source records them; `--json` gives them
to a program. Headers and names are read: nothing in a file is run, and no network is computed.

```console
$ resvox models --show runs/liver
$ resvox models --show spleen_ct_segmentation/ --json
```
"""


def row(name: str, family: str) -> str:
    """One line of the table."""
    segmenter = name in resvox.list_models(task="segmentation")
    cells = []
    for dims, size in ((2, (224, 224)), (3, (96, 96, 96))):
        options = {"in_channels": 1, "num_classes": 3} if segmenter else {}
        blueprint = resvox.get_blueprint(name, spatial_dims=dims, **options)
        cells += [f"{blueprint.parameters:,}", f"{blueprint.flops(size) / 1e9:.1f}"]
    return f"| `{name}` | {family} | " + " | ".join(cells) + " |"


def page() -> str:
    """The whole page."""
    return INTRO + "\n".join(row(entry.name, entry.family) for entry in entries()) + "\n" + AFTER


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE.name}")
